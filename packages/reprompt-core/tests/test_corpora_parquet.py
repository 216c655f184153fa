"""Parquet files of captions: columns, vectors, what is bad in them, and files that are broken."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reprompt_core.corpora.reading import Format, Reject, Row, read_rows
from reprompt_core.errors import CorpusError


def texts(rows: Iterable[Row | Reject]) -> list[str]:
    return [row.text if isinstance(row, Row) else f"REJECT {row.line}" for row in rows]


@pytest.fixture
def parquet(tmp_path: Path) -> Any:
    """A Parquet file of columns."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def made(columns: dict[str, Any], name: str = "a.parquet", **options: Any) -> Path:
        pq.write_table(pa.table(columns), tmp_path / name, **options)
        return tmp_path / name

    return made


@pytest.mark.parametrize(("name", "format"), [("a.parquet", None), ("a.bin", None), ("a.bin", "parquet")])
def test_parquet(parquet: Any, name: str, format: Format | None) -> None:
    path = parquet(
        {
            "id": [1, 2, 3],
            "Caption": [" slow\n", None, "sad"],
            "mood": [["a", "b "], [], None],
            "v": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        },
        name,
    )
    slow, none, sad = read_rows(path, format=format, tags="mood", vectors="v")
    assert (slow, sad) == (Row(1, "slow", ("a", "b")), Row(3, "sad"))
    assert none == Reject(2, "no text", "None")
    assert [row.vector.tolist() for row in (slow, sad)] == [[1, 2], [5, 6]]
    assert slow.vector.dtype == np.float32


def test_rows_of_parquet_stay_in_order_over_batches_and_row_groups(parquet: Any) -> None:
    path = parquet({"text": [f"song {i}" for i in range(2000)]}, row_group_size=300)
    assert list(read_rows(path)) == [Row(i + 1, f"song {i}") for i in range(2000)]


def test_musiccaps_as_parquet(parquet: Any) -> None:
    path = parquet({"caption": ["slow"], "aspect_list": ["['a', 'b']"]})
    assert list(read_rows(path)) == [Row(1, "slow", ("a", "b"))]


