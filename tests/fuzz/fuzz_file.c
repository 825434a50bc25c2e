/* Any bytes give a net or an error, and a trainer or an error. The target reads a file, also with its extras. A net that
 * is read trains one step, and is written and read again with the same result, and so is a trainer. Memory stays within
 * the limits that microbp_file.h documents.
 *
 * With libFuzzer (tests/fuzz/run) this file is the target. With DRIVER it is a program for the tests:
 *     fuzz_file                  runs the seeds, then mutations of them, the same each time
 *     fuzz_file FILE...          runs files, such as the corpus
 *     fuzz_file -seeds FOLDER    writes the seeds */
#include "../c/file/seeds.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int random);

enum { ROWS = 3, SMALL = 1 << 16 };

static void predict_and_step(mbp_net *net) {
    if (mbp_net_flops(net) > SMALL || mbp_net_inputs(net) > 8 || mbp_net_outputs(net) > 8)
        return;
    mbp_array x[8], y[8];
    const char *losses[8];
    int64_t widest = 1;
    for (int i = 0; i < mbp_net_inputs(net); i++)
        widest = mbp_net_input_width(net, i) > widest ? mbp_net_input_width(net, i) : widest;
    for (int i = 0; i < mbp_net_outputs(net); i++)
        widest = mbp_net_output_width(net, i) > widest ? mbp_net_output_width(net, i) : widest;
    if (widest > SMALL)
        return;
    double *rows = calloc((size_t)(ROWS * widest), sizeof *rows);
    for (int i = 0; i < mbp_net_inputs(net); i++)
        x[i] = mbp_f64(rows, ROWS, mbp_net_input_width(net, i));
    for (int i = 0; i < mbp_net_outputs(net); i++) {
        y[i] = mbp_f64(rows, ROWS, mbp_net_output_width(net, i));
        losses[i] = "mse";
        mbp_net_set_output(net, i, NULL, NULL);
    }
    mbp_trainer *trainer = NULL;
    mbp_error error = {0};
    const mbp_batch batch = {
        .size = sizeof batch, .x = x, .n_x = mbp_net_inputs(net), .y = y, .n_y = mbp_net_outputs(net)};
    double loss;
    mbp_status status = mbp_trainer_create(&trainer, net, losses, NULL, mbp_net_outputs(net), "adam", &error);
    if (status == MBP_OK)
        status = mbp_trainer_step(trainer, &batch, &loss, &error);
    CHECK(status == MBP_OK || status == MBP_NONFINITE, "a step: %s", error.text);
    mbp_trainer_free(trainer);
    free(rows);
}

/* A trainer that is read, written, read and written again gives the same bytes. Returns 0 if the file is refused. */
static int check_trainer(const uint8_t *data, size_t size, const mbp_options *options, blob *written) {
    mbp_net *net = NULL;
    mbp_trainer *trainer = NULL;
    mbp_error error = {0};
    if (mbp_trainer_read(&trainer, &net, data, size, options, &error) != MBP_OK) {
        CHECK(strlen(error.text) > 20 && !trainer && !net, "refused: \"%s\"", error.text);
        return 0;
    }
    mbp_trainer_write(trainer, NULL, &written->size, NULL);
    written->bytes = malloc(written->size);
    CHECK(mbp_trainer_write(trainer, written->bytes, &written->size, &error) == MBP_OK, "%s", error.text);
    mbp_trainer_apply(trainer, NULL);
    mbp_trainer_free(trainer);
    mbp_net_free(net);
    return 1;
}

