"""Training that Python began goes on in a C program, and back, bit for bit; files that C wrote load in both backends."""

import shutil
import subprocess

import cases
import numpy as np
import pytest
from file_cases import everything

import microbp as bp
from microbp.training import trainer_file

CC = shutil.which("cc")
ROWS, STEPS = 6, 3

pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler")

# program DATA IN OUT ...: loads each trainer IN, makes STEPS steps and saves it as OUT. DATA: float64 inputs and targets.
# program DATA new OUT: makes a trainer with an average and a loss of the caller's.
PROGRAM = """
#include <microbp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mbp_array next(FILE *data, int64_t cols) {
    double *values = calloc(ROWS * (size_t)cols, sizeof *values);
    if (fread(values, sizeof *values, ROWS * (size_t)cols, data) == 0)
        exit(2);
    return mbp_f64(values, ROWS, cols);
}

static void check(mbp_status status, const mbp_error *error) {
    if (status != MBP_OK)
        exit((fprintf(stderr, "%s\\n", error->text), 1));
}

static void train(mbp_trainer *trainer, const mbp_net *net, const char *path) {
    mbp_array x[4], y[4];
    mbp_batch batch = {.size = sizeof batch, .x = x, .n_x = mbp_net_inputs(net), .y = y, .n_y = mbp_net_outputs(net)};
    FILE *data = fopen(path, "rb");
    mbp_error error;
    double loss;
    for (int i = 0; i < batch.n_x; i++)
        x[i] = next(data, mbp_net_input_width(net, i));
    for (int i = 0; i < batch.n_y; i++)
        y[i] = next(data, mbp_net_output_width(net, i));
    for (int i = 0; i < STEPS; i++)
        check(mbp_trainer_step(trainer, &batch, &loss, &error), &error);
    fclose(data);
}

static void begin(mbp_trainer **trainer, mbp_net **net) {
    const char *losses[] = {"huber(delta=0.5)"};
    const mbp_options options = {.size = sizeof options, .seed = 5};
    mbp_error error;
    check(mbp_net_create(net, "input 3\\ndense 0 units=4 activation=tanh\\ndense 1 units=2\\noutput 2\\n", &options, &error), &error);
    check(mbp_trainer_create(trainer, *net, losses, NULL, 1, "adam_amsgrad(lr=0.01,beta1=0.8)", &error), &error);
    check(mbp_trainer_set_average(*trainer, 0.9, 0, 1, &error), &error);
    check(mbp_trainer_set(*trainer, "clip_norm", 0.5, &error), &error);
    check(mbp_trainer_set(*trainer, "epoch", 9, &error), &error);
}

int main(int count, char **arguments) {
    for (int i = 2; i + 1 < count; i += 2) {
        mbp_trainer *trainer;
        mbp_net *net;
        mbp_error error;
        if (strcmp(arguments[i], "new") == 0)
            begin(&trainer, &net);
        else
            check(mbp_trainer_load(&trainer, &net, arguments[i], NULL, &error), &error);
        train(trainer, net, arguments[1]);
        check(mbp_trainer_save(trainer, arguments[i + 1], &error), &error);
        mbp_trainer_free(trainer);
        mbp_net_free(net);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    (folder / "program.c").write_text(PROGRAM)
    flags = [f"-DROWS={ROWS}", f"-DSTEPS={STEPS}", "-Wall", "-Wextra", "-Werror", f"-I{bp.get_include()}"]
    library = [f"{bp.get_library_dir()}/libmicrobp.a", "-lm", "-pthread"]
    subprocess.run([CC, "-std=c11", *flags, folder / "program.c", "-o", folder / "program", *library], check=True, timeout=120)
    return folder / "program"


def run(program, *arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def plain(optimizer, dtype, **options):
    x = bp.Input(3)
    h = bp.Dense(5, activation="tanh")(x)
    return bp.Trainer(bp.Network(x, bp.Dense(2)(h), dtype=dtype, seed=1), "mse", optimizer, **options)


def rich(optimizer, dtype, **options):
    """Batch norm, dropout, noise, two inputs, two outputs, a frozen layer, penalties."""
    x, z = bp.Input(3), bp.Input(2)
    h = bp.Dropout(0.3)(bp.BatchNorm()(bp.Dense(6, activation="gelu", l2=0.01)(x)))
    h = bp.GaussianNoise(0.1)(bp.Dense(5, activation="tanh", name="fixed")(bp.concat([h, z])))
    net = bp.Network([x, z], [bp.Dense(2)(h), bp.Dense(3)(h)], dtype=dtype, seed=1)
    net.freeze("fixed")
    net.notes = {"names": ["\u00e9"]}
    return bp.Trainer(net, ["huber(delta=0.3)", "cross_entropy"], optimizer, loss_weights=[1 / 3, 2], **options)


MADE = {
    "plain": lambda spec, dtype: plain(spec, dtype),
    "rich": lambda spec, dtype: rich(spec, dtype),
    "average": lambda spec, dtype: rich(spec, dtype, average=bp.EMA(0.9)),
    "mean": lambda spec, dtype: plain(spec, dtype, average=bp.SWA(2, 3)),
    "penalties per row": lambda spec, dtype: plain(spec, dtype, penalty_per_row=True),
    "clip": lambda spec, dtype: plain(spec, dtype, clip_norm=0.1, clip_layer_norm=1 / 3, clip_value=0.01),
    "seed": lambda spec, dtype: rich(spec, dtype, seed=2**64 - 1),
}


def data_for(net, seed):
    rng = np.random.default_rng(seed)
    xs = [rng.normal(size=(ROWS, entry.width)) for entry in net.inputs]
    ys = [np.abs(rng.normal(size=(ROWS, entry.width))) for entry in net.outputs]
    ys = [y / y.sum(axis=1, keepdims=True) for y in ys]  # also valid as probabilities
    return xs, ys


def steps(t, xs, ys, count):
    for _ in range(count):
        t.step(xs[0] if len(xs) == 1 else xs, ys[0] if len(ys) == 1 else ys)


@pytest.mark.parametrize("made", MADE)
def test_training_goes_on_in_c_and_back(program, dtype, made, tmp_path):
    """Every optimizer: 2 steps, an epoch, 3 steps and 2 steps in Python are the same as with the 3 steps in C."""
    straight, files = {}, []
    for i, (name, case) in enumerate(cases.OPTIMIZERS.items()):
        t = straight[name] = MADE[made](case.spec, dtype)
        xs, ys = data_for(t.net, 0)
        t.fit(xs[0] if len(xs) == 1 else xs, ys[0] if len(ys) == 1 else ys, epochs=2, batch_size=4, schedule="cosine(lr=0.01,steps=9)")
        if i % 2:
            t.lr = t.lr / 3
        t.save(tmp_path / name)
        files += [tmp_path / name, tmp_path / f"{name}-c"]
        steps(t, xs, ys, STEPS)
    (tmp_path / "data").write_bytes(b"".join(part.tobytes() for part in xs + ys))
    run(program, tmp_path / "data", *files)
    for name, t in straight.items():
        back = bp.Trainer.load(tmp_path / f"{name}-c")
        assert everything(back) == everything(t), name
        assert (back.losses, back.optimizer, back.history, back.schedule) == (t.losses, t.optimizer, t.history, t.schedule)
        assert everything(bp.Trainer.load(tmp_path / f"{name}-c", backend="reference")) == everything(t), name
        for one in (t, back):
            steps(one, xs, ys, 2)
        assert everything(back) == everything(t), name


def test_a_trainer_that_c_made(program, backend, tmp_path):
    x, y = np.ones((ROWS, 3)) / 3, np.zeros((ROWS, 2))
    (tmp_path / "data").write_bytes(x.tobytes() + y.tobytes())
    run(program, tmp_path / "data", "new", tmp_path / "run")
    t = bp.Trainer.load(tmp_path / "run", backend=backend)
    assert t.losses == (bp.Loss("huber", delta=0.5),) and t.loss_weights == (1.0,) and t.averaging == bp.EMA(0.9)
    assert repr(t.optimizer) == "OptimizerSpec('adam_amsgrad', lr=0.01, beta1=0.8)" and t.clip_norm == 0.5
    assert (t.lr, t.steps, t.epoch, t.seed, t.history, t.finished) == (0.01, STEPS, 9, 5, {}, False)
    assert t.net.outputs[0].activation == "identity" and t._engine.average_count == STEPS
    t.save(tmp_path / "again")
    run(program, tmp_path / "data", tmp_path / "again", tmp_path / "last")
    assert bp.Trainer.load(tmp_path / "last").steps == 2 * STEPS


def test_c_refuses_a_file_of_an_earlier_version(program, tmp_path):
    from goldens import make

    old = make.HERE / "0.1.0/trainer.safetensors"
    done = subprocess.run([program, "data", old, tmp_path / "x"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "load it with bp.Trainer.load and save it again" in done.stderr
    bp.Trainer.load(old).save(tmp_path / "new")
    (tmp_path / "data").write_bytes(np.ones(ROWS * 5).tobytes())
    run(program, tmp_path / "data", tmp_path / "new", tmp_path / "newer")
    assert bp.Trainer.load(tmp_path / "newer").steps == bp.Trainer.load(old).steps + STEPS


def test_numbers_that_c_changed(tmp_path):
    """An optimizer with other numbers than Python's is not shown as Python's."""
    t = plain(bp.Adam(0.01), "float32")
    text, vectors = trainer_file.encode(t.net, t.__getstate__())
    t.net._core.save_with(str(tmp_path / "run"), text.replace("beta1=0.9", "beta1=0.5"), vectors)
    again = bp.Trainer.load(tmp_path / "run")
    assert repr(again.optimizer) == "OptimizerSpec('adam', lr=0.01, beta1=0.5)" and again._engine._core.get("beta1") == 0.5
