"""The same preparation, split and choices on any number of ranks, bit for bit; and the same networks up to rounding."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ranks_threads import RanksError, run_ranks

import microbp as bp
from microbp.ranks.ranks import Ranks
from microbp.tables.fitted import runs
from microbp.tables.ranks import launcher

ROWS = 300
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, ROWS))
MIXED = "id,num,cat,when,g,w,price,txt,y\n" + "".join(
    f"{i + 1},{A[i]:.4f},{'abc'[i % 3] if i % 7 else ''},2024-{1 + i % 12:02d}-{1 + i % 28:02d},g{i % 40},{i % 3},"
    f'"1,{100 + i}.50","a, ""b""\n{i % 9}",{"yes" if B[i] > 0 else "no"}\n'
    for i in range(ROWS)
)
NUMBERS = "a,b,c,y\n" + "".join(f"{a:.3f},{b:.3f},{int(a * 10)},{np.exp(a + b):.4f}\n" for a, b in zip(A, B))
SPARSE = "".join(f"{i % 2} {1 + i % 5}:{i % 7} {9 + i % 60}:1\n" for i in range(ROWS))
CASES = {
    "classes": (MIXED, {}),
    "groups": (MIXED, {"split": "group:g", "class_weight": "balanced"}),
    "times and weights": (MIXED, {"split": "time:when", "weight": "w"}),
    "a number": (MIXED, {"target": "num", "split": "last", "drop": ("id",)}),
    "a logarithm": (NUMBERS, {}),
    "a test file": (NUMBERS, {"test_file": True}),
    "sparse": (SPARSE, {}),
    "a stream": (NUMBERS, {"stream": True}),
}


def prepared(path, chosen, ranks=None):
    """All that a training gets."""
    settings = runs.Settings(**{name: str(path) if value is True and name == "test_file" else value for name, value in chosen.items()})
    split = runs.split_of(str(path), settings, ranks)
    data, assumptions = runs.gathered(split, settings)
    parts = {name: data.part(name) for name in data.parts}
    arrays = [(getattr(part.x, "toarray", lambda x=part.x: x)(), *part[1:]) for part in parts.values()]
    cautions = [caution.text() for _, caution in data.cautions]
    said = assumptions, data.training, cautions, runs.choose(data, settings), runs.fingerprint(split.source.tables())
    return json.dumps(data.preparation.as_dict()), said, [[None if one is None else one.tobytes() for one in part] for part in arrays]


@pytest.mark.parametrize("case", CASES)
def test_preparation_split_and_choices_are_those_of_one_process(case, tmp_path):
    text, chosen = CASES[case]
    path = tmp_path / ("x.svm" if case == "sparse" else "x.csv")
    path.write_text(text)
    one = prepared(path, chosen)

    def body(comm):
        ranks = Ranks(comm)
        with ranks.joined():
            return prepared(path, chosen, ranks)

    assert run_ranks(3, body) == [one] * 3


def test_a_rank_may_have_no_rows():
    def body(comm):
        mine = slice(0, ROWS if comm.Get_rank() == 0 else 0)
        return bp.fit_table({"a": A[mine], "y": ["no", "yes"] * (len(A[mine]) // 2)}, comm=comm, epochs=1, budget="fast", net="x-4-y")

    first, second = run_ranks(2, body)
    assert first.preparation.as_dict() == second.preparation.as_dict() and first.scores == second.scores


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_are_tables_of_ranks(library):
    frame = pytest.importorskip(library).DataFrame
    body = lambda comm: bp.fit_table(frame({"a": A, "y": B}), comm=comm, epochs=1, budget="fast", net="x-4-y").preparation.as_dict()  # noqa: E731
    first, second = run_ranks(2, body)
    assert first == second


@pytest.mark.parametrize("is_file", [True, False])
def test_networks_are_those_of_one_process(is_file, tmp_path):
    """Up to rounding, which few updates do not amplify."""
    table = {"a": A, "b": B, "c": [f"c{i % 5}" for i in range(ROWS)], "y": A > B}
    path = tmp_path / "x.csv"
    path.write_text(
        "a,b,c,y\n" + "".join(f"{a!r},{b!r},{c},{y}\n" for a, b, c, y in zip(*map(np.ndarray.tolist, map(np.asarray, table.values()))))
    )
    settings = {"target": "y", "epochs": 3, "budget": "fast", "net": "x-16-y"}
    one = bp.fit_table(str(path) if is_file else table, **settings)

    def body(comm):
        cut = slice(ROWS * comm.Get_rank() // 2, ROWS * (comm.Get_rank() + 1) // 2)
        return bp.fit_table(str(path) if is_file else {name: column[cut] for name, column in table.items()}, comm=comm, **settings)

    for model in run_ranks(2, body):
        assert model.preparation.as_dict() == one.preparation.as_dict()
        for net, other in zip(model.net, one.net, strict=True):
            np.testing.assert_allclose(net.params, other.params, atol=1e-4)
        assert model.scores["test"] == pytest.approx(one.scores["test"], abs=1e-4)


def refused(n, body):
    with pytest.raises(RanksError) as found:
        run_ranks(n, body)
    return [f"{type(error).__name__}: {error}" for error in found.value.errors]


def test_what_one_rank_cannot_do_ends_all(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(NUMBERS)

    def missing(comm):
        return bp.fit_table(str(path) if comm.Get_rank() == 0 else str(tmp_path / "none/x.csv"), comm=comm)

    first, second = refused(2, missing)
    assert first.startswith("RuntimeError: rank 1 failed: ArgumentError: table: there is no file")
    assert second.startswith("ArgumentError: table: there is no file")
    others = refused(2, lambda comm: bp.fit_table({"a": [1], "xy"[comm.Get_rank()]: [2]}, comm=comm))
    assert all("table: rank 1 has the columns a, y, and others have a, x" in text for text in others)
    others = refused(2, lambda comm: bp.fit_table(str(path), seed=comm.Get_rank(), comm=comm))
    assert all("all ranks must pass the same arguments, but seed is 0 on rank 0, and 1 on rank 1" in text for text in others)
    assert all("standard input" in text for text in refused(2, lambda comm: bp.fit_table("-", comm=comm)))
    with pytest.raises(TypeError, match="comm must be a communicator"):
        bp.fit_table(str(path), comm=3)


@pytest.mark.parametrize(
    "variables", [("PMI_SIZE", "PMI_RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), ("SLURM_NTASKS", "PMIX_RANK")]
)
def test_launchers_are_known_by_their_environment(variables, monkeypatch):
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS", "PMIX_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launcher.launched() == (0, 1) and launcher.started() is None
    monkeypatch.setenv(variables[0], "4")
    assert launcher.launched() == (0, 1)  # as in the script of a batch job, which is one process
    monkeypatch.setenv(variables[1], "2")
    assert launcher.launched() == (2, 4)
    monkeypatch.setitem(__import__("sys").modules, "mpi4py.MPI", None)
    with pytest.raises(ImportError, match=r'4 processes, which need mpi4py.*: python -m pip install "microbp\[mpi\]"'):
        launcher.started()
