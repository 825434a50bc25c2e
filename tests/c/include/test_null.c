/* NULL instead of a pointer: the call returns MBP_INVALID; or 0 or NULL if it does not return a status. Each call runs
 * in a separate process, so that a crash is one failure. */
#include "api.h"

#include <sys/wait.h>

static mbp_net *net;
static mbp_trainer *trainer;
static const int32_t *named;
static problem *p;
static mbp_net *made;
static mbp_trainer *made_trainer;
static mbp_int8 *whole;
static mbp_array array;
static mbp_tensor tensor;
static mbp_node_info node = {.size = sizeof node};
static mbp_layer_info layer = {.size = sizeof layer};
static const mbp_fit fit = {.size = sizeof fit, .epochs = 1};
static double number;
static const int node_number = 1;
static int64_t count;
static size_t size = 10;
static char bytes[10];
#define LOSSES dag_losses, NULL, 2

#define NULL_CALLS(X) \
    X(mbp_net_create(NULL, dag, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_create(&made, NULL, NULL, NULL) == MBP_INVALID && !made) \
    X((mbp_net_free(NULL), 1)) \
    X(mbp_net_part(NULL, net, &node_number, 1, &node_number, 1, NULL) == MBP_INVALID) \
    X(mbp_net_part(&made, NULL, &node_number, 1, &node_number, 1, NULL) == MBP_INVALID && !made) \
    X(mbp_net_part(&made, net, NULL, 1, &node_number, 1, NULL) == MBP_INVALID && !made) \
    X(mbp_net_part(&made, net, &node_number, 1, NULL, 1, NULL) == MBP_INVALID && !made) \
    X(mbp_net_copy(NULL, net, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_copy(&made, NULL, NULL, NULL) == MBP_INVALID && !made) \
    X(mbp_net_reserve(NULL, 1, NULL) == MBP_INVALID) \
    X(mbp_net_bytes(NULL) == 0) \
    X(mbp_net_text(NULL, NULL, 0) == 0) \
    X(mbp_net_text(net, NULL, 10) > 10) \
    X(mbp_net_dtype(NULL) == MBP_F32) \
    X(mbp_net_seed(NULL) == 0) \
    X(mbp_net_isa(NULL) == NULL) \
    X(mbp_net_notes(NULL) == NULL) \
    X(mbp_net_inputs(NULL) == 0) \
    X(mbp_net_outputs(NULL) == 0) \
    X(mbp_net_nodes(NULL) == 0) \
    X(mbp_net_input_width(NULL, 0) == 0) \
    X(mbp_net_output_width(NULL, 0) == 0) \
    X(mbp_net_node_width(NULL, 0) == 0) \
    X(mbp_net_layers(NULL) == 0) \
    X(mbp_net_input_node(NULL, 0) == -1) \
    X(mbp_net_output_node(NULL, 0) == -1) \
    X(mbp_net_node(NULL, 0, &node, NULL) == MBP_INVALID) \
    X(mbp_net_node(net, 0, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_layer(NULL, 0, &layer, NULL) == MBP_INVALID) \
    X(mbp_net_layer(net, 0, NULL, NULL) == MBP_INVALID) \
    X(mbp_pool_create(NULL, 2, NULL, NULL) == MBP_INVALID) \
    X((mbp_pool_free(NULL), 1)) \
    X(mbp_pool_threads(NULL) == 1) \
    X(mbp_pool_set_limit(NULL, 1, NULL) == MBP_INVALID) \
    X(mbp_net_threads(NULL) == 1) \
    X(mbp_net_set_threads(NULL, 1, NULL) == MBP_INVALID) \
    X(mbp_net_flops(NULL) == 0) \
    X(mbp_net_params(NULL, &count) == NULL) \
    X(mbp_net_params(net, NULL) != NULL) \
    X(mbp_net_flush(NULL, NULL) == MBP_INVALID) \
    X(mbp_net_buffers(NULL, &count) == NULL) \
    X(mbp_net_buffers(net, NULL) != NULL) \
    X(mbp_net_tensor(NULL, 0, &tensor) == 0) \
    X(mbp_net_tensor(net, 0, NULL) == 0) \
    X(mbp_net_init(NULL, 1, NULL) == MBP_INVALID) \
    X(mbp_net_freeze(NULL, "a", 1, NULL) == MBP_INVALID) \
    X(mbp_net_set_layer(NULL, "a", "lr", 1, NULL) == MBP_INVALID) \
    X(mbp_net_set_layer(net, "a", NULL, 1, NULL) == MBP_INVALID) \
    X(mbp_net_set_output(NULL, 0, "exp", NULL) == MBP_INVALID) \
    X(mbp_net_set_scale(NULL, 0, NULL, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_set_scale(net, 0, NULL, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_scale(NULL, 0, NULL, NULL) == 0) \
    X(mbp_net_set_notes(NULL, "notes", NULL) == MBP_INVALID) \
    X(mbp_net_set_notes(net, NULL, NULL) == MBP_OK && mbp_net_notes(net) == NULL) \
    X(mbp_net_set_output(net, 0, NULL, NULL) == MBP_OK && !mbp_net_output_activation(net, 0)) \
    X(mbp_net_output_activation(NULL, 0) == NULL) \
    X(mbp_net_predict(NULL, p->x, 2, p->out, 2, 1, -1, NULL) == MBP_INVALID) \
    X(mbp_net_predict(net, NULL, 2, p->out, 2, 1, -1, NULL) == MBP_INVALID) \
    X(mbp_net_predict(net, p->x, 2, NULL, 2, 1, -1, NULL) == MBP_INVALID) \
    X(mbp_net_predict(net, p->x, 2, NULL, 1, 0, 3, NULL) == MBP_INVALID) \
    X(mbp_net_predict_with(NULL, p->x, 2, p->out, 2, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_predict_with(net, NULL, 2, p->out, 2, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_predict_with(net, p->x, 2, NULL, 2, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_jacobian(NULL, p->x, 2, MBP_BY_PARAMS, -1, p->out, 2, NULL) == MBP_INVALID) \
    X(mbp_net_jacobian(net, NULL, 2, MBP_BY_PARAMS, -1, p->out, 2, NULL) == MBP_INVALID) \
    X(mbp_net_jacobian(net, p->x, 2, MBP_BY_INPUTS, -1, NULL, 4, NULL) == MBP_INVALID) \
    X(mbp_int8_create(NULL, &(mbp_int8_step){0}, 2, NULL, NULL, NULL, NULL, NULL) == MBP_INVALID) \
    X(mbp_int8_create(&whole, NULL, 2, NULL, NULL, NULL, NULL, NULL) == MBP_INVALID && !whole) \
    X((mbp_int8_free(NULL), 1)) \
    X(mbp_int8_predict(NULL, p->x, p->out, 0, NULL) == MBP_INVALID) \
    X(mbp_int8_reserve(NULL, 1, NULL) == MBP_INVALID) \
    X(mbp_int8_bytes(NULL) == 0) \
    X(mbp_net_save(NULL, "/tmp/never", NULL) == MBP_INVALID) \
    X(mbp_net_save(net, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_load(NULL, "/tmp/never", NULL, NULL) == MBP_INVALID) \
    X(mbp_net_load(&made, NULL, NULL, NULL) == MBP_INVALID && !made) \
    X(mbp_net_write(NULL, bytes, &size, NULL) == MBP_INVALID) \
    X(mbp_net_write(net, bytes, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_write(net, NULL, &(size_t){100000}, NULL) == MBP_INVALID) \
    X(mbp_net_read(NULL, bytes, 10, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_read(&made, NULL, 10, NULL, NULL) == MBP_INVALID && !made) \
    X(mbp_net_load_member(NULL, "/tmp/never", 0, NULL, NULL, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_load_member(&made, NULL, 0, NULL, NULL, NULL, NULL) == MBP_INVALID && !made) \
    X(mbp_net_read_member(NULL, bytes, 10, 0, NULL, NULL, NULL, NULL) == MBP_INVALID) \
    X(mbp_net_read_member(&made, NULL, 10, 0, NULL, NULL, NULL, NULL) == MBP_INVALID && !made) \
    X(mbp_net_read_with(&made, NULL, bytes, 10, NULL, NULL) == MBP_INVALID && !made) \
    X(mbp_net_load_with(&made, NULL, "/tmp/never", NULL, NULL) == MBP_INVALID && !made) \
    X(mbp_net_write_with(NULL, NULL, bytes, &size, NULL) == MBP_INVALID) \
    X(mbp_net_save_with(NULL, NULL, "/tmp/never", NULL) == MBP_INVALID) \
    X((mbp_extras_free(NULL), 1)) \
    X(mbp_trainer_save(NULL, "/tmp/never", NULL) == MBP_INVALID) \
    X(mbp_trainer_save(trainer, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_load(NULL, &made, "/tmp/never", NULL, NULL) == MBP_INVALID && !made) \
    X(mbp_trainer_load(&made_trainer, NULL, "/tmp/never", NULL, NULL) == MBP_INVALID && !made_trainer) \
    X(mbp_trainer_load(&made_trainer, &made, NULL, NULL, NULL) == MBP_INVALID && !made_trainer && !made) \
    X(mbp_trainer_write(NULL, bytes, &size, NULL) == MBP_INVALID) \
    X(mbp_trainer_write(trainer, bytes, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_write(trainer, NULL, &(size_t){100000}, NULL) == MBP_INVALID) \
    X(mbp_trainer_read(NULL, &made, bytes, 10, NULL, NULL) == MBP_INVALID && !made) \
    X(mbp_trainer_read(&made_trainer, NULL, bytes, 10, NULL, NULL) == MBP_INVALID && !made_trainer) \
    X(mbp_trainer_read(&made_trainer, &made, NULL, 10, NULL, NULL) == MBP_INVALID && !made_trainer && !made) \
    X(mbp_trainer_create(NULL, net, LOSSES, "sgd", NULL) == MBP_INVALID) \
    X(mbp_trainer_create(&made_trainer, NULL, LOSSES, "sgd", NULL) == MBP_INVALID && !made_trainer) \
    X(mbp_trainer_create(&made_trainer, net, NULL, NULL, 2, "sgd", NULL) == MBP_INVALID && !made_trainer) \
    X(mbp_trainer_create(&made_trainer, net, LOSSES, NULL, NULL) == MBP_INVALID && !made_trainer) \
    X((mbp_trainer_free(NULL), 1)) \
    X(mbp_trainer_reserve(NULL, 1, NULL) == MBP_INVALID) \
    X(mbp_trainer_bytes(NULL) == 0) \
    X(mbp_trainer_step(NULL, &p->batch, &number, NULL) == MBP_INVALID) \
    X(mbp_trainer_step(trainer, NULL, &number, NULL) == MBP_INVALID) \
    X(mbp_trainer_step(trainer, &p->batch, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_step(trainer, &(mbp_batch){.size = sizeof(mbp_batch), .n_x = 2, .y = p->y, .n_y = 2}, &number, \
                       NULL) == MBP_INVALID) \
    X(mbp_trainer_step(trainer, &(mbp_batch){.size = sizeof(mbp_batch), .x = p->x, .n_x = 2, .n_y = 2}, &number, \
                       NULL) == MBP_INVALID) \
    X(mbp_trainer_backward(NULL, &p->batch, NULL, &number, NULL) == MBP_INVALID) \
    X(mbp_trainer_backward(trainer, NULL, NULL, &number, NULL) == MBP_INVALID) \
    X(mbp_trainer_backward(trainer, &p->batch, NULL, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_apply(NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_forward(NULL, p->x, 2, NULL) == MBP_INVALID) \
    X(mbp_trainer_forward(trainer, NULL, 2, NULL) == MBP_INVALID) \
    X(mbp_trainer_output(NULL, 0, &array, NULL) == MBP_INVALID) \
    X(mbp_trainer_output(trainer, 0, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_backward_from(NULL, p->y, 2, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_backward_from(trainer, NULL, 2, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_evaluate(NULL, &p->batch, &number, NULL) == MBP_INVALID) \
    X(mbp_trainer_evaluate(trainer, NULL, &number, NULL) == MBP_INVALID) \
    X(mbp_trainer_evaluate(trainer, &p->batch, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_epoch(NULL, &p->batch, NULL, 4, 2, NULL, NULL, NULL, &number, &count, NULL) == MBP_INVALID) \
    X(mbp_trainer_epoch(trainer, NULL, NULL, 4, 2, NULL, NULL, NULL, &number, &count, NULL) == MBP_INVALID) \
    X(mbp_trainer_epoch(trainer, &p->batch, NULL, 4, 2, NULL, NULL, NULL, NULL, &count, NULL) == MBP_INVALID) \
    X(mbp_trainer_epoch(trainer, &p->batch, NULL, 4, 2, NULL, NULL, NULL, &number, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_fit(NULL, &p->batch, &fit, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_fit(trainer, NULL, &fit, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_fit(trainer, &p->batch, NULL, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_fit(trainer, &p->batch, &fit, NULL, NULL) == MBP_OK) \
    X(mbp_trainer_output_loss(NULL, 0, &number, NULL) == MBP_INVALID) \
    X(mbp_trainer_output_loss(trainer, 0, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_measure(NULL, &p->batch, 0, "mae", &number, NULL) == MBP_INVALID) \
    X(mbp_trainer_measure(trainer, NULL, 0, "mae", &number, NULL) == MBP_INVALID) \
    X(mbp_trainer_measure(trainer, &p->batch, 0, NULL, &number, NULL) == MBP_INVALID) \
    X(mbp_trainer_measure(trainer, &p->batch, 0, "mae", NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_failed_rank(NULL) == -1) \
    X(mbp_trainer_set_reduce(NULL, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_set_reduce(trainer, NULL, NULL) == MBP_OK) \
    X(mbp_trainer_grads(NULL) == NULL) \
    X(mbp_trainer_slot(NULL, 0) == NULL) \
    X(mbp_trainer_sparse_grad(NULL, "a", &named, &array, NULL) == MBP_INVALID) \
    X(mbp_trainer_sparse_grad(trainer, NULL, &named, &array, NULL) == MBP_INVALID) \
    X(mbp_trainer_sparse_grad(trainer, "a", NULL, &array, NULL) == MBP_INVALID) \
    X(mbp_trainer_sparse_grad(trainer, "a", &named, NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_set_sparse(NULL, "a", NULL, 0, NULL) == MBP_INVALID) \
    X(mbp_trainer_set_sparse(trainer, NULL, NULL, 0, NULL) == MBP_OK) \
    X(mbp_trainer_set_sparse(trainer, "a", NULL, 1, NULL) == MBP_INVALID) \
    X(mbp_trainer_set_sparse(trainer, "a", NULL, -1, NULL) == MBP_INVALID) \
    X(mbp_trainer_input_grad(NULL, 0, &array, NULL) == MBP_INVALID) \
    X((mbp_trainer_backward(trainer, &p->batch, HOW(.input_grads = 1), &number, NULL), \
       mbp_trainer_input_grad(trainer, 0, NULL, NULL) == MBP_INVALID)) \
    X(mbp_trainer_get(NULL, "lr", &number, NULL) == MBP_INVALID) \
    X(mbp_trainer_get(trainer, NULL, &number, NULL) == MBP_INVALID) \
    X(mbp_trainer_get(trainer, "lr", NULL, NULL) == MBP_INVALID) \
    X(mbp_trainer_set(NULL, "lr", 1, NULL) == MBP_INVALID) \
    X(mbp_trainer_set(trainer, NULL, 1, NULL) == MBP_INVALID) \
    X(mbp_trainer_steps(NULL) == 0) \
    X(mbp_trainer_set_steps(NULL, 1, NULL) == MBP_INVALID) \
    X(mbp_trainer_set_average(NULL, 1, 0, 1, NULL) == MBP_INVALID) \
    X(mbp_trainer_average(NULL, &count) == NULL) \
    X(mbp_trainer_average(trainer, NULL) == NULL) \
    X(mbp_trainer_set_seed(NULL, 1, NULL) == MBP_INVALID) \
    X(mbp_trainer_reset(NULL, NULL) == MBP_INVALID) \
    X((mbp_permutation(1, MBP_SHUFFLE, 3, 4, NULL), 1)) \
    X(mbp_hash(NULL, 4, 0) == 0)

static void test_null(void) {
    OK(mbp_trainer_forward(trainer, p->x, 2, &error)); /* some calls need a forward pass */
    fflush(stdout);
#define X(call) \
    { \
        const pid_t child = fork(); \
        int status; \
        if (child == 0) \
            _exit(!(call)); \
        waitpid(child, &status, 0); \
        CHECK(status == 0, "%s: %s %d", #call, WIFSIGNALED(status) ? "killed by signal" : "false: exit", \
              WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)); \
    }
    NULL_CALLS(X)
#undef X
}

/* The error names the argument and what it must point to. */
static void test_texts(void) {
    mbp_error error;
#define TEXT(call, expected) \
    CHECK((call) == MBP_INVALID && strcmp(error.text, expected) == 0, "%s: \"%s\" instead of \"%s\"", #call, \
          error.text, expected)
    TEXT(mbp_net_create(NULL, dag, NULL, &error),
         "net is NULL, but must point to an mbp_net *, where the net is stored");
    TEXT(mbp_net_create(&made, NULL, NULL, &error), "graph is NULL, but must point to a graph text");
    TEXT(mbp_net_init(NULL, 1, &error), "net is NULL, but must point to a net from mbp_net_create or mbp_net_load");
    TEXT(mbp_net_node(net, 0, NULL, &error), "info is NULL, but must point to an mbp_node_info");
    TEXT(mbp_net_save(net, NULL, &error), "path is NULL, but must point to the path of a file");
    TEXT(mbp_net_set_layer(net, "a", NULL, 1, &error),
         "name is NULL, but must point to the name of a setting, such as \"lr\"");
    TEXT(mbp_trainer_create(&made_trainer, net, NULL, NULL, 2, "sgd", &error),
         "losses is NULL, but must point to an array with one loss per output");
    TEXT(mbp_trainer_create(&made_trainer, net, LOSSES, NULL, &error),
         "optimizer is NULL, but must point to a SPEC such as \"adam(lr=0.001)\"");
    TEXT(mbp_trainer_step(NULL, &p->batch, &number, &error),
         "trainer is NULL, but must point to a trainer from mbp_trainer_create");
    TEXT(mbp_trainer_step(trainer, NULL, &number, &error), "batch is NULL, but must point to an mbp_batch");
    TEXT(mbp_trainer_step(trainer, &p->batch, NULL, &error),
         "loss is NULL, but must point to a double, where the loss is stored");
    TEXT(mbp_trainer_output(trainer, 0, NULL, &error),
         "output is NULL, but must point to an mbp_array, which this call fills in");
    TEXT(mbp_trainer_get(trainer, "lr", NULL, &error),
         "value is NULL, but must point to a double, where the value is stored");
    TEXT(mbp_pool_set_limit(NULL, 1, &error), "pool is NULL, but must point to a pool from mbp_pool_create");
#undef TEXT
}

int main(void) {
    net = net_new(dag, NULL);
    trainer = dag_trainer(net, "adam");
    p = problem_new(MBP_F32, 8);
    test_null();
    test_texts();
    mbp_trainer_free(trainer), mbp_net_free(net), problem_free(p);
    return report("NULL");
}
