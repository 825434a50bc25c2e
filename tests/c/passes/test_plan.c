/* The plan of backward: gradients of graphs in which several nodes write to a delta, compared with finite differences;
 * and the groups of the update, by the formula of each parameter. */
#include "api.h"

#include <math.h>
#include <string.h>

enum { ROWS = 3, OUTPUTS_MAX = 3 };

static const char *const graphs[] = {
    /* an output is an operand of another, and of a node that no output depends on */
    "input 2\ndense 0 units=2 activation=tanh\ndense 1 units=2 activation=tanh\ndense 2 units=3\noutput 1\noutput 2\n",
    /* a node in two concats, and twice in one */
    "input 2\ndense 0 units=2 activation=tanh\nconcat 1 0 1\nconcat 0 1\nadd 1 1\nconcat 2 3 4\ndense 5 units=2\n"
    "output 6\noutput 5\n",
    /* inputs in a concat, an input that is an output, a layer used twice */
    "input 2\ninput 2\nconcat 0 1\ndense 0 units=2 layer=a activation=sigmoid\ndense 1 layer=a\nmultiply 3 4\noutput "
    "5\n"
    "output 2\noutput 1\n",
    /* an activation of a dense node that another node also reads */
    "input 2\ndense 0 units=2 activation=elu\nactivation 1 tanh\nmultiply 1 2\nlayer_norm 3\noutput 4\noutput 1\n",
    /* scales: of an input, shared, next to the node that they scale, without a gain */
    "input 2\nscale 0 layer=a\nscale 1 layer=a\nscale 2 bias=0\nscale 2 gain=0\nadd 2 3\nconcat 4 5 1\n"
    "dense 6 units=2 activation=tanh\nscale 7\noutput 8\noutput 2\n",
    /* differences and sums in which a node is several operands, first and last */
    "input 2\ndense 0 units=2 activation=tanh\nsubtract 1 0\nsubtract 2 1\nadd 3 1 2 1\nsubtract 4 4\nadd 5 4 4\n"
    "output 6\noutput 1\n",
    /* disjoint slices of a dense node, in no order and with gaps; slices of one of them */
    "input 2\ndense 0 units=9 activation=tanh\nslice 1 from=6 to=8\nslice 1 from=1 to=5\nslice 3 from=2 to=4\n"
    "slice 3 from=0 to=2\nmultiply 2 4\nadd 6 5\ndense 7 units=2\noutput 8\noutput 5\n",
    /* overlapping slices, one of them twice; of a node that is an output, of an input with a gap, of a concat */
    "input 5\ndense 0 units=4 activation=elu\nslice 1 from=0 to=3\nslice 1 from=1 to=4\nsubtract 2 3\n"
    "slice 0 from=1 to=4\nadd 4 5 2 2\nconcat 6 1 0\nslice 7 from=2 to=6\nslice 8 from=1 to=2\ndense 9 units=1\n"
    "output 10\noutput 1\noutput 4\n",
    /* positions: a grid in two windows, nodes with several writers at each position, slices, and outputs of all kinds */
    "input 12\ngrid 0 height=3 width=2\nwindow 1 size=2x2 pad=1x0\ndense 2 units=4 activation=tanh\n"
    "slice 3 from=0 to=2\nslice 3 from=2 to=4\nmultiply 4 5\npool 3 size=2x1 stride=1x1 kind=mean\n"
    "pool 7 size=2x1 stride=1x1\ngrid 8 height=1 width=1\nlast 3\nconcat 10 9 10\nrepeat 11 times=4\n"
    "grid 12 height=4 width=1\nconcat 3 6 13\noutput 14\noutput 8\noutput 1\n",
    /* an output that is a slice, beside a slice that no output depends on */
    "input 3\nlayer_norm 0\nslice 1 from=1 to=3\nslice 1 from=0 to=1\noutput 2\n",
};

typedef struct task {
    mbp_net *net;
    mbp_trainer *trainer;
    mbp_array x[2], y[OUTPUTS_MAX];
} task;

