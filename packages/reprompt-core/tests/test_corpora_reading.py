"""Files of captions: what is good is read, what is not is told with its line, and memory stays where it was."""

import csv
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reprompt_core.corpora.reading import Format, Reject, Row, read_rows
from reprompt_core.errors import CorpusError

ROOT = Path(__file__).parents[3]
MUSICCAPS = ROOT.parent / "shared" / "data" / "musiccaps.csv"
MEBIBYTE = 1 << 20


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """A file of text or bytes."""

    def made(content: str | bytes, name: str = "a.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return made


@pytest.fixture
def csv_limit() -> Iterator[int]:
    """The limit of csv before anything is read; another test may have left another."""
    limit = 150_000
    before = csv.field_size_limit(limit)
    yield limit
    csv.field_size_limit(before)


def texts(rows: Iterable[Row | Reject]) -> list[str]:
    return [row.text if isinstance(row, Row) else f"REJECT {row.line}" for row in rows]


# Formats and columns


@pytest.mark.skipif(not MUSICCAPS.is_file(), reason=f"MusicCaps is not on this machine ({MUSICCAPS})")
def test_all_of_musiccaps_is_read_with_its_tags() -> None:
    rows = list(read_rows(MUSICCAPS))
    assert len(rows) == 5521
    assert all(isinstance(row, Row) and row.tags for row in rows)
    assert rows[0].line == 2
    assert rows[0].tags[:2] == ("low quality", "sustained strings melody")  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("format", [None, "musiccaps"])
def test_musiccaps_is_known_by_its_columns(write: Any, format: Format | None) -> None:
    path = write(
        """ytid,aspect_list,caption,author_id\nx,"['slow', ""8-bit, loud"", 'R&B']",A song,4\ny,[],Another,5\n"""
    )
    assert list(read_rows(path, format=format)) == [
        Row(2, "A song", ("slow", "8-bit, loud", "R&B")),
        Row(3, "Another"),
    ]


def test_a_plain_csv_has_no_tags_unasked(write: Any) -> None:
    path = write("caption,aspect_list\nA song,['slow']\n")
    assert list(read_rows(path, format="csv")) == [Row(2, "A song")]


@pytest.mark.parametrize("format", [None, "songdescriber"])
def test_song_describer(write: Any, format: Format | None) -> None:
    path = write(
        "caption_id,track_id,caption,is_valid_subset,familiarity,artist_id,album_id,path,duration\n"
        '1114,1004034,"A twisty nice melody, by a slide guitar.",False,0,45,1,34/1004034.mp3,60\n'
    )
    assert list(read_rows(path, format=format)) == [Row(2, "A twisty nice melody, by a slide guitar.")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id,text\n1,slow; sad\n"),
        ("a.csv", "id;text\n1;slow; sad\n".replace("slow; sad", '"slow; sad"')),
        ("a.csv", "id\ttext\n1\tslow; sad\n"),
        ("a.csv", "a,b,c;text\n1;slow; sad\n".replace("slow; sad", '"slow; sad"')),  # the text column decides
        ("a.tsv", "text\tid,a,b\nslow; sad\t1\n"),
        ("A.CSV", "id,text\r\n1,slow; sad\r\n"),
        ("a.csv", "id,text\r1,slow; sad\r"),
        ("a.csv", "\n\nid,text\n\n1,slow; sad\n\n"),
        ("a.csv", "\ufefftext,id\nslow; sad,1"),
        ("a.jsonl", '{"text": "slow; sad"}'),
        ("a.ndjson", '\n{"id": 1, "text": "slow; sad"}\r\n\n'),
        ("a.jsonl", '\ufeff{"text": "slow; sad"}\n'),
    ],
)
def test_the_format_is_found(write: Any, name: str, content: str) -> None:
    assert texts(read_rows(write(content, name))) == ["slow; sad"]


def test_a_tsv_is_split_at_tabs_alone(write: Any) -> None:
    assert texts(read_rows(write("text\nslow, sad; low\n", "a.tsv"))) == ["slow, sad; low"]


def test_a_given_format_beats_the_suffix(write: Any) -> None:
    assert texts(read_rows(write('{"text": "slow"}\n', "a.csv"), format="jsonl")) == ["slow"]
    assert texts(read_rows(write("text\nslow\n", "a.txt"), format="csv")) == ["slow"]


