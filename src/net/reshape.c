/* The statements that choose columns or change the positions of rows: slice, grid, window, pool, repeat, last,
 * recurrent. */
#include <string.h>

#include "net/statements.h"

static int operand_of(const mbp_cursor *c, const mbp_node *node) { return c->net->operands[node->first_operand]; }

/* Reads the operand, and the settings that have numbers or texts. */
static mbp_status read_with(mbp_cursor *c, mbp_node *node, const char *texts, const char *numbers,
                            mbp_settings *found) {
    const mbp_status status = mbp_read_operand(c, node);
    return status == MBP_OK ? mbp_read_settings(c, texts, numbers, found) : status;
}

mbp_status mbp_read_slice(mbp_cursor *c, mbp_node *node) {
    mbp_settings found;
    char from[MBP_NUMBER_SIZE], to[MBP_NUMBER_SIZE];
    const double *ends = found.number;
    mbp_status status = read_with(c, node, "", MBP_SLICE_NUMBERS, &found);
    if (status != MBP_OK)
        return status;
    if (found.given != (1 << MBP_COLUMN_FROM | 1 << MBP_COLUMN_TO))
        return mbp_fail_in_line(c, "slice needs from=F and to=T, for the columns F to T - 1");
    if (!(ends[0] < ends[1]) || ends[1] > (double)node->width || ends[0] != (double)(int64_t)ends[0] ||
        ends[1] != (double)(int64_t)ends[1]) {
        from[mbp_print_number(from, ends[0])] = to[mbp_print_number(to, ends[1])] = 0;
        return mbp_fail_in_line(c,
                                "from=%s to=%s is not a range of columns of node %d: they must be whole numbers with "
                                "0 <= from < to <= %lld",
                                from, to, operand_of(c, node), (long long)node->width);
    }
    memcpy(node->activation.parameters, ends, sizeof found.number);
    node->width = mbp_column(node, MBP_COLUMN_TO) - mbp_column(node, MBP_COLUMN_FROM);
    return MBP_OK;
}

#if MICROBP_POSITIONS

/* ---- the shape of a node ---- */

/* Gives the node height x across positions of `width` columns; each is at most 2^31 - 1. */
static mbp_status set_shape(mbp_cursor *c, mbp_node *node, int64_t height, int64_t across, int64_t width,
                            const char *word) {
    if ((double)height * (double)across * (double)width > INT32_MAX)
        return mbp_fail_in_line(c, "%s makes rows of more than %d numbers", word, (int)INT32_MAX);
    node->positions = (int)(height * across);
    node->height = (int)height;
    node->width = width;
    return MBP_OK;
}

mbp_status mbp_share_positions(mbp_cursor *c, mbp_node *node, const char *word) {
    const int *operand = &c->net->operands[node->first_operand];
    const mbp_node *first = &c->net->node[operand[0]];
    for (int i = 1; i < node->operands; i++) {
        const mbp_node *other = &c->net->node[operand[i]];
        if (other->positions != first->positions || other->height != first->height)
            return mbp_fail_in_line(
                c, "%s needs operands with the same positions, but node %d has %dx%d and node %d has %dx%d", word,
                operand[0], first->height, first->positions / first->height, operand[i], other->height,
                other->positions / other->height);
    }
    return set_shape(c, node, first->height, first->positions / first->height, node->width, word);
}

static int is_whole(double number) { return number <= INT32_MAX && number == (double)(int64_t)number; }

mbp_status mbp_read_grid(mbp_cursor *c, mbp_node *node) {
    mbp_settings found;
    char height[MBP_NUMBER_SIZE], width[MBP_NUMBER_SIZE];
    const double *size = found.number;
    mbp_status status = read_with(c, node, "", MBP_GRID_NUMBERS, &found);
    if (status != MBP_OK)
        return status;
    if (found.given != 3)
        return mbp_fail_in_line(c, "grid needs height=H and width=W, for H x W positions");
    const int64_t row = mbp_row_width(&c->net->node[operand_of(c, node)]);
    if (!is_whole(size[0]) || !is_whole(size[1]) || row % ((int64_t)size[0] * (int64_t)size[1])) {
        height[mbp_print_number(height, size[0])] = width[mbp_print_number(width, size[1])] = 0;
        return mbp_fail_in_line(c,
                                "height=%s width=%s is not a grid of node %d: they must be whole numbers whose "
                                "product divides %lld, the numbers of a row",
                                height, width, operand_of(c, node), (long long)row);
    }
    memcpy(node->activation.parameters, size, sizeof found.number);
    return set_shape(c, node, (int64_t)size[0], (int64_t)size[1], row / ((int64_t)size[0] * (int64_t)size[1]), "grid");
}