static task task_new(const char *graph, const char *optimizer) {
    static const char *const losses[OUTPUTS_MAX] = {"mse", "mse", "mse"};
    task t = {.net = net_new(graph, OPTIONS(.dtype = MBP_F64, .seed = 3))};
    t.trainer = trainer_new(t.net, losses, NULL, optimizer);
    for (int i = 0; i < mbp_net_inputs(t.net); i++) {
        t.x[i] = array_new(MBP_F64, ROWS, mbp_net_input_width(t.net, i));
        array_fill(&t.x[i], -1, 1);
    }
    for (int i = 0; i < mbp_net_outputs(t.net); i++) {
        t.y[i] = array_new(MBP_F64, ROWS, mbp_net_output_width(t.net, i));
        array_fill(&t.y[i], -1, 1);
    }
    return t;
}

static mbp_batch batch_for(const task *t) {
    mbp_batch batch = mbp_batch_of(t->x, t->y);
    batch.n_x = mbp_net_inputs(t->net), batch.n_y = mbp_net_outputs(t->net);
    return batch;
}

static void task_free(task *t) {
    for (int i = 0; i < 2; i++)
        array_free(&t->x[i]);
    for (int i = 0; i < OUTPUTS_MAX; i++)
        array_free(&t->y[i]);
    mbp_trainer_free(t->trainer), mbp_net_free(t->net);
}

static double slope(task *t, double *at) {
    const mbp_batch batch = batch_for(t);
    const double value = *at, h = 1e-5;
    double up = 0, down = 0;
    *at = value + h;
    OK(mbp_trainer_evaluate(t->trainer, &batch, &up, &error));
    *at = value - h;
    OK(mbp_trainer_evaluate(t->trainer, &batch, &down, &error));
    *at = value;
    return (up - down) / (2 * h);
}

/* Twice, because the second pass finds the deltas of the first in the workspace. */
static void test_gradients(void) {
    for (size_t g = 0; g < sizeof graphs / sizeof *graphs; g++) {
        task t = task_new(graphs[g], "sgd");
        const mbp_batch batch = batch_for(&t);
        double loss;
        int64_t count;
        double *params = mbp_net_params(t.net, &count);
        for (int repeat = 0; repeat < 2; repeat++) {
            OK(mbp_trainer_backward(t.trainer, &batch, HOW(.input_grads = 1), &loss, &error));
            const double *grads = mbp_trainer_grads(t.trainer);
            double *analytic = malloc((size_t)count * sizeof *analytic);
            memcpy(analytic, grads, (size_t)count * sizeof *analytic);
            for (int64_t i = 0; i < count; i++) {
                const double expected = slope(&t, &params[i]);
                CHECK(fabs(analytic[i] - expected) < 1e-7, "graph %zu, parameter %lld: %g, not %g", g, (long long)i,
                      analytic[i], expected);
            }
            free(analytic);
        }
        task_free(&t);
    }
}

/* Layers of different learning rates, one with another for its bias. The weights of the last end where the biases of
 * the first, which has the same rate, begin: only the weight decay tells them apart, or nothing, if layers are not
 * clipped on their own. w - lr factor (clipped g + decay w). */
static void check_groups(int decays, double clip) {
    static const char graph[] =
        "input 2\ndense 0 units=3 layer=a lr=2 activation=tanh\ndense 1 units=3 layer=b bias_lr=3\n"
        "dense 2 units=2 layer=c lr=2\noutput 3\n";
    task t = task_new(graph, decays ? "sgd(lr=0.1,weight_decay=0.25,decay_bias=1)" : "sgd(lr=0.1,weight_decay=0.25)");
    const mbp_batch batch = batch_for(&t);
    double loss, before[64], squares[3] = {0};
    int64_t count;
    mbp_tensor tensor;
    double *params = mbp_net_params(t.net, &count);
    for (int64_t i = 0; i < count; i++)
        before[i] = params[i] += 0.5; /* biases start at 0, where decay would not show */
    OK(mbp_trainer_set(t.trainer, "clip_layer_norm", clip, &error));
    OK(mbp_trainer_step(t.trainer, &batch, &loss, &error));
    const double *grads = mbp_trainer_grads(t.trainer);
    for (int n = 0; mbp_net_tensor(t.net, n, &tensor); n++)
        for (int64_t i = tensor.offset; i < tensor.offset + tensor.in * tensor.out; i++)
            squares[*tensor.layer - 'a'] += grads[i] * grads[i];
    for (int n = 0; mbp_net_tensor(t.net, n, &tensor); n++) {
        const int is_bias = strcmp(tensor.name, "bias") == 0;
        const double factor = *tensor.layer != 'b' ? 2 : is_bias ? 3 : 1, norm = sqrt(squares[*tensor.layer - 'a']);
        const double decay = decays || !is_bias ? 0.25 : 0, scale = fmin(1, clip / norm);
        for (int64_t i = tensor.offset; i < tensor.offset + tensor.in * tensor.out; i++) {
            const double expected = before[i] - 0.1 * factor * (scale * grads[i] + decay * before[i]);
            CHECK(fabs(params[i] - expected) < 1e-14, "%s.%s, decay_bias %d, clip %g: %g, not %g", tensor.layer,
                  tensor.name, decays, clip, params[i], expected);
        }
    }
    task_free(&t);
}