static void read_trainer(const uint8_t *data, size_t size) {
    counter c = {0};
    mbp_allocator allocator = {count_allocate, count_release, &c};
    const mbp_options options = {.size = sizeof options, .allocator = &allocator};
    blob once = {NULL, 0}, again = {NULL, 0};
    if (check_trainer(data, size, &options, &once)) {
        CHECK(check_trainer((const uint8_t *)once.bytes, once.size, NULL, &again), "written, but refused");
        CHECK(once.size == again.size && memcmp(once.bytes, again.bytes, once.size) == 0, "written differently");
    }
    CHECK(c.live == 0, "%zu bytes of a trainer are left", c.live);
    CHECK(c.peak <= 5 * size + 65536, "%zu bytes for a trainer's file of %zu", c.peak, size);
    free(once.bytes), free(again.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const blob file = {(char *)data, size};
    counter c = {0};
    mbp_allocator allocator = {count_allocate, count_release, &c};
    const mbp_options options = {.size = sizeof options, .allocator = &allocator};
    mbp_net *net = NULL;
    if (mbp_net_read(&net, data, size, &options, NULL) == MBP_OK)
        CHECK(check_stable(file, NULL), "read as a net, but not with extras");
    CHECK(c.peak <= most_memory(file), "%zu bytes for a file of %zu", c.peak, size);
    if (net)
        predict_and_step(net);
    mbp_net_free(net);
    CHECK(c.live == 0, "%zu bytes are left", c.live);
    read_trainer(data, size);
    if (failures)
        abort();
    return 0;
}

/* ---- mutations that keep length and checksum correct: otherwise every file would be refused for its checksum ---- */

static uint64_t state;

static uint64_t next(void) { /* splitmix64 */
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(size_t n) { return (size_t)(next() % n); }

/* Replaces one number of the header, or of its graph, by another. */
static size_t change_number(char *text, size_t size, size_t room) {
    static const char *const numbers[] = {
        "0", "1", "2", "3", "16", "64", "255", "65536", "2147483648", "4294967295", "9223372036854775807"};
    const char *number = numbers[below(sizeof numbers / sizeof *numbers)];
    size_t at = below(size), end, length = strlen(number);
    while (at < size && (text[at] < '0' || text[at] > '9'))
        at++;
    for (end = at; end < size && text[end] >= '0' && text[end] <= '9';)
        end++;
    if (end == at || size - (end - at) + length > room)
        return size;
    memmove(text + at + length, text + end, size - end);
    memcpy(text + at, number, length);
    return size - (end - at) + length;
}

/* Copies a piece of the text to another place, over the old text or inserted. */
static size_t copy_piece(char *text, size_t size, size_t room) {
    char piece[256];
    const size_t from = below(size), length = below(size - from < sizeof piece ? size - from : sizeof piece) + 1,
                 to = below(size);
    memcpy(piece, text + from, length);
    if (next() % 2 && to + length <= size)
        return memcpy(text + to, piece, length), size;
    if (size + length > room)
        return size;
    memmove(text + to + length, text + to, size - to);
    memcpy(text + to, piece, length);
    return size + length;
}

/* Changes a number, a piece or a character of the trainer's text, if there is one. */
static size_t change_trainer(char *text, size_t size, size_t room) {
    static const char start[] = "microbp.trainer\":\"";
    char piece[4096], *at = find((blob){text, size}, start);
    if (!at)
        return size;
    at += strlen(start);
    const char *end = find((blob){at, size - (size_t)(at - text)}, "\"}");
    const size_t length = end ? (size_t)(end - at) : 0, rest = size - (size_t)(at - text) - length;
    if (!length || length + 512 > sizeof piece)
        return size;
    memcpy(piece, at, length);
    size_t changed = length;
    switch (next() % 3) {
    case 0: changed = change_number(piece, length, sizeof piece); break;
    case 1: changed = copy_piece(piece, length, sizeof piece); break;
    default: piece[below(length)] = "0123456789.=-+einxap()_ "[next() % 24];
    }
    if (size - length + changed > room)
        return size;
    memmove(at + changed, at + length, rest);
    memcpy(at, piece, changed);
    return size - length + changed;
}

/* Mutates the header or the data and corrects length and checksum; one time in 16 it leaves them wrong. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int random) {
    uint64_t header = 0;
    state = random;
    if (size >= 8)
        memcpy(&header, data, 8);
    if (size < 8 || header == 0 || header > size - 8 || room < size + 1024 || next() % 16 == 0)
        return LLVMFuzzerMutate(data, size, room);
    char *text = (char *)data + 8, *rest = malloc(size - 8 - header + 1);
    size_t tail = size - 8 - header, length = header;
    const size_t most = room - 8 - tail;
    memcpy(rest, text + header, tail);
    const int trainer = next() % 4 && find((blob){text, length}, "version=3");
    for (size_t times = below(3) + 1; times; times--)
        switch (trainer ? 4 : next() % 4) {
        case 0: length = change_number(text, length, most); break;
        case 1: length = copy_piece(text, length, most); break;
        case 4: length = change_trainer(text, length, most); break;
        default: length = LLVMFuzzerMutate((uint8_t *)text, length, most); break;
        }
    if (!trainer && next() % 4 == 0) /* data of another size */
        tail = below(tail + 1);
    memcpy(text + length, rest, tail);
    free(rest);
    header = length;
    memcpy(data, &header, 8);
    fix_crc((blob){(char *)data, 8 + length + tail});
    return 8 + length + tail;
}

#ifdef DRIVER
enum { MUTATIONS = 20000, ROOM = 1 << 16 };

/* A small replacement for libFuzzer's function. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room) {
    if (!size)
        return 0;
    const size_t at = below(size);
    switch (next() % 4) {
    case 0: data[at] ^= (uint8_t)(1u << next() % 8); return size;
    case 1: data[at] = (uint8_t)next(); return size;
    case 2: memmove(data + at, data + at + 1, size - at - 1); return size > 1 ? size - 1 : size;
    default:
        if (size == room)
            return size;
        memmove(data + at + 1, data + at, size - at);
        data[at] = (uint8_t)"\"\\{}[],: 09\n\xc3\xff"[next() % 14];
        return size + 1;
    }
}

static void run_mutations(void) {
    uint8_t *data = malloc(ROOM);
    for (unsigned i = 0; i < MUTATIONS; i++) {
        blob seed = make_seed((int)(i % 2 ? NET_SEEDS + i / 2 % (SEEDS - NET_SEEDS) : i / 2 % NET_SEEDS));
        size_t size = seed.size;
        memcpy(data, seed.bytes, size);
        for (unsigned times = 0; times <= i % 4; times++)
            size = LLVMFuzzerCustomMutator(data, size, ROOM, 4 * i + times);
        blob exact = copy((blob){(char *)data, size}, size);
        LLVMFuzzerTestOneInput((const uint8_t *)exact.bytes, size);
        free(exact.bytes), free(seed.bytes);
    }
    free(data);
}

static void run_file(const char *path) {
    FILE *file = fopen(path, "rb");
    blob whole = {malloc(ROOM), 0};
    if (file) {
        whole.size = fread(whole.bytes, 1, ROOM, file);
        fclose(file);
    }
    blob exact = copy(whole, whole.size);
    CHECK(file && whole.size < ROOM, "%s cannot be read, or is long", path);
    LLVMFuzzerTestOneInput((const uint8_t *)exact.bytes, exact.size);
    free(whole.bytes), free(exact.bytes);
}

static void write_seeds(const char *folder) {
    for (int i = 0; i < SEEDS; i++) {
        char path[1000];
        snprintf(path, sizeof path, "%s/seed_%02d", folder, i);
        blob seed = make_seed(i);
        FILE *file = fopen(path, "wb");
        CHECK(file && fwrite(seed.bytes, 1, seed.size, file) == seed.size, "%s", path);
        if (file)
            fclose(file);
        free(seed.bytes);
    }
}

int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[1], "-seeds") == 0)
        write_seeds(arguments[2]);
    else if (count > 1)
        for (int i = 1; i < count; i++)
            run_file(arguments[i]);
    else
        run_mutations();
    return failures != 0;
}
#endif
