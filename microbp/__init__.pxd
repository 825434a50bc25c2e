# microbp.h for Cython: `cimport microbp`, or `from microbp cimport mbp_net_create`. The names are those of the headers,
# which document them; tests/core/test_pxd.py compares the two. The C compiler needs the flags that `python -m microbp
# --cflags --libs` prints.
from libc.stdint cimport int8_t, int32_t, int64_t, uint64_t


cdef extern from "microbp.h" nogil:
    ctypedef enum mbp_status:
        MBP_OK, MBP_INVALID, MBP_UNSUPPORTED, MBP_NO_MEMORY, MBP_NONFINITE, MBP_BUSY, MBP_CANCELLED, MBP_IO, MBP_CORRUPT
    ctypedef enum mbp_dtype:
        MBP_F32, MBP_F64, MBP_F16, MBP_I8, MBP_U8, MBP_I16, MBP_U16, MBP_I32, MBP_U32, MBP_I64, MBP_U64
    ctypedef enum mbp_kind:
        MBP_ACTIVATION, MBP_LOSS, MBP_OPTIMIZER, MBP_INITIALIZER, MBP_OUTPUT_ACTIVATION, MBP_SOLVER
    enum:
        MBP_SHARED, MBP_SPEC_MAX, MBP_NOTES_MAX, MBP_VECTORS_MAX
    const int MBP_VERSION_MAJOR, MBP_VERSION_MINOR, MBP_VERSION_PATCH
    const char *MBP_VERSION

    ctypedef struct mbp_error:
        mbp_status status
        int node
        int64_t row, step
        int number
        char text[256]
    ctypedef struct mbp_array:
        const void *data
        mbp_dtype dtype
        int64_t rows, cols, row_stride, col_stride
        const void *indptr
        const void *indices
        mbp_dtype index_dtype
        int flags
    mbp_array mbp_contiguous(const void *data, mbp_dtype dtype, int64_t item, int64_t rows, int64_t cols)
    mbp_array mbp_f32(const float *data, int64_t rows, int64_t cols)
    mbp_array mbp_f64(const double *data, int64_t rows, int64_t cols)
    mbp_array mbp_labels(const int64_t *data, int64_t rows)
    mbp_array mbp_ids(const int64_t *data, int64_t rows, int64_t cols)
    mbp_array mbp_row(const float *data, int64_t cols)
    ctypedef struct mbp_allocator:
        void *(*allocate)(void *user, size_t bytes, size_t alignment) noexcept
        void (*release)(void *user, void *block, size_t bytes) noexcept
        void *user
    ctypedef struct mbp_pool:
        pass
    ctypedef struct mbp_options:
        size_t size
        mbp_dtype dtype
        uint64_t seed
        const char *isa
        const mbp_allocator *allocator
        mbp_pool *pool
        int threads
    ctypedef struct mbp_tensor:
        const char *layer
        const char *name
        int64_t offset, in_ "in", out
        int dims, buffer
    ctypedef struct mbp_node_info:
        size_t size
        const char *operation
        int64_t width
        int layer, operands
        const int *operand
        double amount
        char activation[MBP_SPEC_MAX]
        int64_t from_ "from", to, levels
        int hash
        int positions, height
        int64_t window[8]
        const char *pool
        int reverse
    ctypedef struct mbp_layer_info:
        size_t size
        const char *name
        const char *operation
        int64_t in_ "in", out
        int gain, bias, frozen
        double lr, l1, l2, max_norm, eps, momentum, bias_lr
        char activation[MBP_SPEC_MAX]
        char init[MBP_SPEC_MAX]
        char bias_init[MBP_SPEC_MAX]
        int sums
        const char *cell
        char recurrent_init[MBP_SPEC_MAX]
    ctypedef struct mbp_state:
        pass
    ctypedef struct mbp_batch:
        size_t size
        const mbp_array *x
        int n_x
        const mbp_array *y
        int n_y
        const mbp_array *weight
        const mbp_array *element_weights
        const mbp_array *lengths
        mbp_state *state
        int same
    ctypedef struct mbp_backward:
        size_t size
        int accumulate, input_grads
        double total
        const double *totals
        int64_t first_row
    ctypedef struct mbp_net:
        pass
    ctypedef struct mbp_trainer:
        pass
    ctypedef int (*mbp_poll)(void *user) noexcept nogil
    ctypedef mbp_status (*mbp_own_loss)(void *user, double *value, mbp_error *error) noexcept
    ctypedef struct mbp_reduce:
        size_t size
        int64_t rank, ranks
        int (*gather)(const void *mine, void *all, int64_t bytes, void *user) noexcept nogil
        int (*swap)(const void *mine, void *theirs, int64_t bytes, void *user) noexcept nogil
        int (*begin)(const void *mine, void *theirs, int64_t bytes, void *user) noexcept nogil
        int (*finish)(void *user) noexcept nogil
        int64_t every
        void *user
    ctypedef enum mbp_purpose:
        MBP_SHUFFLE, MBP_SPLIT
    ctypedef struct mbp_record:
        size_t size
        int64_t epoch, steps
        double loss, val_loss, lr
        int best
        const char *reason
    ctypedef struct mbp_fit:
        size_t size
        int64_t epochs, batch_rows
        int keep_order
        const mbp_batch *validation
        int64_t patience
        double min_delta
        int (*callback)(const mbp_record *record, void *user) noexcept nogil
        mbp_poll poll
        void *user
        int standardize_targets
        double goal, gradient_tolerance, max_time

    ctypedef struct mbp_function:
        size_t size
        int64_t n, residuals
        int (*compute)(const double *x, double *values, double *derivatives, void *user) noexcept nogil
        void *user
    ctypedef struct mbp_minimum:
        size_t size
        double value
        int64_t iterations, evaluations
        const char *reason

    ctypedef struct mbp_int8_step:
        size_t size
        const char *operation
        int64_t positions, width
        int64_t operand[3]
        int64_t window[8]
        const char *pool
        const int8_t *weight
        const int32_t *start
        const float *scale
        const float *mean
        const char *activation
        float inverse
        int zero
    ctypedef struct mbp_int8:
        pass

    const char *mbp_version()
    const char *mbp_formula_name(mbp_kind kind, int i)
    const char *mbp_formula_parameters(mbp_kind kind, int i)
    const char *mbp_formula_meaning(mbp_kind kind, int i)
    const char *mbp_formula_detail(mbp_kind kind, int i)
    mbp_status mbp_loss_target_columns(const char *loss, int64_t columns, int64_t *targets, mbp_error *error)
    const char *mbp_isa_name(int i)
    int mbp_isa_runs(int i)

    mbp_status mbp_pool_create(mbp_pool **pool, int threads, const mbp_allocator *allocator, mbp_error *error)
    void mbp_pool_free(mbp_pool *pool)
    int mbp_pool_threads(const mbp_pool *pool)
    mbp_status mbp_pool_set_limit(mbp_pool *pool, int limit, mbp_error *error)
    int mbp_cpus()

    mbp_status mbp_net_create(mbp_net **net, const char *graph, const mbp_options *options, mbp_error *error)
    void mbp_net_free(mbp_net *net)
    mbp_status mbp_net_copy(mbp_net **copy, const mbp_net *net, const mbp_options *options, mbp_error *error)
    mbp_status mbp_net_part(mbp_net **part, mbp_net *net, const int *inputs, int n_inputs, const int *outputs, int n_outputs,
                            mbp_error *error)
    mbp_status mbp_net_with_length(mbp_net **other, mbp_net *net, int64_t positions, mbp_error *error)
    mbp_status mbp_state_create(mbp_state **state, const mbp_net *net, int64_t rows, mbp_error *error)
    void mbp_state_free(mbp_state *state)
    int64_t mbp_state_rows(const mbp_state *state)
    mbp_status mbp_state_reset(mbp_state *state, const int64_t *rows, int64_t n, mbp_error *error)
    void *mbp_state_values(mbp_state *state, int i, int64_t *columns)
    mbp_status mbp_state_create_for(mbp_state **state, mbp_dtype dtype, int64_t rows, const int64_t *columns, int n,
                                    mbp_error *error)
    mbp_status mbp_net_reserve(mbp_net *net, int64_t rows, mbp_error *error)
    size_t mbp_net_bytes(const mbp_net *net)
    size_t mbp_net_text(const mbp_net *net, char *text, size_t size)
    mbp_dtype mbp_net_dtype(const mbp_net *net)
    uint64_t mbp_net_seed(const mbp_net *net)
    const char *mbp_net_isa(const mbp_net *net)
    int mbp_net_inputs(const mbp_net *net)
    int mbp_net_outputs(const mbp_net *net)
    int mbp_net_nodes(const mbp_net *net)
    int mbp_net_layers(const mbp_net *net)
    int mbp_net_input_node(const mbp_net *net, int i)
    int mbp_net_output_node(const mbp_net *net, int i)
    int64_t mbp_net_input_width(const mbp_net *net, int i)
    int64_t mbp_net_output_width(const mbp_net *net, int i)
    int64_t mbp_net_node_width(const mbp_net *net, int node)
    mbp_status mbp_net_node(const mbp_net *net, int i, mbp_node_info *info, mbp_error *error)
    mbp_status mbp_net_layer(const mbp_net *net, int i, mbp_layer_info *info, mbp_error *error)
    double mbp_net_flops(const mbp_net *net)
    int mbp_net_threads(const mbp_net *net)
    mbp_status mbp_net_set_threads(mbp_net *net, int threads, mbp_error *error)
    void *mbp_net_params(mbp_net *net, int64_t *count)
    mbp_status mbp_net_flush(mbp_net *net, mbp_error *error)
    void *mbp_net_buffers(mbp_net *net, int64_t *count)
    int mbp_net_tensor(const mbp_net *net, int i, mbp_tensor *tensor)
    mbp_status mbp_net_lock(mbp_net *net, mbp_error *error)
    void mbp_net_unlock(mbp_net *net)
    void mbp_net_after_fork(mbp_net *net)
    mbp_status mbp_net_assign(mbp_net *net, const void *params, const void *buffers, mbp_error *error)
    mbp_status mbp_net_init(mbp_net *net, uint64_t seed, mbp_error *error)
    mbp_status mbp_net_freeze(mbp_net *net, const char *layer, int frozen, mbp_error *error)
    mbp_status mbp_net_set_layer(mbp_net *net, const char *layer, const char *name, double value, mbp_error *error)
    mbp_status mbp_net_set_output(mbp_net *net, int i, const char *activation, mbp_error *error)
    const char *mbp_net_output_activation(const mbp_net *net, int i)
    mbp_status mbp_net_set_scale(mbp_net *net, int i, const double *mean, const double *std, mbp_error *error)
    int mbp_net_scale(const mbp_net *net, int i, double *mean, double *std)
    mbp_status mbp_net_set_notes(mbp_net *net, const char *notes, mbp_error *error)
    const char *mbp_net_notes(const mbp_net *net)
    mbp_status mbp_net_predict(mbp_net *net, const mbp_array *x, int n_x, const mbp_array *out, int n_out, int raw, int node,
                               mbp_error *error)
    ctypedef struct mbp_prediction:
        size_t size
        const int *nodes
        int n_nodes, raw, training
        uint64_t seed
        const mbp_array *lengths
        mbp_state *state
    ctypedef enum mbp_by:
        MBP_BY_PARAMS, MBP_BY_INPUTS
    mbp_status mbp_net_predict_with(mbp_net *net, const mbp_array *x, int n_x, const mbp_array *out, int n_out,
                                    const mbp_prediction *how, mbp_error *error)
    mbp_status mbp_net_jacobian(mbp_net *net, const mbp_array *x, int n_x, mbp_by by, int output, const mbp_array *out, int n_out,
                                mbp_error *error)
    mbp_status mbp_net_save(const mbp_net *net, const char *path, mbp_error *error)
    mbp_status mbp_net_load(mbp_net **net, const char *path, const mbp_options *options, mbp_error *error)
    mbp_status mbp_net_write(const mbp_net *net, void *bytes, size_t *size, mbp_error *error)
    mbp_status mbp_net_read(mbp_net **net, const void *bytes, size_t size, const mbp_options *options, mbp_error *error)
    mbp_status mbp_net_load_member(mbp_net **net, const char *path, int member, int *members, double *weight,
                                   const mbp_options *options, mbp_error *error)
    mbp_status mbp_net_read_member(mbp_net **net, const void *bytes, size_t size, int member, int *members, double *weight,
                                   const mbp_options *options, mbp_error *error)

    ctypedef struct mbp_vector:
        const char *name
        const void *data
        int64_t count
    ctypedef struct mbp_extras:
        const char *text
        const mbp_vector *vector
        int count
    mbp_status mbp_net_save_with(const mbp_net *net, const mbp_extras *extras, const char *path, mbp_error *error)
    mbp_status mbp_net_load_with(mbp_net **net, mbp_extras **extras, const char *path, const mbp_options *options, mbp_error *error)
    mbp_status mbp_net_write_with(const mbp_net *net, const mbp_extras *extras, void *bytes, size_t *size, mbp_error *error)
    mbp_status mbp_net_read_with(mbp_net **net, mbp_extras **extras, const void *bytes, size_t size, const mbp_options *options, mbp_error *error)
    void mbp_extras_free(mbp_extras *extras)
    mbp_status mbp_trainer_save(const mbp_trainer *trainer, const char *path, mbp_error *error)
    mbp_status mbp_trainer_load(mbp_trainer **trainer, mbp_net **net, const char *path, const mbp_options *options, mbp_error *error)
    mbp_status mbp_trainer_write(const mbp_trainer *trainer, void *bytes, size_t *size, mbp_error *error)
    mbp_status mbp_trainer_read(mbp_trainer **trainer, mbp_net **net, const void *bytes, size_t size, const mbp_options *options,
                                mbp_error *error)

    mbp_status mbp_trainer_create(mbp_trainer **trainer, mbp_net *net, const char *const *losses, const double *loss_weights, int n_losses,
                                  const char *optimizer, mbp_error *error)
    mbp_batch mbp_batch_of(const mbp_array *x, const mbp_array *y)
    void mbp_trainer_free(mbp_trainer *trainer)
    mbp_status mbp_trainer_reserve(mbp_trainer *trainer, int64_t rows, mbp_error *error)
    size_t mbp_trainer_bytes(const mbp_trainer *trainer)
    mbp_status mbp_trainer_fit(mbp_trainer *trainer, const mbp_batch *data, const mbp_fit *how, mbp_record *record, mbp_error *error)
    mbp_status mbp_net_standardize(mbp_net *net, const mbp_array *x, int n_x, int again, mbp_error *error)
    mbp_status mbp_trainer_measure(mbp_trainer *trainer, const mbp_batch *batch, int output, const char *name, double *value,
                                   mbp_error *error)
    mbp_status mbp_trainer_set_reduce(mbp_trainer *trainer, const mbp_reduce *how, mbp_error *error)
    int64_t mbp_trainer_failed_rank(const mbp_trainer *trainer)
    mbp_status mbp_trainer_step(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error)
    mbp_status mbp_trainer_backward(mbp_trainer *trainer, const mbp_batch *batch, const mbp_backward *how, double *loss, mbp_error *error)
    mbp_status mbp_trainer_apply(mbp_trainer *trainer, mbp_error *error)
    mbp_status mbp_trainer_forward(mbp_trainer *trainer, const mbp_array *x, int n_x, mbp_error *error)
    mbp_status mbp_trainer_output(mbp_trainer *trainer, int i, mbp_array *output, mbp_error *error)
    mbp_status mbp_trainer_backward_from(mbp_trainer *trainer, const mbp_array *gradients, int n, const mbp_backward *how, mbp_error *error)
    mbp_status mbp_trainer_evaluate(mbp_trainer *trainer, const mbp_batch *batch, double *loss, mbp_error *error)
    mbp_status mbp_trainer_output_loss(const mbp_trainer *trainer, int i, double *value, mbp_error *error)
    mbp_status mbp_trainer_epoch(mbp_trainer *trainer, const mbp_batch *data, const int64_t *index, int64_t n, int64_t batch_rows,
                                 const double *lr, mbp_poll poll, void *user, double *loss, int64_t *steps, mbp_error *error)
    mbp_status mbp_minimize(const char *solver, const mbp_function *function, int64_t iterations, double goal, double gradient_tolerance,
                            double *x, double *gradient, mbp_minimum *minimum, mbp_error *error)
    mbp_status mbp_trainer_iterate(mbp_trainer *trainer, mbp_own_loss loss, void *user, int same, double *value, mbp_error *error)
    void *mbp_trainer_grads(mbp_trainer *trainer)
    void *mbp_trainer_slot(mbp_trainer *trainer, int i)
    int64_t mbp_trainer_solver_state(const mbp_trainer *trainer, double *numbers)
    mbp_status mbp_trainer_set_solver_state(mbp_trainer *trainer, const double *numbers, int64_t count, mbp_error *error)
    mbp_status mbp_trainer_sparse_grad(mbp_trainer *trainer, const char *layer, const int32_t **rows, mbp_array *values, mbp_error *error)
    mbp_status mbp_trainer_set_sparse(mbp_trainer *trainer, const char *layer, const int32_t *rows, int64_t count, mbp_error *error)
    mbp_status mbp_trainer_input_grad(mbp_trainer *trainer, int i, mbp_array *gradient, mbp_error *error)
    mbp_status mbp_trainer_get(const mbp_trainer *trainer, const char *name, double *value, mbp_error *error)
    mbp_status mbp_trainer_set(mbp_trainer *trainer, const char *name, double value, mbp_error *error)
    int64_t mbp_trainer_steps(const mbp_trainer *trainer)
    mbp_status mbp_trainer_set_steps(mbp_trainer *trainer, int64_t steps, mbp_error *error)
    mbp_status mbp_trainer_set_average(mbp_trainer *trainer, double decay, int64_t start, int64_t every, mbp_error *error)
    void *mbp_trainer_average(mbp_trainer *trainer, int64_t *count)
    mbp_status mbp_trainer_set_seed(mbp_trainer *trainer, uint64_t seed, mbp_error *error)
    mbp_status mbp_trainer_reset(mbp_trainer *trainer, mbp_error *error)
    void mbp_permutation(uint64_t seed, mbp_purpose purpose, uint64_t instance, int64_t n, int64_t *order)
    uint64_t mbp_hash(const void *bytes, size_t count, uint64_t seed)
    uint64_t mbp_hash_number(int64_t number, uint64_t seed)
    int64_t mbp_hash_level(uint64_t hash, int64_t levels)
    mbp_status mbp_int8_create(mbp_int8 **net, const mbp_int8_step *steps, int count, const char *output, const double *mean,
                               const double *std, const mbp_options *options, mbp_error *error)
    void mbp_int8_free(mbp_int8 *net)
    mbp_status mbp_int8_predict(mbp_int8 *net, const mbp_array *x, const mbp_array *out, int raw, mbp_error *error)
    mbp_status mbp_int8_reserve(mbp_int8 *net, int64_t rows, mbp_error *error)
    size_t mbp_int8_bytes(const mbp_int8 *net)
