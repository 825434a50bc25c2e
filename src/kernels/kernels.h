/* Floor 2: the table of kernels. A table has all arithmetic on arrays for one ISA and one dtype; its users do not know
 * which. Matrices are row-major with a leading dimension ld in elements, which is at least the number of columns. */
#ifndef MBP_KERNELS_H
#define MBP_KERNELS_H

#include "config/config.h"
#include "formulas/running.h"
#include "microbp.h"

enum mbp_activation {
#define ACTIVATION(name, ...) ACTIVATION_##name,
#include "formulas/formulas.def"
    ACTIVATION_COUNT
};
enum mbp_loss_row {
#define LOSS(name, ...) LOSS_##name,
#define ROW_LOSS(name, ...) LOSS_##name,
#include "formulas/formulas.def"
    LOSS_COUNT
};
enum mbp_output_activation {
#define OUTPUT_ACTIVATION(name, ...) OUTPUT_ACTIVATION_##name,
#define ROW_OUTPUT_ACTIVATION(name, ...) OUTPUT_ACTIVATION_##name,
#include "formulas/formulas.def"
    OUTPUT_ACTIVATION_COUNT
};
enum mbp_initializer {
#define INITIALIZER(name, ...) INITIALIZER_##name,
#include "formulas/formulas.def"
    INITIALIZER_COUNT
};
enum mbp_optimizer {
#define OPTIMIZER(name, ...) OPTIMIZER_##name,
#define TRUST_OPTIMIZER(name, ...) OPTIMIZER_##name,
#include "formulas/formulas.def"
    OPTIMIZER_COUNT
};

enum { MBP_SLOTS_MAX = 3, MBP_CONSTANTS_MAX = 8, MBP_LOSS_CHUNK = 64, MBP_COLUMN_BLOCK = 64 };

/* A matrix in the net's dtype. */
typedef struct mbp_view {
    void *at;
    int64_t ld;
} mbp_view;

/* For mbp_kernels.map: out (rows, n) from in (rows, n); out may be in. Forward: y from z. Backward: out holds dy and
 * gets dz, and in holds y or z, whichever the activation keeps. given: two parameters in the dtype. A call computes the
 * whole vectors of n elements; in small code one element. */
typedef void (*mbp_map)(int64_t n, void *out, const void *in, const void *given);

/* For mbp_kernels.binary: out (rows, n) from a and b (rows, n); out may be a, and b may be one row for all (ld 0).
 * Only that function knows what it takes (elementwise.h). */
typedef void (*mbp_binary)(void);

/* out (rows, n) from in (rows, n); out may be in. */
typedef void (*mbp_output_map)(int64_t rows, int64_t n, mbp_view out, mbp_view in);

/* The position of a matrix in the streams of random.h: element (row, column) uses the random number
 * (first_row + row) * (n rounded up to a multiple of 4) + column.
 * amount: the rate of dropout, or the standard deviation of noise. */
typedef struct mbp_chance {
    uint64_t seed, step;
    uint32_t stream; /* purpose << 24 | node */
    int64_t first_row;
    double amount;
} mbp_chance;

/* out (rows, n) from in (rows, n) and random numbers. */
typedef void (*mbp_random_map)(int64_t rows, int64_t n, mbp_view out, mbp_view in, const mbp_chance *chance);

/* A normalization of x (rows, n): xhat = (x - mean) * inverse, with statistics of each row or of each column, and
 * y = gamma xhat + beta. */
typedef struct mbp_norm {
    int by_row;
    int64_t rows, n;
    int64_t count; /* for norm_backward: how many rows the statistics of columns are of */
    mbp_view x, y, dy, dx;
    const void *gamma, *beta;
    double eps;
    double *mean;          /* of each row or column; for norm_sums NULL if xhat is x */
    double *variance;      /* of each column, biased; not used for rows */
    double *inverse;       /* 1 / sqrt(variance + eps) of each row or column */
    double *sum, *product; /* n each: the sums of dy and of dy xhat over the rows */
    void *dgamma, *dbeta;  /* the gradients of gamma and beta; NULL: not wanted */
    int add_gradients;     /* 1: add to dgamma and dbeta; 0: overwrite them */
    int fixed;             /* 1: the statistics of columns do not depend on x */
    int add;               /* 1: add to dx; 0: overwrite it */
    void *running;         /* running means of the n columns, then their running variances */
    double momentum;       /* of the running statistics */
} mbp_norm;
/* One part of a normalization, for the rows or columns first to last - 1. */
typedef void (*mbp_norm_part)(const mbp_norm *norm, int64_t first, int64_t last);

