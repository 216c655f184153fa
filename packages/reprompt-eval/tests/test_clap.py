"""CLAP: the embeddings of the reference implementations, the same every time; checkpoints that are what they say."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from reprompt_eval import checkpoints
from reprompt_eval.checkpoints import load_laion, make_laion, read_state
from reprompt_eval.clap import MAX_TOKENS, ClapScorer, TextWarning
from reprompt_eval.errors import AudioFileError, CheckpointError, TextError
from sounds import RATE, tune, write

WORDS = "warm slow strings over a soft piano in the rain with a bright synth lead and drums at night".split()


@pytest.fixture(scope="module", autouse=True)
def small_text_tower() -> Iterator[None]:
    """A RoBERTa of one layer: the audio side is at its true shape, the text side need not be."""
    with mock.patch.dict(checkpoints._ROBERTA, {"num_hidden_layers": 1, "vocab_size": 300}):
        yield


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer of RoBERTa's kind."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        WORDS, trainers.BpeTrainer(vocab_size=290, special_tokens=special, initial_alphabet=alphabet)
    )
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        mask_token="<mask>", cls_token="<s>", sep_token="</s>",
    ).save_pretrained(folder)  # fmt: skip
    return folder


def _state(amodel: str, *, fusion: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return make_laion(amodel, fusion=fusion).state_dict()


def _save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    """As the published checkpoints are: in a training's state, with a numpy number and a buffer that is no more."""
    named = {f"module.{k}": v for k, v in state.items()}
    named["module.text_branch.embeddings.position_ids"] = torch.arange(514)[None]
    torch.save({"epoch": 15, "name": "x", "best": np.float64(0.9), "state_dict": named}, path)
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save(tmp_path_factory.mktemp("clap") / "base.pt", _state("HTSAT-base", fusion=False))


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save(tmp_path_factory.mktemp("clap") / "fused.pt", _state("HTSAT-tiny", fusion=True))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save(tmp_path_factory.mktemp("clap") / "tiny.pt", _state("HTSAT-tiny", fusion=False))


@pytest.fixture(scope="module")
def scorer(tiny: Path, tokenizer: Path) -> ClapScorer:
    return ClapScorer.load(tiny, tokenizer=tokenizer)


def _reference(path: Path, *, fusion: bool) -> Any:
    """laion_clap's own module around the same weights; its tokenizers, which it would download, left out."""
    from transformers import BartTokenizer, BertTokenizer, RobertaTokenizer

    model, _, _ = load_laion(path)
    kinds = (BartTokenizer, BertTokenizer, RobertaTokenizer)
    patches = [mock.patch.object(kind, "from_pretrained", return_value=None) for kind in kinds]
    for patch in patches:
        patch.start()
    try:
        from laion_clap.hook import CLAP_Module
    finally:
        for patch in patches:
            patch.stop()
    reference = CLAP_Module.__new__(CLAP_Module)
    torch.nn.Module.__init__(reference)
    reference.enable_fusion, reference.model, reference.model_cfg = fusion, model, {"audio_cfg": {}}
    return reference


