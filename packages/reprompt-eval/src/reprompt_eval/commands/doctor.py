"""`reprompt-eval doctor`: what is at hand to score with, and how to get the rest."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import OptionError
from ..terminal import errors, out, safe

__all__ = ["doctor"]

_KNOWN = {
    "music_audioset_epoch_15_esc_90.14.pt": "music and AudioSet, HTSAT-base, no fusion: that of MusicGen's own metric",
    "630k-audioset-best.pt": "630k and AudioSet, HTSAT-tiny, no fusion",
    "630k-audioset-fusion-best.pt": "630k and AudioSet, HTSAT-tiny, fusion",
}
_WHERE = "https://huggingface.co/lukewys/laion_clap"


def doctor(
    folder: Annotated[Path, typer.Argument(help="Where checkpoints may lie.")] = Path(),
) -> None:
    """Say which checkpoints and tokenizers are at hand, and how to get the others."""
    with errors():
        if not folder.is_dir():
            raise OptionError(f"{folder} is no folder that is there; give one that may hold checkpoints.")
        for name, what in _KNOWN.items():
            path = folder / name
            state = (
                f"there ({path.stat().st_size / 1e6:.0f} MB)"
                if path.is_file()
                else f"missing: download it from {_WHERE}"
            )
            out.print(safe(f"{name}  {state}"), soft_wrap=True)
            out.print(f"    {what}", style="dim")
        out.print(_tokenizer(), soft_wrap=True)
        for package in ("laion_clap", "transformers", "torch", "librosa"):
            out.print(_package(package))


def _tokenizer() -> str:
    from huggingface_hub import try_to_load_from_cache  # looks at the disk alone

    if not any(isinstance(try_to_load_from_cache("roberta-base", n), str) for n in ("vocab.json", "tokenizer.json")):
        return "roberta-base tokenizer  missing: it is downloaded once, or name a folder with `tokenizer` in the plan"
    return "roberta-base tokenizer  there"


def _package(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    if find_spec(name) is None:
        return f"{name}  missing: pip install {name.replace('_', '-')}"
    try:
        return f"{name}  {version(name.replace('_', '-'))}"
    except PackageNotFoundError:
        return f"{name}  there"