/* At most MBP_LOSS_CHUNK rows of a loss. An mbp_loss returns the sum of weight * row loss, added in row order. If
 * gradient.at is not NULL, gradient gets scale * weight * derivative. The targets are target (rows, targets) or, if
 * target.at is NULL, labels. weight NULL: every weight is 1. columns: MBP_LOSS_PARAMETERS for each of the n
 * columns, and column j is compared with target j % targets; NULL: `parameters` for all, and targets is that of the
 * formula. */
enum { MBP_LOSS_PARAMETERS = 3 };
typedef struct mbp_loss_rows {
    int64_t rows, n;
    mbp_view output, target, gradient;
    const int64_t *labels;
    const double *weight;
    double scale;
    const double *parameters;
    const double *columns;
    int64_t targets;
} mbp_loss_rows;
typedef double (*mbp_loss)(const mbp_loss_rows *rows);

/* What happens to a gradient before the optimizer gets it: it is multiplied by scale, then clipped to -bound .. bound.
 * Weight decay: decay * p is then added to the gradient or, if the optimizer decouples it, subtracted from p. */
typedef struct mbp_terms {
    double scale; /* from clipping by norm; 1: no clipping */
    double bound; /* from clipping by value; infinity: no clipping */
    double decay;
} mbp_terms;

/* Updates n parameters p and their slots, from gradients g and the constants of the step. */
typedef void (*mbp_update)(int optimizer, int64_t n, void *p, const void *g, void *const slots[MBP_SLOTS_MAX],
                           const double constants[MBP_CONSTANTS_MAX], const mbp_terms *terms);
/* The first of the two passes of an optimizer with a trust ratio. It updates the slots from the gradients. sums[0]
 * gets the sum of squares of p and sums[1] that of the direction, both added like sum_squares. The second pass is the
 * mbp_update of the optimizer, with its learning rate scaled by the trust ratio; it reads no gradients. */
typedef void (*mbp_measure)(int64_t n, const void *p, const void *g, void *const slots[MBP_SLOTS_MAX],
                            const double constants[MBP_CONSTANTS_MAX], const mbp_terms *terms, double sums[2]);

/* c (m, n) = start + the sum over k of a * b. Each element is one chain of fused multiply-adds in ascending k:
 *     MBP_NN  a (m, k), b (k, n)   forward: x W        (start: bias)
 *     MBP_NT  a (m, k), b (n, k)   backward: dz W^T    (start: 0, or the stored c)
 *     MBP_TN  a (k, m), b (k, n)   backward: x^T dz    (start: 0, or the stored c); also db, the column sums of b
 * b and bias may be read up to 63 bytes past their ends; a and c are not. */
typedef enum mbp_pattern { MBP_NN, MBP_NT, MBP_TN } mbp_pattern;
typedef struct mbp_product {
    mbp_pattern pattern;
    int64_t m, n, k;
    mbp_view a, b, c;
    const void *bias; /* MBP_NN: n start values; NULL: 0 */
    int add;          /* 1: start from the stored values of c and db */
    void *db;         /* MBP_TN: n elements; NULL: not wanted */
    /* Applied to each finished piece of c, unless map is NULL: out = map(in). Both have the layout of c. */
    mbp_map map;
    mbp_view map_out, map_in;
    const double *parameters;
    int *nonfinite; /* MBP_TN: set to 1 if an element of c or db is NaN or infinite; NULL: not wanted */
    int threads;    /* number of threads that share the pieces; above 1, pieces are small enough to be shared evenly */
} mbp_product;

/* Sparse rows, with values in the net's dtype: row i has the values start[i] to start[i + 1] - 1. */
typedef struct mbp_csr {
    int64_t *start;
    int32_t *column; /* ascending in each row */
    void *value;
} mbp_csr;

/* c (rows, n) = start + a b, where a (rows, k) is sparse. Each element has the bits of that of the product of the dense
 * matrix, if b is finite: a zero of a changes nothing. Only -0 may become 0, as after adding a zero. */
typedef struct mbp_sparse_product {
    mbp_csr a;
    int64_t n, k;
    mbp_view b, c;
    const void *bias;     /* n start values; NULL: 0 */
    int add;              /* 1: start from the stored values of c */
    const int32_t *place; /* for each row of a, the row of c; NULL: the same */
    int *nonfinite;       /* set to 1 if an element of c is NaN or infinite; NULL: not wanted */
} mbp_sparse_product;

