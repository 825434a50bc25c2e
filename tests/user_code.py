"""User code, right and wrong, which test_names.py checks with mypy --strict; it is never run.

A wrong line ends with `# error:` and mypy's error code; all other lines are right.
"""
# ruff: noqa: B018

from collections.abc import Iterator

import numpy as np

import microbp as bp
from microbp import (
    Adam,
    EarlyStopping,
    Trainer,
)

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

X = np.zeros((8, 4))
y = np.zeros(8)

# ---- names ----

bp.Adam(lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01, amsgrad=True)
bp.Adma  # error: attr-defined
bp.Adam(learning_rate=1)  # error: call-arg
bp.Adam(lr="fast")  # error: arg-type
bp.Adam().lr = 0.1  # error: misc
Adam(), Trainer, EarlyStopping(patience=3)
bp.threads.register()
bp.schedules.Cosine(lr=0.1)
version: str = bp.__version__
folder: str = bp.get_include()

# ---- networks ----

net = bp.mlp([4, 8, 1], activation="relu", dtype="float64", seed=0)
bp.mlp([4, 8, 1], "tanh", init="he_uniform", backend="reference")
bp.mlp([4, 8, 1], activation="rleu")  # error: arg-type
bp.mlp([4, 8, 1], backend="refrence")  # error: arg-type
bp.mlp([4, 8, 1], dtype="flaot32")  # error: arg-type
bp.mlp([4, 8, 1], dtype=np.float32)
bp.mlp([4, 8, 1], n_threads="all")  # error: arg-type
bp.mlp([4, 8, 1], activation=bp.Activation("leaky_relu", slope=0.2))
bp.mlp([4, 8, 1], activation=bp.Activation.parse("leaky_relu(slope=0.2)"))
bp.mlp([4, 8, 1], activation="leaky_relu(slope=0.2)")  # error: arg-type

a, b = bp.Input(4), bp.Input(4)
h = bp.Dense(8, activation="tanh", init=bp.Init("normal", std=0.1), name="hidden", bias_lr=0.1)(bp.Scale(bias=False, lr=6)(a))
bp.Dense(8, activation="rleu")  # error: arg-type
bp.Dense(8, init="he_nromal")  # error: arg-type
bp.Dense(8, init=np.zeros((8, 4)))
bp.Dense(units="8")  # error: arg-type
bp.Dense(8)(X)  # error: arg-type
bp.Activation("rleu")  # error: arg-type
bp.Init("he_nromal")  # error: arg-type
h = bp.Dropout(0.1)(bp.BatchNorm()(h + bp.Dense(8)(b)))
h = bp.concat([h, bp.multiply(h, h)])
bp.concat(h, a)
h = h + 1.5j  # error: operator
two = bp.Network([a, b], [bp.Dense(2)(h), bp.Dense(1)(h)], dtype="float32", seed=0)
bp.Network(a, h, sede=0)  # error: call-arg

rows: int = net.predict(X).shape[0]
first: float = net.predict(X)[0, 0]
net.predict(X).shpae  # error: union-attr
net.predict(X, link=True)  # error: call-arg
hidden: int = net.predict(X, at="dense_0").shape[1]
p, q = two.predict([X, X])
net.params[...] = 0
net.params *= 2
net.parms  # error: attr-defined
net.tensors["dense_0.weight"].shape
net.set_output(0, "softmax")
net.set_output(0, None)
net.set_output(0, "sofmtax")  # error: arg-type
net.outputs[0].activation
net.layers[0].nmae  # error: attr-defined
net.freeze("dense_0")
net.notes = {"classes": ["no", "yes"]}
net.notes |= {"version": 2}
net.notes["version"] = 2  # error: index
net.notes["classes"][0]
net.save("net.safetensors")
same: bp.Network = bp.load("net.safetensors", backend="compiled")

# ---- trainers ----


def own(outputs: Array, targets: Array, weight: Array | None) -> tuple[float, Array]:
    """A custom loss."""
    return float(((outputs - targets) ** 2).mean()), 2 * (outputs - targets) / outputs.size


