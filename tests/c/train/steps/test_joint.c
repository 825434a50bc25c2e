/* Several processes: batch_norm has the statistics of the rows of all, and sparse layers get the rows that any of them
 * names, in every way to make a step; and they fail together. See also test_joint_rows.c and test_reduce.c. */
#include "team.h"

static void do_backward(rank *r) {
    for (int i = 0; i < STEPS; i++)
        if (!go_on(r, mbp_trainer_backward(r->trainer, &r->batch, NULL, &r->loss, &r->error)) ||
            !go_on(r, mbp_trainer_apply(r->trainer, &r->error)))
            return;
    r->loss = 0; /* of this process */
}

/* The joint batch in two parts: the first half of each process's rows, then the rest. */
static int64_t half(int64_t count, int part) { return part ? count - count / 2 : count / 2; }

static void do_parts(rank *r) {
    data of[2];
    mbp_batch batch[2];
    for (int k = 0; k < 2; k++)
        data_rows(r->data, r->model, r->first + (k ? r->count / 2 : 0), half(r->count, k), &of[k], &batch[k]);
    for (int i = 0; i < STEPS; i++) {
        for (int k = 0; k < 2; k++)
            if (!go_on(r, mbp_trainer_backward(r->trainer, &batch[k], HOW(.total = r->total, .accumulate = k), &r->loss,
                                               &r->error)))
                return;
        if (!go_on(r, mbp_trainer_apply(r->trainer, &r->error)))
            return;
    }
    r->loss = 0;
}

static void do_own_loss(rank *r) {
    for (int i = 0; i < STEPS; i++)
        if (!go_on(r, mbp_trainer_forward(r->trainer, r->part.x, r->model->inputs, &r->error)) ||
            !go_on(r, mbp_trainer_backward_from(r->trainer, r->part.gradient, r->model->outputs, NULL, &r->error)) ||
            !go_on(r, mbp_trainer_apply(r->trainer, &r->error)))
            return;
}

/* The same bits on all ranks, and in every way to exchange; one process with all rows, up to rounding; and the same
 * bits as that if it is the only one. */
static void check_task(const model *m, const data *d, mbp_dtype dtype, task run, int needs_rows, const char *what) {
    rank alone, r[RANKS], other[RANKS];
    run_alone(&alone, m, d, dtype, run);
    for (int i = 0; i < SPLITS; i++) {
        if (needs_rows && i > 2)
            continue;
        all.swaps = all.begins = 0;
        run_ranks(r, split_ranks[i], splits[i], m, d, dtype, run);
        check_equal(r, split_ranks[i], what);
        check_close(&r[0], &alone, what);
        if (split_ranks[i] == 1)
            CHECK(same_params(r[0].net, alone.net), "%s: one process is not the same as alone", what);
        for (int k = 0; k < 2; k++) {
            all.swaps = 1, all.begins = k;
            run_ranks(other, split_ranks[i], splits[i], m, d, dtype, run);
            check_equal(other, split_ranks[i], what);
            CHECK(same_params(r[0].net, other[0].net), "%s: the exchange changes the bits", what);
            end_ranks(other, split_ranks[i]);
        }
        end_ranks(r, split_ranks[i]);
    }
    rank_end(&alone);
}

static void do_epochs(rank *r) {
    int64_t steps;
    for (int i = 0; i < 2; i++)
        if (!go_on(r, mbp_trainer_epoch(r->trainer, &r->batch, NULL, r->count, ROWS, NULL, NULL, NULL, &r->loss, &steps,
                                        &r->error)))
            return;
}

static void test_tasks(mbp_dtype dtype) {
    static const model *const models[] = {&norms, &lengths, &rows_of_all, &both};
    for (int i = 0; i < 4; i++) {
        data d;
        data_new(&d, models[i], dtype);
        check_task(models[i], &d, dtype, do_steps, 0, "steps");
        check_task(models[i], &d, dtype, do_backward, 0, "backward");
        check_task(models[i], &d, dtype, do_epochs, 0, "epochs");
        check_task(models[i], &d, dtype, do_own_loss, 1, "a loss of the caller");
        if (models[i] == &rows_of_all)
            check_task(models[i], &d, dtype, do_parts, 0, "parts");
        data_free(&d, models[i]);
    }
}

/* ---- parts of a batch with batch_norm: each has the statistics of the same part in all processes ---- */

/* Copies the rows of a part of each process of a split, so that one process has them together. */
static int64_t take_part(const data *d, const int64_t *starts, int ranks, int part, data *taken, mbp_batch *batch) {
    int64_t n = 0;
    for (int k = 0; k < ranks; k++) {
        const int64_t count = starts[k + 1] - starts[k], first = starts[k] + (part ? count / 2 : 0);
        for (int64_t i = 0; i < half(count, part); i++, n++) {
            for (int64_t j = 0; j < norms.width; j++)
                array_set(&taken->x[0], n, j, array_get(&d->x[0], first + i, j));
            for (int64_t j = 0; j < norms.out[0]; j++)
                array_set(&taken->y[0], n, j, array_get(&d->y[0], first + i, j));
            array_set(&taken->weight, n, 0, array_get(&d->weight, first + i, 0));
        }
    }
    data_rows(taken, &norms, 0, n, taken, batch);
    return n;
}

