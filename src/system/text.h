/* Floor 1: error texts, words, UTF-8 and numbers. Nothing here depends on the locale. */
#ifndef MBP_TEXT_H
#define MBP_TEXT_H

#include <stdarg.h>

#include "microbp.h"

/* Fills *error (node, row and step -1, number 0) unless error is NULL, and returns status. */
__attribute__((format(printf, 3, 4))) mbp_status mbp_fail(mbp_error *error, mbp_status status, const char *format, ...);

__attribute__((format(printf, 3, 0))) mbp_status mbp_fail_list(mbp_error *error, mbp_status status, const char *format,
                                                               va_list arguments);
/* Fails because a pointer is NULL. target: what it must point to, such as "an mbp_batch". */
mbp_status mbp_fail_null(mbp_error *error, const char *argument, const char *target);
/* Fails because there is no node (layer, output, ...) with number i among `count` of them. */
mbp_status mbp_fail_index(mbp_error *error, const char *noun, int i, int count);
/* Fails because the build does not have an extra of config.h. what: what needs it. */
mbp_status mbp_fail_extra(mbp_error *error, const char *what, const char *extra);
/* The end of a noun after this number: "" or "s". */
static inline const char *mbp_plural(int64_t count) { return count == 1 ? "" : "s"; }

/* Part of a text, not zero-terminated. */
typedef struct mbp_slice {
    const char *at;
    size_t length;
} mbp_slice;

/* An unknown word: collects the valid words for the error text, and the one that is closest to it. */
typedef struct mbp_unknown {
    mbp_slice word, closest; /* closest: empty if none is similar */
    int distance;
    char valid[160];       /* "sgd, adam, ..." */
    const char *valid_are; /* the word before them; NULL: "valid" */
    mbp_status status;     /* MBP_OK: MBP_INVALID */
} mbp_unknown;
/* Adds a valid word. Only the part before '=' is compared: "lr=0.001[0,inf)". */
void mbp_unknown_add(mbp_unknown *unknown, mbp_slice valid);
/* Fails with: WHAT "WORD"; did you mean "CLOSEST"? valid: VALID. what: such as "unknown optimizer". */
mbp_status mbp_unknown_fail(const mbp_unknown *unknown, const char *what, mbp_error *error);

mbp_slice mbp_slice_of(const char *text);
int mbp_slice_is(mbp_slice slice, const char *text);
int mbp_is_blank(char c);
/* Removes the first word from *rest and returns it; an empty slice if there is none. Words are separated by blanks. */
mbp_slice mbp_take_word(mbp_slice *rest);
/* Like mbp_take_word, but blanks between "(" and ")" are part of the word. */
mbp_slice mbp_take_term(mbp_slice *rest);
/* The slice without blanks at its ends. */
mbp_slice mbp_trimmed(mbp_slice slice);
/* Cuts *rest at the first `separator`: returns the part before it, and *rest becomes the part after it. Without a
 * separator it returns all of *rest, which becomes empty. */
mbp_slice mbp_take_until(mbp_slice *rest, char separator);

/* Whether the text is valid UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
int mbp_is_utf8(const char *text);

/* Reads the whole slice as a number; returns 0 if it is not one. A decimal number has at most 15 digits and a
 * hexadecimal one (0x1.8p-3) at most 14; it is rounded once, to the nearest double. */
int mbp_parse_number(mbp_slice slice, double *value);
/* Reads the whole slice as an integer: at most 18 digits, without a sign. Returns 0 if it is not one. */
int mbp_parse_integer(mbp_slice slice, int64_t *value);
enum { MBP_NUMBER_SIZE = 40 };
/* Writes text that mbp_parse_number reads back as exactly this value; returns its length (less than
 * MBP_NUMBER_SIZE). */
size_t mbp_print_number(char *text, double value);
/* Like mbp_print_number, but rounded to a float, for error texts: 0.1 and not 0.10000000149. */
size_t mbp_print_float(char *text, double value);

#endif
