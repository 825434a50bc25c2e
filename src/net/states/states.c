#include "net/states/states.h"

#include <string.h>

#include "system/text.h"

#if MICROBP_POSITIONS

/* before: the states that the next call goes on from; after: those that it makes. */
enum { BEFORE, AFTER, BUFFERS };

typedef struct part {
    int64_t columns;
    int64_t offset; /* of its matrix in a buffer, in elements */
} part;

struct mbp_state {
    mbp_allocator own_allocator;
    const mbp_allocator *allocator; /* NULL: malloc */
    size_t bytes, item;
    int64_t rows, numbers; /* numbers: elements of a buffer */
    mbp_dtype dtype;
    int parts;
    part *part;
    char *buffer[BUFFERS];
};

/* The columns of a node's state, if it goes on from call to call; else 0. */
static int64_t carried(const mbp_net *net, int id) {
    const mbp_node *node = &net->node[id];
    const int goes_on = node->uses && mbp_is_recurrent(node->kind) && node->operands == 1;
    return goes_on ? mbp_state_width(&net->layer[node->layer]) : 0;
}

/* ---- create and free ---- */

static mbp_status check_net(const mbp_net *net, mbp_error *error) {
    int parts = 0;
    for (int id = 0; id < net->nodes; id++) {
        if (carried(net, id) && mbp_is_reverse(&net->node[id]))
            return mbp_fail(error, MBP_UNSUPPORTED,
                            "node %d runs in reverse, from the last position to the first, so it cannot go on where an "
                            "earlier call ended",
                            id);
        parts += carried(net, id) > 0;
    }
    if (parts > 0)
        return MBP_OK;
    return mbp_fail(error, MBP_INVALID,
                    "the net has no recurrent node that starts from zeros, so there is no state to go on from");
}

/* The state has its parts' number and rows. base NULL: returns only the size. */
static size_t lay(mbp_state *state, char *base) {
    const size_t head = mbp_aligned(sizeof *state), list = mbp_aligned((size_t)state->parts * sizeof *state->part);
    const size_t buffer = mbp_aligned((size_t)state->numbers * state->item + MBP_READABLE);
    if (base) {
        state->part = (part *)(base + head);
        for (int k = 0; k < BUFFERS; k++)
            state->buffer[k] = base + head + list + (size_t)k * buffer;
    }
    return head + list + BUFFERS * buffer;
}

/* The columns of the i-th part: columns[i], or of the net. */
static int64_t columns_of(const mbp_net *net, const int64_t *columns, int i, int *id) {
    if (!net)
        return columns[i];
    while (!carried(net, *id))
        ++*id;
    return carried(net, (*id)++);
}

static mbp_status make(mbp_state **state, mbp_state *laid, const mbp_net *net, const int64_t *columns,
                       const mbp_allocator *allocator, mbp_error *error) {
    const int64_t rows = laid->rows;
    char *base = NULL;
    int id = 0;
    for (int i = 0; i < laid->parts; i++)
        laid->numbers += columns_of(net, columns, i, &id);
    if (rows <= INT64_MAX / 256 / laid->numbers) {
        laid->numbers *= rows;
        laid->bytes = lay(laid, NULL);
        base = mbp_allocate(allocator, laid->bytes);
    }
    if (!base)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for the states of %lld row%s", (long long)rows,
                        mbp_plural(rows));
    memset(base, 0, laid->bytes);
    lay(laid, base);
    id = 0;
    for (int64_t i = 0, offset = 0; i < laid->parts; offset += rows * laid->part[i++].columns)
        laid->part[i] = (part){columns_of(net, columns, (int)i, &id), offset};
    *state = (mbp_state *)base;
    **state = *laid;
    if (allocator) {
        (*state)->own_allocator = *allocator;
        (*state)->allocator = &(*state)->own_allocator;
    }
    return MBP_OK;
}

static mbp_status check_rows(int64_t rows, mbp_error *error) {
    return rows > 0 ? MBP_OK : mbp_fail(error, MBP_INVALID, "rows is %lld, but must be at least 1", (long long)rows);
}

mbp_status mbp_state_create(mbp_state **state, const mbp_net *net, int64_t rows, mbp_error *error) {
    if (!state || !net)
        return mbp_fail_null(error, state ? "net" : "state",
                             state ? MBP_A_NET : "an mbp_state *, where the state is stored");
    mbp_status status = check_rows(rows, error);
    if (status == MBP_OK)
        status = check_net(net, error);
    if (status != MBP_OK)
        return status;
    mbp_state laid = {.item = net->item, .rows = rows, .dtype = net->dtype};
    for (int id = 0; id < net->nodes; id++)
        laid.parts += carried(net, id) > 0;
    return make(state, &laid, net, NULL, mbp_net_allocator(net), error);
}

mbp_status mbp_state_create_for(mbp_state **state, mbp_dtype dtype, int64_t rows, const int64_t *columns, int n,
                                mbp_error *error) {
    if (!state || !columns)
        return mbp_fail_null(error, state ? "columns" : "state",
                             state ? "the columns of each node" : "an mbp_state *, where the state is stored");
    if (dtype != MBP_F32 && dtype != MBP_F64)
        return mbp_fail(error, MBP_INVALID, "dtype is %d, but must be MBP_F32 or MBP_F64", (int)dtype);
    if (n < 1 || n > MBP_NODES_MAX)
        return mbp_fail(error, MBP_INVALID, "n is %d, but must be from 1 to %d", n, (int)MBP_NODES_MAX);
    for (int i = 0; i < n; i++)
        if (columns[i] < 1 || columns[i] > INT32_MAX)
            return mbp_fail(error, MBP_INVALID, "columns[%d] is %lld, but must be from 1 to %d", i,
                            (long long)columns[i], (int)INT32_MAX);
    const mbp_status status = check_rows(rows, error);
    mbp_state laid = {.item = dtype == MBP_F64 ? 8 : 4, .rows = rows, .dtype = dtype, .parts = n};
    return status == MBP_OK ? make(state, &laid, NULL, columns, NULL, error) : status;
}