def test_the_first_of_the_usual_columns_is_the_text(write: Any) -> None:
    assert texts(read_rows(write("prompt,Description,TEXT,Caption\np,d,t,c\n"))) == ["c"]
    assert texts(read_rows(write("prompt,Description,TEXT\np,d,t\n"))) == ["t"]
    assert texts(read_rows(write("prompt,Description\np,d\n"))) == ["d"]
    assert texts(read_rows(write("id,prompt\n1,p\n"))) == ["p"]
    assert texts(read_rows(write("caption,lyrics\nc,l\n"), text="lyrics")) == ["l"]


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ('"[\'a b\', ""c""]"', ("a b", "c")),
        ("a b|c", ("a b", "c")),
        ("a b; c ;", ("a b", "c")),
        ("  a \t b ", ("a b",)),
        ("", ()),
        ("[]", ()),
        (r"['\d|e']", (r"\d|e",)),
    ],
)
@pytest.mark.filterwarnings("error")
def test_tags_in_csv(write: Any, value: str, tags: tuple[str, ...]) -> None:
    assert list(read_rows(write(f"text,mood\nslow,{value}\n"), tags="mood")) == [Row(2, "slow", tags)]


@pytest.mark.parametrize(
    ("value", "tags"),
    [(["a b", " c\n", ""], ("a b", "c")), ("a b|c", ("a b", "c")), ("['a|b']", ("a|b",)), (None, ()), ([], ())],
)
def test_tags_in_json(write: Any, value: object, tags: tuple[str, ...]) -> None:
    path = write(json.dumps({"text": "slow", "mood": value}), "a.jsonl")
    assert list(read_rows(path, tags="mood")) == [Row(1, "slow", tags)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("['a'", "begin like a list"),
        ("[__import__('os').getcwd()]", "begin like a list"),
        ("[" + "-" * 15_000 + "1]", "begin like a list"),
        ("[" * 15_000, "begin like a list"),
        ("[" + "'a', " * 5_000 + "]", "25,002 characters; the most is 20,000"),
        ("[1, 'a']", "no list of strings"),
        ("['a'], ['b']", "no list of strings"),
        (r"['a\x00b']", "NUL"),
        ("a\0b", "NUL"),
    ],
)
def test_tags_that_are_none(write: Any, value: str, reason: str) -> None:
    rows = list(read_rows(write(f'text,mood\nfast,\nslow,"{value}"\nlow,a\n'), tags="mood"))
    assert texts(rows) == ["fast", "REJECT 3", "low"]
    assert reason in rows[1].reason  # pyright: ignore[reportAttributeAccessIssue]


def test_whitespace_becomes_one_space(write: Any) -> None:
    assert texts(read_rows(write('text\n"  slow\r\n\n\tsad \u2028 piano "\n'))) == ["slow sad piano"]


def test_the_line_is_the_one_at_which_the_record_starts(write: Any) -> None:
    rows = list(read_rows(write('"id","te\nxt"\n1,"a\nb\n\nc"\n\n2,"d"\n3,\n4,e'), text="te\nxt"))
    assert [(row.line, getattr(row, "text", None)) for row in rows] == [(3, "a b c"), (8, "d"), (9, None), (10, "e")]


# Bad rows


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"1,,x", "no text"),
        (b"1, \t ,x", "no text"),
        (b'1,"\n\n",x', "no text"),
        (b"1," + b"a" * 2001 + b",x", "a text of 2,001 characters; the most is 2,000"),
        (b"1,caf\xe9,x", "not UTF-8"),
        (b"1,\xed\xa0\x80,x", "not UTF-8"),
        (b"1,a\0b,x", "NUL"),
        (b"1", "1 of 3 columns: the text is missing"),
        (b"1,slow, sad,x", "4 values for 3 columns"),
        (b'1,"slow "sad"",x', "quotation marks that do not pair"),
    ],
)
def test_a_bad_csv_row_is_told_and_no_other_is_lost(write: Any, record: bytes, reason: str) -> None:
    before, bad, after = read_rows(write(b"id,text,note\n1,before,x\n" + record + b"\n3,after,x\n"))
    assert (before, after) == (Row(2, "before"), Row(4 + record.count(b"\n"), "after"))
    assert isinstance(bad, Reject)
    assert bad.line == 3
    assert reason in bad.reason
    assert 1 <= len(bad.excerpt) <= 80
    assert bad.excerpt.isprintable()
    assert bad.excerpt[0] == "1" or record.startswith(b'1,"\n')


def test_what_is_bad_in_other_columns_does_not_matter(write: Any) -> None:
    path = write(b"text,note,more\nslow,caf\xe9,\0\nsad\nlow,,,, \n".replace(b", \n", b",\n"))
    assert texts(read_rows(path)) == ["slow", "sad", "low"]


