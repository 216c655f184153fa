"""The public names, and what importing the package costs."""

import importlib
import json
import subprocess
import sys

import pytest
import reprompt_core

PUBLIC = [
    "Attempt",
    "AudioError",
    "AudioStoreError",
    "Candidate",
    "Caption",
    "CaptionFilter",
    "CorpusError",
    "DatabaseError",
    "Descriptor",
    "Emotion",
    "EncoderError",
    "EncoderMismatchError",
    "JobError",
    "JobNotFoundError",
    "KeyReusedError",
    "KnowledgeError",
    "MakingError",
    "Mention",
    "MusicPlan",
    "Pipeline",
    "PromptError",
    "QueueFullError",
    "Reason",
    "Reprompt",
    "RepromptError",
    "Settings",
    "SettingsError",
    "Trace",
    "reprompt",
    "transform",
]


def test_the_public_names_are_these_and_sorted() -> None:
    assert reprompt_core.__all__ == PUBLIC
    assert sorted(PUBLIC) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_had(name: str) -> None:
    value = getattr(reprompt_core, name)
    home = importlib.import_module(value.__module__)
    assert value is getattr(home, name)
    assert name in home.__all__


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = reprompt_core.Nothing  # pyright: ignore[reportAttributeAccessIssue]


def test_every_error_is_a_reprompt_error_with_a_message_of_its_own() -> None:
    errors = [getattr(reprompt_core, n) for n in PUBLIC if n.endswith("Error")]
    assert all(issubclass(e, reprompt_core.RepromptError) for e in errors)
    assert len({str(e()) for e in errors}) == len(errors)
    assert all(str(e("said")) == "said" for e in errors)


def _imported_by(code: str) -> set[str]:
    answer = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(answer.stdout))


def test_importing_the_package_imports_nothing_heavy() -> None:
    modules = _imported_by("import reprompt_core")
    assert "reprompt_core" in modules
    heavy = {"numpy", "onnxruntime", "torch", "psycopg", "openai", "tokenizers", "httpx2", "platformdirs"}
    assert not heavy & modules


def test_torch_is_not_needed_to_use_the_pipeline() -> None:
    modules = _imported_by("from reprompt_core import Pipeline, Settings")
    assert "reprompt_core.pipeline" in modules
    assert not {"torch", "sentence_transformers", "openai", "onnxruntime", "httpx2"} & modules