#if MICROBP_TRAINING
/* What two instruction sets may have in common. */
typedef struct mbp_training_kernels {
    mbp_loss loss[LOSS_COUNT]; /* NULL: the loss is in row_loss */
    mbp_update update;
    mbp_measure measure[OPTIMIZER_COUNT]; /* NULL: the optimizer has no trust ratio */
#if MICROBP_SPARSE
    /* n numbers p and s become by[0] p + by[1] s and by[2] p + by[3] s. s NULL: p becomes by[0] p. */
    void (*combine)(int64_t n, void *p, void *s, const double by[4]);
#endif
    /* For columns: statistics of x; update of the running ones; sums, with dgamma and dbeta. For rows: dx. */
    mbp_norm_part norm_columns, norm_follow, norm_sums, norm_backward;
} mbp_training_kernels;
#endif

typedef struct mbp_kernels {
    const char *isa;
    mbp_dtype dtype;
    /* A product consists of pieces with disjoint outputs. product_run computes the pieces first to last - 1, or from
     * first on if `last` is larger than their number; they may be computed in any order and by any thread. */
    int64_t (*product_pieces)(const mbp_product *p);
    void (*product_run)(const mbp_product *p, int64_t first, int64_t last, void *scratch);
    /* The bytes of scratch (64-byte aligned) that product_run needs for this pattern, m, n, k and b.ld, and for the
     * same with smaller m, n and k; nothing else of p is read. */
    size_t (*product_scratch)(const mbp_product *p);
#if MICROBP_SPARSE
    void (*sparse_product)(const mbp_sparse_product *p, int64_t first, int64_t last); /* rows first to last - 1 of a */
#endif
    /* A map of the table; parameters: two of the formula, in order, or NULL. A binary function of the table. */
    void (*map)(mbp_map map, int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters);
    void (*binary)(mbp_binary binary, int64_t rows, int64_t n, mbp_view out, mbp_view a, mbp_view b);
    mbp_map forward[ACTIVATION_COUNT];
    mbp_output_map output[OUTPUT_ACTIVATION_COUNT];
    mbp_map copy;                               /* out = in */
    mbp_binary add, subtract, multiply, divide; /* out = a + b, a - b, a b, a / b */
    /* For columns: statistics from the running ones. For rows: mean and inverse of each row. For both: y. */
    mbp_norm_part norm_fixed, norm_rows, norm_apply;
#if MICROBP_TRAINING
    const mbp_training_kernels *training;
    mbp_loss row_loss[LOSS_COUNT];
    mbp_map backward[ACTIVATION_COUNT];
    mbp_map accumulate, negate;                 /* out += in; out = -in */
    mbp_binary accumulate_product;              /* out += a b */
    mbp_map penalize;                           /* out += p0 sign(in) + p1 in, with sign(0) = 0 */
    mbp_map mix;                                /* out += p0 (in - out) */
    mbp_random_map dropout, accumulate_dropout; /* out = in mask / (1 - rate); out += that */
    mbp_random_map noise;                       /* out = in + std x normal (noise.c) */
    int (*finite)(int64_t n, const void *v);    /* 1 if all n elements are finite */
    /* The sum of n squares in double. 16 partial sums, with element i in number i % 16, are added by one fixed tree. */
    double (*sum_squares)(int64_t n, const void *v);
    /* Scales down each column of w (rows, n) whose Euclidean norm exceeds the limit, so that its norm is the limit.
     * Squares are added in double, in row order. */
    void (*limit_columns)(int64_t rows, int64_t n, mbp_view w, double limit);
#endif
} mbp_kernels;

#if MICROBP_TRAINING
static inline mbp_loss mbp_loss_of(const mbp_kernels *kernels, int row) {
    return kernels->training->loss[row] ? kernels->training->loss[row] : kernels->row_loss[row];
}
#endif

/* dispatch.c: the table for an ISA; isa NULL: the best that runs here. Returns NULL if this build has no such table or
 * it cannot run here. */
const mbp_kernels *mbp_kernels_find(const char *isa, mbp_dtype dtype);
#if MICROBP_AVX512
/* dispatch.c: whether the processor has the dot products of AVX-512 VNNI. */
int mbp_has_vnni(void);
#endif
/* dispatch.c: the table for a net whose widest node has this many columns. */
const mbp_kernels *mbp_kernels_suited(mbp_dtype dtype, int64_t widest);

#endif
