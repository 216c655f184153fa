"""Tables of scores: the two forms, CSV and Parquet, and everything that can be wrong with them."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reprompt_eval.errors import ScoresError
from reprompt_eval.scores import Scores, read_scores

HEADER = "prompt_id,arm,seed,text,checkpoint,score"
RAW, RULES = "1,raw,0,own,music,0.10", "1,rules,0,own,music,0.12"


def table(folder: Path, *rows: str, header: str = HEADER, name: str = "scores.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return path


def read(folder: Path, *rows: str, header: str = HEADER) -> Scores:
    return read_scores(table(folder, *rows, header=header))


def test_the_long_form(tmp_path: Path) -> None:
    scores = read(tmp_path, "a,raw,0,own,music,0.1", "a,raw,1,own,music,0.3", "a,rules,0,own,music,0.5",
                  "b,raw,0,own,630k,-2e-1", "b,rules,0,own,630k,.25")  # fmt: skip
    assert scores.prompts == ("a", "b")
    assert scores.arms == ("rules",)
    assert scores.checkpoints == ("music", "630k")
    assert scores.cells(arm="raw", text="own", checkpoint="music") == {"a": {"0": 0.1, "1": 0.3}}
    assert scores.cells(arm="raw", text="own", checkpoint="630k") == {"b": {"0": -0.2}}
    assert scores.left_out == ()


def test_seed_and_checkpoint_may_be_left_out(tmp_path: Path) -> None:
    scores = read(tmp_path, "1,raw,own,0.1", "1,rules,own,0.2", header="prompt_id,arm,text,score")
    assert scores.cells(arm="rules", text="own", checkpoint="") == {"1": {"0": 0.2}}


def test_the_wide_form(tmp_path: Path) -> None:
    header = "pair,taste,user_text_user_audio,user_text_refined_audio,refined_text_refined_audio"
    scores = read(tmp_path, "1,sweet,0.1,0.2,0.3", "2,sour,0.4,,0.6", header=header)
    assert scores.cells(arm="raw", text="own", checkpoint="") == {"1": {"0": 0.1}, "2": {"0": 0.4}}
    assert scores.cells(arm="refined", text="own", checkpoint="") == {"1": {"0": 0.2}}
    refined = scores.cells(arm="refined", text="refined", checkpoint="", text_of="refined")
    assert refined == {"1": {"0": 0.3}, "2": {"0": 0.6}}
    assert scores.stratum("taste") == {"1": "sweet", "2": "sour"}
    (out,) = scores.left_out
    assert (out.place, out.prompt_id, out.arm, out.text, out.reason) == ("line 3", "2", "refined", "own", "no score")


def test_the_wide_form_with_its_fourth_cell(tmp_path: Path) -> None:
    header = "prompt_id,user_text_user_audio,user_text_refined_audio,refined_text_user_audio"
    scores = read(tmp_path, "1,0.1,0.2,0.3", header=header)
    assert scores.cells(arm="raw", text="refined", checkpoint="", text_of="refined") == {"1": {"0": 0.3}}


def test_parquet_and_csv_say_the_same(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt_id": 1, "arm": "raw", "seed": 0, "text": "own", "checkpoint": None, "score": 0.1, "kind": "dish"},
        {"prompt_id": 1, "arm": "rules", "seed": 0, "text": "own", "checkpoint": None, "score": 0.2, "kind": "dish"},
        {"prompt_id": 2, "arm": "raw", "seed": 0, "text": "own", "checkpoint": None, "score": None, "kind": None},
        {"prompt_id": 2, "arm": "rules", "seed": 0, "text": "own", "checkpoint": "", "score": math.nan, "kind": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "scores.parquet")
    binary = read_scores(tmp_path / "scores.parquet")
    lines = ("1,raw,0,own,,0.1,dish", "1,rules,0,own,,0.2,dish", "2,raw,0,own,,,", "2,rules,0,own,,nan,")
    written = read(tmp_path, *lines, header=HEADER + ",kind")
    for scores in (binary, written):
        assert scores.cells(arm="rules", text="own", checkpoint="") == {"1": {"0": 0.2}}
        assert scores.stratum("kind") == {"1": "dish"}
        assert scores.reasons == {"no score": 1, "the score is NaN": 1}
    assert [out.place for out in binary.left_out] == ["row 3", "row 4"]
    assert [out.place for out in written.left_out] == ["line 4", "line 5"]


def test_what_a_spreadsheet_writes(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes("\ufeffprompt_id;arm;text;score\r\n1;raw;Own;0.1\r\n\r\n1; rules ;own;0.2\r\n".encode())
    assert read_scores(path).arms == ("rules",)


def test_rows_without_a_score_are_left_out_with_their_reasons(tmp_path: Path) -> None:
    scores = read(tmp_path, RAW + ",", RULES + ",", "2,raw,0,own,music,,silent  audio\t", "2,rules,0,own,music,0.3,cut",
                  "3,raw,0,own,music,inf,", "4,raw,0,own,music,NaN,", "5,raw,0,own,music,,silent audio",
                  header=HEADER + ",error")  # fmt: skip
    assert scores.reasons == {"silent audio": 2, "cut": 1, "the score is infinite": 1, "the score is NaN": 1}
    assert [(o.place, o.prompt_id) for o in scores.left_out] == [
        ("line 4", "2"), ("line 5", "2"), ("line 6", "3"), ("line 7", "4"), ("line 8", "5"),
    ]  # fmt: skip
    assert scores.prompts == ("1",)


def test_a_row_that_failed_and_was_done_again_is_no_duplicate(tmp_path: Path) -> None:
    scores = read(tmp_path, RAW + ",", "1,rules,0,own,music,,timeout", RULES + ",", header=HEADER + ",error")
    assert scores.cells(arm="rules", text="own", checkpoint="music") == {"1": {"0": 0.12}}
    assert scores.reasons == {"timeout": 1}


def test_shuffled_texts_of_one_audio_are_averaged(tmp_path: Path) -> None:
    shuffled = ("1,raw,0,shuffled,music,0.02,2", "1,raw,0,shuffled,music,0.06,3")
    scores = read(tmp_path, RAW + ",", RULES + ",", *shuffled, header=HEADER + ",text_of")
    (value,) = scores.cells(arm="raw", text="shuffled", checkpoint="music")["1"].values()
    assert value == pytest.approx(0.04)


def test_refined_text_on_raw_audio_belongs_to_its_arm(tmp_path: Path) -> None:
    header = HEADER + ",text_of"
    more = ("1,llm,0,own,music,0.2,", "1,raw,0,refined,music,0.3,rules", "1,raw,0,refined,music,0.4,llm")
    scores = read(tmp_path, RAW + ",", RULES + ",", *more, header=header)
    assert scores.cells(arm="raw", text="refined", checkpoint="music", text_of="llm") == {"1": {"0": 0.4}}
    with pytest.raises(ScoresError, match=r"line 4.*text_of.*rules or llm"):
        read(tmp_path, RAW, RULES, "1,raw,0,refined,music,0.3", "1,llm,0,own,music,0.2")


@pytest.mark.parametrize(
    ("rows", "header", "says"),
    [
        (["1,raw,0.1"], "prompt_id,arm,score", r"no column text \(it has prompt_id, arm and score\)"),
        (["1,2"], "a,b", "no column prompt_id, arm, text and score"),
        (["1,0.1"], "pair,user_text_user_audio", "wide form but has no column user_text_refined_audio"),
        (["0.1,0.2"], "user_text_user_audio,user_text_refined_audio", "no column pair"),
        ([RAW, RULES, RULES], HEADER, "line 3 and line 4: the same cell twice .*'rules'"),
        ([RAW, "1,rules,0,own,music,high"], HEADER, "line 3: the score 'high' is not a number"),
        ([RAW, '1,rules,0,own,music,"0,12"'], HEADER, "line 3: .*Write decimals with a point"),
        ([RAW, "1,rules,0,mine,music,0.1"], HEADER, "line 3: text is 'mine'; it must be own, refined or shuffled"),
        ([RAW, ",rules,0,own,music,0.1"], HEADER, "line 3: prompt_id is empty"),
        ([RAW, "1,,0,own,music,0.1"], HEADER, "line 3: arm is empty"),
        ([RAW, "1,rules,0,own,music"], HEADER, "line 3: 5 fields where the header has 6"),
        ([RAW], HEADER, "nothing to compare"),
        ([RULES], HEADER, "no score of the person's own text on the audio of the arm 'raw'.*rules"),
        ([RAW + ",", "1,rules,0,own,music,,silent"], HEADER + ",error", "1 rows were left out: silent"),
        (["1,raw,0,own,music,"], HEADER, "no row with a score"),
        ([], HEADER, "no row with a score"),
        ([RAW, "1,raw,0,shuffled,music,0.1"], HEADER + ",score", "column 'score' twice"),
        ([RAW + ",", RULES + ",", "1,raw,0,shuffled,music,0.1,1"], HEADER + ",text_of", "line 4: the shuffled text is"),
    ],
)  # fmt: skip
def test_bad_tables_say_what_is_wrong(tmp_path: Path, rows: list[str], header: str, says: str) -> None:
    with pytest.raises(ScoresError, match=says):
        read(tmp_path, *rows, header=header)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "bytes.csv").write_bytes(b"prompt_id,arm\n\xff\xfe")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    for name, says in {
        "none.csv": "no such file", "empty.csv": "is empty", "bytes.csv": "not UTF-8", "cut.parquet": "as Parquet",
        ".": "a folder",
    }.items():  # fmt: skip
        with pytest.raises(ScoresError, match=says):
            read_scores(tmp_path / name)


def test_a_stratum_is_a_column_with_one_value_for_each_prompt(tmp_path: Path) -> None:
    header = HEADER + ",taste,take"
    scores = read(tmp_path, RAW + ",sweet,a", RULES + ",sweet,b", "2,raw,0,own,music,0.1,,a", header=header)
    assert scores.stratum("taste") == {"1": "sweet"}
    with pytest.raises(ScoresError, match="prompt '1' is in two strata of 'take': 'a' and 'b'"):
        scores.stratum("take")
    with pytest.raises(ScoresError, match="no column 'colour' for a stratum; those that can be used: take, taste"):
        scores.stratum("colour")
    richer = scores.with_columns({"colour": {"1": "red", "2": ""}, "taste": {"1": "other"}})
    assert richer.stratum("colour") == {"1": "red"}
    assert richer.stratum("taste") == {"1": "sweet"}  # the table's own
