/* Floor 1: parameters and specs of formulas.
 *
 * A parameter text lists the parameters of a formula, each with its default and its interval, as formulas.def writes
 * them: "lr=0.001[0,inf) momentum=0.9[0,1)". A spec names a formula and sets some of its parameters:
 * "momentum(lr=0.01)". */
#ifndef MBP_SPEC_H
#define MBP_SPEC_H

#include "system/text.h"

typedef struct mbp_interval {
    double low, high;
    int low_open, high_open;
} mbp_interval;

/* The text must be an interval like "[0,inf)": it comes from formulas.def and is not checked. */
mbp_interval mbp_parse_interval(mbp_slice text);
/* NaN is in no interval. */
int mbp_interval_has(mbp_interval interval, double value);

enum { MBP_PARAMETERS_MAX = 8 };
/* The parameter at position i of a parameter text; returns 0 if there is none. */
int mbp_parameter(const char *parameters, int i, mbp_slice *name, double *value, mbp_interval *interval);
/* Adds all parameters to the list of valid words. */
void mbp_parameters_list(const char *parameters, mbp_unknown *unknown);
/* The position of the parameter with this name, or -1. */
int mbp_parameter_index(const char *parameters, mbp_slice name);
/* Checks a value against the interval of the parameter at position i. */
mbp_status mbp_parameter_check(const char *parameters, int i, double value, mbp_error *error);
void mbp_parameter_defaults(const char *parameters, double values[MBP_PARAMETERS_MAX]);
/* Reads "key=value" into values[position of key]. Bit i of *given: whether parameter i has been read; reading it a
 * second time is refused. */
mbp_status mbp_parameter_read(mbp_slice pair, const char *parameters, double *values, unsigned *given,
                              mbp_error *error);

/* The name in front of the parenthesis, or the whole spec if there is none. */
mbp_slice mbp_spec_name(mbp_slice spec);
/* The parameters of a spec that are lists, "q=[0.1 0.9]": `count` numbers in `inside`; count 0: a single number. The
 * slices point into the spec. */
typedef struct mbp_lists {
    struct {
        mbp_slice inside;
        int64_t count;
    } of[MBP_PARAMETERS_MAX];
} mbp_lists;
/* All parameter values of the spec: the given ones, and the defaults of the others. lists: NULL, or gets the lists, of
 * which `values` gets the first numbers; without it, a list is refused. */
mbp_status mbp_spec_values(mbp_slice spec, const char *parameters, double values[MBP_PARAMETERS_MAX], mbp_lists *lists,
                           mbp_error *error);

#endif
