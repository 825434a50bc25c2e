/* Training on several processes, each with its own rows. All additions are made here, in the order of the processes and
 * in the dtype of the numbers, so that the bits depend on no network. Every process makes the same exchanges in the
 * same order as all others do:
 *
 *     each step     a header: the sum of row weights, the number of rows, whether the process has failed
 *                   the totals of the outputs, if these have weights of their own
 *                   the statistics of each batch_norm, then a header: whether the loss is not finite
 *                   the sums of each batch_norm in the backward pass
 *                   whether the process has failed, its losses, the penalties in them, its number of sparse layers
 *                   the gradients; the rows of sparse layers (join_rows.c)
 *     backward, forward, backward_from, apply
 *                   a header, but in backward_from only with batch_norm; its statistics and sums; apply: the gradients
 *
 * A process whose call is refused or cancelled says so in its next header, and the others leave too. A loss that is not
 * finite makes all processes fail in the same step. */
#include <math.h>

#include "system/sized.h"
#include "system/text.h"
#include "train/steps/means.h"
#include "train/update.h"

/* Bytes that all processes send together. On 2 cores, a gradient of up to the first size is added about as fast if
 * everybody gets all of it, and blocks of the second size took the least time (of 64 KB to 2 MB). */
enum { GATHERED = 256 << 10, BLOCK = 1 << 20 };
enum { LEAST_ROOM = 512 }; /* bytes of each process */

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t lower(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- exchanges ---- */

/* The result of the last call, or of the first one that has failed since the trainer was entered. */
static mbp_status check_call(const mbp_ranks *r, mbp_error *error) {
    if (!r->peers.failed)
        return MBP_OK;
    return mbp_fail(error, MBP_CANCELLED, "how.%s returned %d, but must return 0", r->call, r->peers.failed);
}

typedef int (*exchange)(const void *mine, void *theirs, int64_t bytes, void *user);

/* One of the functions of r->how, unless one has failed. */
static MBP_APART mbp_status call(mbp_ranks *r, const char *name, exchange function, const void *mine, void *theirs,
                                 int64_t bytes, mbp_error *error) {
    if (!r->peers.failed) {
        r->call = name;
        mbp_guest_enter(r->trainer);
        r->peers.failed = function(mine, theirs, bytes, r->how.user);
        mbp_guest_leave(r->trainer);
    }
    return check_call(r, error);
}

static mbp_status gather_from(mbp_ranks *r, const void *mine, void *all, int64_t bytes, mbp_error *error) {
    return call(r, "gather", r->how.gather, mine, all, bytes, error);
}

static mbp_status gather(mbp_trainer *t, const void *mine, void *all, int64_t bytes, mbp_error *error) {
    return gather_from(t->ranks, mine, all, bytes, error);
}

/* ---- sums ---- */

static void add_part(const mbp_net *net, void *to, const void *part, int64_t count, mbp_dtype dtype) {
    if (dtype == net->dtype) {
        net->kernels->map(net->kernels->accumulate, 1, count, (mbp_view){to, count}, (mbp_view){(void *)part, count},
                          NULL);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        ((double *)to)[i] += ((const double *)part)[i];
}

/* to = the sum of the parts of all processes, which are at `theirs`. */
static void add_parts(const mbp_ranks *r, void *to, const char *theirs, int64_t count, mbp_dtype dtype) {
    const size_t bytes = (size_t)count * (dtype == MBP_F64 ? sizeof(double) : sizeof(float));
    memcpy(to, theirs, bytes);
    for (int64_t k = 1; k < r->how.ranks; k++)
        add_part(r->trainer->net, to, theirs + (size_t)k * bytes, count, dtype);
}

/* Everybody gets all numbers and adds them. */
static mbp_status add_gathered(mbp_ranks *r, char *values, int64_t count, mbp_dtype dtype, mbp_error *error) {
    const int64_t item = dtype == MBP_F64 ? sizeof(double) : sizeof(float), most = r->room / r->how.ranks / item;
    mbp_status status = MBP_OK;
    for (int64_t n; count > 0 && status == MBP_OK; count -= n, values += n * item) {
        n = count < most ? count : most;
        status = gather_from(r, values, r->theirs, n * item, error);
        if (status == MBP_OK)
            add_parts(r, values, r->theirs, n, dtype);
    }
    return status;
}

/* Each process adds a piece of its own, and everybody gets the sums. */
static mbp_status add_swapped(mbp_ranks *r, char *values, int64_t count, mbp_error *error) {
    const mbp_net *net = r->trainer->net;
    const int64_t item = (int64_t)net->item, piece = count / r->how.ranks;
    char *mine = values + r->how.rank * piece * item;
    mbp_status status = call(r, "swap", r->how.swap, values, r->theirs, piece * item, error);
    if (status == MBP_OK) {
        add_parts(r, mine, r->theirs, piece, net->dtype);
        status = gather_from(r, mine, values, piece * item, error);
    }
    const int64_t done = piece * r->how.ranks;
    return status == MBP_OK ? add_gathered(r, values + done * item, count - done, net->dtype, error) : status;
}

/* Adds vectors of the net's dtype, in blocks from the end on. */
static mbp_status add_vector(mbp_ranks *r, char *values, int64_t count, mbp_error *error) {
    const mbp_net *net = r->trainer->net;
    const int64_t item = (int64_t)net->item;
    if (!r->how.swap || r->how.ranks * count * item <= GATHERED)
        return add_gathered(r, values, count, net->dtype, error);
    mbp_status status = MBP_OK;
    for (int64_t n; count > 0 && status == MBP_OK; count -= n) {
        n = count < r->block ? count : r->block;
        status = add_swapped(r, values + (count - n) * item, n, error);
    }
    return status;
}

static mbp_status add(mbp_trainer *t, void *values, int64_t count, mbp_error *error) {
    return add_vector(t->ranks, values, count, error);
}

static mbp_status sum(mbp_trainer *t, double *values, int64_t count, mbp_error *error) {
    return add_gathered(t->ranks, (char *)values, count, MBP_F64, error);
}

static void sum_peers(mbp_peers *peers, double *values, int64_t count) {
    (void)add_gathered((mbp_ranks *)peers, (char *)values, count, MBP_F64, NULL);
}

/* ---- headers ---- */

/* Fails with the first process that has failed, if any. numbers: `each` of each process; at `at`, whether it has. */
static mbp_status check_ranks(mbp_trainer *t, const double *numbers, int64_t each, int64_t at, mbp_error *error) {
    for (int64_t k = 0; k < t->ranks->how.ranks; k++)
        if (numbers[k * each + at] != 0) {
            t->ranks->failed_rank = k + 1;
            return mbp_fail(error, MBP_CANCELLED, "process %lld failed or was cancelled", (long long)k);
        }
    return MBP_OK;
}

static mbp_status join(mbp_trainer *t, mbp_status status, double values[2], mbp_error *error) {
    mbp_ranks *r = t->ranks;
    const int is_well = status == MBP_OK;
    const double mine[MBP_HEADER] = {is_well ? values[0] : 0, is_well ? values[1] : 0, !is_well};
    mbp_status joined = gather_from(r, mine, r->header, sizeof mine, is_well ? error : NULL);
    if (joined == MBP_OK)
        joined = check_ranks(t, r->header, MBP_HEADER, 2, is_well ? error : NULL);
    if (!is_well || joined != MBP_OK)
        return is_well ? joined : status;
    for (int i = 0; i < 2; i++) {
        values[i] = r->header[i];
        for (int64_t k = 1; k < r->how.ranks; k++)
            values[i] += r->header[k * MBP_HEADER + i];
    }
    return MBP_OK;
}

/* As join; also the largest second number. */
static mbp_status most(mbp_trainer *t, mbp_status status, int64_t *number, mbp_error *error) {
    const double *header = t->ranks->header;
    status = join(t, status, (double[]){0, (double)*number}, error);
    for (int64_t k = 0; k < t->ranks->how.ranks && status == MBP_OK; k++)
        if (header[k * MBP_HEADER + 1] > (double)*number)
            *number = (int64_t)header[k * MBP_HEADER + 1];
    return status;
}

/* The number of rows in a header is larger by a half if the outputs have weights of their own. *weighted: whether those
 * of any process have. */
static mbp_status join_header(mbp_trainer *t, mbp_status status, int64_t rows, double total, int *weighted,
                              mbp_joint *joint, mbp_error *error) {
    mbp_ranks *r = t->ranks;
    *joint = (mbp_joint){total, rows, 0};
    if (!mbp_is_joined(t))
        return mbp_tell(t, status);
    status = join(t, status, (double[]){total, (double)rows + 0.5 * *weighted}, error);
    *joint = (mbp_joint){0};
    for (int64_t k = 0; k < r->how.ranks && status == MBP_OK; k++) {
        const double *header = r->header + k * MBP_HEADER;
        const int64_t count = (int64_t)header[1];
        joint->total = k ? joint->total + header[0] : header[0];
        joint->rows += count;
        joint->first_row += k < r->how.rank ? count : 0;
        *weighted |= (double)count != header[1];
    }
    if (status == MBP_OK)
        status = mbp_statistics_check(t->net, NULL, joint->rows, error);
    r->peers.rows = joint->rows;
    return status;
}

static mbp_status join_part(mbp_trainer *t, mbp_status status, int64_t rows, double total, mbp_joint *joint,
                            mbp_error *error) {
    int weighted = 0;
    return join_header(t, status, rows, total, &weighted, joint, error);
}

/* The totals of outputs that have weights of their own in some process. */
static mbp_status join_totals(mbp_trainer *t, double total, mbp_error *error) {
    double *totals = t->ranks->numbers;
    if (!mbp_is_weighted(t->workspace))
        mbp_outputs_weigh(t, total);
    for (int i = 0; i < t->net->outputs; i++)
        totals[i] = t->objective[i].joint;
    mbp_status status = sum(t, totals, t->net->outputs, error);
    for (int i = 0; i < t->net->outputs; i++)
        t->objective[i].joint = t->objective[i].divisor = totals[i];
    return status;
}

static mbp_status join_rows(mbp_trainer *t, mbp_status status, const mbp_chosen *chosen, int may_be_none,
                            mbp_joint *joint, mbp_error *error) {
    const int is_read = status == MBP_OK;
    const int64_t rows = is_read ? chosen->rows.count : 0;
    const double total = is_read ? chosen->total : 0;
    int weighted = is_read && mbp_is_weighted(t->workspace);
    status = join_header(t, status, rows, total, &weighted, joint, error);
    if (status == MBP_OK && weighted && mbp_is_joined(t))
        status = join_totals(t, total, error);
    if (status != MBP_OK || (joint->rows == 0 && (may_be_none || !mbp_is_joined(t))))
        return status;
    return mbp_total_check(joint->rows, joint->rows, joint->total, error);
}

static mbp_status join_backward(mbp_trainer *t, mbp_status status, const mbp_chosen *chosen, int is_part,
                                mbp_backward *how, mbp_error *error) {
    mbp_joint joint;
    if (is_part) {
        const int64_t rows = status == MBP_OK ? chosen->rows.count : 0;
        status = join_part(t, status, rows, how->total, &joint, error);
    } else {
        status = join_rows(t, status, chosen, 0, &joint, error);
        how->total = joint.total;
    }
    if (!mbp_is_joined(t) || status != MBP_OK)
        return status;
    const int64_t before = how->accumulate ? t->ranks->part_rows : 0;
    t->ranks->part_rows = before + joint.rows;
    how->first_row = before + joint.first_row;
    return MBP_OK;
}

/* ---- gradients that are sent during the backward pass ----
 *
 * Each node makes the end of the gradient final, up to the first element that a node before it changes. From there on,
 * whole blocks are sent, from the last one to the first, so that all processes begin the same exchanges. */

/* Begins the exchange of all blocks from element `from` on. */
static void begin_from(mbp_ranks *r, int64_t from) {
    const int64_t item = (int64_t)r->trainer->net->item;
    for (; r->unsent - r->block >= from && r->begun; r->unsent -= r->block) {
        const int64_t at = (r->unsent - r->block) * item;
        (void)call(r, "begin", r->how.begin, r->trainer->grads + at, r->begun + at, r->block / r->how.ranks * item,
                   NULL);
    }
}

static void ended(mbp_peers *peers, int id) {
    mbp_ranks *r = (mbp_ranks *)peers;
    begin_from(r, r->final[id]);
}

/* Waits for these exchanges. */
static MBP_APART mbp_status finish(mbp_ranks *r, mbp_error *error) {
    if (r->unsent < r->trainer->net->params && !r->peers.failed) {
        r->call = "finish";
        mbp_guest_enter(r->trainer);
        r->peers.failed = r->how.finish(r->how.user);
        mbp_guest_leave(r->trainer);
    }
    return check_call(r, error);
}

/* Adds the pieces of this process, and gets those of all. */
static mbp_status add_begun(mbp_ranks *r, mbp_error *error) {
    const mbp_net *net = r->trainer->net;
    const int64_t item = (int64_t)net->item, piece = r->block / r->how.ranks;
    mbp_status status = MBP_OK;
    for (int64_t at = net->params - r->block; at >= r->unsent && status == MBP_OK; at -= r->block) {
        char *block = r->trainer->grads + at * item, *mine = block + r->how.rank * piece * item;
        add_parts(r, mine, r->begun + at * item, piece, net->dtype);
        status = gather_from(r, mine, block, piece * item, error);
    }
    return status;
}

static void place_final(const mbp_net *net, int64_t *final) {
    int64_t from = 0;
    for (int id = 0; id < net->nodes; id++) {
        final[id] = from;
        if (net->node[id].layer < 0)
            continue;
        const mbp_layer *layer = &net->layer[net->node[id].layer];
        if (layer->weight >= 0)
            from = larger(from, layer->weight + layer->in * layer->out);
        if (layer->bias >= 0)
            from = larger(from, layer->bias + mbp_bias_width(layer));
    }
}

/* ---- gradients ---- */

static mbp_status add_gradients(mbp_trainer *t, double sparse, mbp_error *error) {
    mbp_ranks *r = t->ranks;
    mbp_status status = add_begun(r, error);
    if (status == MBP_OK)
        status = add_vector(r, t->grads, r->unsent, error);
    return MICROBP_SPARSE && status == MBP_OK && sparse > 0 ? mbp_join_rows(t, error) : status;
}

enum { HAS_FAILED, LOSS, SPARSE, LOSSES }; /* places in mbp_ranks.numbers */

/* Adds the losses. A process that has failed takes part. */
static mbp_status join_losses(mbp_trainer *t, mbp_status status, double *loss, mbp_error *error) {
    mbp_ranks *r = t->ranks;
    const int64_t count = t->net->outputs + 1, all = LOSSES + count;
    double *numbers = r->numbers;
    numbers[HAS_FAILED] = status != MBP_OK && status != MBP_NONFINITE;
    numbers[LOSS] = *loss;
    numbers[SPARSE] = mbp_sparse_layers(t);
    memcpy(numbers + LOSSES, t->now, (size_t)count * sizeof *numbers);
    mbp_status joined = sum(t, numbers, all, error);
    if (joined == MBP_OK && numbers[HAS_FAILED] != 0)
        joined = check_ranks(t, (const double *)(const void *)r->theirs, all, HAS_FAILED, error);
    if (joined != MBP_OK)
        return joined;
    for (int64_t k = 0; k < r->how.ranks; k++)
        if (!isfinite(((const double *)(const void *)r->theirs)[k * all + LOSS]))
            return mbp_fail(error, MBP_NONFINITE, "the loss of process %lld is not finite", (long long)k);
    if (!isfinite(numbers[LOSS]))
        return mbp_fail(error, MBP_NONFINITE, "the sum of the losses of all processes is not finite");
    *loss = numbers[LOSS];
    memcpy(t->now, numbers + LOSSES, (size_t)count * sizeof *numbers);
    return MBP_OK;
}

static mbp_status join_all(mbp_trainer *t, mbp_status status, double *loss, mbp_error *error) {
    begin_from(t->ranks, 0); /* those that this process has not begun */
    mbp_status joined = join_losses(t, status, loss, status == MBP_OK ? error : NULL);
    const mbp_status finished = finish(t->ranks, joined == MBP_OK && status == MBP_OK ? error : NULL);
    if (status != MBP_OK)
        return status;
    if (joined == MBP_OK)
        joined = finished;
    if (joined == MBP_OK)
        joined = add_gradients(t, t->ranks->numbers[SPARSE], error);
    if (joined != MBP_OK)
        return joined;
    mbp_put_number(&t->running.loss, *loss);
    return mbp_gradients_check(t, error);
}

static mbp_status join_gradients(mbp_trainer *t, mbp_status status, double *loss, mbp_error *error) {
    status = join_all(t, status, loss, error);
    t->ranks->unsent = t->net->params;
    return status;
}

/* ---- batch_norm ---- */

/* Of a process without rows. plan NULL: in the forward pass. */
static void pass_absent(mbp_trainer *t, const mbp_plan *plan, int accumulate) {
    mbp_norms_absent(&(pass){.net = t->net,
                             .w = t->workspace,
                             .chance = &t->chance,
                             .peers = &t->ranks->peers,
                             .plan = plan,
                             .grads = t->grads,
                             .accumulate = accumulate,
                             .nonfinite = &t->nonfinite});
}

static void absent_backward(mbp_trainer *t, int accumulate) { pass_absent(t, &t->plan, accumulate); }

static mbp_status join_loss(mbp_trainer *t, int64_t rows, mbp_status status, mbp_error *error) {
    double nonfinite[2] = {status != MBP_OK, 0};
    if (rows == 0)
        pass_absent(t, NULL, 0);
    const mbp_status joined = join(t, MBP_OK, nonfinite, status == MBP_OK ? error : NULL);
    const mbp_status enough = joined == MBP_OK ? mbp_statistics_check_joint(t->net, t->workspace, error) : joined;
    if (enough != MBP_OK || status != MBP_OK)
        return enough == MBP_OK ? status : enough;
    if (nonfinite[0] == 0)
        return MBP_OK;
    return mbp_fail(error, MBP_NONFINITE, "the sum of the losses of all processes is not finite");
}

static mbp_status check_pass(mbp_trainer *t, mbp_error *error) { return check_call(t->ranks, error); }

/* ---- the public functions ---- */

static const mbp_together together = {.join = join,
                                      .ended = ended,
                                      .join_rows = join_rows,
                                      .join_part = join_part,
                                      .join_backward = join_backward,
                                      .join_gradients = join_gradients,
                                      .add_gradients = add_gradients,
                                      .count_step = mbp_means_count,
                                      .end_step = mbp_means_step,
                                      .end_epoch = mbp_means_epoch,
                                      .most = most,
                                      .join_loss = join_loss,
                                      .absent_backward = absent_backward,
                                      .check = check_pass,
                                      .gather = gather,
                                      .add = add,
                                      .sum = sum};

static mbp_status check(const mbp_reduce *how, mbp_error *error) {
    if (!how->gather)
        return mbp_fail(error, MBP_INVALID, "how.gather is NULL, but must be a function");
    if (how->ranks < 1)
        return mbp_fail(error, MBP_INVALID, "how.ranks is %lld, but must be at least 1", (long long)how->ranks);
    if (how->rank < 0 || how->rank >= how->ranks)
        return mbp_fail(error, MBP_INVALID, "how.rank is %lld, but must be at least 0 and below how.ranks, %lld",
                        (long long)how->rank, (long long)how->ranks);
    if (how->every < 0)
        return mbp_fail(error, MBP_INVALID, "how.every is %lld, but must be at least 0", (long long)how->every);
    if (!how->begin != !how->finish)
        return mbp_fail(error, MBP_INVALID, "how.%s is NULL, but how.%s is not: set both or none",
                        how->begin ? "finish" : "begin", how->begin ? "begin" : "finish");
    return MBP_OK;
}

/* Returns the place of the next part of a block (NULL: not taken yet), and counts its bytes. */
static void *part_of(char *block, size_t *used, int64_t bytes) {
    void *place = block ? block + *used : NULL;
    *used += mbp_aligned((size_t)bytes + MBP_READABLE);
    return place;
}

/* Chooses the sizes, and places the arrays after *r, in a block at `block`. Returns its bytes. */
static size_t lay_out(const mbp_net *net, mbp_ranks *r, char *block) {
    const int64_t ranks = r->how.ranks, item = (int64_t)net->item, bytes = net->params * item;
    const int64_t numbers = (4 + 2 * (int64_t)net->outputs) * (int64_t)sizeof(double), piece = MBP_ALIGNMENT / item;
    size_t used = 0;
    r->block = larger(BLOCK / (item * piece * ranks), 1) * piece * ranks;
    r->room = larger(lower(ranks * bytes, GATHERED), lower(bytes, r->block * item));
    r->room = larger(r->room, ranks * larger(larger(LEAST_ROOM, numbers), net->layers * MBP_JOINT_BYTES));
    const int begins = r->how.begin && ranks * bytes > GATHERED, is_apart = r->how.every > 1;
    part_of(block, &used, sizeof *r);
    r->header = part_of(block, &used, ranks * MBP_HEADER * (int64_t)sizeof(double));
    r->numbers = part_of(block, &used, numbers);
    r->final = part_of(block, &used, net->nodes * (int64_t)sizeof *r->final);
    r->theirs = part_of(block, &used, r->room);
    r->begun = part_of(begins ? block : NULL, &used, begins ? bytes : 0);
    r->copy = part_of(block, &used, is_apart ? bytes + net->buffers * item : 0);
    r->unsent = net->params;
    return used;
}

static mbp_status set_reduce(mbp_trainer *t, const mbp_reduce *given, mbp_error *error) {
    mbp_ranks made = {.trainer = t}, *block = NULL;
    size_t bytes = 0;
    mbp_status status = given ? mbp_solver_refuse(t, "training on several processes", error) : MBP_OK;
    if (status == MBP_OK && given)
        status = mbp_sized_read(&made.how, sizeof made.how, given, "mbp_reduce", error);
    if (status == MBP_OK && given)
        status = check(&made.how, error);
    if (status != MBP_OK)
        return status;
    if (given) {
        bytes = lay_out(t->net, &made, NULL);
        block = mbp_memory_take(&t->memory, bytes);
        if (!block)
            return mbp_fail(error, MBP_NO_MEMORY, "no memory for the exchanges of %lld processes",
                            (long long)made.how.ranks);
        lay_out(t->net, &made, (char *)block);
        place_final(t->net, made.final);
        made.peers = (mbp_peers){.rank = made.how.rank, .ranks = made.how.ranks, .sum = sum_peers};
        made.peers.join_statistics = mbp_norms_join_statistics;
        made.peers.join_sums = mbp_norms_join_sums;
        *block = made;
    }
    mbp_memory_give(&t->memory, t->ranks, t->ranks_bytes);
    t->together = &together;
    t->ranks = block;
    t->ranks_bytes = bytes;
    t->more_seed = block && !mbp_is_joined(t) ? (uint64_t)made.how.rank : 0;
    return MBP_OK;
}

mbp_status mbp_trainer_set_reduce(mbp_trainer *trainer, const mbp_reduce *how, mbp_error *error) {
    mbp_status status = mbp_trainer_enter_training(trainer, error);
    return status == MBP_OK ? mbp_trainer_leave(trainer, set_reduce(trainer, how, error)) : status;
}

int64_t mbp_trainer_failed_rank(const mbp_trainer *trainer) {
    return trainer && trainer->ranks ? trainer->ranks->failed_rank - 1 : -1;
}
