/* Several processes with sparse layers: the bits of dense gradients that are added in the order of the processes; and
 * the same bits in all, whatever each does between the steps. */
#include "team.h"

/* ---- sparse layers: the bits of dense gradients that are added in the order of the processes ---- */

static const char *const sparse_layers[] = {"a", "e"};

/* Adds the gradient of a part: mbp_trainer_grads, then both sparse layers. */
static void add_part(const rank *one, char *const sums[3], int64_t params, int is_first) {
    const mbp_dtype dtype = mbp_net_dtype(one->net);
    mbp_array parts[3] = {array_at(mbp_trainer_grads(one->trainer), dtype, 1, params)};
    mbp_array whole[3] = {array_at(sums[0], dtype, 1, params), array_at(sums[1], dtype, WIDE, 5),
                          array_at(sums[2], dtype, IDS, 3)};
    const int32_t *rows[3] = {NULL};
    for (int l = 0; l < 2; l++)
        OK(mbp_trainer_sparse_grad(one->trainer, sparse_layers[l], &rows[l + 1], &parts[l + 1], &error));
    for (int l = 0; l < 3; l++)
        for (int64_t i = 0; i < parts[l].rows; i++)
            for (int64_t j = 0; j < parts[l].cols; j++) {
                const int64_t row = rows[l] ? rows[l][i] : i;
                const double before = is_first && l == 0 ? 0 : array_get(&whole[l], row, j);
                const double value = array_get(&parts[l], i, j);
                array_set(&whole[l], row, j,
                          dtype == MBP_F64 ? before + value : (double)((float)before + (float)value));
            }
}

/* Overwrites the gradient of the whole batch, which names the rows of all parts. */
static void put_sums(const rank *one, char *const sums[3], int64_t params) {
    memcpy(mbp_trainer_grads(one->trainer), sums[0], (size_t)params * item_of(mbp_net_dtype(one->net)));
    for (int l = 0; l < 2; l++) {
        const int32_t *rows;
        mbp_array values;
        OK(mbp_trainer_sparse_grad(one->trainer, sparse_layers[l], &rows, &values, &error));
        const mbp_array sum = array_at(sums[l + 1], values.dtype, l ? IDS : WIDE, values.cols);
        for (int64_t i = 0; i < values.rows; i++)
            for (int64_t j = 0; j < values.cols; j++)
                array_set(&values, i, j, array_get(&sum, rows[i], j));
    }
}

static void do_oracle(rank *one, const int64_t *starts, int ranks) {
    int64_t params; /* later calls would bring rows up to date that steps leave */
    mbp_net_params(one->net, &params);
    for (int s = 0; s < STEPS; s++) {
        char *sums[3];
        double total = 0;
        for (int k = 0; k < ranks; k++) {
            double part = 0;
            for (int64_t i = starts[k]; i < starts[k + 1]; i++)
                part += array_get(&one->data->weight, i, 0);
            total = k ? total + part : part;
        }
        for (int l = 0; l < 3; l++)
            sums[l] = calloc((size_t)params, sizeof(double));
        for (int k = 0; k < ranks; k++) {
            data of;
            mbp_batch batch;
            data_rows(one->data, one->model, starts[k], starts[k + 1] - starts[k], &of, &batch);
            OK(mbp_trainer_backward(one->trainer, &batch, HOW(.total = total, .first_row = starts[k]), &one->loss,
                                    &error));
            add_part(one, sums, params, k == 0);
        }
        OK(mbp_trainer_backward(one->trainer, &one->batch, HOW(.total = total), &one->loss, &error));
        put_sums(one, sums, params);
        OK(mbp_trainer_apply(one->trainer, &error));
        for (int l = 0; l < 3; l++)
            free(sums[l]);
    }
}

