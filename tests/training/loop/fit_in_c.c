/* For test_fit_in_c.py: fits the network FOLDER/net.safetensors twice with the library, and measures it.
 *
 *     fit_in_c FOLDER OPTIMIZER SEED EPOCHS BATCH_ROWS KEEP_ORDER PATIENCE MIN_DELTA HALVE_AT STOP_AT GOAL
 *              TOLERANCE OUTPUTS LOSS WEIGHT ... MEASURE ...
 *
 * Arrays are in FOLDER/NAME.bin, with "DTYPE ROWS COLS" in FOLDER/NAME.txt. Prints a line per epoch, then for each
 * measure and output a line; numbers are hexadecimal. The state is written to FOLDER/state.bin. */
#include "api.h"

#include <inttypes.h>

static const char *folder;

static FILE *open_file(const char *name, const char *extension, const char *mode) {
    char path[500];
    snprintf(path, sizeof path, "%s/%s%s", folder, name, extension);
    return fopen(path, mode);
}

/* Returns 0 if there is no such array. */
static int read_array(const char *name, int number, mbp_array *array) {
    char full[40];
    int dtype;
    int64_t rows, cols;
    snprintf(full, sizeof full, "%s%d", name, number);
    FILE *shape = open_file(full, ".txt", "r"), *data = open_file(full, ".bin", "rb");
    if (!shape || !data)
        return 0;
    if (fscanf(shape, "%d %" SCNd64 " %" SCNd64, &dtype, &rows, &cols) != 3)
        exit(2);
    *array = array_new((mbp_dtype)dtype, rows, cols);
    if (fread((void *)array->data, item_of(array->dtype), (size_t)(rows * cols), data) != (size_t)(rows * cols))
        exit(2);
    fclose(shape), fclose(data);
    return 1;
}

typedef struct rows {
    mbp_array x, y[2], weight;
    mbp_batch batch;
} rows;

static int read_rows(const char *name, rows *r) {
    char full[20];
    snprintf(full, sizeof full, "%s_y", name);
    r->batch = (mbp_batch){.size = sizeof r->batch, .x = &r->x, .n_x = 1, .y = r->y};
    if (!read_array(name, 0, &r->x))
        return 0;
    while (r->batch.n_y < 2 && read_array(full, r->batch.n_y, &r->y[r->batch.n_y]))
        r->batch.n_y++;
    snprintf(full, sizeof full, "%s_weight", name);
    if (read_array(full, 0, &r->weight))
        r->batch.weight = &r->weight;
    return 1;
}

typedef struct job {
    mbp_trainer *trainer;
    int64_t halve_at, stop_at;
} job;

static int print_record(const mbp_record *record, void *user) {
    const job *j = user;
    printf("%" PRId64 " %" PRId64 " %a %a %a %d\n", record->epoch, record->steps, record->loss, record->val_loss,
           record->lr, record->best);
    if (record->epoch == j->halve_at)
        OK(mbp_trainer_set(j->trainer, "lr", record->lr / 2, &error));
    CHECK(!record->reason, "%s", record->reason);
    return record->epoch == j->stop_at;
}

static void write_state(mbp_net *net, mbp_trainer *trainer) {
    FILE *file = open_file("state", ".bin", "wb");
    int64_t buffers;
    const void *running = mbp_net_buffers(net, &buffers);
    fwrite(mbp_net_params(net, NULL), 1, vector_bytes(net), file);
    fwrite(running, item_of(mbp_net_dtype(net)), (size_t)buffers, file);
    for (int i = 0; mbp_trainer_slot(trainer, i); i++)
        fwrite(mbp_trainer_slot(trainer, i), 1, vector_bytes(net), file);
    fclose(file);
}

int main(int count, char **words) {
    const char *losses[2];
    char path[500];
    double weights[2], value;
    mbp_net *net = NULL;
    rows data, validation;
    folder = words[1];
    const int outputs = atoi(words[13]);
    for (int i = 0; i < outputs; i++)
        losses[i] = words[14 + 2 * i], weights[i] = atof(words[15 + 2 * i]);
    snprintf(path, sizeof path, "%s/net.safetensors", folder);
    OK(mbp_net_load(&net, path, NULL, &error));
    mbp_trainer *trainer = trainer_new(net, losses, weights, words[2]);
    OK(mbp_trainer_set_seed(trainer, (uint64_t)atoll(words[3]), &error));
    read_rows("data", &data);
    const int tested = read_rows("validation", &validation);
    job j = {trainer, atoll(words[9]), atoll(words[10])};
    mbp_fit how = {.size = sizeof how, .epochs = atoll(words[4]), .batch_rows = atoll(words[5])};
    how.keep_order = atoi(words[6]) % 2, how.standardize_targets = atoi(words[6]) / 2, how.patience = atoll(words[7]),
    how.min_delta = atof(words[8]), how.goal = atof(words[11]), how.gradient_tolerance = atof(words[12]);
    how.validation = tested ? &validation.batch : NULL;
    how.callback = print_record, how.user = &j;
    mbp_record record = {.size = sizeof record, .reason = "none"};
    for (int i = 0; i < 2 && how.epochs; i++)
        OK(mbp_trainer_fit(trainer, &data.batch, &how, &record, &error));
    OK(mbp_trainer_get(trainer, "epoch", &value, &error));
    printf("%.0f %" PRId64 " %s\n", value, mbp_trainer_steps(trainer), record.reason);
    write_state(net, trainer);
    for (int w = 14 + 2 * outputs; w < count; w++) {
        OK(mbp_trainer_measure(trainer, &data.batch, atoi(words[w]), strchr(words[w], ':') + 1, &value, &error));
        printf("%a\n", value);
    }
    mbp_trainer_free(trainer), mbp_net_free(net);
    return failures != 0;
}
