/* J^T J of a batch is a product of all rows of J, to the bit: blocks of rows, panels and threads change nothing. */
#include "api.h"
#include "train/steps/least_squares.h"
#include "train/steps/step.h"

#if MICROBP_SOLVERS && MICROBP_JACOBIAN && MICROBP_F64
enum { ROWS = 700 }; /* several blocks */

static int64_t room(const mbp_solver *s, int64_t residuals) { return (s->n + residuals) * s->n + MBP_READABLE; }

/* The matrices of the first ROWS - `less` rows of data. */
static void check_square(mbp_dtype dtype, const char *loss, int threads, int64_t less) {
    mbp_pool *pool = NULL;
    OK(mbp_pool_create(&pool, threads, NULL, &error));
    mbp_net *net = net_new("input 2\ndense 0 units=31 activation=tanh\ndense 1 units=2\noutput 2\n",
                           OPTIONS(.dtype = dtype, .seed = 3, .pool = pool));
    mbp_trainer *t;
    OK(mbp_trainer_create(&t, net, (const char *[]){loss}, NULL, 1, "lbfgs", &error));
    mbp_solver_row row = *t->solver->row;
    row.scratch = room;
    t->solver->row = &row;
    double numbers[ROWS * 2];
    for (int i = 0; i < ROWS * 2; i++)
        numbers[i] = random_unit();
    const int64_t rows = ROWS - less, n = net->params, m = 2 * rows;
    const mbp_array x = mbp_f64(numbers, rows, 2);
    const mbp_batch given = mbp_batch_of(&x, &x);
    mbp_batch batch;
    mbp_chosen chosen;
    int64_t all;
    double value, again;
    OK(mbp_trainer_enter_training(t, &error));
    OK(mbp_batch_check(t, &given, &batch, &all, &error));
    OK(mbp_trainer_make_room(t, rows, MBP_TARGETS | MBP_DELTAS, batch.x, &error));
    OK(mbp_step_load(t, &batch, &(mbp_batch_cursor){NULL, 0, rows}, rows, 0, &chosen, &error));
    const mbp_batch_loss o = {.trainer = t, .batch = &batch, .chosen = &chosen, .total = chosen.total, .share = 1};
    OK(mbp_squares_open(t, rows, &error));
    CHECK(mbp_squares_residuals(t, rows) == m && mbp_squares_targets(&o) == m, "not %d residuals", (int)m);
    double *const square = t->solver->scratch, *const jacobian = square + n * n;
    double *const expected = malloc((size_t)(n * n) * sizeof *expected);
    OK(mbp_gradients(t, &batch, &chosen, &(mbp_backward){.total = o.total}, &value, &error));
    mbp_squares_matrix(&o, 0, square);
    OK(mbp_squares_value(&o, &again, &error));
    CHECK(value == again, "the loss is %g, and alone %g", value, again);
    OK(mbp_gradients(t, &batch, &chosen, &(mbp_backward){.total = o.total}, &value, &error));
    mbp_squares_matrix(&o, 1, jacobian);
    const mbp_kernels *kernels = mbp_squares_kernels(net);
    const mbp_product product = {.pattern = MBP_TN,
                                 .m = n,
                                 .n = n,
                                 .k = m,
                                 .a = {jacobian, n},
                                 .b = {jacobian, n},
                                 .c = {expected, n},
                                 .threads = 1};
    void *scratch = aligned_alloc(64, (kernels->product_scratch(&product) + 63) / 64 * 64);
    kernels->product_run(&product, 0, INT64_MAX, scratch);
    for (int64_t i = 0; i < n; i++)
        CHECK(memcmp(square + i * n, expected + i * n, (size_t)(i + 1) * sizeof *square) == 0,
              "%s, %d threads, %d rows: row %d of J^T J differs", loss, threads, (int)rows, (int)i);
    CHECK(mbp_trainer_leave(t, MBP_OK) == MBP_OK, "leave failed");
    free(expected), free(scratch);
    mbp_trainer_free(t), mbp_net_free(net), mbp_pool_free(pool);
}

int main(void) {
    const char *losses[] = {"mse", "half_sse", "bce", "cross_entropy"};
    for (int dtype = 0; dtype < 2; dtype++)
        for (int loss = 0; loss < 4; loss++)
            for (int threads = 1; threads <= 3; threads++)
                for (int less = 0; less < ROWS; less += 173)
                    check_square(dtype ? MBP_F64 : MBP_F32, losses[loss], threads, less);
    return report("test_blocks");
}
#else
int main(void) { return report("test_blocks"); }
#endif