mbp_status mbp_read_repeat(mbp_cursor *c, mbp_node *node) {
    mbp_settings found;
    char times[MBP_NUMBER_SIZE];
    mbp_status status = read_with(c, node, "", MBP_REPEAT_NUMBERS, &found);
    if (status != MBP_OK)
        return status;
    const int positions = c->net->node[operand_of(c, node)].positions;
    if (!found.given)
        return mbp_fail_in_line(c, "repeat needs times=T, for T positions");
    if (!is_whole(found.number[0])) {
        times[mbp_print_number(times, found.number[0])] = 0;
        return mbp_fail_in_line(c, "times is %s, but must be a whole number from 1 to %d", times, (int)INT32_MAX);
    }
    if (positions != 1)
        return mbp_fail_in_line(c, "repeat needs a node of 1 position, but node %d has %d", operand_of(c, node),
                                positions);
    memcpy(node->activation.parameters, found.number, sizeof found.number);
    return set_shape(c, node, 1, (int64_t)found.number[0], node->width, "repeat");
}

mbp_status mbp_read_last(mbp_cursor *c, mbp_node *node) { return mbp_read_operand(c, node); }

/* ---- windows and pools ---- */

/* Reads HEIGHTxWIDTH, two numbers of at least `least`. An empty word does not change them. */
static mbp_status read_pair(mbp_cursor *c, const char *key, mbp_slice word, int least, double *pair) {
    int64_t height = -1, width = -1;
    mbp_slice rest = word;
    if (!word.length)
        return MBP_OK;
    const int is_pair = mbp_parse_integer(mbp_take_until(&rest, 'x'), &height) && mbp_parse_integer(rest, &width);
    if (!is_pair || height < least || width < least || height > INT32_MAX || width > INT32_MAX)
        return mbp_fail_in_line(c, "%s must be two whole numbers of at least %d, such as 3x3, not \"%.*s\"", key, least,
                                mbp_shown(word), word.at);
    pair[0] = (double)height, pair[1] = (double)width;
    return MBP_OK;
}

/* The number of places of a window along an axis of `length` positions; below 1: it does not fit. */
static int64_t places(const mbp_node *node, int axis, int64_t length) {
    const int64_t reach = mbp_window_of(node, MBP_DILATION + axis) * (mbp_window_of(node, MBP_SIZE + axis) - 1);
    const int64_t room = length + 2 * mbp_window_of(node, MBP_PAD + axis) - 1 - reach;
    return room < 0 ? 0 : room / mbp_window_of(node, MBP_STRIDE + axis) + 1;
}

/* Gives a window or a pool its shape. columns: how many a position has for each column of the operand. */
static mbp_status set_places(mbp_cursor *c, mbp_node *node, int64_t columns, const char *word, const char *advice) {
    const mbp_node *x = &c->net->node[operand_of(c, node)];
    const int64_t across = x->positions / x->height, high = places(node, 0, x->height), wide = places(node, 1, across);
    if (high < 1 || wide < 1)
        return mbp_fail_in_line(c, "a %s of %lldx%lld does not fit node %d, which has %dx%lld positions: %s", word,
                                (long long)mbp_window_of(node, MBP_SIZE), (long long)mbp_window_of(node, MBP_SIZE + 1),
                                operand_of(c, node), x->height, (long long)across, advice);
    if ((double)columns * (double)x->width > INT32_MAX)
        return mbp_fail_in_line(c, "%s makes rows of more than %d numbers", word, (int)INT32_MAX);
    return set_shape(c, node, high, wide, columns * x->width, word);
}

/* Reads the operand and the texts of a window or a pool, and from these its size and its stride. The usual stride of a
 * window is 1, that of a pool its size. */