void mbp_state_free(mbp_state *state) {
    if (!state)
        return;
    const mbp_allocator allocator = state->own_allocator;
    mbp_release(state->allocator ? &allocator : NULL, state, state->bytes);
}

/* ---- reading and changing ---- */

static char *matrix(const mbp_state *state, int buffer, int i) {
    return state->buffer[buffer] + (size_t)state->part[i].offset * state->item;
}
static size_t row_bytes(const mbp_state *state, int i) { return (size_t)state->part[i].columns * state->item; }

int64_t mbp_state_rows(const mbp_state *state) { return state ? state->rows : 0; }

void *mbp_state_values(mbp_state *state, int i, int64_t *columns) {
    if (!state || i < 0 || i >= state->parts)
        return NULL;
    if (columns)
        *columns = state->part[i].columns;
    return matrix(state, BEFORE, i);
}

mbp_status mbp_state_reset(mbp_state *state, const int64_t *rows, int64_t n, mbp_error *error) {
    if (!state)
        return mbp_fail_null(error, "state", "a state from mbp_state_create");
    for (int64_t k = 0; rows && k < n; k++)
        if (rows[k] < 0 || rows[k] >= state->rows)
            return mbp_fail(error, MBP_INVALID, "rows[%lld] is %lld, but must be a row number from 0 to %lld",
                            (long long)k, (long long)rows[k], (long long)state->rows - 1);
    if (!rows)
        memset(state->buffer[BEFORE], 0, (size_t)state->numbers * state->item);
    for (int64_t k = 0; rows && k < n; k++)
        for (int i = 0; i < state->parts; i++)
            memset(matrix(state, BEFORE, i) + (size_t)rows[k] * row_bytes(state, i), 0, row_bytes(state, i));
    return MBP_OK;
}

/* ---- calls ---- */

mbp_status mbp_state_check(const mbp_state *state, const mbp_net *net, int64_t rows, mbp_error *error) {
    int i = 0;
    if (state->dtype != net->dtype)
        return mbp_fail(error, MBP_INVALID, "state is of float%d, but the net is of float%d: make a state of this net",
                        (int)state->item * 8, (int)net->item * 8);
    for (int id = 0; id < net->nodes; id++)
        if (carried(net, id)) {
            const int64_t given = i < state->parts ? state->part[i].columns : 0;
            if (given != carried(net, id))
                return mbp_fail(error, MBP_INVALID,
                                "state has %lld number%s for node %d, but the node has %lld: make a state of this net",
                                (long long)given, mbp_plural(given), id, (long long)carried(net, id));
            i++;
        }
    if (i < state->parts)
        return mbp_fail(error, MBP_INVALID,
                        "state is of a net with %d recurrent nodes, but this net has %d: make a state of this net",
                        state->parts, i);
    if (rows > state->rows)
        return mbp_fail(error, MBP_INVALID, "state has %lld row%s, but the call has %lld", (long long)state->rows,
                        mbp_plural(state->rows), (long long)rows);
    return MBP_OK;
}

void mbp_state_begin(mbp_state *state) {
    memcpy(state->buffer[AFTER], state->buffer[BEFORE], (size_t)state->numbers * state->item);
}

void mbp_state_keep(mbp_state *state) {
    memcpy(state->buffer[BEFORE], state->buffer[AFTER], (size_t)state->numbers * state->item);
}

void mbp_state_load(mbp_state *state, const mbp_net *net, mbp_workspace *w, int64_t first) {
    int i = 0;
    w->carry = w->carry_home;
    for (int id = 0; id < net->nodes; id++) {
        w->carry[id] = (mbp_carry){{0}, {0}};
        if (!carried(net, id))
            continue;
        const size_t place = (size_t)first * row_bytes(state, i);
        w->carry[id].in = (mbp_view){matrix(state, BEFORE, i) + place, state->part[i].columns};
        w->carry[id].out = (mbp_view){matrix(state, AFTER, i) + place, state->part[i].columns};
        i++;
    }
}

#else

static mbp_status left_out(mbp_error *error) { return mbp_fail_extra(error, "states", "positions"); }

mbp_status mbp_state_create(mbp_state **state, const mbp_net *net, int64_t rows, mbp_error *error) {
    (void)state, (void)net, (void)rows;
    return left_out(error);
}
mbp_status mbp_state_create_for(mbp_state **state, mbp_dtype dtype, int64_t rows, const int64_t *columns, int n,
                                mbp_error *error) {
    (void)state, (void)dtype, (void)rows, (void)columns, (void)n;
    return left_out(error);
}
void mbp_state_free(mbp_state *state) { (void)state; }
int64_t mbp_state_rows(const mbp_state *state) { return state ? 0 : 0; }
void *mbp_state_values(mbp_state *state, int i, int64_t *columns) {
    (void)state, (void)i, (void)columns;
    return NULL;
}
mbp_status mbp_state_reset(mbp_state *state, const int64_t *rows, int64_t n, mbp_error *error) {
    (void)state, (void)rows, (void)n;
    return left_out(error);
}
mbp_status mbp_state_check(const mbp_state *state, const mbp_net *net, int64_t rows, mbp_error *error) {
    (void)state, (void)net, (void)rows;
    return left_out(error);
}

#endif
