"""Optuna's pruner ends trainings through a callback, in several threads."""

import numpy as np
import pytest

import microbp as bp

optuna = pytest.importorskip("optuna", reason="optuna is not installed")

X = np.linspace(-1, 1, 60).reshape(-1, 1)
EPOCHS = 6


def objective(trial):
    lr = trial.suggest_categorical("lr", [1e-2, 1e-7])  # of which the second learns nothing
    t = bp.Trainer(bp.mlp([1, 8, 1], seed=0), "mse", bp.Adam(lr=lr))

    def report(record):
        trial.report(record.val_loss, record.epoch)
        return trial.should_prune()

    history = t.fit(X, np.sin(X), epochs=EPOCHS, validation=0.2, callback=report, progress=False)
    trial.set_user_attr("epochs", len(history["loss"]))
    if len(history["loss"]) < EPOCHS:
        raise optuna.TrialPruned
    return history["val_loss"][-1]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_pruner_ends_poor_trials_early(n_jobs):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.ThresholdPruner(upper=0.9 * float(np.mean(np.sin(X) ** 2)), n_warmup_steps=3)
    sampler = optuna.samplers.GridSampler({"lr": [1e-2, 1e-7]}, seed=0)
    study = optuna.create_study(pruner=pruner, sampler=sampler)
    study.optimize(objective, n_trials=2, n_jobs=n_jobs)
    states = {trial.params["lr"]: (trial.state.name, trial.user_attrs["epochs"]) for trial in study.trials}
    alone = bp.Trainer(bp.mlp([1, 8, 1], seed=0), "mse", bp.Adam(lr=1e-2))
    alone.fit(X, np.sin(X), epochs=EPOCHS, validation=0.2, progress=False)
    assert states[1e-2] == ("COMPLETE", EPOCHS) and study.best_value == alone.history["val_loss"][-1]
    assert states[1e-7][0] == "PRUNED" and states[1e-7][1] < EPOCHS