static void test_parts(mbp_dtype dtype) {
    for (int i = 1; i < SPLITS - 1; i++) {
        data d, of[2];
        mbp_batch batch[2];
        rank alone, r[RANKS];
        data_new(&d, &norms, dtype), data_new(&of[0], &norms, dtype), data_new(&of[1], &norms, dtype);
        int64_t rows[2];
        for (int k = 0; k < 2; k++)
            rows[k] = take_part(&d, splits[i], split_ranks[i], k, &of[k], &batch[k]);
        memset(&alone, 0, sizeof alone);
        rank_start(&alone, &norms, &d, dtype, 0, ROWS);
        for (int s = 0; s < STEPS; s++) {
            for (int k = 0; k < 2; k++)
                OK(mbp_trainer_backward(alone.trainer, &batch[k],
                                        HOW(.total = alone.total, .accumulate = k, .first_row = k * rows[0]),
                                        &alone.loss, &error));
            OK(mbp_trainer_apply(alone.trainer, &error));
        }
        alone.loss = 0;
        run_ranks(r, split_ranks[i], splits[i], &norms, &d, dtype, do_parts);
        check_equal(r, split_ranks[i], "parts with batch_norm");
        check_close(&r[0], &alone, "parts with batch_norm");
        end_ranks(r, split_ranks[i]), rank_end(&alone);
        data_free(&d, &norms), data_free(&of[0], &norms), data_free(&of[1], &norms);
    }
}

/* ---- failures ---- */

static int faulty; /* the rank that fails, and then goes on */

static void spoil(const rank *r, const mbp_array *a, double value) {
    if (r->number == faulty)
        array_set(a, 0, 0, value);
}

/* A step that fails, then one that does not. */
static void fail_then_step(rank *r, const mbp_array *a, double value, mbp_status own, mbp_status others) {
    double before = 1;
    if (r->count > 0)
        before = array_get(a, 0, 0);
    spoil(r, a, value);
    mbp_status status = mbp_trainer_step(r->trainer, &r->batch, &r->loss, &r->error);
    if (status != (r->number == faulty ? own : others) || mbp_trainer_steps(r->trainer) != 0)
        exit(4);
    spoil(r, a, before);
    do_steps(r);
}

static void do_nonfinite(rank *r) { fail_then_step(r, &r->part.y[0], INFINITY, MBP_NONFINITE, MBP_NONFINITE); }
static void do_refused(rank *r) { fail_then_step(r, &r->part.weight, -1, MBP_INVALID, MBP_CANCELLED); }

/* One process has no memory for the rows of the others, and the next time it has. */
static void do_no_memory(rank *r) {
    if (r->number == faulty)
        r->memory.fail_at = r->memory.calls + 1, r->memory.persistent = 1;
    const mbp_status status = mbp_trainer_step(r->trainer, &r->batch, &r->loss, &r->error);
    if (status != (r->number == faulty ? MBP_NO_MEMORY : MBP_CANCELLED) || mbp_trainer_steps(r->trainer) != 0)
        exit(5);
    r->memory.fail_at = 0;
    do_steps(r);
}

/* The same result as without the failure. */
static void check_failure(const model *m, const data *d, task run, const char *what) {
    rank well[RANKS], r[RANKS];
    run_ranks(well, 2, splits[1], m, d, MBP_F64, do_steps);
    for (faulty = 0; faulty < 2; faulty++) {
        run_ranks(r, 2, splits[1], m, d, MBP_F64, run);
        check_equal(r, 2, what);
        CHECK(same_params(r[0].net, well[0].net), "%s: a step that fails changes the next ones", what);
        end_ranks(r, 2);
    }
    end_ranks(well, 2);
}

static void do_one_row(rank *r) {
    data_rows(r->data, r->model, r->first, r->number == 0, &r->part, &r->batch);
    const mbp_status status = mbp_trainer_step(r->trainer, &r->batch, &r->loss, &r->error);
    r->status = status == MBP_INVALID && strstr(r->error.text, "needs at least 2 rows in training") ? MBP_OK : status;
    r->loss = 0;
}

/* Many rows, but only one of them has a position. */
static void do_one_position(rank *r) {
    for (int64_t i = 0; i < r->count; i++)
        array_set(&r->part.lengths, i, 0, r->number == 0 && i == 0 ? 1 : 0);
    r->status = mbp_trainer_step(r->trainer, &r->batch, &r->loss, &r->error);
    r->status = r->status == MBP_INVALID && strstr(r->error.text, "(layer n) needs at least 2 rows") ? MBP_OK
                                                                                                     : r->status;
    r->loss = 0;
}

static void test_failures(void) {
    static const model *const models[] = {&norms, &rows_of_all, &both};
    for (int i = 0; i < 3; i++) {
        data d;
        data_new(&d, models[i], MBP_F64);
        check_failure(models[i], &d, do_nonfinite, "a loss that is not finite");
        check_failure(models[i], &d, do_refused, "a refused step");
        if (models[i] != &norms)
            check_failure(models[i], &d, do_no_memory, "no memory");
        data_free(&d, models[i]);
    }
    static const struct {
        const model *model;
        task run;
    } few[] = {{&norms, do_one_row}, {&lengths, do_one_row}, {&lengths, do_one_position}};
    for (int i = 0; i < 3; i++) {
        data d;
        rank r[RANKS];
        data_new(&d, few[i].model, MBP_F64);
        run_ranks(r, 2, splits[1], few[i].model, &d, MBP_F64, few[i].run);
        check_equal(r, 2, "too few rows");
        CHECK(mbp_trainer_steps(r[0].trainer) == 0, "a step with a single row");
        end_ranks(r, 2);
        data_free(&d, few[i].model);
    }
}

int main(void) {
    static const mbp_dtype dtypes[] = {MBP_F32, MBP_F64};
    for (int i = 0; i < 2; i++)
        test_tasks(dtypes[i]), test_parts(dtypes[i]);
    test_failures();
    return report("joint");
}
