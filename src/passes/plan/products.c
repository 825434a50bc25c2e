/* Matrix products that threads share, in pieces with disjoint results: see passes.c. */
#include "passes/plan/pass.h"

typedef struct product_job {
    const pass *pass;
    const mbp_product *product;
} product_job;

static void run_pieces(void *context, int64_t first, int64_t last, int thread) {
    const product_job *job = context;
    const mbp_workspace *w = job->pass->w;
    job->pass->net->kernels->product_run(job->product, first, last, w->scratch + (size_t)thread * w->scratch_bytes);
}

/* Sets the number of threads before it counts the pieces, which depend on that number. */
void mbp_run_product(const pass *p, mbp_product *product) {
    const double work = 2.0 * (double)product->m * (double)product->n * (double)product->k;
    const mbp_kernels *kernels = p->net->kernels;
    product->threads = take_threads(p, work);
    if (product->threads == 1)
        kernels->product_run(product, 0, INT64_MAX, p->w->scratch);
    else
        mbp_pool_run(p->net->pool, product->threads, kernels->product_pieces(product), 1, run_pieces,
                     &(product_job){p, product});
}
