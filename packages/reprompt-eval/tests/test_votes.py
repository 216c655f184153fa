"""Blind comparisons: what people preferred, whether the place decided, and files that are not as they should be."""

import json
from pathlib import Path
from typing import Any

import pytest
from reprompt_eval.errors import VotesError
from reprompt_eval.paired import Sampling
from reprompt_eval.votes import analyse_votes, order_sentence, read_votes
from scipy import stats

PREFERRED = {("ab", "a"): "raw", ("ab", "b"): "rewritten", ("ba", "a"): "rewritten", ("ba", "b"): "raw"}


def vote(id: int, order: str, choice: str | None, words: str = "lemon cake", **changes: Any) -> dict[str, Any]:
    preferred = None if choice is None else PREFERRED.get((order, choice), "none")
    made = {"id": str(id), "words": words, "seed": 0, "order": order, "choice": choice, "preferred": preferred,
            "voted_at": "2026-01-01T00:00:00Z", "generator": "musicgen"}  # fmt: skip
    return made | changes


def file(folder: Path, *lines: dict[str, Any] | str) -> Path:
    path = folder / "votes.jsonl"
    path.write_text("".join((v if isinstance(v, str) else json.dumps(v)) + "\n" for v in lines), "utf-8")
    return path


def test_the_preference_and_its_interval(tmp_path: Path) -> None:
    """30 rewritten and 10 raw, half of each in each order, and 5 who found both equal."""
    votes = [vote(i, "ab" if i % 2 else "ba", ("b" if i % 2 else "a") if i < 30 else ("a" if i % 2 else "b"))
             for i in range(40)]  # fmt: skip
    votes += [vote(40 + i, "ab", "none") for i in range(5)]
    analysis = analyse_votes(read_votes(file(tmp_path, *votes)))
    p = analysis.preference
    assert (p.rewritten, p.raw, p.ties, p.share) == (30, 10, 5, 0.75)
    expected = stats.binomtest(30, 40).proportion_ci(method="wilson")
    assert p.ci
    assert (p.ci.low, p.ci.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert p.p == pytest.approx(stats.binomtest(30, 40).pvalue)
    assert analysis.sentence.startswith("Listeners preferred the rewritten: 75 % of the votes that chose were for the "
                                        "rewritten (95 % CI 60 to 86 %, 30 of 40")  # fmt: skip
    assert "5 further votes found both equal" in analysis.sentence
    assert analysis.order.share == 0.5
    assert order_sentence(analysis.order).startswith("No evidence that the place decided: A was chosen 20 of 40 times")
    json.dumps(analysis.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("rewritten", "raw", "says"),
    [(2, 38, "Listeners preferred the music of the words as they are: 5 %"), (21, 19, "No evidence that listeners")],
)
def test_other_outcomes(tmp_path: Path, rewritten: int, raw: int, says: str) -> None:
    votes = [vote(i, "ab", "b" if i < rewritten else "a") for i in range(rewritten + raw)]
    assert analyse_votes(read_votes(file(tmp_path, *votes))).sentence.startswith(says)


def test_the_place_decides(tmp_path: Path) -> None:
    """Everyone takes A, whichever it is: no preference, and a perfect effect of the order."""
    votes = [vote(i, "ab" if i % 2 else "ba", "a") for i in range(40)]
    analysis = analyse_votes(read_votes(file(tmp_path, *votes)))
    assert analysis.preference.share == 0.5
    assert (analysis.order.a, analysis.order.b, analysis.order.share) == (40, 0, 1.0)
    assert (analysis.order.raw_first.share, analysis.order.rewritten_first.share) == (0.0, 1.0)
    assert order_sentence(analysis.order).startswith("The place decided, in part: A was chosen 40 of 40 times, 100 %")


def test_a_prompt_with_many_votes_counts_once(tmp_path: Path) -> None:
    votes = [vote(i, "ab", "b", "popular") for i in range(90)]
    votes += [vote(100 + i, "ab", "a", f"rare {i}") for i in range(4)]
    votes += [vote(200, "ba", "none", "only equal", generator="preview")]
    analysis = analyse_votes(read_votes(file(tmp_path, *votes)), sampling=Sampling(resamples=999))
    assert analysis.preference.share == pytest.approx(90 / 94)
    assert analysis.over_prompts
    assert (analysis.over_prompts.n, analysis.over_prompts.mean) == (5, pytest.approx(0.2))
    assert next(iter(analysis.by_prompt)) == "popular"
    assert analysis.by_prompt["only equal"].share is None
    assert {name: p.ties for name, p in analysis.by_generator.items()} == {"musicgen": 0, "preview": 1}


def test_bad_lines_are_named_and_the_others_count(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        vote(1, "ab", "b"),
        "",
        "{not json",
        "[1, 2]",
        vote(2, "abc", "b"),
        vote(3, "ab", "c"),
        vote(4, "ab", "b", preferred="raw"),
        vote(1, "ab", "a"),
        vote(5, "ab", None),
        vote(6, "ab", None, preferred="raw"),
        vote(7, "ab", "a", words=" "),
        vote(8, "ba", "a") | {"id": 8},
        '{"id": "9", "words": "x", "order": "ab", "choice": NaN}',
        vote(10, "ba", "a", words="\ud800 lone", seed=None),
    )
    with path.open("ab") as f:
        f.write(b'\xff\xfe{"id": "11"}\n')
    votes = read_votes(path)
    assert [v.id for v in votes.votes] == ["1", "10"]
    assert votes.votes[1].words == "? lone"
    assert votes.waiting == 1
    assert {b.line: b.reason for b in votes.bad} == {
        3: "not JSON",
        4: "not a JSON object",
        5: 'order is "abc", not "ab" or "ba"',
        6: 'choice is "c", not "a", "b" or "none"',
        7: 'preferred is "raw", but order ab and choice b make it rewritten',
        8: "the comparison of line 1 again",
        10: "a preference without a choice",
        11: "words is missing",
        12: "id is missing",
        13: "not JSON",
        15: "not UTF-8 text",
    }


def test_only_equal_votes(tmp_path: Path) -> None:
    analysis = analyse_votes(read_votes(file(tmp_path, vote(1, "ab", "none"))))
    assert analysis.sentence == "Nobody preferred either: 1 vote found both equal."
    assert analysis.over_prompts is None
    assert "Nobody chose" in order_sentence(analysis.order)


def test_files_without_votes(tmp_path: Path) -> None:
    with pytest.raises(VotesError, match="no such file"):
        read_votes(tmp_path / "none.jsonl")
    with pytest.raises(VotesError, match="a folder"):
        read_votes(tmp_path)
    with pytest.raises(VotesError, match=r"1 bad lines, 1 not voted on yet.*Line 1: not JSON"):
        read_votes(file(tmp_path, "x", vote(1, "ab", None)))
    with pytest.raises(VotesError, match="over a megabyte"):
        read_votes(file(tmp_path, "x" * (1 << 20) + "xx"))