def test_2000_characters_are_not_too_many(write: Any) -> None:
    (row,) = read_rows(write(f"text\n  {'é' * 2000}  \n"))
    assert row == Row(2, "é" * 2000)


def test_a_quotation_mark_left_open_costs_its_row_alone(write: Any) -> None:
    rows = list(read_rows(write('id,text\n1,"open\n2,slow\n3,"sad"\n4,low\n5,"open too\n6,last\n')))
    assert texts(rows) == ["REJECT 2", "slow", "sad", "low", "REJECT 6", "last"]
    assert [row.line for row in rows] == [2, 3, 4, 5, 6, 7]
    assert all("quotation marks" in row.reason for row in rows if isinstance(row, Reject))


def test_a_field_over_a_mebibyte_is_told_and_reading_goes_on(write: Any, csv_limit: int) -> None:
    long = "a" * MEBIBYTE
    rows = list(read_rows(write(f"id,text\n1,slow\n{long}a,sad\n{long},low\n2,last\n")))
    assert texts(rows) == ["slow", "REJECT 3", "low", "last"]
    assert rows[1].reason == "a field over 1 MiB: is a quotation mark left open?"  # pyright: ignore[reportAttributeAccessIssue]
    assert csv.field_size_limit() == csv_limit


def test_a_quotation_mark_left_open_over_a_mebibyte_costs_its_row_alone(write: Any) -> None:
    rows = list(read_rows(write('id,text\n1,"open\n' + "2,slow piano\n" * 100_000)))
    assert texts(rows) == ["REJECT 2"] + ["slow piano"] * 100_000
    assert rows[0].reason == "a field over 1 MiB: is a quotation mark left open?"  # pyright: ignore[reportAttributeAccessIssue]
    assert rows[-1].line == 100_002


def test_a_record_without_end_is_bounded(write: Any) -> None:
    many = f"{'x,' * (3 * MEBIBYTE)}\n"
    rows = list(read_rows(write(f'id,text\n1,"open\n{many}2,slow\n{many}3,sad\n')))
    assert texts(rows) == ["REJECT 2", "REJECT 3", "slow", "REJECT 5", "sad"]
    assert {row.reason for row in rows if isinstance(row, Reject)} == {
        "a record over 4 MiB: is a quotation mark left open?"
    }


def test_the_limit_of_csv_is_left_as_it_was_by_readers_at_once(write: Any, csv_limit: int) -> None:
    path = write("id,text\n" + f"{'a' * 200_000},slow\n" * 50)
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda _: texts(read_rows(path)), range(8)))
    assert read == [["slow"] * 50] * 8
    assert csv.field_size_limit() == csv_limit


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": ""}', "no text"),
        (b'{"text": null}', "no text"),
        (b'{"note": "x"}', "no text"),
        (b'{"text": "' + b"a " * 1500 + b'"}', "a text of 2,999 characters"),
        (b'{"text": "caf\xe9"}', "not UTF-8"),
        (b'{"text": "a\\u0000b"}', "NUL"),
        (b'{"text": "a\\ud83cb"}', "half of a surrogate pair"),
        (b'{"text": "a", "tags": ["\\udc00"]}', "half of a surrogate pair"),
        (b'{"text": "a", "tags": 5}', "no list of strings"),
        (b'{"text": 5}', "no string but of type int"),
        (b'{"text": ["a"]}', "no string but of type list"),
        (b'{"text": "a"', "not JSON"),
        (b'{"text": ' + b"1" * 5000 + b"}", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b'["text"]', "not a JSON object"),
        (b'{"text": "slow", "note": "' + b"a" * MEBIBYTE + b'"}', "a line over 1 MiB"),
    ],
)
def test_a_bad_json_line_is_told_and_no_other_is_lost(write: Any, line: bytes, reason: str) -> None:
    path = write(b'{"text": "before", "tags": []}\n' + line + b'\n{"text": "after"}\n', "a.jsonl")
    before, bad, after = read_rows(path, tags="tags")
    assert (before, after) == (Row(1, "before"), Row(3, "after"))
    assert isinstance(bad, Reject)
    assert bad.line == 2
    assert reason in bad.reason
    assert bad.excerpt[:1] in {"{", "["}
    assert len(bad.excerpt) <= 80
    assert bad.excerpt.isprintable()


def test_whole_surrogate_pairs_are_text(write: Any) -> None:
    assert texts(read_rows(write(b'{"text": "\\ud83c\\udfb5"}', "a.jsonl"))) == ["🎵"]


