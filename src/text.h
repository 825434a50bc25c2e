/* Floor 1: the only file that parses or prints: numbers, formula specs, error texts. Also where memory comes from. */
#ifndef MBP_TEXT_H
#define MBP_TEXT_H

#include "microbp.h"

/* Fills the error (node, row and step -1, number 0) if there is one, and returns status. */
__attribute__((format(printf, 3, 4))) mbp_status mbp_fail(mbp_error *error, mbp_status status, const char *format, ...);

/* A 64-byte aligned block, or NULL. allocator NULL: malloc. */
void *mbp_allocate(const mbp_allocator *allocator, size_t bytes);
void mbp_release(const mbp_allocator *allocator, void *block, size_t bytes);

/* A piece of a text, not zero-terminated. */
typedef struct mbp_slice {
    const char *at;
    size_t length;
} mbp_slice;

mbp_slice mbp_slice_of(const char *text);
int mbp_slice_is(mbp_slice slice, const char *text);
/* Takes the first word off *rest (words are separated by blanks); an empty word when there is none. */
mbp_slice mbp_take_word(mbp_slice *rest);
/* Cuts *rest at the first `separator`: returns what is before it and leaves what is after it. */
mbp_slice mbp_take_until(mbp_slice *rest, char separator);

/* Whether the bytes are UTF-8, of which every character has one form, and surrogates are none. */
int mbp_is_utf8(const char *text);

/* The whole slice as a number; 0 when it is none. Independent of the locale. */
int mbp_parse_number(mbp_slice slice, double *value);
int mbp_parse_integer(mbp_slice slice, int64_t *value);
/* Text that mbp_parse_number reads back as exactly this value; returns its length (< MBP_NUMBER_SIZE). */
enum { MBP_NUMBER_SIZE = 40 };
size_t mbp_print_number(char *text, double value);

typedef struct mbp_interval {
    double low, high;
    int low_open, high_open;
} mbp_interval;

mbp_interval mbp_parse_interval(mbp_slice text); /* "[0,inf)" and the like, from formulas.def */
int mbp_interval_has(mbp_interval interval, double value);

/* A parameter text, "lr=0.001[0,inf) momentum=0.9[0,1)", as formulas.def writes it: the parameter at position i. */
enum { MBP_PARAMETERS_MAX = 8 };
int mbp_parameter(const char *parameters, int i, mbp_slice *name, double *value, mbp_interval *interval);
/* Position of a parameter by name, or -1. */
int mbp_parameter_index(const char *parameters, mbp_slice name);
/* Checks a value against the interval of the parameter at position i. */
mbp_status mbp_parameter_check(const char *parameters, int i, double value, mbp_error *error);

/* The defaults of all parameters. */
void mbp_parameter_defaults(const char *parameters, double values[MBP_PARAMETERS_MAX]);
/* Reads "key=value" into its place; given: bits of the parameters that were set before. */
mbp_status mbp_parameter_read(mbp_slice pair, const char *parameters, double *values, unsigned *given, mbp_error *error);

/* The name of a spec `name(key=value,...)`. */
mbp_slice mbp_spec_name(mbp_slice spec);
/* Its parameters, defaults filled in. */
mbp_status mbp_spec_values(mbp_slice spec, const char *parameters, double values[MBP_PARAMETERS_MAX], mbp_error *error);

#endif
