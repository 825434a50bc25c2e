/* Part of microbp.h: what all calls share: errors, arrays, options, formulas, threads, random numbers, hashes. */
#ifndef MICROBP_BASE_H
#define MICROBP_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(_WIN32)
#define MBP_API __attribute__((visibility("default")))
#else
#define MBP_API
#endif

#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 199901L)
#define MBP_INLINE static inline
#elif defined(__GNUC__)
#define MBP_INLINE static __inline__
#else
#define MBP_INLINE static
#endif

#define MBP_VERSION_MAJOR 0
#define MBP_VERSION_MINOR 1
#define MBP_VERSION_PATCH 0
#define MBP_VERSION "0.1.0"

typedef enum mbp_status {
    MBP_OK = 0,
    MBP_INVALID = 10,     /* an argument is wrong; the text names it and what it must be */
    MBP_UNSUPPORTED = 20, /* the request is valid, but this build cannot serve it */
    MBP_NO_MEMORY = 30,
    MBP_NONFINITE = 40, /* a loss or a gradient is NaN or infinite */
    MBP_BUSY = 50,      /* another thread is using the net or a trainer of it */
    MBP_CANCELLED = 60, /* the poll function asked to stop, or an exchange or another process failed */
    MBP_IO = 70,        /* the operating system refused a file operation */
    MBP_CORRUPT = 80    /* the bytes are not a microbp file, or are damaged */
} mbp_status;

typedef struct mbp_error {
    mbp_status status;
    int node;     /* the number of the node or layer at fault, or -1 */
    int64_t row;  /* the row of the batch at fault, or -1 */
    int64_t step; /* the step of the epoch at fault, or -1 */
    int number;   /* the errno of MBP_IO, or 0 */
    char text[256];
} mbp_error;

/* ---- arrays ---- */

typedef enum mbp_dtype {
    MBP_F32,
    MBP_F64,
    MBP_F16,
    MBP_I8,
    MBP_U8,
    MBP_I16,
    MBP_U16,
    MBP_I32,
    MBP_U32,
    MBP_I64,
    MBP_U64
} mbp_dtype;

/* A flag of mbp_array: rows or columns share memory on purpose; for example, a row_stride of 0 repeats one row. Without
 * the flag such strides are refused, because they are usually a mistake. */
enum { MBP_SHARED = 1 };

/* A matrix in the caller's memory. Functions only read it unless documented otherwise, and keep no pointer
 * to it. An array that is read needs no alignment. Strides may be negative. mbp_f32, mbp_labels, ... fill it in. */
typedef struct mbp_array {
    const void *data;
    mbp_dtype dtype;
    int64_t rows, cols;
    int64_t row_stride, col_stride; /* bytes from one row to the next, and from one column to the next */
    /* Compressed sparse rows (CSR): row i has the values data[indptr[i]] to data[indptr[i + 1] - 1], whose columns are
     * at the same positions of `indices`, in ascending order without repeats; the strides are not used. For inputs that
     * only dense layers and embeddings read; results have the bits of those of the dense array (if the weights are
     * finite, and except that -0 may be 0). NULL: dense. */
    const void *indptr, *indices;
    mbp_dtype index_dtype; /* of indptr and indices: MBP_I32 or MBP_I64 */
    int flags;             /* 0 or MBP_SHARED */
} mbp_array;

/* rows x cols elements of `item` bytes, contiguous, row by row (C order). */
MBP_INLINE mbp_array mbp_contiguous(const void *data, mbp_dtype dtype, int64_t item, int64_t rows, int64_t cols) {
    mbp_array array;
    array.data = data;
    array.dtype = dtype;
    array.rows = rows;
    array.cols = cols;
    array.row_stride = cols * item;
    array.col_stride = item;
    array.indptr = array.indices = NULL;
    array.index_dtype = MBP_I64;
    array.flags = 0;
    return array;
}

/* rows x cols floats or doubles, contiguous, row by row. Of `float x[4][2]`, x[0] is the first row. */
MBP_INLINE mbp_array mbp_f32(const float *data, int64_t rows, int64_t cols) {
    return mbp_contiguous(data, MBP_F32, 4, rows, cols);
}
MBP_INLINE mbp_array mbp_f64(const double *data, int64_t rows, int64_t cols) {
    return mbp_contiguous(data, MBP_F64, 8, rows, cols);
}
/* One class label per row, as int64_t. */
MBP_INLINE mbp_array mbp_labels(const int64_t *data, int64_t rows) { return mbp_contiguous(data, MBP_I64, 8, rows, 1); }
/* cols ids per row. */
MBP_INLINE mbp_array mbp_ids(const int64_t *data, int64_t rows, int64_t cols) {
    return mbp_contiguous(data, MBP_I64, 8, rows, cols);
}
MBP_INLINE mbp_array mbp_row(const float *data, int64_t cols) { return mbp_f32(data, 1, cols); } /* one row of floats */

/* ---- options ---- */

typedef struct mbp_allocator {
    void *(*allocate)(void *user, size_t bytes, size_t alignment); /* returns NULL if there is no memory */
    void (*release)(void *user, void *block, size_t bytes);
    void *user;
} mbp_allocator;

typedef struct mbp_pool mbp_pool;