static void test_groups(void) {
    for (int decays = 0; decays < 2; decays++)
        for (int clips = 0; clips < 2; clips++)
            check_groups(decays, clips ? 0.05 : INFINITY);
}

/* The derivative of the penalty, l1 sign(w) + l2 w, is added once for a layer, in the share that the rows have of the
 * total. */
static void test_penalty(void) {
    static const char *const settings[] = {"", "l1=0.25", "l2=0.5", "l1=0.25 l2=0.5"};
    double plain[2][64];
    for (int k = 0; k < 4; k++)
        for (int half = 0; half < 2; half++) {
            char graph[200];
            snprintf(graph, sizeof graph, "input 2\ndense 0 units=2 bias=0 layer=a %s\ndense 1 layer=a\noutput 2\n",
                     settings[k]);
            task t = task_new(graph, "sgd");
            for (int64_t i = 0; i < ROWS; i++)
                for (int64_t j = 0; j < 2; j++)
                    array_set(&t.x[0], i, j, 0.1 * (double)(i + 2 * j)),
                        array_set(&t.y[0], i, j, 0.2 * (double)(i - j));
            const mbp_batch batch = batch_for(&t);
            double loss;
            int64_t count;
            const double *params = mbp_net_params(t.net, &count), *grads = mbp_trainer_grads(t.trainer);
            OK(mbp_trainer_backward(t.trainer, &batch, HOW(.total = half ? 2 * ROWS : 0), &loss, &error));
            for (int64_t i = 0; i < count; i++) {
                if (k == 0)
                    plain[half][i] = grads[i];
                const double penalty = (k & 1 ? copysign(0.25, params[i]) : 0) + (k & 2 ? 0.5 * params[i] : 0);
                const double expected = plain[half][i] + penalty / (half ? 2 : 1);
                CHECK(fabs(grads[i] - expected) < 1e-14, "\"%s\", half %d, parameter %lld: %g, not %g", settings[k],
                      half, (long long)i, grads[i], expected);
            }
            task_free(&t);
        }
}

/* An update limits the norms of a layer that trains, and leaves a frozen one as it is. */
static void test_frozen_limit(void) {
    for (int frozen = 0; frozen < 2; frozen++) {
        task t = task_new("input 2\ndense 0 units=1 bias=0 layer=a max_norm=0.5\noutput 1\n", "sgd(lr=1e-9)");
        const mbp_batch batch = batch_for(&t);
        double loss, *params = mbp_net_params(t.net, NULL);
        params[0] = 3, params[1] = 4;
        OK(mbp_net_freeze(t.net, "a", frozen, &error));
        OK(mbp_trainer_step(t.trainer, &batch, &loss, &error));
        const double norm = hypot(params[0], params[1]);
        CHECK(fabs(norm - (frozen ? 5 : 0.5)) < 1e-12, "frozen %d: the norm is %g", frozen, norm);
        task_free(&t);
    }
}

int main(void) {
    test_frozen_limit();
    test_penalty();
    test_gradients();
    test_groups();
    return report("plan");
}