static void test_sums(mbp_dtype dtype) {
    static const char *const optimizers[] = {"sgd(lr=0.1)",
                                             "sgd(lr=0.1,weight_decay=0.01)",
                                             "momentum(lr=0.1,momentum=0.9)",
                                             "rmsprop(lr=0.01)",
                                             "adam(lr=0.01)",
                                             "adamw(lr=0.01,weight_decay=0.1)",
                                             "adagrad(lr=0.1)",
                                             "ftrl(lr=0.1)"};
    data d;
    data_new(&d, &rows_of_all, dtype);
    all.swaps = all.begins = 1;
    for (size_t o = 0; o < sizeof optimizers / sizeof *optimizers; o++)
        for (int i = 1; i < SPLITS; i++) {
            rank one, r[RANKS];
            optimizer = optimizers[o], clip_norm = o % 2 ? 0.05 : INFINITY;
            memset(&one, 0, sizeof one);
            rank_start(&one, &rows_of_all, &d, dtype, 0, ROWS);
            do_oracle(&one, splits[i], split_ranks[i]);
            run_ranks(r, split_ranks[i], splits[i], &rows_of_all, &d, dtype, do_steps);
            check_equal(r, split_ranks[i], optimizer);
            CHECK(same_params(r[0].net, one.net) && same_state(one.net, r[0].trainer, one.trainer),
                  "%s: %d ranks differ from the sum of their gradients", optimizer, split_ranks[i]);
            end_ranks(r, split_ranks[i]), rank_end(&one);
        }
    optimizer = "adam(lr=0.01)", clip_norm = 0.05;
    data_free(&d, &rows_of_all);
}

/* ---- rows that catch up in one process only ---- */

static void predict(const rank *r) {
    const mbp_array out = array_new(r->data->y[0].dtype, r->part.x[0].rows, 2);
    mbp_error error = {0};
    if (mbp_net_predict(r->net, r->part.x, 2, &out, 1, 0, -1, &error) != MBP_OK)
        exit(3);
    array_free(&out);
}

/* Steps with few rows, and between them: predictions of one process, or passes without an update. */
static void uneven_steps(rank *r, int predicts, int passes) {
    for (int i = 0; i < 9; i++) {
        if (predicts && r->number == 0 && i % 3 == 1)
            predict(r);
        data_rows(r->data, r->model, r->first, r->count / 3, &r->part, &r->batch);
        if (passes && i % 3 == 1 && !go_on(r, mbp_trainer_backward(r->trainer, &r->batch, NULL, &r->loss, &r->error)))
            return;
        if (passes && i % 3 == 2 && !go_on(r, mbp_trainer_forward(r->trainer, r->part.x, 2, &r->error)))
            return;
        data_rows(r->data, r->model, r->first + i, r->count / 4, &r->part, &r->batch);
        if (!go_on(r, mbp_trainer_step(r->trainer, &r->batch, &r->loss, &r->error)))
            return;
    }
}

static void do_predictions(rank *r) { uneven_steps(r, 1, 0); }
static void do_passes(rank *r) { uneven_steps(r, 0, 1); }

static void test_uneven(mbp_dtype dtype) {
    static const char *const optimizers[] = {"sgd(lr=0.1,weight_decay=0.01)", "momentum(lr=0.1,momentum=0.9)",
                                             "rmsprop(lr=0.01)"};
    data d;
    data_new(&d, &rows_of_all, dtype);
    for (size_t o = 0; o < 2 * (sizeof optimizers / sizeof *optimizers); o++) {
        rank r[RANKS];
        optimizer = optimizers[o / 2];
        run_ranks(r, 3, (const int64_t[]){0, 20, 40, ROWS}, &rows_of_all, &d, dtype,
                  o % 2 ? do_predictions : do_passes);
        for (int k = 0; k < 3; k++)
            OK(mbp_net_flush(r[k].net, &error));
        check_equal(r, 3, optimizer);
        end_ranks(r, 3);
    }
    optimizer = "adam(lr=0.01)";
    data_free(&d, &rows_of_all);
}

/* ---- dense rows in one process, sparse ones in the others ---- */

static void do_mixed(rank *r) {
    if (r->number == 1)
        r->part.x[0] = r->part.dense;
    do_steps(r);
}

static void test_mixed(mbp_dtype dtype) {
    data d;
    rank alone, r[RANKS];
    data_new(&d, &rows_of_all, dtype);
    run_alone(&alone, &rows_of_all, &d, dtype, do_steps);
    for (int i = 1; i < SPLITS; i++) {
        run_ranks(r, split_ranks[i], splits[i], &rows_of_all, &d, dtype, do_mixed);
        check_equal(r, split_ranks[i], "dense rows in one process");
        check_close(&r[0], &alone, "dense rows in one process");
        end_ranks(r, split_ranks[i]);
    }
    rank_end(&alone);
    data_free(&d, &rows_of_all);
}

int main(void) {
    static const mbp_dtype dtypes[] = {MBP_F32, MBP_F64};
    for (int i = 0; i < 2; i++)
        test_sums(dtypes[i]), test_uneven(dtypes[i]), test_mixed(dtypes[i]);
    return report("joint rows");
}