def rounded(outputs: Array, targets: Array) -> float:
    """Not a loss: it takes no weight and returns no gradient."""
    return 0.0


t = bp.Trainer(net, loss="mse", optimizer="adam", average=bp.EMA(0.99), clip_norm=1.0)
bp.Trainer(net, loss="mes")  # error: arg-type
bp.Trainer(net, "mse", optimizer="adma")  # error: arg-type
bp.Trainer(net, "mse", optimizer=bp.Adam)  # error: arg-type
bp.Trainer(net)  # error: call-arg
bp.Trainer(net, loss=bp.Loss("huber", delta=2.0), seed=3)
bp.Trainer(net, loss=bp.Loss("hubert"))  # error: arg-type
bp.Trainer(net, loss=bp.Loss.parse("huber(delta=2)"))
bp.Trainer(net, loss=own)
bp.Trainer(net, loss=rounded)  # error: arg-type
bp.Trainer(two, loss=["cross_entropy", "mse"], loss_weights=[1, 0.5])
bp.Trainer(two, loss=[own, own])
bp.Trainer(two, loss=[own, "mse"])
bp.Trainer(two, loss=own)
bp.Trainer(net, loss=None).forward(X).mean()
bp.Trainer(net, loss=[None])  # error: list-item
bp.Trainer(two, loss={"policy": "cross_entropy", 1: bp.Loss("mse")}, loss_weights={"policy": 2})
bp.Trainer(two, loss={"policy": "cross_entropi"})  # error: dict-item
bp.Trainer(two, loss=["cross_entropy", bp.Loss("mse")])
bp.Trainer(two, loss=["cross_entropy", "mes"])  # error: list-item
bp.Trainer(net, "mse", average=0.99)  # error: arg-type

loss: float = t.step(X, y)
words: str = t.step(X, y)  # error: assignment
t.step(X, y, sample_weigth=y)  # error: call-arg
t.backward(X, y, total=8.0, input_grads=True)
t.backward_from(2 * t.forward(X), input_grads=True)
t.backward_from(t.forward(X), acumulate=True)  # error: call-arg
t.grads.sum()
t.apply()
t.lr = 0.1
t.lr = "fast"  # error: assignment
t.step_size = 3  # error: attr-defined
t.stpes  # error: attr-defined
t.net = net  # error: misc
t.state["m"].max()
t.averaged().predict(X)
error: float = t.check_gradients(X, y).error
again: bp.Trainer = bp.Trainer.load("run.safetensors")


# ---- fit ----


def watch(record: bp.Record) -> bool:
    """A callback."""
    return record["loss"] < 0.1 and record.loss < 0.1


def early(loss: float) -> bool:
    """Not a callback: it takes a number."""
    return loss < 0.1


def chunks() -> Iterator[tuple[Array, Array]]:
    """A stream of rows."""
    yield X, y


