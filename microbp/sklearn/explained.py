"""What the parameters of estimators mean, once for all estimators: a docstring that contains {parameters} gets those of its class."""

from __future__ import annotations

import inspect
import textwrap

_TEXTS = {
    "loss": "",  # each estimator explains its own
    "hidden_layer_sizes": "the units of each hidden layer; () is a linear model.",
    "activation": 'of the hidden layers: "relu", "tanh", "logistic", "identity", any other name or bp.Activation of microbp '
    "(help(bp.Activation)), or a list with one for each hidden layer.",
    "solver": '"adam", "sgd", "lbfgs" (bp.LBFGS, on all rows at once), or any optimizer of microbp: a name such as "adamw", which '
    'gets the rate learning_rate_init; "adamw(lr=0.01,weight_decay=0.1)" or bp.AdamW(...), which have their own.',
    "alpha": "the L2 penalty alpha / 2 |w|^2 of the weights, divided by the rows of the batch (by the sum of their weights). "
    "bayesian_regularization chooses one by itself.",
    "batch_size": 'rows per update; "auto": min(200, rows).',
    "learning_rate": 'with solver="sgd": "constant"; "invscaling": learning_rate_init / t^power_t, t the rows seen so far; "adaptive": a '
    "fifth of it each time when n_iter_no_change epochs have not improved the loss by tol.",
    "learning_rate_init": 'the first learning rate. Not for "lbfgs".',
    "power_t": 'the exponent of "invscaling".',
    "max_iter": 'the most epochs; with "lbfgs" iterations. fit warns if it reaches this limit (ConvergenceWarning).',
    "shuffle": "whether each epoch takes the rows in another order.",
    "random_state": "an int, a RandomState or None: draws the first weights, the order of rows, dropout, and early stopping's rows.",
    "tol": "fit stops when n_iter_no_change epochs have not improved the loss, or early stopping's score, by tol.",
    "verbose": "whether to print the loss of each epoch.",
    "warm_start": "whether `fit` continues: with the network and the optimizer's state of the last fit, so that n fits of one epoch equal "
    "one of n epochs; alpha, l1, solver and its settings may have changed since. Otherwise it starts again.",
    "momentum": 'of "sgd".',
    "nesterovs_momentum": 'whether the momentum of "sgd" is Nesterov\'s.',
    "early_stopping": "whether to hold out rows, and to stop when their score (accuracy, R2) does not improve. The weights of the best "
    "epoch stay.",
    "validation_fraction": "the fraction of rows that early stopping holds out; not used with eval_set.",
    "beta_1": 'of "adam": the decay of the mean of gradients.',
    "beta_2": 'of "adam": the decay of the mean of their squares.',
    "epsilon": 'of "adam": added to the denominator.',
    "n_iter_no_change": "see tol; inf: all max_iter epochs.",
    "max_fun": 'the most evaluations of "lbfgs".',
    "l1": "the L1 penalty l1 |w|, divided as alpha is.",
    "dropout": "the rate of dropout after each hidden layer, in [0, 1).",
    "class_weight": '"balanced", a dict {class: weight} (1 for others), or None: multiplies the weights of rows. For several labels per '
    'row "balanced", or a list of {0: weight, 1: weight} for each label.',
    "out_activation": 'of the last layer, such as "tanh" for targets from -1 to 1; None: none, or the one of the loss.',
    "schedule": 'the learning rate of each update: a schedule such as bp.Cosine(lr=0.01), its text "cosine(lr=0.01)", or a function of the '
    "number of updates so far.",
    "network": "a bp.Network, of which a copy is trained, or a function of (features, outputs) that returns one: any graph. It replaces "
    "hidden_layer_sizes, activation, alpha, l1, dropout and out_activation.",
    "callback": "a function of the bp.Record of each epoch, or a list; fit stops if one returns True. (For scikit-learn's callbacks: "
    "set_callbacks.)",
    "max_time": "seconds, or a timedelta, after which fit stops.",
    "n_threads": "the most threads for large work; None: as many as there are processors, limited by OMP_NUM_THREADS. Results do not "
    "depend on it.",
}


def explain(cls: type) -> None:
    """Replaces {parameters} in the docstring of a class by an entry for each parameter of its constructor that has a text."""
    if not cls.__doc__ or "{parameters}" not in cls.__doc__:
        return
    shown = []
    for name, parameter in inspect.signature(cls).parameters.items():
        if _TEXTS.get(name):
            text = f"{name}={parameter.default!r}: {_TEXTS[name]}"
            shown.append(textwrap.fill(text, 136, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False))
    cls.__doc__ = cls.__doc__.replace("    {parameters}", "\n".join(shown))
