/* Nets of another length: the same nodes and parameters for sequences of another number of positions. */
#include <string.h>

#include "net/graph.h"
#include "net/states/states.h"
#include "net/statements.h"
#include "system/text.h"

#if MICROBP_POSITIONS

/* What a node's value has to do with the length. */
typedef enum role {
    FIXED,     /* nothing */
    COLUMNS,   /* a row has the columns of all positions: an input, ids, or an embedding of ids, before its grid */
    POSITIONS, /* it has a value at each position, which no later position changes */
    ENDED      /* it depends on the last position, but has none */
} role;

typedef struct stretch {
    const mbp_net *net;
    char *role; /* per node */
    int length; /* of the net; 0: it has no sequences */
    mbp_error *error;
} stretch;

static int operand_of(const stretch *s, int id, int i) { return s->net->operands[s->net->node[id].first_operand + i]; }

static mbp_status refuse(const stretch *s, int id, const char *why) {
    return mbp_fail(s->error, MBP_UNSUPPORTED,
                    "node %d (%s) %s, so the net cannot run on some positions at a time: predict whole sequences", id,
                    mbp_statement_word(s->net->node[id].kind), why);
}

/* ---- the sequences ---- */

static int is_sequence(const mbp_node *grid) { return grid->kind == MBP_NODE_GRID && grid->height == 1; }

/* The input whose columns a grid makes positions of, and the embedding between them (-1: none). -1: there is none. */
static int source_of(const stretch *s, int id, int *embedding) {
    const mbp_node *node = s->net->node;
    int from = operand_of(s, id, 0);
    *embedding = -1;
    if (mbp_is_embedding(node[from].kind) && mbp_is_ids(&node[operand_of(s, from, 0)]) &&
        !s->net->layer[node[from].layer].sums) {
        *embedding = from;
        from = operand_of(s, from, 0);
    }
    return node[from].input >= 0 ? from : -1;
}

/* Finds the sequences, which must have the same length. */
static mbp_status find_sequences(stretch *s) {
    int first = -1, embedding;
    for (int id = 0; id < s->net->nodes; id++) {
        const mbp_node *node = &s->net->node[id];
        const int source = is_sequence(node) ? source_of(s, id, &embedding) : -1;
        if (source < 0)
            continue;
        if (first >= 0 && node->positions != s->length)
            return mbp_fail(
                s->error, MBP_UNSUPPORTED,
                "node %d has %d positions, but node %d has %d: only sequences of the same length can run on "
                "some positions at a time",
                first, s->length, id, node->positions);
        if (s->net->node[source].width % node->positions)
            return refuse(s, id, "does not have whole columns of ids at each position");
        first = first < 0 ? id : first;
        s->length = node->positions;
        s->role[source] = COLUMNS;
        if (embedding >= 0)
            s->role[embedding] = COLUMNS;
    }
    return s->length ? MBP_OK
                     : mbp_fail(s->error, MBP_INVALID,
                                "the net has no sequence (a grid of height 1 of an input), so it has no length");
}

/* ---- the roles of the other nodes ---- */

static mbp_status read_recurrent(const stretch *s, int id) {
    if (mbp_is_reverse(&s->net->node[id]))
        return refuse(s, id, "runs in reverse, from the last position");
    return s->net->node[id].operands > 1 ? refuse(s, id, "starts from the state of another node in each call") : MBP_OK;
}

/* A node with an operand that has positions, or columns of them. */
static mbp_status read_moving(const stretch *s, int id) {
    const mbp_node *node = &s->net->node[id];
    const int from = s->role[operand_of(s, id, 0)];
    if (node->kind == MBP_NODE_GRID)
        return from == COLUMNS && node->height == 1 ? MBP_OK : refuse(s, id, "sees all positions at once");
    if (node->kind == MBP_NODE_WINDOW || node->kind == MBP_NODE_POOL)
        return refuse(s, id, "sees several positions at once");
    if (mbp_is_recurrent(node->kind))
        return read_recurrent(s, id);
    for (int i = 0; i < node->operands; i++)
        if (s->role[operand_of(s, id, i)] != POSITIONS && node->kind != MBP_NODE_LAST)
            return refuse(s, id,
                          s->role[operand_of(s, id, i)] == COLUMNS ? "sees all positions at once"
                                                                   : "needs the net's own number of positions");
    return MBP_OK;
}

