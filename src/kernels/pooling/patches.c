#include "kernels/pooling/patches.h"

#include <string.h>

#include "config/config.h"

#if MICROBP_POSITIONS

/* ---- gather ---- */

/* Copies a run in pieces of a constant size; the last one ends with the run. Short: at most two of them. */
static inline __attribute__((always_inline)) void copy_run(char *to, const char *from, size_t bytes, const size_t piece,
                                                           const int is_short) {
    if (is_short)
        memcpy(to, from, piece);
    for (size_t at = 0; !is_short && at + piece < bytes; at += piece)
        memcpy(to + at, from + at, piece);
    memcpy(to + bytes - piece, from + bytes - piece, piece);
}

static inline __attribute__((always_inline)) void gather(const mbp_patches *p, size_t item, const char *image,
                                                         int64_t first, int64_t count, char *to, const size_t piece,
                                                         const int is_short) {
    const int64_t beside = p->beside * (int64_t)item, below = p->below * (int64_t)item, line = p->line * (int64_t)item,
                  run = p->run * (int64_t)item, runs = p->runs, lines = p->lines, places = p->places;
    const size_t bytes = (size_t)p->length * item, gap = (size_t)(p->ld - lines * runs * p->length) * item;
    int64_t i = first / places, j = first % places;
    for (const char *start = image + i * below; count; j = 0, start += below)
        for (; j < places && count; j++, count--, to += gap) {
            const char *from = start + j * beside;
            for (int64_t k = 0; k < lines; k++, from += line) {
                const char *next = from;
                int64_t l = runs;
                do {
                    copy_run(to, next, bytes, piece, is_short);
                    next += run, to += bytes;
                } while (--l);
            }
        }
}

void mbp_patches_gather(const mbp_patches *p, size_t item, const void *image, int64_t first, int64_t count, void *to) {
    const size_t bytes = (size_t)p->length * item;
    if (bytes > 32)
        gather(p, item, image, first, count, to, 32, 0);
    else if (bytes > 16)
        gather(p, item, image, first, count, to, 16, 1);
    else
        gather(p, item, image, first, count, to, 4, 0);
}

/* ---- add ---- */

#if MICROBP_TRAINING
#define ADD(T, name) \
    typedef T name##_vector __attribute__((vector_size(16), aligned(sizeof(T)), may_alias)); \
    typedef T name##_one __attribute__((vector_size(sizeof(T)), may_alias)); \
    static void name(const mbp_patches *p, const T *from, int64_t first, int64_t count, T *image) { \
        enum { LANES = 16 / sizeof(T) }; \
        from += (count - 1) * p->ld; \
        int64_t i = (first + count - 1) / p->places, j = (first + count - 1) % p->places; \
        for (; count; count--, from -= p->ld) { \
            const T *next = from; \
            for (int64_t k = 0; k < p->lines; k++) \
                for (int64_t l = 0; l < p->runs; l++, next += p->length) { \
                    T *to = image + i * p->below + j * p->beside + k * p->line + l * p->run; \
                    int64_t c = 0; \
                    for (; c + LANES <= p->length; c += LANES) \
                        *(name##_vector *)(to + c) += *(const name##_vector *)(next + c); \
                    for (; c < p->length; c++) \
                        *(name##_one *)(to + c) += *(const name##_one *)(next + c); \
                } \
            if (--j < 0) \
                i--, j = p->places - 1; \
        } \
    }
#if MICROBP_F32
ADD(float, add_f32)
#endif
#if MICROBP_F64
ADD(double, add_f64)
#endif

void mbp_patches_add(const mbp_patches *p, mbp_dtype dtype, const void *from, int64_t first, int64_t count,
                     void *image) {
    (void)dtype;
#if MICROBP_F32 && MICROBP_F64
    if (dtype == MBP_F64)
        add_f64(p, from, first, count, image);
    else
        add_f32(p, from, first, count, image);
#elif MICROBP_F32
    add_f32(p, from, first, count, image);
#else
    add_f64(p, from, first, count, image);
#endif
}
#endif
#endif