static mbp_status read_size(mbp_cursor *c, mbp_node *node, const char *word, const char *texts, mbp_settings *found) {
    static const double usual[MBP_PARAMETERS_MAX] = {0, 0, 1, 1, 0, 0, 1, 1};
    double *pair = node->activation.parameters;
    memcpy(pair, usual, sizeof usual);
    mbp_status status = read_with(c, node, texts, "", found);
    if (status == MBP_OK && !found->text[0].length)
        return mbp_fail_in_line(c, "%s needs size=HEIGHTxWIDTH", word);
    if (status == MBP_OK)
        status = read_pair(c, "size", found->text[0], 1, pair + MBP_SIZE);
    if (mbp_is_pool(node))
        memcpy(pair + MBP_STRIDE, pair + MBP_SIZE, 2 * sizeof *pair);
    return status == MBP_OK ? read_pair(c, "stride", found->text[1], 1, pair + MBP_STRIDE) : status;
}

mbp_status mbp_read_window(mbp_cursor *c, mbp_node *node) {
    mbp_settings found;
    double *pair = node->activation.parameters;
    mbp_status status = read_size(c, node, "window", "size stride pad dilation", &found);
    if (status == MBP_OK)
        status = read_pair(c, "pad", found.text[2], 0, pair + MBP_PAD);
    if (status == MBP_OK)
        status = read_pair(c, "dilation", found.text[3], 1, pair + MBP_DILATION);
    if (status != MBP_OK)
        return status;
    if (pair[0] * pair[1] > INT32_MAX)
        return mbp_fail_in_line(c, "window makes rows of more than %d numbers", (int)INT32_MAX);
    return set_places(c, node, (int64_t)(pair[0] * pair[1]), "window", "make pad larger, or size or dilation smaller");
}

mbp_status mbp_read_pool(mbp_cursor *c, mbp_node *node) {
    mbp_settings found;
    const mbp_status status = read_size(c, node, "pool", "size stride kind", &found);
    if (status != MBP_OK)
        return status;
    const mbp_slice kind = found.text[2];
    if (kind.length && !mbp_slice_is(kind, "max") && !mbp_slice_is(kind, "mean"))
        return mbp_fail_in_line(c, "kind must be max or mean, not \"%.*s\"", mbp_shown(kind), kind.at);
    node->activation.row = mbp_slice_is(kind, "mean") ? MBP_POOL_MEAN : MBP_POOL_MAX;
    return set_places(c, node, 1, "pool", "make size smaller");
}

static void put_pair(mbp_writer *w, const char *key, const double *pair) {
    mbp_put(w, " %s=%.0fx%.0f", key, pair[0], pair[1]);
}

void mbp_put_window(mbp_writer *w, const mbp_node *node) {
    const double *pair = node->activation.parameters;
    if (node->kind != MBP_NODE_WINDOW && node->kind != MBP_NODE_POOL)
        return;
    put_pair(w, "size", pair + MBP_SIZE);
    put_pair(w, "stride", pair + MBP_STRIDE);
    if (node->kind == MBP_NODE_POOL) {
        mbp_put(w, " kind=%s", node->activation.row == MBP_POOL_MEAN ? "mean" : "max");
        return;
    }
    put_pair(w, "pad", pair + MBP_PAD);
    put_pair(w, "dilation", pair + MBP_DILATION);
}

/* ---- recurrent ---- */

static const char *const cells[] = {[MBP_CELL_TANH] = "tanh", [MBP_CELL_GRU] = "gru", [MBP_CELL_LSTM] = "lstm"};
const char *mbp_cell_name(mbp_cell_kind cell) { return cells[cell]; }

/* Positions of the keys in MBP_RECURRENT_TEXTS. */
enum { LAYER, UNITS, CELL, INIT, BIAS, BIAS_INIT, FROZEN, RECURRENT_INIT, REVERSE, STATE };

static mbp_status choose_cell(mbp_cursor *c, mbp_slice word, mbp_layer *layer) {
    int cell = MBP_CELL_TANH;
    while (cell <= MBP_CELL_LSTM && !mbp_slice_is(word, cells[cell]))
        cell++;
    if (cell > MBP_CELL_LSTM && word.length)
        return mbp_fail_in_line(c, "cell must be tanh, gru or lstm, not \"%.*s\"", mbp_shown(word), word.at);
    layer->cell = (mbp_cell_kind)(word.length ? cell : MBP_CELL_GRU);
    return MBP_OK;
}

/* Reads an initializer; "auto" is the one of this name. */
static mbp_status read_initializer(mbp_cursor *c, mbp_slice spec, const char *usual, mbp_formula *initializer) {
    return mbp_read_formula(c, MBP_INITIALIZER, mbp_is_auto(spec) ? mbp_slice_of(usual) : spec, initializer);
}

