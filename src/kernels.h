/* Floor 1: the kernel table. A table is all arithmetic on data for one ISA and one dtype; whoever holds it knows neither. Matrices are
 * row-major with a leading dimension ld in elements, at least the number of columns. */
#ifndef MBP_KERNELS_H
#define MBP_KERNELS_H

#include "microbp.h"

enum mbp_activation {
#define ACTIVATION(name, ...) ACTIVATION_##name,
#include "formulas.def"
    ACTIVATION_COUNT
};
enum mbp_loss_row {
#define LOSS(name, ...) LOSS_##name,
#define ROW_LOSS(name, ...) LOSS_##name,
#include "formulas.def"
    LOSS_COUNT
};
enum mbp_link_row {
#define LINK(name, ...) LINK_##name,
#define ROW_LINK(name, ...) LINK_##name,
#include "formulas.def"
    LINK_COUNT
};
enum mbp_initialiser {
#define INITIALISER(name, ...) INITIALISER_##name,
#include "formulas.def"
    INITIALISER_COUNT
};
enum mbp_optimizer {
#define OPTIMIZER(name, ...) OPTIMIZER_##name,
#define TRUST_OPTIMIZER(name, ...) OPTIMIZER_##name,
#include "formulas.def"
    OPTIMIZER_COUNT
};

enum { MBP_SLOTS_MAX = 3, MBP_CONSTANTS_MAX = 8, MBP_LOSS_CHUNK = 64, MBP_COLUMN_BLOCK = 64 };

/* A matrix in the net's dtype. */
typedef struct mbp_view {
    void *at;
    int64_t ld;
} mbp_view;

/* out (rows, n) from in (rows, n). Forward: y from z. Backward: out holds dy and becomes dz; in is the y or z that the row reads. out
 * may be in. parameters: the row's, in order. */
typedef void (*mbp_map)(int64_t rows, int64_t n, mbp_view out, mbp_view in, const double *parameters);

/* out (rows, n) from a and b (rows, n). */
typedef void (*mbp_binary)(int64_t rows, int64_t n, mbp_view out, mbp_view a, mbp_view b);

/* Where the random numbers of a matrix stand in the streams of random.h: element (row, column) has the number (first_row + row) x (n
 * rounded up to a multiple of 4) + column. amount: dropout's rate, or noise's standard deviation. */
typedef struct mbp_chance {
    uint64_t seed, step;
    uint32_t stream; /* purpose << 24 | node */
    int64_t first_row;
    double amount;
} mbp_chance;

/* out (rows, n) from in (rows, n) and random numbers. */
typedef void (*mbp_random_map)(int64_t rows, int64_t n, mbp_view out, mbp_view in, const mbp_chance *chance);

/* A normalisation of x (rows, n): xhat = (x - mean) inverse with the statistics of each row or of each column, y = gamma xhat + beta. */
typedef struct mbp_norm {
    int by_row;
    int64_t rows, n;
    mbp_view x, y, dy, dx;
    const void *gamma, *beta;
    double eps;
    double *mean, *variance, *inverse; /* of rows or columns; variance: biased, of columns only; inverse: 1 / sqrt(variance + eps) */
    double *sum, *product;             /* n each: the sums of dy and of dy xhat over the rows */
    void *dgamma, *dbeta;              /* these sums as gradients; dgamma NULL: not wanted */
    int add_gradients;                 /* they are added to what is there */
    int fixed;                         /* the statistics of columns do not depend on x */
    int add;                           /* dx is added to what is there */
    void *running;                     /* running means of the n columns, then variances */
    double momentum;                   /* of those */
} mbp_norm;
/* One part of it, for rows or columns first to last - 1. */
typedef void (*mbp_norm_part)(const mbp_norm *norm, int64_t first, int64_t last);

/* At most MBP_LOSS_CHUNK rows of a loss: returns the sum of weight x row loss in row order. gradient.at NULL: only that; else it gets
 * scale x weight x derivative. target: (rows, n), or NULL at and labels count. weight NULL: 1. */
typedef struct mbp_loss_rows {
    int64_t rows, n;
    mbp_view output, target, gradient;
    const int64_t *labels;
    const double *weight;
    double scale;
    const double *parameters;
} mbp_loss_rows;
typedef double (*mbp_loss)(const mbp_loss_rows *rows);

/* What becomes of a gradient before the optimizer's row sees it: scale x gradient, cut to -bound .. bound. And weight decay: decay p is
 * added to that, or where the row has it decoupled taken off p. */
typedef struct mbp_terms {
    double scale, bound; /* clipping by norm and by value; 1 and infinity: none */
    double decay;
} mbp_terms;