def test_bad_rows_of_parquet(parquet: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    path = parquet({"text": ["slow", " ", "a" * 2001, "a\0b", "sad"]})
    assert [row.reason for row in read_rows(path) if isinstance(row, Reject)] == [
        "no text", "a text of 2,001 characters; the most is 2,000", "a NUL character",
    ]  # fmt: skip
    assert texts(read_rows(path))[::4] == ["slow", "sad"]
    (bad,) = read_rows(parquet({"text": [5]}))
    assert bad.reason == "the text is no string but of type int"
    (bad,) = read_rows(parquet({"text": ["slow"], "mood": [[1]]}), tags="mood")
    assert bad.reason == "the tags are no list of strings"
    path = parquet({"text": pa.array([b"slow", b"caf\xe9", b"sad"])})
    assert texts(read_rows(path)) == ["slow", "REJECT 2", "sad"]


def test_a_string_of_parquet_that_is_not_utf8_costs_its_row_alone(parquet: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    broken = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(np.array([0, 4, 7, 10], np.int32)), pa.py_buffer(b"slowa\xffbsad")]
    )
    rows = list(read_rows(parquet({"text": broken})))
    assert texts(rows) == ["slow", "REJECT 2", "sad"]
    assert rows[1].reason == "bytes that are not UTF-8"  # pyright: ignore[reportAttributeAccessIssue]
    rows = list(read_rows(parquet({"text": ["a", "b", "c"], "mood": broken}), tags="mood"))
    assert texts(rows) == ["a", "REJECT 2", "c"]


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        ([[1.0, None]], "list<double>", "missing"),
        ([[1.0, float("inf")]], "list<float>", "not finite"),
        ([[1e300, 1.0]], "list<double>", "too large"),
        ([[]], "list<double>", "no list of numbers"),
        ([["a", "b"]], "list<string>", "no list of numbers"),
        ([[True, False]], "list<bool>", "no list of numbers"),
        ([1.5], "double", "no list of numbers"),
        ([None], "list<double>", "no vector"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_bad_vectors_of_parquet(parquet: Any, values: list[Any], kind: str, reason: str) -> None:
    pa = pytest.importorskip("pyarrow")
    inner = kind.removeprefix("list<").removesuffix(">")
    type_ = pa.list_(pa.type_for_alias(inner)) if inner != kind else pa.type_for_alias(kind)
    (bad,) = read_rows(parquet({"text": ["slow"], "v": pa.array(values, type_)}), vectors="v")
    assert isinstance(bad, Reject)
    assert reason in bad.reason


@pytest.mark.parametrize("inner", ["int8", "uint64", "halffloat", "float", "double"])
@pytest.mark.parametrize("size", [-1, 2])
def test_vectors_of_all_numbers(parquet: Any, inner: str, size: int) -> None:
    pa = pytest.importorskip("pyarrow")
    values = np.array([1, 2, 3, 4], inner.replace("halffloat", "float16").replace("float16", "half"))
    flat = pa.array(values, pa.type_for_alias(inner))
    column = pa.FixedSizeListArray.from_arrays(flat, 2) if size == 2 else pa.ListArray.from_arrays([0, 2, 4], flat)
    rows = list(read_rows(parquet({"text": ["slow", "sad"], "v": column}), vectors="v"))
    assert [row.vector.tolist() for row in rows if isinstance(row, Row)] == [[1, 2], [3, 4]]  # pyright: ignore[reportOptionalMemberAccess]


def test_columns_of_parquet_that_are_not_there(parquet: Any) -> None:
    path = parquet({"id": [1], "words": ["slow"]})
    with pytest.raises(CorpusError, match=r"it has id, words\. Give --text"):
        read_rows(path)
    with pytest.raises(CorpusError, match=r"no column 'v' \(--vectors asks for it\); it has id, words"):
        read_rows(path, text="words", vectors="v")


def test_a_broken_parquet_file(parquet: Any) -> None:
    path = parquet({"text": [f"song {i}" for i in range(5000)]}, compression="none", use_dictionary=False)
    whole = path.read_bytes()
    for broken in (whole[:-100], whole[:4] + b"\xff" * 50 + whole[54:], b"text\nslow\n", b"PAR1"):
        path.write_bytes(broken)
        with pytest.raises(CorpusError, match=r"a\.parquet cannot be read as Parquet: .*--format") as failed:
            read_rows(path)
        assert "\n" not in str(failed.value)


def test_a_parquet_file_that_is_broken_further_on(parquet: Any) -> None:
    path = parquet({"text": [f"song {i}" for i in range(5000)]}, row_group_size=1000)
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 2000] = b"\xff" * 2000
    path.write_bytes(whole)
    rows = read_rows(path)
    assert next(rows) == Row(1, "song 0")
    with pytest.raises(CorpusError, match="cannot be read as Parquet"):
        list(rows)


def test_only_the_columns_of_parquet_that_are_needed_are_read(parquet: Any) -> None:
    path = parquet({"big": ["x" * 5000] * 2000, "text": ["slow"] * 2000}, use_dictionary=False, compression="none")
    whole = bytearray(path.read_bytes())
    whole[1000:2_000_000] = b"\xff" * 1_999_000  # of the other column
    path.write_bytes(whole)
    assert texts(read_rows(path)) == ["slow"] * 2000


def test_without_pyarrow_parquet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "a.csv").write_text("text\nslow\n")
    for name in [m for m in sys.modules if m.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CorpusError, match=r"^Parquet files need pyarrow: pip install 'reprompt-core\[corpora\]'$"):
        read_rows(tmp_path / "a.parquet")
    assert texts(read_rows(tmp_path / "a.csv")) == ["slow"]


def test_pyarrow_is_imported_for_parquet_alone(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nslow\n")
    program = (
        "import sys, pathlib; from reprompt_core.corpora.reading import read_rows\n"
        "assert list(read_rows(pathlib.Path(sys.argv[1])))\n"
        "assert 'pyarrow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "a.csv"], check=True, timeout=60)