mbp_status mbp_read_cell(mbp_cursor *c, const mbp_node *node, const mbp_settings *found, mbp_layer *layer) {
    const mbp_slice *text = found->text;
    int64_t units = 0;
    mbp_status status = MBP_OK;
    if (!text[UNITS].length)
        status = mbp_fail_in_line(c, "the new layer %s needs units=N", layer->name);
    if (status == MBP_OK)
        status = mbp_read_width(c, "units", text[UNITS], &units);
    if (status == MBP_OK)
        status = choose_cell(c, text[CELL], layer);
    if (status == MBP_OK)
        status = read_initializer(c, text[INIT], "glorot_uniform", &layer->initializer);
    if (status == MBP_OK)
        status = read_initializer(c, text[RECURRENT_INIT], "orthogonal", &layer->recurrent_initializer);
    if (status == MBP_OK)
        status = read_initializer(c, text[BIAS_INIT], "zeros", &layer->bias_initializer);
    if (status == MBP_OK)
        status = mbp_read_bias(c, found, BIAS, layer);
    if (status == MBP_OK)
        status = mbp_read_switch(c, "frozen", text[FROZEN], &layer->frozen);
    if (status == MBP_OK && 4 * units + mbp_operand_width(c, node, 0) > INT32_MAX)
        status = mbp_fail_in_line(c, "recurrent has more than %d columns of weights", (int)INT32_MAX);
    layer->in = mbp_operand_width(c, node, 0) + units;
    layer->out = units * mbp_cell_gates(layer->cell);
    return status;
}

/* Reads the node with the initial state, the second operand. */
static mbp_status read_state(mbp_cursor *c, mbp_node *node, mbp_slice word) {
    const mbp_layer *layer = &c->net->layer[node->layer];
    const mbp_slice rest = c->rest;
    c->rest = word;
    const mbp_status status = mbp_read_operands(c, node, 1);
    c->rest = rest;
    if (status != MBP_OK)
        return status;
    const int id = c->net->operands[node->first_operand + 1];
    const mbp_node *state = &c->net->node[id];
    if (state->positions != 1 || state->width != mbp_state_width(layer))
        return mbp_fail_in_line(
            c, "the state of layer %s has 1 position of %lld column%s%s, but node %d has %d of %lld", layer->name,
            (long long)mbp_state_width(layer), mbp_plural(mbp_state_width(layer)),
            layer->cell == MBP_CELL_LSTM ? " (h, then c)" : "", id, state->positions, (long long)state->width);
    return MBP_OK;
}

mbp_status mbp_read_direction(mbp_cursor *c, mbp_node *node, const mbp_settings *found) {
    int reverse = 0;
    mbp_status status = mbp_read_switch(c, "reverse", found->text[REVERSE], &reverse);
    if (status == MBP_OK && found->text[STATE].length)
        status = read_state(c, node, found->text[STATE]);
    if (status != MBP_OK)
        return status;
    node->activation.parameters[0] = reverse;
    const mbp_node *x = &c->net->node[operand_of(c, node)];
    return set_shape(c, node, x->height, x->positions / x->height, mbp_units(&c->net->layer[node->layer]), "recurrent");
}

void mbp_put_recurrent(mbp_writer *w, const mbp_layer *layer) {
    mbp_put(w, " units=%lld cell=%s", (long long)mbp_units(layer), cells[layer->cell]);
    mbp_put_formula(w, " init=", MBP_INITIALIZER, &layer->initializer);
    mbp_put_formula(w, " recurrent_init=", MBP_INITIALIZER, &layer->recurrent_initializer);
    mbp_put(w, " bias=%d", layer->bias >= 0);
    if (layer->bias >= 0)
        mbp_put_formula(w, " bias_init=", MBP_INITIALIZER, &layer->bias_initializer);
}

void mbp_put_direction(mbp_writer *w, const mbp_net *net, const mbp_node *node, const int *number) {
    if (!mbp_is_recurrent(node->kind))
        return;
    mbp_put(w, " reverse=%d", mbp_is_reverse(node));
    if (node->operands > 1) {
        const int state = net->operands[node->first_operand + 1];
        mbp_put(w, " state=%d", number ? number[state] : state);
    }
}

#endif