history: dict[str, list[float]] = t.fit(X, y, epochs=3)
best: float = min(t.history["loss"])
t.fit(X, y)  # error: call-arg
t.fit(X, y, 3)  # error: call-arg
t.fit(X, y, epochs="3")  # error: arg-type
t.fit(X, y, epochs=3, epoch=4)  # error: call-arg
t.fit(chunks, epochs=3)
t.fit(X, y, epochs=3, validation=(X, y), patience=3, monitor="val_loss", mode="min")
t.fit(X, y, epochs=3, validation=0.2, stop=bp.EarlyStopping(patience=3))
t.fit(X, y, epochs=3, validation=0.2, patience=3, mode="least")  # error: arg-type
t.fit(X, y, epochs=3, stop=3)  # error: arg-type
bp.EarlyStopping(patience=3, mode="least")  # error: arg-type
t.fit(X, y, epochs=3, schedule=bp.Warmup(bp.Cosine(lr=0.1), steps=10))
t.fit(X, y, epochs=3, schedule="cosine(lr=0.1)")
t.fit(X, y, epochs=3, schedule=lambda step: 0.1 / (1 + step))
t.fit(X, y, epochs=3, schedule=0.1)  # error: arg-type
bp.Cosine(lr=0.1, final=0.01)  # error: call-arg
t.fit(X, y, epochs=3, metrics=["rmse", bp.r2, bp.top_k(3)])
t.fit(X, y, epochs=3, metrics="acuracy")  # error: arg-type
t.fit(X, y, epochs=3, metrics={"acc": "accuracy", "mine": lambda y, p: 0.0, "f": bp.Metric(bp.f1, on="labels")})
t.fit(X, y, epochs=3, metrics=bp.Metric(bp.f1, on="label"))  # error: arg-type
t.fit([X, X], {"policy": y, 1: y}, epochs=3, metrics={"policy": "accuracy", 1: ["rmse", bp.r2], "both": {"f": bp.f1}})
policy_loss: float = t.output_losses[0]
policy: str = two.outputs[0].name
weighted: float = bp.f1(y, net.predict(X), sample_weight=np.ones(len(y)), loss="bce")
t.fit(X, y, epochs=3, callback=watch, batch_callback=[watch, print])
t.fit(X, y, epochs=3, callback=early)  # error: arg-type
t.fit(X, y, epochs=3, checkpoint=bp.Checkpoint("run.safetensors", every=5))
t.fit(X, y, epochs=3, checkpoint="run.safetensors", checkpoint_every=5)
t.fit(X, y, epochs=3, class_weight="balanced")
t.fit(X, y, epochs=3, class_weight={0: 1.0, 1: 20.0})
for record in t.epochs(X, y, batch_size=4):
    epoch: float = record.epoch
found: float = bp.lr_find(t, X, y).suggestion
score: float = bp.accuracy(y, net.predict(X))
model: bp.TableModel = bp.fit_table("t.csv", target="y", drop=["id"], net="x-16-y", optimizer=bp.AdamW(lr=0.01), epochs=3)
bp.fit_table({"x": [1, 2], "y": [1, 2]}, "y", net=[None, 16, None], lr="auto", loss=bp.Loss("huber", delta=0.5))
bp.fit_table("t.csv", targt="y")  # error: call-arg
bp.fit_table("t.csv", lr="fast")  # error: arg-type
classes: np.ndarray = bp.load_table("m.safetensors").predict("t.csv")
ranking: bp.Importance = model.importance("t.csv", repeats=3)

# ---- several networks ----

ensemble = bp.Ensemble([net, net])
members: int = ensemble.predict(X).shape[0] + ensemble.quantile(X, [0.1, 0.9]).shape[0]
seeds: list[int] = [member.seed for member in ensemble] + [ensemble[0].seed, ensemble[1:][0].seed]
ensemble.notes |= {"a": 1}
ensemble.notes["a"] = 1  # error: index
bp.Ensemble.load("ensemble.safetensors").members
bp.Ensemble(net)  # error: arg-type
bp.Ensemble([t])  # error: list-item
losses: list[float] = bp.train_many([t, t], X, y, epochs=3, batch_size=8)[0]["loss"]
bp.train_many(t, X, y, epochs=3)  # error: arg-type
bp.train_many([t], X, y)  # error: call-arg
bp.train_many([t], X, y, epochs=3, executor=4)  # error: arg-type
bp.train_many([t, t], X, y, epochs=3, rows=[[0, 1], np.arange(4)])
t.fit(X, y, epochs=1, rows=np.arange(4), validation=np.arange(4, 8))
mean: float = bp.cross_validate(t, X, y, cv=3, epochs=1, metrics="mae").mean["mae"]
bp.cross_validate(lambda fold: t, X, y, cv=[(np.arange(4), np.arange(4, 8))], epochs=1).ensemble.predict(X)
bp.cross_validate(net, X, y, epochs=1)  # error: arg-type
bp.sweep(lambda lr: t, [0.1, 0.01], X, y, epochs=1).best_trainer.predict(X)
bp.sweep(t, [0.1], X, y, epochs=1)  # error: arg-type
bp.train_best(lambda seed: t, X, y, n_init=4, epochs=1).save("best.safetensors")
low, high = bp.Conformal(net, coverage=0.8, method="absolute").fit(X, y).predict_interval(X)
bp.Conformal(net, method="cqr")  # error: arg-type