def test_ten_seconds_are_embedded_as_laion_clap_does_at_the_true_shape(
    base: Path, tokenizer: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.wav", tune(10), subtype="FLOAT")
    with torch.no_grad():
        (expected,) = _reference(base, fusion=False).get_audio_embedding_from_filelist([str(path)])
    found = ClapScorer.load(base, tokenizer=tokenizer).embed_file(path)
    assert found.windows == 1
    assert np.abs(found.vector - expected).max() < 1e-5
    assert np.abs(expected).max() > 0.01


def test_a_short_sound_is_embedded_as_laion_clap_does(scorer: ClapScorer, tiny: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", tune(3.3))
    with torch.no_grad():
        (expected,) = _reference(tiny, fusion=False).get_audio_embedding_from_filelist([str(path)])
    assert np.abs(scorer.embed_file(path).vector - expected).max() < 1e-5


def test_a_text_is_embedded_as_laion_clap_does(scorer: ClapScorer, tiny: Path, tokenizer: Path) -> None:
    from transformers import AutoTokenizer

    reference = _reference(tiny, fusion=False)
    reference.tokenize = AutoTokenizer.from_pretrained(tokenizer)
    texts = ["warm slow strings", "drums at night"]
    with torch.no_grad():
        expected = reference.get_text_embedding(texts)
    assert np.abs(scorer.embed_texts(texts) - expected).max() < 1e-5


def test_a_fusion_checkpoint_is_known_by_its_weights(fused: Path, tokenizer: Path, tmp_path: Path) -> None:
    scorer = ClapScorer.load(fused, tokenizer=tokenizer)
    assert "fusion on" in scorer.name
    found = scorer.embed_file(write(tmp_path / "x.wav", tune(12)))
    assert found.windows == 2
    assert np.linalg.norm(found.vector) == pytest.approx(1, abs=1e-6)


def test_the_same_file_gives_the_same_bytes_alone_in_a_batch_and_in_any_order(
    scorer: ClapScorer, tmp_path: Path
) -> None:
    paths = [write(tmp_path / f"{i}.wav", tune(2 if i else 12, seed=i)) for i in range(4)]
    alone = [scorer.embed_file(p).vector.tobytes() for p in paths]
    together = [e.vector.tobytes() for e in scorer.embed_files(paths * 2) if not isinstance(e, AudioFileError)]
    backwards = [e.vector.tobytes() for e in scorer.embed_files(paths[::-1]) if not isinstance(e, AudioFileError)]
    assert together == alone * 2
    assert backwards[::-1] == alone
    assert len(set(alone)) == 4
    one = scorer.score(["slow strings", "drums"], paths)
    assert (scorer.score(["drums", "slow strings"], paths[::-1]) == one[::-1, ::-1]).all()


def test_a_file_that_cannot_be_used_fails_alone(scorer: ClapScorer, tmp_path: Path) -> None:
    good, silent = write(tmp_path / "a.wav", tune(2)), write(tmp_path / "b.wav", 0 * tune(2))
    scores = scorer.score(["slow strings"], [good, silent, tmp_path / "none.wav", good])
    assert np.isfinite(scores[0, [0, 3]]).all()
    assert np.isnan(scores[0, [1, 2]]).all()
    assert scores[0, 0] == scores[0, 3]


def test_embeddings_are_kept_by_content_and_a_broken_one_is_made_anew(
    tiny: Path, tokenizer: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    scorer = ClapScorer.load(tiny, tokenizer=tokenizer, cache=cache)
    path = write(tmp_path / "x.wav", np.clip(tune(2) * 9, -1, 1))
    first = scorer.embed_file(path)
    (kept,) = cache.rglob("*.npz")
    path.rename(tmp_path / "y.wav")
    with mock.patch.object(scorer._backend, "audio", side_effect=AssertionError("computed again")):
        again = scorer.embed_file(tmp_path / "y.wav")
    assert again.vector.tobytes() == first.vector.tobytes()
    assert (again.windows, again.warnings) == (first.windows, ("clipped",))
    kept.write_bytes(kept.read_bytes()[:50])
    assert scorer.embed_file(tmp_path / "y.wav").vector.tobytes() == first.vector.tobytes()
    assert not list(cache.rglob("*.tmp"))


def test_a_text_that_is_too_long_is_refused_or_split_with_a_warning(scorer: ClapScorer) -> None:
    long = " ".join(WORDS * 8)
    assert len(scorer._backend.tokens(long)) > MAX_TOKENS
    with pytest.raises(TextError, match=f"CLAP reads {MAX_TOKENS}"):
        scorer.embed_texts([long])
    with pytest.warns(TextWarning, match="was split into"):
        (split,) = scorer.embed_texts([long], split=True)
    words, parts = long.split(), scorer._parts(long)
    assert " ".join(parts).split() == words
    expected = scorer.embed_texts(parts).astype(np.float64).mean(0)
    assert np.abs(split - expected / np.linalg.norm(expected)).max() < 1e-6
    with pytest.raises(TextError, match="is empty"):
        scorer.embed_texts(["  "])


# -- checkpoints -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "hint"),
    [({"amodel": "HTSAT-base"}, "looks like amodel=HTSAT-tiny"), ({"fusion": True}, "amodel=HTSAT-tiny, fusion=off")],
)
def test_another_model_than_was_said_names_the_likely_one(tiny: Path, given: dict[str, Any], hint: str) -> None:
    with pytest.raises(CheckpointError, match=hint):
        load_laion(tiny, **given)


@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape", "not finite"])
def test_every_key_is_accounted_for(tiny: Path, tmp_path: Path, change: str) -> None:
    state = read_state(tiny)
    name = "audio_projection.0.weight"
    if change == "missing":
        del state[name]
    elif change == "unexpected":
        name = "audio_projection.9.weight"
        state[name] = torch.ones(1)
    elif change == "of another shape":
        state[name] = state[name][:, :-1]
    else:
        state[name] = state[name] * np.nan
    with pytest.raises(CheckpointError, match=name) as caught:
        load_laion(_save(tmp_path / "x.pt", state))
    assert change in str(caught.value)


class _Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('code of a checkpoint ran')",)


@pytest.mark.parametrize("kind", ["code", "pickle", "text", "truncated", "empty", "no tensors"])
def test_a_file_that_is_no_checkpoint_is_refused_and_runs_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.pt"
    if kind == "code":
        torch.save({"state_dict": {"a": torch.ones(1)}, "other": _Evil()}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(_Evil()))
    elif kind == "text":
        path.write_text("no weights")
    elif kind == "truncated":
        torch.save({"state_dict": {"a": torch.ones(1000)}}, path)
        path.write_bytes(path.read_bytes()[:700])
    else:
        torch.save({"state_dict": {}} if kind == "empty" else {"state_dict": {"a": 3}}, path)
    with pytest.raises(CheckpointError, match=r"x\.pt"):
        read_state(path)


def test_a_checkpoint_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        read_state(tmp_path / "none.pt")


# -- transformers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hugging(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> Path:
    """A small ClapModel as transformers saves it."""
    from transformers import AutoTokenizer, ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

    torch.manual_seed(0)
    text = {
        "vocab_size": 300,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    audio = {
        "patch_embeds_hidden_size": 24, "hidden_size": 192, "depths": [1, 1, 1, 1], "num_attention_heads": [2, 2, 2, 2],
        "enable_fusion": False,
    }  # fmt: skip
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=64)).eval()
    folder = tmp_path_factory.mktemp("hugging")
    model.save_pretrained(folder)
    extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
    ClapProcessor(extractor, AutoTokenizer.from_pretrained(tokenizer)).save_pretrained(folder)
    return folder


def test_windows_are_embedded_as_clap_model_does(hugging: Path, tmp_path: Path) -> None:
    from reprompt_eval.windows import windows_of
    from transformers import ClapModel, ClapProcessor

    scorer = ClapScorer.load(hugging)
    samples = tune(17)
    model, processor = ClapModel.from_pretrained(hugging).eval(), ClapProcessor.from_pretrained(hugging)
    vectors = []
    for window in windows_of(samples):
        features = processor.feature_extractor(window, sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            output = model.get_audio_features(**features)
        vector = getattr(output, "pooler_output", output)[0].numpy()
        vectors.append(vector / np.linalg.norm(vector))
    expected = np.mean(vectors, 0) / np.linalg.norm(np.mean(vectors, 0))
    found = scorer.embed_file(write(tmp_path / "x.wav", samples, subtype="FLOAT"))
    assert found.windows == len(vectors) == 3
    assert np.abs(found.vector - expected).max() < 1e-5


def test_a_clap_model_with_a_tensor_missing_is_refused(hugging: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    shutil.copytree(hugging, folder)
    state = load_file(folder / "model.safetensors")
    del state["audio_projection.linear1.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"audio_projection\.linear1\.weight"):
        ClapScorer.load(folder)
    with pytest.raises(CheckpointError, match="no ClapModel that can be loaded"):
        ClapScorer.load(tmp_path / "nothing-here", backend="transformers")
