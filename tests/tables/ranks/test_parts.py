"""The parts of a file, read by several ranks, are together the table that one process reads; so are their errors."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random

import numpy as np
import pytest
from ranks_threads import RanksError, run_ranks

import microbp as bp
from microbp.ranks.ranks import Ranks
from microbp.tables.ranks import reading
from microbp.tables.readers import sources
from microbp.tables.readers.table import Unusable, Written

RANKS = (2, 5)
LINES = "".join(f"{i},t{i % 3},{i * 2}\n" for i in range(30))
FILES = {
    "plain.csv": f"a,b,y\n{LINES}",
    "crlf.csv": f"a,b,y\n{LINES}".replace("\n", "\r\n"),
    "old.csv": f"a,b,y\n{LINES}".replace("\n", "\r"),
    "no_end.csv": "a;y\n1;2\n3;4,5",
    "one_row.csv": "a,y\n1,2\n",
    "no_header.csv": LINES,
    "quoted.csv": 'a,"b\nc",y\r\n' + "".join(f'{i},"x ""q""\n,{i},\nz",{i}\r\n' for i in range(20)),
    "long_cell.csv": 'a,y\n1,"' + "x\n" * 50 + '"\n2,"b"\n3,c\n',
    "quotes_in_cells.csv": "a,b,y\n" + "".join(f'{i},5" pipe {i},{i}\n' for i in range(20)),
    "spaces.csv": "a, b, y\n" + "".join(f'{i},  "n\n{i}", {i}\n' for i in range(20)),
    "comments.csv": "# it's 5\"\na,y\n" + "".join(f"{i},{i}\n# note\n\n" for i in range(9)),
    "one_text.csv": "a,y\n" + "".join(f"{i},{i}\n" for i in range(9)) + "x,3\n,\n",
    "cp1252.csv": ("a,y\n" + "".join(f"{i},{i}\n" for i in range(9)) + "é,3\n").encode("cp1252"),
    "bom.csv": ("\ufeffa,y\n" + "".join(f"é{i},{i}\n" for i in range(9))).encode(),
    "utf16.csv": ("a,y\n" + "".join(f"é{i},{i}\n" for i in range(9))).encode("utf-16"),
    "spaced.txt": "a b y\n" + "".join(f"{i} {i / 2} {i}\n" for i in range(9)),
    "compressed.csv.gz": gzip.compress(f"a,b,y\n{LINES}".encode()),
    "keys.jsonl": "\n".join(json.dumps({"a": i, **({"b": True} if i % 3 else {}), **({"c": "x"} if i > 5 else {})}) for i in range(11)),
    "types.jsonl": "\n".join(
        json.dumps({"a": i if i < 8 else "x", "b": i if i < 5 else 2.5, "c": True if i < 4 else i, "d": None if i < 3 else i})
        for i in range(11)
    ),
    "list.json": json.dumps([{"a": i, "y": f"{i}"} for i in range(9)]),
    "dense.svm": "".join(f"{i} 1:{i} 3:2\n" for i in range(9)),
    "sparse.svm": "".join(f"{1 + i * 7}:{i} {3 + i * 9}:2 # c\n\n" if i < 4 else f"{i} {1 + i * 7}:{i} 99:2\n" for i in range(9)),
}
WRONG = {
    "few_cells.csv": f"a,b,y\n{LINES}1,2\n3,4,5\n",
    "few_cells_after_quotes.csv": f'a,b,y\n1,"x\ny",2\n{LINES}1,2\n{LINES}',
    "total.csv": f"a,b,y\n{LINES}Total,2,3\n" + "\n" * 30,
    "only_header.csv": "a,b\n",
    "empty.csv": "",
    "open_quote.csv": f'a,b,y\n1,2,3\n1,"2,3\n{LINES}',
    "after_quote.csv": f'a,b,y\n{LINES}1,"2"x,3\n{LINES}',
    "zero_byte.csv": f"a,b,y\n{LINES * 4}1,\0,3\n{LINES}",
    "comma.jsonl": '{"a": 1}\n' * 20 + '{"a": 1,}\n' + '{"a": 1}\n' * 3,
    "word.svm": "1 1:2\n" * 20 + "1 2:x\n" + "1 1:2\n" * 20,
}


def facts(table):
    """All that tells tables apart; looks at every column."""
    columns = {}
    for name in table.columns:
        column = table.columns[name]
        if isinstance(column, Unusable):
            columns[name] = column.why
            continue
        some = column.text(table.count - 1) or None if isinstance(column, Written) else None
        columns[name] = type(column), some, table.column(name).dtype, table.column(name).tolist(), table.strings(name).tolist()
    sparse = table.sparse
    stored = None if sparse is None else (sparse.shape, sparse.data.tolist(), sparse.indices.tolist(), sparse.indptr.tolist())
    said = table.where, table.count, table.first, table.before, table.assumptions, table.decimal, table.target, table.is_positional
    return repr((said, columns, stored))


def whole(name, ranks):
    def read(comm):
        found = Ranks(comm)
        with found.joined():
            return facts(next(iter(reading.find(found, name).tables())))

    return run_ranks(ranks, read)


def check(path):
    expected = facts(sources.read(str(path)).train)
    for ranks in RANKS:
        assert set(whole(str(path), ranks)) == {expected}, ranks


@pytest.mark.parametrize("name", FILES)
def test_parts_of_text_are_the_file(name, tmp_path):
    content = FILES[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    check(tmp_path / name)


@pytest.mark.parametrize("seed", range(8))
def test_parts_of_random_text_are_the_file(seed, tmp_path):
    draw = random.Random(seed)
    file = io.StringIO()
    rows = csv.writer(file, lineterminator=draw.choice(["\n", "\r\n"]), quoting=draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    rows.writerow(["a", "b", "y"])
    cells = ["", "1", "x\ny", '"', '",\n"', "\n\n", "a,b", 'a "b" c', "é", " z"]
    rows.writerows([draw.choice(cells), draw.choice(cells), i] for i in range(draw.choice([3, 40])))
    (tmp_path / "random.csv").write_text(file.getvalue(), encoding="utf-8", newline="")
    check(tmp_path / "random.csv")


def test_parts_of_large_text_are_the_file(tmp_path, monkeypatch):
    """polars reads these."""
    pytest.importorskip("polars")
    monkeypatch.setattr("microbp.tables.readers.csv_file._LARGE", 40)
    for name in ("plain.csv", "crlf.csv", "one_text.csv", "bom.csv", "no_header.csv"):
        content = FILES[name]
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        check(tmp_path / name)


def test_parts_of_arrays_are_the_file(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(40.0).reshape(10, 4))
    np.savez(tmp_path / "x.npz", X=np.arange(40).reshape(10, 4), y=np.array(list("abcdeabcde")))
    check(tmp_path / "x.npy")
    check(tmp_path / "x.npz")


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_parts_of_frames_are_the_file(library, tmp_path, monkeypatch):
    polars = pytest.importorskip("polars")
    monkeypatch.setattr("microbp.tables.readers.frame_files.engine", lambda: pytest.importorskip(library))
    frame = polars.DataFrame(
        {
            "whole": [*range(20)],
            "gap": [None if i == 15 else i for i in range(20)],
            "text": [f"t{i % 4}" for i in range(20)],
            "flag": [i % 2 == 0 for i in range(20)],
            "flag gap": [None if i == 3 else True for i in range(20)],
            "huge": [2**60 + i if i != 19 else None for i in range(20)],
            "late": [None] * 18 + [1.5, 2],
            "list": [[1, 2]] * 20,
        }
    ).drop(["list"] * (library == "pyarrow"))
    level = polars.CompatLevel.oldest()
    frame.write_parquet(tmp_path / "x.parquet", row_group_size=6)
    frame.write_ipc(tmp_path / "x.arrow", compat_level=level)
    frame.write_ipc_stream(tmp_path / "y.arrow", compat_level=level)
    for name in ("x.parquet", "x.arrow", "y.arrow"):
        check(tmp_path / name)


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_those_of_one_process(name, tmp_path):
    (tmp_path / name).write_text(WRONG[name])
    with pytest.raises((ValueError, OSError)) as one:
        sources.read(str(tmp_path / name))
    for ranks in RANKS:
        with pytest.raises(RanksError) as found:
            whole(str(tmp_path / name), ranks)
        texts = [str(error) for error in found.value.errors]
        own = {text for text in texts if not text.startswith("rank ")}
        assert own == {str(one.value)}, ranks
        assert all(text in own or str(one.value) in text for text in texts), ranks


@pytest.mark.parametrize("name", ["x.svm", "x.svm.gz"])
@pytest.mark.parametrize("ranks", [1, 2, 5, 40])
def test_parts_of_sparse_files_are_the_file(name, ranks, tmp_path, monkeypatch):
    monkeypatch.setattr("microbp.tables.readers.array_files._BLOCK", 50)
    text = FILES["sparse.svm"].encode() * 3
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    x, y = bp.read_sparse(tmp_path / name, columns=99, zero_based=False)
    known = {"columns": 99, "zero_based": False}
    parts = [bp.read_sparse(tmp_path / name, part=(rank, ranks), **known) for rank in range(ranks)]
    chunks = [chunk for rank in range(ranks) for chunk in bp.SparseChunks(tmp_path / name, rows=4, part=(rank, ranks))]
    for found in (parts, chunks):
        assert np.concatenate([rows.toarray() for rows, _ in found]).tolist() == x.toarray().tolist()
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), y)


def test_parts_of_sparse_matrices_are_the_file(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.random(9, 5, 0.3, "csr", np.float32, random_state=0)
    sparse.save_npz(tmp_path / "x.npz", matrix)
    parts = [bp.read_sparse(tmp_path / "x.npz", part=(rank, 4))[0].toarray() for rank in range(4)]
    np.testing.assert_array_equal(np.concatenate(parts), matrix.toarray())


@pytest.mark.parametrize(
    ("part", "kind", "text"),
    [
        ((2, 2), ValueError, r"part is \(2, 2\), but the first number must be below the second"),
        ((-1, 2), ValueError, r"part\[0\] must be at least 0, not -1"),
        (3, TypeError, r"part must be \(rank, ranks\), such as \(0, 4\), not 3"),
        ((0, 2), ValueError, "part= needs columns= and zero_based="),
    ],
)
def test_wrong_parts_are_refused(part, kind, text, tmp_path):
    (tmp_path / "x.svm").write_text("1 1:2\n")
    with pytest.raises(kind, match=text):
        bp.read_sparse(tmp_path / "x.svm", part=part)


def test_errors_in_parts_of_sparse_files_name_their_place(tmp_path):
    (tmp_path / "x.svm").write_text("1 1:2\n" * 30 + "1 2:x\n" + "1 1:2\n" * 5)
    with pytest.raises(ValueError, match="line 31: 'x' is not a number"):
        bp.read_sparse(tmp_path / "x.svm", part=(1, 2), columns=9, zero_based=False)
    (tmp_path / "y.svm").write_text("1 1:2\n" * 9 + "1 7:2\n")
    with pytest.raises(ValueError, match=r"y.svm, part 2 of 2, row 3: the index 7 is not in 1 to 3"):
        bp.read_sparse(tmp_path / "y.svm", part=(1, 2), columns=3, zero_based=False)
