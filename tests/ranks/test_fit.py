"""fit and epochs on several ranks: with shard=True the fit of one process, and with rows of their own the fit on the joined batches."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from ranks_threads import RanksError, run_ranks

import microbp as bp

RNG = np.random.default_rng(0)
X = RNG.normal(size=(47, 3))
Y = np.column_stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]])
LABELS = (X[:, 0] > 0.3).astype(int) + (X[:, 1] > 0.5)
WEIGHT = RNG.integers(0, 3, 47).astype(float)
GAPS = np.where(RNG.random((47, 2)) < 0.3, np.nan, Y)


def mlp(sizes=(3, 6, 2), **options):
    return bp.mlp(list(sizes), **({"activation": "tanh", "seed": 0, "dtype": "float64"} | options))


def with_layers(*layers, out=2):
    x = node = bp.Input(3)
    for layer in layers:
        node = layer(node)
    return bp.Network(x, bp.Dense(out)(node), seed=0, dtype="float64")


def two_outputs():
    x = bp.Input(3)
    hidden = bp.Dense(5, "tanh")(x)
    return bp.Network(x, [bp.Dense(2)(hidden), bp.Dense(3)(hidden)], seed=0, dtype="float64")


def trainer(comm=None, net=mlp, loss="mse", backend=None, **options):
    comm_options = {} if comm is None else {"comm": comm, "shard": options.pop("shard", False)}
    options.pop("shard", None)
    return bp.Trainer(net(), loss, **({"optimizer": bp.Adam(lr=0.02)} | comm_options | options))


def of_all(t):
    return {"params": t.net.params.copy(), "buffers": t.net.buffers.copy(), "steps": t.steps, "history": t.history, "reason": t.stop_reason}


def assert_equal_ranks(results):
    first, *others = results
    for other in others:
        assert_array_equal(other["params"], first["params"])
        assert_array_equal(other["buffers"], first["buffers"])
        assert repr((other["steps"], other["history"], other["reason"])) == repr((first["steps"], first["history"], first["reason"]))
    return first


def assert_same_fit(found, wanted, tolerance=1e-10):
    assert_allclose(found["params"], wanted["params"], rtol=tolerance, atol=tolerance)
    assert_allclose(found["buffers"], wanted["buffers"], rtol=tolerance, atol=tolerance)
    assert (found["steps"], found["reason"]) == (wanted["steps"], wanted["reason"])
    assert list(found["history"]) == list(wanted["history"])
    for name in set(found["history"]) - {"seconds"}:
        assert_allclose(found["history"][name], wanted["history"][name], rtol=tolerance, atol=tolerance, err_msg=name)


class Stopper:
    """A callback that stops at the given call."""

    def __init__(self, at):
        self.left = at

    def __call__(self, record):
        self.left -= 1
        return self.left == 0


MIX = [bp.Dense(6, "tanh"), bp.Dropout(0.3), bp.BatchNorm()]
SHARDED = {  # of trainer and of fit
    "plain": ({}, {}),
    "batches smaller than the ranks": ({}, {"batch_size": 2}),
    "micro-batches": ({}, {"batch_size": 5, "accumulate": 3}),
    "dropout and batch_norm": ({"net": lambda: with_layers(*MIX)}, {}),
    "dropout in micro-batches": ({"net": lambda: with_layers(*MIX[:2])}, {"batch_size": 4, "accumulate": 2}),
    "batch callbacks": ({}, {"batch_callback": lambda: Stopper(9)}),
    "weights": ({}, {"sample_weight": WEIGHT, "validation": 0.2}),
    "missing targets": ({"loss": bp.Loss("mse", missing=True)}, {"y": GAPS, "validation": 0.2, "metrics": "rmse"}),
    "metrics of training rows": ({}, {"metrics": ["rmse", "r2"], "sample_weight": WEIGHT}),
    "chosen rows": ({}, {"rows": np.arange(40), "validation": np.arange(3, 9)}),
    "class weights": (
        {"loss": "cross_entropy", "net": lambda: mlp((3, 5, 3))},
        {"y": LABELS, "class_weight": "balanced", "validation": (X[:9], LABELS[:9]), "metrics": ["accuracy", "auc"]},
    ),
    "statistics": (
        {"net": lambda: with_layers(bp.Standardize(), bp.Dense(4, "tanh"), bp.Standardize()), "standardize_targets": True},
        {"metrics": "rmse"},
    ),
    "two outputs": (
        {"net": two_outputs, "loss": ["mse", "cross_entropy"], "loss_weights": [1, 0.5]},
        {"y": [Y, LABELS], "validation": 0.3, "metrics": {1: "accuracy"}, "sample_weight": [WEIGHT, None]},
    ),
    "schedules": ({"optimizer": bp.SGD(lr=0.1)}, {"schedule": "cosine(lr=0.1)", "schedules": {"weight_decay": bp.Polynomial(0.02)}}),
    "early stopping": ({"optimizer": bp.SGD(lr=0.5)}, {"validation": 0.3, "patience": 2, "epochs": 12}),
    "clipping and averages": ({"clip_norm": 0.1, "clip_layer_norm": 0.2, "average": bp.EMA(0.9)}, {}),
    "goal": ({}, {"goal": 0.6, "epochs": 30}),
    "a stream": ({}, {"stream": 11}),
    "a stream in micro-batches": ({}, {"stream": 13, "batch_size": 3, "accumulate": 2, "schedule": "cosine(lr=0.1)"}),
}


def fit(t, y=Y, stream=None, batch_callback=None, **options):
    data = (X, y)
    if stream:
        data = ([(X[i : i + stream], y[i : i + stream]) for i in range(0, len(X), stream)],)
    t.fit(*data, **({"epochs": 3, "batch_size": 10, "batch_callback": batch_callback and batch_callback()} | options))
    return of_all(t)


@pytest.mark.parametrize("name", SHARDED)
def test_a_sharded_fit_is_that_of_one_process(name):
    own, options = SHARDED[name]
    wanted = fit(trainer(**own), **options)
    for ranks in (2, 3):
        assert_same_fit(assert_equal_ranks(run_ranks(ranks, lambda comm: fit(trainer(comm, shard=True, **own), **options))), wanted)


def test_one_rank_has_the_bits_of_a_fit_without_comm():
    own, options = SHARDED["metrics of training rows"]
    [found] = run_ranks(1, lambda comm: fit(trainer(comm, **own), **options))
    assert_same_fit(found, fit(trainer(**own), **options), 0)


# ---- rows of their own ----

PARTS = [np.arange(0, 23), np.arange(23, 23), np.arange(23, 47)]


def joined_steps(t, batch, epochs=2):
    """The fit without shuffling on rows of their own, by steps of one process on the joined batches."""
    sizes = [-(-batch * len(part) // 47) for part in PARTS]
    updates = max(-(-len(part) // size) for part, size in zip(PARTS, sizes, strict=True) if size)
    for _, i in itertools.product(range(epochs), range(updates)):
        rows = np.concatenate([part[i * size : (i + 1) * size] for part, size in zip(PARTS, sizes, strict=True)])
        t.step(X[rows], Y[rows])
    return t


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("batch", [3, 10, 100])
def test_ranks_train_on_the_joined_batches_of_their_own_rows(batch, few):
    def fit_part(comm):
        t, rows = trainer(comm, net=lambda: with_layers(*MIX)), PARTS[comm.Get_rank()]
        t.fit(X[rows], Y[rows], epochs=2, batch_size=batch, shuffle=False)
        return of_all(t)

    found = assert_equal_ranks(run_ranks(3, fit_part, few=few))
    wanted = joined_steps(trainer(net=lambda: with_layers(*MIX)), batch)
    assert_allclose(found["params"], wanted.net.params, rtol=1e-10, atol=1e-10)
    assert found["steps"] == wanted.steps


VALIDATION = [(slice(0, 9),), (slice(9, 9),), (slice(9, 14),)]
MEASURED = {
    "mse": ({}, Y, ["rmse", "r2"], None),
    "cross_entropy": ({"loss": "cross_entropy", "net": lambda: mlp((3, 5, 3))}, LABELS, ["accuracy", "auc"], "balanced"),
    "missing": ({"loss": bp.Loss("mse", missing=True)}, GAPS, ["mae"], None),
}


@pytest.mark.parametrize("name", MEASURED)
def test_losses_and_metrics_are_those_of_all_rows(name):
    own, y, metrics, class_weight = MEASURED[name]

    def fit_part(comm):
        t, rows = trainer(comm, **own), PARTS[comm.Get_rank()]
        held = VALIDATION[comm.Get_rank()][0]
        weight = WEIGHT[rows] if comm.Get_rank() == 0 else None  # some ranks have weights
        options = {"sample_weight": weight, "class_weight": class_weight, "validation": (X[held], y[held], WEIGHT[held] + 0.5)}
        t.fit(X[rows], y[rows], epochs=1, batch_size=10, metrics=metrics, **options)
        return of_all(t)

    found = assert_equal_ranks(run_ranks(3, fit_part))
    alone = trainer(**own)
    alone.net.params[:] = found["params"]
    t = alone.fit(X[:14], y[:14], epochs=1, schedule=lambda step: 0.0, validation=(X[:14], y[:14], WEIGHT[:14] + 0.5), metrics=metrics)
    for entry in ("val_loss", *metrics):
        assert_allclose(found["history"][entry], t[entry], rtol=1e-12, err_msg=entry)


def test_a_rank_may_have_no_row_of_a_fold():
    def fit_part(comm):
        t = trainer(comm)
        fold = {"rows": np.arange(9)} if comm.Get_rank() else {"validation": np.arange(len(X))}
        return t.fit(X, Y, epochs=2, validation=fold.pop("validation", np.arange(9, 12)), **fold)["loss"]

    alone = trainer().fit(X[:9], Y[:9], epochs=2, shuffle=False)["loss"]
    for found in run_ranks(2, fit_part):
        assert_allclose(found, alone, rtol=1e-10)


@pytest.mark.parametrize("validation", [0.2, np.arange(4)])
def test_ranks_with_too_few_rows_hold_out_none(validation):
    def fit_part(comm):
        rows = [slice(0, 46), slice(46, 47), slice(47, 47)][comm.Get_rank()]
        held = validation if isinstance(validation, float) or comm.Get_rank() == 0 else validation[:0]
        t = trainer(comm, optimizer=bp.SGD(lr=0.0))
        return t.fit(X[rows], Y[rows], epochs=1, validation=held, metrics="rmse")

    alone = trainer(optimizer=bp.SGD(lr=0.0)).fit(X[:46], Y[:46], epochs=1, validation=validation, metrics="rmse")
    for history in run_ranks(3, fit_part):
        assert_allclose([history["val_loss"], history["rmse"]], [alone["val_loss"], alone["rmse"]], rtol=1e-12)


def test_balanced_class_weights_count_the_rows_of_all():
    def fit_part(comm):
        t, rows = trainer(comm, loss="cross_entropy", net=lambda: mlp((3, 5, 3)), optimizer=bp.SGD(lr=0.1)), PARTS[comm.Get_rank()]
        t.fit(X[rows], LABELS[rows], epochs=1, batch_size=100, class_weight="balanced")
        return of_all(t)

    alone = trainer(loss="cross_entropy", net=lambda: mlp((3, 5, 3)), optimizer=bp.SGD(lr=0.1))
    alone.fit(X, LABELS, epochs=1, batch_size=100, class_weight="balanced")
    assert_same_fit(assert_equal_ranks(run_ranks(3, fit_part)), of_all(alone))


@pytest.mark.parametrize("scale", [1.0, 1e200])
def test_statistics_are_those_of_all_rows(scale):
    x = np.column_stack([X[:, :2], np.full(47, 0.1)])
    layers = [bp.Standardize(), bp.Dense(4, "tanh"), bp.Standardize(), bp.Dense(4, "tanh")]
    options = {"net": lambda: with_layers(*layers), "standardize_targets": True, "optimizer": bp.SGD(lr=0.0)}

    def fit_part(comm):
        t, rows = trainer(comm, **options), PARTS[comm.Get_rank()]
        t.fit(x[rows], Y[rows] * scale, epochs=1, batch_size=100)
        return of_all(t) | {"outputs": [(one.mean, one.std) for one in t.net.outputs]}

    results = run_ranks(3, fit_part)
    found, alone = assert_equal_ranks(results), trainer(**options)
    alone.fit(x, Y * scale, epochs=1, batch_size=100)
    assert_allclose(found["buffers"], alone.net.buffers, rtol=1e-11, atol=1e-13)
    for (mean, std), output in zip(found["outputs"], alone.net.outputs, strict=True):
        assert_allclose(mean, output.mean, rtol=1e-12)
        assert_allclose(std, output.std, rtol=1e-12)
    assert results[1]["outputs"][0][0] == found["outputs"][0][0]


@pytest.mark.parametrize("options", [{}, {"batch_callback": lambda record: None}, {"accumulate": 2}])
def test_each_rank_has_a_stream_of_its_own(options):
    """Of 3 chunks and 1; an epoch has as many updates as the longest stream."""
    chunks = [[(X[:8], Y[:8]), (X[8:9], Y[8:9]), (X[9:24], Y[9:24])], [(X[24:29], Y[24:29])]]

    def fit_part(comm):
        t = trainer(comm)
        t.fit(chunks[comm.Get_rank()], epochs=2, batch_size=6, shuffle=False, schedule="cosine(lr=0.1)", **options)
        return of_all(t)

    found = assert_equal_ranks(run_ranks(2, fit_part))
    accumulate = options.get("accumulate", 1)
    size, alone = 3 * accumulate, trainer()
    updates = -(-24 // size)
    schedule = bp.Cosine(lr=0.1).over(2 * updates)
    for i in [*range(updates)] * 2:
        rows = [*range(i * size, min((i + 1) * size, 24)), *range(24 + i * size, min(24 + (i + 1) * size, 29))]
        alone.lr = schedule(alone.steps)
        alone.step(X[rows], Y[rows])
    assert_allclose(found["params"], alone.net.params, rtol=1e-10, atol=1e-10)
    assert found["steps"] == alone.steps


def test_ranks_without_rows_in_their_stream():
    chunks = [[(X[:8], Y[:8])], []]

    def fit_part(comm):
        t = trainer(comm)
        t.fit(chunks[comm.Get_rank()], epochs=1, batch_size=6, validation=(X[:3], Y[:3]))
        return of_all(t)

    assert assert_equal_ranks(run_ranks(2, fit_part))["steps"] == 3


def test_epochs_yields_the_same_records():
    def train(comm):
        t, rows = trainer(comm), PARTS[comm.Get_rank()]
        records = list(itertools.islice(t.epochs(X[rows], Y[rows], batch_size=10), 3))
        assert [(type(record["epoch"]), type(record["steps"]), type(record["loss"])) for record in records] == [(int, int, float)] * 3
        return of_all(t) | {"reason": repr(records)}

    assert assert_equal_ranks(run_ranks(3, train))["steps"] == 15


# ---- local steps ----


@pytest.mark.parametrize("options", [{}, {"batch_callback": lambda record: None}, {"accumulate": 2}, {"max_time": 100}])
def test_local_steps(options):
    """Each rank makes steps of its own; after every 3 of them, and at the end of an epoch, all have the means."""
    parts = [np.arange(23), np.arange(23, 46)]

    def fit_part(comm):
        t, rows = trainer(comm, optimizer=bp.Momentum(lr=0.1), sync_every=3), parts[comm.Get_rank()]
        t.fit(X[rows], Y[rows], epochs=2, batch_size=10, shuffle=False, **options)
        return of_all(t)

    found = assert_equal_ranks(run_ranks(2, fit_part))
    size = 5 * options.get("accumulate", 1)
    alone = [trainer(optimizer=bp.Momentum(lr=0.1)) for _ in range(2)]
    updates = -(-23 // size)

    def average():
        for vectors in ([t.net.params for t in alone], [t.state["velocity"] for t in alone]):
            mean = (vectors[0] + vectors[1]) / 2
            for vector in vectors:
                vector[:] = mean

    for i in [*range(updates)] * 2:
        for t, part in zip(alone, parts, strict=True):
            rows = part[i * size : (i + 1) * size]
            t.step(X[rows], Y[rows])
        if alone[0].steps % 3 == 0 or i == updates - 1:
            average()
    assert found["steps"] == alone[0].steps
    assert_allclose(found["params"], alone[0].net.params, rtol=1e-10, atol=1e-10)


# ---- refusals ----

REFUSED = {
    "all ranks must pass the same arguments": lambda rank: {"epochs": 2 + rank},
    "carry_state": lambda rank: {"carry_state": True},
    "rank 1 failed: ValueError": lambda rank: {"batch_size": 10 * (1 - rank)},
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused_arguments(text):
    def fit_part(comm):
        trainer(comm).fit(X, Y, **({"epochs": 2} | REFUSED[text](comm.Get_rank())))

    with pytest.raises(RanksError, match=text):
        run_ranks(2, fit_part)


REFUSED_DATA = {  # for each rank: of Trainer and of fit
    "the checksum of the rows is": lambda rank: {"shard": True, "X": X + rank},
    "the number of rows is 47 on rank 0, and 46 on rank 1": lambda rank: {"shard": True, "X": X[rank:], "y": Y[rank:]},
    "the sum of the indices of the rows to train on": lambda rank: {"shard": True, "rows": [1, 2 + rank]},
    "the number of validation rows is 9 on rank 0, and 8": lambda rank: {"shard": True, "validation": (X[: 9 - rank], Y[: 9 - rank])},
    "the number of rows of the stream": lambda rank: {"shard": True, "X": [(X, Y)] * (2 - rank), "y": None},
    "X has no rows": lambda rank: {"X": X[:0], "y": Y[:0]},
    "no rank has a row to train on": lambda rank: {"rows": np.arange(0)},
    "rows or validation leaves none": lambda rank: {"validation": np.arange(len(X))},
    "validation: no rank has a row": lambda rank: {"validation": (X[:0], Y[:0])},
    "batch_size is 1, but must be at least 2": lambda rank: {"X": [(X, Y)], "y": None, "batch_size": 1},
}


@pytest.mark.parametrize("text", REFUSED_DATA)
def test_refused_data(text):
    def fit_part(comm):
        options = {"X": X, "y": Y, "epochs": 1} | REFUSED_DATA[text](comm.Get_rank())
        trainer(comm, shard=options.pop("shard", False)).fit(**options)

    with pytest.raises(RanksError) as raised:
        run_ranks(2, fit_part)
    assert all(text in str(error) for error in raised.value.errors)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: setattr(t, "lr", 0.5), "lr is 0.02 on rank 0, and 0.5 on rank 1"),
        (lambda t: t.net.freeze("dense_0"), r"frozen is \[\] on rank 0, and \['dense_0'\] on rank 1"),
    ],
)
def test_settings_that_one_rank_has_changed_are_refused(change, text):
    def fit_part(comm):
        t = trainer(comm)
        if comm.Get_rank() == 1:
            change(t)
        with pytest.raises(ValueError, match=text):
            t.fit(X, Y, epochs=1)
        with pytest.raises(ValueError, match=text):
            next(t.epochs(X, Y))

    run_ranks(2, fit_part)
