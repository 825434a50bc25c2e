"""The split of rows into train, validation and test, read whole and as a stream."""

from __future__ import annotations

import numpy as np
import pytest

from microbp.tables import split
from microbp.tables.readers import sources
from microbp.tables.readers.errors import ArgumentError
from microbp.tables.readers.sources import Source
from microbp.tables.split import Split, gather


def source_of(folder, rows, tests=0, stream=False):
    for name, count in (("t", rows), ("u", tests)):
        (folder / f"{name}.csv").write_text("a,row,y\n" + "".join(f"{i % 7},{i},{i / 4}\n" for i in range(count)))
    return sources.find(str(folder / "t.csv"), str(folder / "u.csv") if tests else None, stream=stream)


def rows_of(chosen, part):
    return np.concatenate([[], *(piece.numbers("row") for piece in chosen.pieces(part))])


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 30, 100])
@pytest.mark.parametrize(("test", "validation"), [(0.2, 0.1), (0.5, 0.5), (0.9, 0.1), (0.01, 0.99)])
@pytest.mark.parametrize("tests", [0, 5])
@pytest.mark.parametrize("stream", [False, True])
def test_each_row_is_in_one_part_and_no_part_is_empty_or_the_error_says_why(tmp_path, monkeypatch, rows, test, validation, tests, stream):
    monkeypatch.setattr(sources, "CHUNK", 40)
    chosen = Split(source_of(tmp_path, rows, tests, stream), test=test, validation=validation)
    own = ("train", "validation") if tests else ("train", "validation", "test")
    first = min(rows, 40) if stream else rows  # the rows of the first piece
    tested = 0 if tests else max(1, round(test * first))
    if tested + max(1, round(validation * (first - tested))) >= first:
        words = f"at least {len(own)} are needed" if first < len(own) else "leaves none of the .* use a smaller fraction"
        with pytest.raises(ArgumentError if first >= len(own) else ValueError, match=words):
            list(chosen.look())
        return
    list(chosen.look())
    parts = [rows_of(chosen, part) for part in own]
    assert sorted(np.concatenate(parts)) == list(range(rows))
    assert all(map(len, parts)) and chosen.training == len(parts[0])
    assert not tests or rows_of(chosen, "test").tolist() == list(range(tests))


@pytest.mark.parametrize("most", [1, 5, 7, 20, 100])
@pytest.mark.parametrize("stream", [False, True])
def test_only_some_validation_rows_of_a_stream_are_used_and_kept_in_memory(tmp_path, monkeypatch, most, stream):
    monkeypatch.setattr(sources, "CHUNK", 40)
    monkeypatch.setattr(split, "_KEPT", most)
    source, reads = source_of(tmp_path, 200, stream=stream), []
    counted = Source(source.where, lambda: reads.append(1) or source.tables(), source.tests, source.is_stream)
    data = gather(Split(counted, validation=0.25), target="y")
    found = {}
    for part in ("train", "validation"):
        before = len(reads)
        found[part] = sum(len(piece.x) for piece in data.parts[part]())
        assert len(reads) - before == (stream and part == "train")
    assert found["train"] == 120
    assert found["validation"] == 40 if not stream else 0 < found["validation"] <= most + 5  # up to a row more in each piece