static mbp_status read_role(const stretch *s, int id) {
    const mbp_node *node = &s->net->node[id];
    int most = FIXED, moves = 0;
    for (int i = 0; i < node->operands; i++) {
        const int below = s->role[operand_of(s, id, i)];
        most = below > most ? below : most;
        moves |= below == COLUMNS || below == POSITIONS;
    }
    if (s->role[id] == COLUMNS) /* an input, or the embedding of one */
        return MBP_OK;
    if (moves) {
        s->role[id] = node->kind == MBP_NODE_LAST ? ENDED : POSITIONS;
        return read_moving(s, id);
    }
    s->role[id] = (char)most;
    if (node->kind == MBP_NODE_REPEAT && most == FIXED && node->positions == s->length)
        s->role[id] = POSITIONS;
    return MBP_OK;
}

static mbp_status read_roles(stretch *s) {
    memset(s->role, FIXED, (size_t)s->net->nodes);
    mbp_status status = find_sequences(s);
    for (int id = 0; id < s->net->nodes && status == MBP_OK; id++)
        status = read_role(s, id);
    return status;
}

/* ---- the text ---- */

/* The same node for `positions` positions. */
static mbp_node stretched(const stretch *s, int id, int64_t positions) {
    mbp_node node = s->net->node[id];
    if (s->role[id] == COLUMNS)
        node.width = node.width / s->length * positions;
    if (s->role[id] == POSITIONS && node.kind == MBP_NODE_GRID)
        node.activation.parameters[1] = (double)positions;
    if (s->role[id] == POSITIONS && node.kind == MBP_NODE_REPEAT)
        node.activation.parameters[0] = (double)positions;
    return node;
}

static size_t write_text(const stretch *s, int64_t positions, char *text, size_t size) {
    mbp_writer w = {text, text ? size : 0, 0};
    int layers = 0;
    for (int id = 0; id < s->net->nodes; id++) {
        const mbp_node node = stretched(s, id, positions);
        const int new_layer = node.layer == layers;
        layers += new_layer;
        mbp_statement_write(&w, s->net, &node, new_layer, NULL);
    }
    for (int i = 0; i < s->net->outputs; i++)
        mbp_statement_write_output(&w, s->net, i, s->net->output[i].node, NULL);
    return w.length + 1;
}

static mbp_status make(mbp_net **other, stretch *s, int64_t positions) {
    mbp_status status = read_roles(s);
    if (status != MBP_OK)
        return status;
    const mbp_allocator *allocator = mbp_net_allocator(s->net);
    const size_t size = write_text(s, positions, NULL, 0);
    char *text = mbp_allocate(allocator, size);
    if (!text)
        return mbp_fail(s->error, MBP_NO_MEMORY, "no memory for the graph text of the net");
    write_text(s, positions, text, size);
    status = mbp_net_sharing(other, s->net, text, s->error);
    mbp_release(allocator, text, size);
    return status;
}

mbp_status mbp_net_with_length(mbp_net **other, mbp_net *net, int64_t positions, mbp_error *error) {
    if (!other || !net)
        return mbp_fail_null(error, other ? "net" : "other", other ? MBP_A_NET : MBP_GETS_NET);
    if (positions < 1 || positions > INT32_MAX)
        return mbp_fail(error, MBP_INVALID, "positions is %lld, but must be from 1 to %d", (long long)positions,
                        (int)INT32_MAX);
    stretch s = {.net = net, .error = error, .role = mbp_allocate(mbp_net_allocator(net), (size_t)net->nodes)};
    if (!s.role)
        return mbp_fail(error, MBP_NO_MEMORY, "no memory for the nodes of the net");
    mbp_net_enter(net);
    const mbp_status status = make(other, &s, positions);
    mbp_net_leave(net);
    mbp_release(mbp_net_allocator(net), s.role, (size_t)net->nodes);
    return status;
}

#else

mbp_status mbp_net_with_length(mbp_net **other, mbp_net *net, int64_t positions, mbp_error *error) {
    (void)other, (void)net, (void)positions;
    return mbp_fail_extra(error, "another length", "positions");
}

#endif
