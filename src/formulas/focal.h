/* Floor 1: losses with gamma, the focal losses of Lin et al. 2017, equation 4. They are rare, so they are compiled
 * once, in double, not in each variant of the kernels. */
#ifndef MBP_FOCAL_H
#define MBP_FOCAL_H

#include <stdint.h>

/* o, t, value and gradient have n elements, double if f64, else float. p: the parameters of the loss. gradient may be
 * NULL; it gets scale times the derivative.
 * bce: the value of each element, each with its target. cross_entropy: returns the loss of a row with the targets t or,
 * if t is NULL, the class `label`. */
void mbp_focal_bce(int f64, int64_t n, const void *o, const void *t, void *value, void *gradient, double scale,
                   const double p[]);
double mbp_focal_cross_entropy(int f64, int64_t n, const void *o, const void *t, int64_t label, const double p[],
                               double scale, void *gradient);

#endif