/* What runs along with an optimizer's steps besides its slots. */
typedef struct mbp_running {
    int64_t steps;          /* so far; while the constants of a step are made, with this one */
    double power[2];        /* running products of rates of decay */
    double loss, last_loss; /* of the gradients as they stand, and of the last update's; NaN: not known */
} mbp_running;

/* n parameters p from gradients g, slots and the optimizer's constants. */
typedef void (*mbp_update)(int64_t n, void *p, const void *g, void *const slots[MBP_SLOTS_MAX], const double constants[MBP_CONSTANTS_MAX],
                           const mbp_terms *terms);
/* The first pass of a row with a trust ratio: slots from gradients; sums[0]: of the squares of p, sums[1]: of the direction's, each as
 * sum_squares adds. The second is the row's mbp_update with a rate that was scaled by the ratio; it reads no gradient. */
typedef void (*mbp_measure)(int64_t n, const void *p, const void *g, void *const slots[MBP_SLOTS_MAX],
                            const double constants[MBP_CONSTANTS_MAX], const mbp_terms *terms, double sums[2]);

/* c (m, n) = start + the sum over k of a x b, each element one chain of fused multiply-adds in ascending k:
 *     MBP_NN  a (m, k), b (k, n)   forward: x W        (start: bias)
 *     MBP_NT  a (m, k), b (n, k)   backward: dz W^T    (start: 0, or what is stored)
 *     MBP_TN  a (k, m), b (k, n)   backward: x^T dz    (start: 0, or what is stored); also db, the sums of b's columns
 * b and bias may be read up to 63 bytes past their ends; a and c only where they are. */
typedef enum mbp_pattern { MBP_NN, MBP_NT, MBP_TN } mbp_pattern;
typedef struct mbp_product {
    mbp_pattern pattern;
    int64_t m, n, k;
    mbp_view a, b, c;
    const void *bias; /* MBP_NN: n elements the chains start from; NULL: 0 */
    int add;          /* the chains start from what is stored in c (and db) */
    void *db;         /* MBP_TN: n elements; NULL: not wanted */
    /* The finished piece of c goes through this map, if there is one: out = map(in), both laid out as c. */
    mbp_map map;
    mbp_view map_out, map_in;
    const double *parameters;
    int *nonfinite; /* MBP_TN: set to 1 when an element of c or db is NaN or infinite; NULL: not wanted */
    int threads;    /* how many will share the pieces, which are then small enough to be shared evenly; 0 and 1: one */
} mbp_product;

typedef struct mbp_kernels {
    const char *isa;
    mbp_dtype dtype;
    size_t pack; /* bytes of scratch that product_run needs for itself, 64-byte aligned */
    /* A product falls into pieces that own disjoint outputs; run does those from first to last - 1, in any order and thread. */
    int64_t (*product_pieces)(const mbp_product *p);
    void (*product_run)(const mbp_product *p, int64_t first, int64_t last, void *pack);
    mbp_map forward[ACTIVATION_COUNT], backward[ACTIVATION_COUNT];
    mbp_map link[LINK_COUNT];
    mbp_loss loss[LOSS_COUNT];
    mbp_update update[OPTIMIZER_COUNT];
    mbp_measure measure[OPTIMIZER_COUNT]; /* NULL: a row without a trust ratio */
    mbp_map copy, accumulate;                 /* out = in; out += in */
    mbp_map penalise, mix;                    /* out += p0 sign(in) + p1 in, sign(0) = 0; out += p0 (in - out) */
    mbp_random_map dropout, accumulate_dropout; /* out = in mask / (1 - rate); out += that */
    mbp_random_map noise[2];                    /* out = in + std x normal, by the dtype of the matrices: drawn in double, only in its table */
    mbp_binary add, multiply, accumulate_product; /* out = a + b; out = a b; out += a b */
    mbp_norm_part norm_columns, norm_fixed, norm_follow; /* columns: statistics of x, or the running ones; the running ones after a step */
    mbp_norm_part norm_sums;                             /* columns: sum and product, and the gradients */
    mbp_norm_part norm_rows, norm_apply, norm_backward;  /* rows: mean and inverse; y; dx */
    int (*finite)(int64_t n, const void *v);  /* whether all n are */
    /* The sum of n squares: 16 partial sums of doubles, element i in the i % 16th, and a fixed tree. */
    double (*sum_squares)(int64_t n, const void *v);
    /* Scales the columns of w (rows, n) whose Euclidean norm is above the limit back to it; squares are added in double, in row order. */
    void (*limit_columns)(int64_t rows, int64_t n, mbp_view w, double limit);
} mbp_kernels;

/* dispatch.c: the table of this name (NULL: the best that runs here), or NULL when there is none or it cannot run. */
const mbp_kernels *mbp_kernels_find(const char *isa, mbp_dtype dtype);

#endif
