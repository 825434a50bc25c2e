"""Networks of tables for tests: trained as a run of `microbp train` does, with few units."""

from __future__ import annotations

from microbp.tables import model, scores
from microbp.tables.fitted import runs
from microbp.tables.predictor import Predictor


def begun(data, **settings):
    """A run of the data that has not been trained."""
    chosen = runs.Settings(**{"net": (None, 16, None), **settings})
    choices = runs.choose(data, chosen)
    return runs.TableRun(chosen, data, choices, runs.build(data, choices, chosen))


def first(data, **settings):
    """The trainer of the first network of a run, after its training: it is in the state of its best epoch."""
    run = begun(data, **settings)
    patience, schedule = run.settings.patience, run.schedule()
    model.fit(run.trainer, data, *run.rows(), epochs=run.epochs, batch=run.choices.batch, patience=patience, schedule=schedule)
    return run.trainer


def measured(trainer, data):
    """The scores of a network."""
    return scores.measure(Predictor(trainer.net, data.loss), data)
