"""What a body asks for beside its form: words that are words, and things that this server has."""

from reprompt_core import PromptError, Settings
from reprompt_core.words import Words

from .problems import FieldProblem, ProblemError

__all__ = ["check_asked"]


def check_asked(settings: Settings, *, texts: dict[str, str | None], refiner: str, generator: str = "auto") -> None:
    """Looks before any work is done.

    Args:
        settings: of the pipeline.
        texts: those of a person, by the name of their field.
        refiner: who is to write.
        generator: where it is to be made.

    Raises:
        ProblemError: 422, with each field that cannot be had.
    """
    found: list[FieldProblem] = []
    for name, text in texts.items():
        if text is not None:
            try:
                Words.check(text)
            except PromptError as e:
                found.append(FieldProblem(f"/{name}", str(e)))
    if refiner == "llm" and settings.llm_model is None:
        found.append(FieldProblem("/refiner", "No language model is set up on this server; use auto or rules."))
    if generator == "runpod" and settings.runpod_endpoint is None:
        found.append(FieldProblem("/generator", "RunPod is not set up on this server; see /v1/generators."))
    if found:
        raise ProblemError(422, found[0].detail, errors=found)