def test_a_json_line_of_a_mebibyte_is_read(write: Any) -> None:
    frame = '{"text": "slow", "note": ""}\n'
    path = write(frame.replace('""', f'"{"a" * (MEBIBYTE - len(frame))}"') + '{"text": "sad"}', "a.jsonl")
    assert texts(read_rows(path)) == ["slow", "sad"]


def test_keys_that_the_first_line_lacks_are_found(write: Any) -> None:
    path = write('not json\n{"id": 1}\n{"id": 2, "text": "slow", "mood": ["sad"]}\n', "a.jsonl")
    rows = list(read_rows(path, tags="mood"))
    assert texts(rows) == ["REJECT 1", "REJECT 2", "slow"]
    assert rows[2] == Row(3, "slow", ("sad",))


def test_an_excerpt_is_short_and_printable(write: Any) -> None:
    (bad,) = read_rows(write(b"text\n\x1b[31m\xe9" + b"a" * 3000 + b"\n"))
    assert isinstance(bad, Reject)
    assert bad.excerpt == "\ufffd[31m\ufffd" + "a" * 73 + "…"


# Vectors


def test_vectors_in_json(write: Any) -> None:
    (row,) = read_rows(write('{"text": "slow", "v": [1, -0.5, 2e0]}', "a.jsonl"), vectors="v")
    assert isinstance(row, Row)
    assert row.vector is not None
    assert row.vector.dtype == np.float32
    assert row.vector.tolist() == [1, -0.5, 2]


def test_vectors_are_not_read_unasked(write: Any) -> None:
    assert list(read_rows(write('{"text": "slow", "v": "bad"}', "a.jsonl"))) == [Row(1, "slow", vector=None)]


