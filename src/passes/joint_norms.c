/* batch_norm of a batch whose rows are in several processes. Only trainers with other processes contain this. */
#include <math.h>

#include "passes/plan/pass.h"

#if MICROBP_TRAINING

/* From the counts n, the means and the variances of the rows of each process:
 *
 *     mean = sum of n mean / N,  variance = sum of (n variance + n (mean of the process - mean)^2) / N,  N = sum of n
 *
 * Of a process without rows, nothing is read but its count. */
void mbp_norms_join_statistics(mbp_peers *peers, const mbp_norm *norm) {
    const int64_t n = norm->n;
    double *const mean = norm->mean, *const variance = norm->variance, *const own = norm->inverse;
    const double count = mean[n];
    if (peers->ranks == 1)
        return;
    for (int64_t j = 0; j < n; j++) {
        own[j] = count > 0 ? mean[j] : 0;
        mean[j] = count * own[j];
    }
    peers->sum(peers, mean, n + 1);
    for (int64_t j = 0; j < n; j++) {
        mean[j] /= mean[n];
        const double apart = own[j] - mean[j];
        variance[j] = count > 0 ? count * variance[j] + count * (apart * apart) : 0;
    }
    peers->sum(peers, variance, n);
    for (int64_t j = 0; j < n; j++) {
        variance[j] /= mean[n];
        norm->inverse[j] = 1 / sqrt(variance[j] + norm->eps);
    }
}

void mbp_norms_join_sums(mbp_peers *peers, const mbp_norm *norm) {
    if (peers->ranks > 1)
        peers->sum(peers, norm->sum, 2 * norm->n); /* `product` follows */
}

mbp_status mbp_statistics_check_joint(const mbp_net *net, const mbp_workspace *w, mbp_error *error) {
    mbp_status status = MBP_OK;
    for (int id = 0; id < net->nodes && status == MBP_OK; id++)
        if (mbp_updates_statistics(net, id) && w->statistics[id].mean[net->node[id].width] < 2)
            status = mbp_statistics_fail(net, id, error);
    return status;
}

void mbp_norms_absent(const pass *p) {
    for (int id = 0; id < p->net->nodes && !p->plan; id++)
        if (mbp_updates_statistics(p->net, id))
            mbp_forward_batch_norm(p, id);
    for (int id = p->net->nodes - 1; id >= 0 && p->plan; id--) {
        if (mbp_updates_statistics(p->net, id) && p->plan->wanted[id])
            mbp_backward_batch_norm(p, id);
        if (p->peers->ended)
            p->peers->ended(p->peers, id);
    }
}

#endif