typedef struct mbp_options {
    size_t size;                    /* sizeof(mbp_options) */
    mbp_dtype dtype;                /* MBP_F32 or MBP_F64: the type of parameters and of all arithmetic */
    uint64_t seed;                  /* of the initial parameters */
    const char *isa;                /* a name from mbp_isa_name; NULL: the one that suits this processor and net */
    const mbp_allocator *allocator; /* NULL: malloc */
    mbp_pool *pool; /* threads that help; must outlive the net; many nets may share it. NULL: only the calling thread */
    int threads;    /* how many threads may work for the net, the calling one included; 0: all of the pool */
} mbp_options;

typedef struct mbp_net mbp_net;
typedef struct mbp_trainer mbp_trainer;
typedef struct mbp_state mbp_state;

/* ---- lists of formulas; files and calls use their names, never their numbers ---- */

/* MBP_SOLVER: optimizers that use the loss of the same rows several times in a step. */
typedef enum mbp_kind {
    MBP_ACTIVATION,
    MBP_LOSS,
    MBP_OPTIMIZER,
    MBP_INITIALIZER,
    MBP_OUTPUT_ACTIVATION,
    MBP_SOLVER
} mbp_kind;

/* The version of the linked library, such as "0.1.0". MBP_VERSION is the version of this header. */
MBP_API const char *mbp_version(void);
/* Of the i-th formula of a kind; NULL after the last. Its parameters with default and range: "lr=0.001[0,inf)
 * beta1=0.9[0,1)", or "". Its meaning, what it computes: "z if z > 0, else slope z; Maas et al. 2013". */
MBP_API const char *mbp_formula_name(mbp_kind kind, int i);
MBP_API const char *mbp_formula_parameters(mbp_kind kind, int i);
MBP_API const char *mbp_formula_meaning(mbp_kind kind, int i);
/* For an optimizer: the names of its slots (state per parameter), like "m v" or "prev step_size=lr". `name=parameter`:
 * the slot starts at that value; otherwise at 0. For a loss: the output activation that it implies. For a solver: the
 * names of numbers that mbp_trainer_get reads. Otherwise "". */
MBP_API const char *mbp_formula_detail(mbp_kind kind, int i);
/* The i-th kernel variant of this build, best first, NULL after the last; whether it runs on this machine. */
MBP_API const char *mbp_isa_name(int i);
MBP_API int mbp_isa_runs(int i);

/* ---- threads; a library that is compiled without MICROBP_THREADS has no functions of pools ---- */

/* Makes a pool of threads that share the work of large calls; small calls run on the calling thread. Results have the
 * same bits for any number of threads. The threads start when they are first needed, and sleep when there is no work.
 * Any number of nets and threads may use one pool. It serves one caller at a time; a caller that finds it busy works
 * alone. After fork, the child may use the pool too; its threads are started again there. threads: the number of
 * threads, the calling one included, at most 255; 0: mbp_cpus(). allocator NULL: malloc. */
MBP_API mbp_status mbp_pool_create(mbp_pool **pool, int threads, const mbp_allocator *allocator, mbp_error *error);
MBP_API void mbp_pool_free(mbp_pool *pool); /* also stops its threads; no net may use it any more */
/* How many threads may share work: the number that the pool was made with, or its limit if lower. pool NULL: 1. */
MBP_API int mbp_pool_threads(const mbp_pool *pool);
/* Limits the threads of later work. Any thread may call it at any time. 1: no help; a large number: no limit. */
MBP_API mbp_status mbp_pool_set_limit(mbp_pool *pool, int limit, mbp_error *error);
MBP_API int mbp_cpus(void); /* how many processors this process may use, by affinity mask and control group's quota */

/* ---- random numbers (Philox 4x32-10): the same arguments give the same numbers on every machine ---- */

/* What the numbers are for. Other purposes have other numbers. */
typedef enum mbp_purpose {
    MBP_SHUFFLE = 2, /* the order of an epoch; instance: the epoch's number */
    MBP_SPLIT = 5    /* which rows are for validation */
} mbp_purpose;
/* Fills `order` with a permutation of 0 to n - 1. */
MBP_API void mbp_permutation(uint64_t seed, mbp_purpose purpose, uint64_t instance, int64_t n, int64_t *order);

/* ---- hashes: texts and ids as levels, 0 to levels - 1, the same on every machine ---- */

/* XXH64 of some bytes, such as a text in UTF-8. Other seeds give other hashes. bytes NULL: 0, unless count is 0. */
MBP_API uint64_t mbp_hash(const void *bytes, size_t count, uint64_t seed);
/* The same of a whole number: of its 8 bytes, lowest first. An id above INT64_MAX is converted to int64_t. */
MBP_API uint64_t mbp_hash_number(int64_t number, uint64_t seed);
/* Makes a level of a hash: hash * levels / 2^64, rounded down (Lemire 2019). A level has a probability of 1 / levels,
 * with a relative error below levels / 2^64. levels < 1: -1. With the same levels and seed, bp.hash_features of Python
 * gives the same. */
MBP_API int64_t mbp_hash_level(uint64_t hash, int64_t levels);

#ifdef __cplusplus
}
#endif

#endif
