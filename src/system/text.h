/* Floor 1: error texts, words, UTF-8 and numbers. Nothing here depends on the locale. */
#ifndef MBP_TEXT_H
#define MBP_TEXT_H

#include "microbp.h"

/* Fills *error (node, row and step -1, number 0) unless error is NULL, and returns status. */
__attribute__((format(printf, 3, 4))) mbp_status mbp_fail(mbp_error *error, mbp_status status, const char *format, ...);

/* Part of a text, not zero-terminated. */
typedef struct mbp_slice {
    const char *at;
    size_t length;
} mbp_slice;

mbp_slice mbp_slice_of(const char *text);
int mbp_slice_is(mbp_slice slice, const char *text);
/* Removes the first word from *rest and returns it; an empty slice if there is none. Words are separated by blanks. */
mbp_slice mbp_take_word(mbp_slice *rest);
/* Cuts *rest at the first `separator`: returns the part before it, and *rest becomes the part after it. Without a
 * separator it returns all of *rest, which becomes empty. */
mbp_slice mbp_take_until(mbp_slice *rest, char separator);

/* Whether the text is valid UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
int mbp_is_utf8(const char *text);

/* Reads the whole slice; returns 0 if it is not such a number. A decimal number has at most 15 digits and a
 * hexadecimal one (0x1.8p-3) at most 14, so that one operation rounds it to the nearest double. */
int mbp_parse_number(mbp_slice slice, double *value);
/* The same for digits alone, at most 18, without a sign. */
int mbp_parse_integer(mbp_slice slice, int64_t *value);
enum { MBP_NUMBER_SIZE = 40 };
/* Writes text that mbp_parse_number reads back as exactly this value; returns its length (less than
 * MBP_NUMBER_SIZE). */
size_t mbp_print_number(char *text, double value);

#endif