@pytest.mark.parametrize(
    ("vector", "reason"),
    [
        ('"[1, 2]"', "no list of numbers"),
        ("[]", "no list of numbers"),
        ('[1, "2"]', "no list of numbers"),
        ("[1, true]", "no list of numbers"),
        ("[1, null]", "no list of numbers"),
        ("[[1, 2]]", "no list of numbers"),
        ("5", "no list of numbers"),
        ("[1, NaN]", "not finite"),
        ("[1, Infinity]", "not finite"),
        ("[1, 1e300]", "too large"),
        (f"[1, {10**400}]", "too large"),
        ("[1, 2, 3]", "a vector of 3 numbers; the first of the file has 2"),
        ("null", "no vector"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_bad_vector_costs_its_row_alone(write: Any, vector: str, reason: str) -> None:
    good = '{"text": "slow", "v": [1, 2]}\n'
    rows = list(read_rows(write(f'{good}{{"text": "sad", "v": {vector}}}\n{good}', "a.jsonl"), vectors="v"))
    assert texts(rows) == ["slow", "REJECT 2", "slow"]
    assert reason in rows[1].reason  # pyright: ignore[reportAttributeAccessIssue]


# Files that cannot be used


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", "id,words\n1,slow\n", {}, "no column caption, text, .* prompt; it has id, words. .*--text"),
        ("a.jsonl", '{"id": 1, "words": 2}', {}, "it has id, words. .*--text"),
        ("a.csv", "id,text\n1,a\n", {"text": "words"}, r"no column 'words' \(--text asks for it\); it has id, text"),
        ("a.csv", "id,text\n1,a\n", {"tags": "mood"}, r"no column 'mood' \(--tags asks for it\); it has id, text"),
        ("a.jsonl", '{"text": "a"}', {"tags": "mood"}, r"no column 'mood' \(--tags asks for it\); it has text"),
        ("a.jsonl", '{"text": "a"}', {"vectors": "v"}, r"no column 'v' \(--vectors asks for it\); it has text"),
        ("a.csv", "id,text\n1,a\n", {"vectors": "text"}, "is CSV; --vectors needs a Parquet or JSON Lines file"),
        ("a.csv", "id,text\n", {"format": "musiccaps"}, r"no column 'caption' \(--format musiccaps needs it\)"),
        ("a.csv", "caption\n", {"format": "musiccaps"}, "no column 'aspect_list'"),
        ("a.csv", "caption\n", {"format": "songdescriber"}, "no column 'caption_id'"),
        ("a.csv", "", {}, "is empty"),
        ("a.csv", "\n \n", {}, "is empty"),
        ("a.jsonl", "", {}, "is empty"),
        ("a.jsonl", "\n\n", {}, "is empty"),
        ("a.parquet", "", {}, "is empty"),
        ("a.txt", "text\nslow\n", {}, "not known by its name; give --format with one of musiccaps, .*parquet"),
        ("a", "text\nslow\n", {"format": "xml"}, "give --format with one of"),
        ("a.csv", "text\nslow\n".encode("utf-16"), {}, "not UTF-8 text"),
        ("a.csv", b"\x1f\x8b\x08\x00", {}, "not UTF-8 text.*--format"),
        ("a.csv", '"text\nslow\n', {}, "header of .* cannot be read: quotation marks"),
        ("a.csv", "x" * (4 * MEBIBYTE + 1), {}, "header of .* cannot be read: it is over 4 MiB"),
        ("a.jsonl", '[{\n"text": "slow"\n}]\n', {}, "None of the first lines .* is a JSON object.*--format"),
        ("missing/a.csv", None, {}, "no such file"),
        ("folder.csv", None, {}, "it is a folder"),
        ("loop.csv", None, {}, r"cannot be read: Too many levels"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_one_clear_line_at_once(
    tmp_path: Path, write: Any, name: str, content: str | bytes | None, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    path = tmp_path / name if content is None else write(content, name)
    with pytest.raises(CorpusError, match=message) as failed:
        read_rows(path, **options)
    assert "\n" not in str(failed.value)
    assert str(path) in str(failed.value)
    assert len(str(failed.value)) < 400 + len(str(path))


def test_many_columns_are_not_all_told(write: Any) -> None:
    with pytest.raises(CorpusError, match=r"c18, c19 and 80 more\."):
        read_rows(write(",".join(f"c{i}" for i in range(100))))


def test_a_header_alone_has_no_rows(write: Any) -> None:
    assert list(read_rows(write("id,text\n"))) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="open files are counted in /dev/fd")
def test_the_file_is_closed_when_the_rows_are_left(write: Any) -> None:
    path = write("text\n" + "slow\n" * 100)
    before = len(list(Path("/dev/fd").iterdir()))
    rows = read_rows(path)
    assert len(list(Path("/dev/fd").iterdir())) == before + 1
    next(rows)
    del rows
    read_rows(path)  # not even begun
    with pytest.raises(CorpusError):
        read_rows(path, text="words")
    assert len(list(Path("/dev/fd").iterdir())) == before


# Memory


MEASURED = """
import os, pathlib, subprocess, sys
from reprompt_core.corpora.reading import Row, read_rows

def resident():
    if (statm := pathlib.Path("/proc/self/statm")).exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return 1024 * int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(os.getpid())]))

rows = read_rows(pathlib.Path(sys.argv[1]))
count, before, most = 0, resident(), 0
for row in rows:
    count += isinstance(row, Row)
    if count % 5000 == 0:
        most = max(most, resident())
print(count, most - before)
"""


def measured(path: Path, program: str = MEASURED) -> list[int]:
    """What a program prints about the file, from a process of its own, whose memory nothing else uses."""
    out = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True, timeout=120)
    return [int(n) for n in out.stdout.split()]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_200_000_rows_take_no_more_memory_than_a_few(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("w") as f:
        f.write("id,text\n" if name == "a.csv" else "")
        for i in range(200_000):
            text = f"{i} " + "a slow and sad piano over rain, with brushed drums and a soft bass " * 4
            f.write(f'{i},"{text}"\n' if name == "a.csv" else json.dumps({"id": i, "text": text}) + "\n")
    assert path.stat().st_size > 50e6
    count, grown = measured(path)
    assert count == 200_000
    assert grown < 10e6


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("a.jsonl", b'{"text": "slow"}\n{"text": "', b'"}\n{"text": "sad"}\n'),
        ("a.csv", b"id,text\n1,slow\n2,", b"\n3,sad\n"),
        ("a.csv", b'id,text\n1,slow\n2,"', b'"\n3,sad\n'),
    ],
)
def test_a_line_of_100_mb_is_never_held(tmp_path: Path, name: str, start: bytes, end: bytes) -> None:
    path = tmp_path / name
    with path.open("wb") as f:
        f.write(start)
        for _ in range(100):
            f.write(b"a" * 1_000_000)
        f.write(end)
    tracemalloc.start()
    try:
        assert texts(read_rows(path)) == ["slow", "REJECT 3" if name == "a.csv" else "REJECT 2", "sad"]
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_parquet_of_one_row_group_is_not_held(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    random = pa.table({"text": [f"{i} " + os.urandom(150).hex() for i in range(200_000)]})
    pq.write_table(random, path, row_group_size=200_000)
    assert path.stat().st_size > 30e6
    count, grown, arrow = measured(
        path, f"{MEASURED}\nimport pyarrow\nprint(pyarrow.default_memory_pool().max_memory())"
    )
    assert count == 200_000
    assert grown < 50e6
    assert arrow < 25e6
