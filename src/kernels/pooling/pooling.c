#include "kernels/pooling/pooling.h"

#include "config/config.h"

/* Loops over the places of y: `at` counts them, `from` is the first position of x under each. */
#define EACH_PLACE(p) \
    for (int64_t line = 0, at = 0; line < (p)->out_height; line++) \
        for (int64_t i = 0, from = line * (p)->stride[0] * (p)->across; i < (p)->out_across; \
             i++, at++, from += (p)->stride[1])
/* Over the positions under a window, from the first on: `k` of them in a line, `under` after the first one. */
#define EACH_UNDER(p) \
    for (int64_t under = 0, k = 0, lines = (p)->size[0]; lines; \
         ++k == (p)->size[1] ? (void)(lines--, k = 0, under += (p)->across - (p)->size[1] + 1) : (void)under++)

/* Runs the statements for all columns, in vectors of 16 bytes and then one by one. */
#define COLUMNS(T, body) \
    do { \
        typedef T vector __attribute__((vector_size(16), aligned(sizeof(T)), may_alias)); \
        int64_t j = 0; \
        for (; j + (int64_t)(16 / sizeof(T)) <= n; j += (int64_t)(16 / sizeof(T))) \
            body(vector, j); \
        typedef T one __attribute__((vector_size(sizeof(T)), aligned(sizeof(T)), may_alias)); \
        for (; j < n; j++) \
            body(one, j); \
    } while (0)
/* One of two vectors, lane by lane. */
#define CHOOSE(V, mask, a, b) ((V)(((mask) & (__typeof__(mask))(a)) | (~(mask) & (__typeof__(mask))(b))))

/* Of the positions of x under a window, in vectors of columns from j on. */
#define SEEN(V, j) (*(const V *)(first + under * p->ld + (j)))
#define LARGEST_OF(V, j) \
    do { \
        V largest = *(const V *)(first + (j)); \
        EACH_UNDER(p) \
        largest = CHOOSE(V, (SEEN(V, j) <= largest) | (largest != largest), largest, SEEN(V, j)); \
        *(V *)(out + (j)) = largest; \
    } while (0)
#define MEAN_OF(V, j) \
    do { \
        V sum = *(const V *)(first + (j)); \
        EACH_UNDER(p) \
        if (under) \
            sum += SEEN(V, j); \
        *(V *)(out + (j)) = sum / (divisor - (V){0}); \
    } while (0)

/* Of one dtype. The largest keeps the first of equal numbers, and NaN; its gradient goes to that position. */
#define FORWARD(T, LARGEST, MEAN) \
    static void LARGEST(const mbp_pooling *p, const void *x, void *y) { \
        const int64_t n = p->n; \
        EACH_PLACE(p) { \
            const T *first = (const T *)x + from * p->ld; \
            T *out = (T *)y + at * n; \
            COLUMNS(T, LARGEST_OF); \
        } \
    } \
    static void MEAN(const mbp_pooling *p, const void *x, void *y) { \
        const int64_t n = p->n; \
        const T divisor = (T)(p->size[0] * p->size[1]); \
        EACH_PLACE(p) { \
            const T *first = (const T *)x + from * p->ld; \
            T *out = (T *)y + at * n; \
            COLUMNS(T, MEAN_OF); \
        } \
    }

/* The gradient goes to the first position with this number. */
#define TO_FIRST(V, j) \
    do { \
        const V o = *(const V *)(out + j), dy = *(const V *)(d + j); \
        __typeof__(o != o) left = (o == o) | (o != o); \
        EACH_UNDER(p) { \
            const V v = SEEN(V, j); \
            V *to = (V *)(start + under * dx_ld + j); \
            const __typeof__(left) here = left & ((v == o) | ((v != v) & (o != o))); \
            *to = CHOOSE(V, here, *to + dy, *to); \
            left &= ~here; \
        } \
    } while (0)
#define SHARE(V, j) *(V *)(to + j) += *(const V *)(d + j) / (divisor - (V){0})

#define BACKWARD(T, TO_LARGEST, TO_ALL) \
    static void TO_LARGEST(const mbp_pooling *p, const void *x, const void *y, const void *dy_rows, void *dx, \
                           int64_t dx_ld) { \
        const int64_t n = p->n; \
        EACH_PLACE(p) { \
            const T *first = (const T *)x + from * p->ld, *out = (const T *)y + at * n; \
            const T *d = (const T *)dy_rows + at * n; \
            T *start = (T *)dx + from * dx_ld; \
            COLUMNS(T, TO_FIRST); \
        } \
    } \
    static void TO_ALL(const mbp_pooling *p, const void *x, const void *y, const void *dy, void *dx, int64_t dx_ld) { \
        const int64_t n = p->n; \
        const T divisor = (T)(p->size[0] * p->size[1]); \
        (void)x, (void)y; \
        EACH_PLACE(p) { \
            const T *d = (const T *)dy + at * n; \
            EACH_UNDER(p) { \
                T *to = (T *)dx + (from + under) * dx_ld; \
                COLUMNS(T, SHARE); \
            } \
        } \
    }

#if MICROBP_POSITIONS && MICROBP_F32
FORWARD(float, pool_largest_f32, pool_mean_f32)
#define F32(name) pool_##name##_f32
#else
#define F32(name) NULL
#endif
#if MICROBP_POSITIONS && MICROBP_F64
FORWARD(double, pool_largest_f64, pool_mean_f64)
#define F64(name) pool_##name##_f64
#else
#define F64(name) NULL
#endif
#if MICROBP_POSITIONS && MICROBP_F32 && MICROBP_TRAINING
BACKWARD(float, pool_to_largest_f32, pool_to_all_f32)
#endif
#if MICROBP_POSITIONS && MICROBP_F64 && MICROBP_TRAINING
BACKWARD(double, pool_to_largest_f64, pool_to_all_f64)
#endif

mbp_pool_forward mbp_pool_forward_of(mbp_dtype dtype, int kind) {
    static const mbp_pool_forward forward[2][2] = {{F32(largest), F32(mean)}, {F64(largest), F64(mean)}};
    return forward[dtype == MBP_F64][kind];
}

mbp_pool_backward mbp_pool_backward_of(mbp_dtype dtype, int kind) {
#if MICROBP_TRAINING
    static const mbp_pool_backward backward[2][2] = {{F32(to_largest), F32(to_all)}, {F64(to_largest), F64(to_all)}};
    return backward[dtype == MBP_F64][kind];
#else
    (void)dtype, (void)kind;
    return NULL;
#endif
}
