"""Small experiments for tests: prompts, plans, folders of audio, checkpoints of CLAP with random weights."""

import asyncio
import json
from pathlib import Path
from typing import Any

from reprompt_eval.experiment import Experiment
from reprompt_eval.plan import read_plan
from sounds import tune, write

PROMPTS = "id,words,kind\nramen,a bowl of spicy ramen,dish\nrain,slow rain and no drums,scene\n"
IDS = ("ramen", "rain")


def make_plan(folder: Path, *, table: str = PROMPTS, **changes: Any) -> Path:
    """A plan file and its prompts; a value of None leaves a field out."""
    (folder / "prompts.csv").write_text(table, "utf-8")
    given: dict[str, Any] = {
        "title": "A test", "prompts": "prompts.csv", "arms": ["raw", "rules"], "seeds": [3, 5], "seconds": 1,
        "generator": "preview", **changes,
    }  # fmt: skip
    tables = {k: v for k, v in given.items() if isinstance(v, dict)}
    lines = [f"{k} = {json.dumps(v)}\n" for k, v in given.items() if v is not None and k not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]\n", *(f"{k} = {json.dumps(v)}\n" for k, v in table.items())]
    path = folder / "plan.toml"
    path.write_text("".join(lines), "utf-8")
    return path


def make_audio(folder: Path, *, seconds: float = 1, seeds: tuple[int, ...] = (3, 5)) -> Path:
    """A folder with every audio of the plan."""
    folder.mkdir()
    for number, id in enumerate(IDS):
        for turn, arm in enumerate(("raw", "rules")):
            for seed in seeds:
                write(folder / f"{id}-{arm}-{seed}.wav", tune(seconds, seed=100 * number + 10 * turn + seed))
    return folder


def run_plan(plan: Path, folder: Path) -> list[tuple[str, int, int]]:
    """Runs it in this process; what progress it told."""
    told: list[tuple[str, int, int]] = []
    asyncio.run(Experiment(read_plan(plan), folder, progress=lambda *step: told.append(step)).run())
    return told


def manifest_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's manifest."""
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]


def make_checkpoint(folder: Path, *, seed: int) -> Path:
    """A small ClapModel with random weights, as transformers saves it."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        ClapProcessor,
        PreTrainedTokenizerFast,
    )

    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, cls_token="<s>", sep_token="</s>", **names)
    text = {
        "vocab_size": len(pieces), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16,
    }  # fmt: skip
    audio = {
        "patch_embeds_hidden_size": 24, "hidden_size": 192, "depths": [1, 1, 1, 1], "num_attention_heads": [2, 2, 2, 2],
        "enable_fusion": False,
    }  # fmt: skip
    torch.manual_seed(seed)
    ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=32)).eval().save_pretrained(folder)
    ClapProcessor(ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad"), tokenizer).save_pretrained(folder)
    return folder
