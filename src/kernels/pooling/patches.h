/* Floor 1: patches, the numbers under a window that moves over the positions of one row. */
#ifndef MBP_PATCHES_H
#define MBP_PATCHES_H

#include "microbp.h"

/* The positions of a row, padded if the window needs it, are the image. Each place of the window has a patch: `lines`
 * lines of `runs` runs of `length` numbers side by side. Distances are in numbers of the image, but ld: between patches
 * in a matrix of them, a patch in each row. */
typedef struct mbp_patches {
    int64_t places;        /* in a row of places */
    int64_t beside, below; /* from a place to the next in its row, and to that in the next row */
    int64_t lines, line;
    int64_t runs, run;
    int64_t length;
    int64_t ld;
} mbp_patches;

/* Copies the patches of places first .. first + count - 1 to a matrix. item: bytes of a number. */
void mbp_patches_gather(const mbp_patches *p, size_t item, const void *image, int64_t first, int64_t count, void *to);
/* Adds them to the image, the last place first: each number of the image gets its addends in the order of their places
 * in a patch. */
void mbp_patches_add(const mbp_patches *p, mbp_dtype dtype, const void *from, int64_t first, int64_t count,
                     void *image);

/* The same for the rows of matrices, n numbers each: out = in. */
static inline void mbp_copy_rows(size_t item, int64_t rows, int64_t n, void *out, int64_t out_ld, const void *in,
                                 int64_t in_ld) {
    const mbp_patches p = {.places = rows, .beside = in_ld, .lines = 1, .runs = 1, .length = n, .ld = out_ld};
    mbp_patches_gather(&p, item, in, 0, rows, out);
}
/* out += in */
static inline void mbp_add_rows(mbp_dtype dtype, int64_t rows, int64_t n, void *out, int64_t out_ld, const void *in,
                                int64_t in_ld) {
    const mbp_patches p = {.places = rows, .beside = out_ld, .lines = 1, .runs = 1, .length = n, .ld = in_ld};
    mbp_patches_add(&p, dtype, in, 0, rows, out);
}

#endif
