#include "system/text.h"
#include "system/floats.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

mbp_status mbp_fail(mbp_error *error, mbp_status status, const char *format, ...) {
    if (!error)
        return status;
    error->status = status;
    error->node = -1;
    error->number = 0;
    error->row = error->step = -1;
    va_list arguments;
    va_start(arguments, format);
    /* The formats have only integers and strings, so the locale does not matter. */
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return status;
}

mbp_status mbp_fail_null(mbp_error *error, const char *argument, const char *target) {
    return mbp_fail(error, MBP_INVALID, "%s is NULL, but must point to %s", argument, target);
}

mbp_status mbp_fail_index(mbp_error *error, const char *noun, int i, int count) {
    return mbp_fail(error, MBP_INVALID, "there is no %s %d: the net has %d %s%s, numbered from 0", noun, i, count, noun,
                    mbp_plural(count));
}

/* ---- unknown words ---- */

static int smaller(int a, int b) { return a < b ? a : b; }

/* How many letters must be inserted, removed or replaced to turn one word into the other; case does not count
 * (Levenshtein 1966). -1 if a word is too long. */
static int distance(mbp_slice a, mbp_slice b) {
    enum { LONGEST = 64 };
    int row[LONGEST + 1]; /* row[j]: from the first i letters of a to the first j of b */
    if (a.length > LONGEST || b.length > LONGEST)
        return -1;
    for (int j = 0; j <= (int)b.length; j++)
        row[j] = j;
    for (int i = 0; i < (int)a.length; i++) {
        int before = row[0];
        row[0] = i + 1;
        for (int j = 0; j < (int)b.length; j++) {
            const int replaced = before + ((a.at[i] | 32) != (b.at[j] | 32));
            before = row[j + 1];
            row[j + 1] = smaller(replaced, smaller(row[j], before) + 1);
        }
    }
    return row[b.length];
}

void mbp_unknown_add(mbp_unknown *u, mbp_slice valid) {
    const size_t length = strlen(u->valid), room = sizeof u->valid - length;
    mbp_slice rest = valid;
    const mbp_slice name = mbp_take_until(&rest, '=');
    const int steps = distance(u->word, name);
    if (steps >= 0 && 3 * (size_t)steps <= u->word.length && (!u->closest.length || steps < u->distance)) {
        u->closest = name;
        u->distance = steps;
    }
    if (valid.length + sizeof ", , ..." < room)
        snprintf(u->valid + length, room, "%s%.*s", length ? ", " : "", (int)valid.length, valid.at);
    else if (length && u->valid[length - 1] != '.')
        snprintf(u->valid + length, room, ", ...");
}

mbp_status mbp_unknown_fail(const mbp_unknown *u, const char *what, mbp_error *error) {
    char hint[80] = ";";
    if (u->closest.length)
        snprintf(hint, sizeof hint, "; did you mean \"%.*s\"?", (int)u->closest.length, u->closest.at);
    return mbp_fail(error, MBP_INVALID, "%s \"%.*s\"%s valid: %s", what, smaller((int)u->word.length, 40), u->word.at,
                    hint, *u->valid ? u->valid : "none");
}

/* ---- words ---- */

mbp_slice mbp_slice_of(const char *text) { return (mbp_slice){text, strlen(text)}; }

int mbp_slice_is(mbp_slice slice, const char *text) {
    return slice.length == strlen(text) && memcmp(slice.at, text, slice.length) == 0;
}

/* Table 3-7 of the Unicode standard: the first byte decides how many bytes follow, and which values the second may
 * have. */
int mbp_is_utf8(const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if ((*c >= 0x80 && *c < 0xc2) || *c >= 0xf5)
            return 0;
        const int more = (*c >= 0xc2) + (*c >= 0xe0) + (*c >= 0xf0);
        unsigned char low = *c == 0xe0 ? 0xa0 : *c == 0xf0 ? 0x90 : 0x80;
        unsigned char high = *c == 0xed ? 0x9f : *c == 0xf4 ? 0x8f : 0xbf;
        for (int i = 0; i < more; i++, low = 0x80, high = 0xbf)
            if (*++c < low || *c > high)
                return 0;
    }
    return 1;
}

int mbp_is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

mbp_slice mbp_take_word(mbp_slice *rest) {
    while (rest->length && mbp_is_blank(*rest->at))
        rest->at++, rest->length--;
    mbp_slice word = {rest->at, 0};
    while (rest->length && !mbp_is_blank(*rest->at))
        rest->at++, rest->length--, word.length++;
    return word;
}

mbp_slice mbp_take_until(mbp_slice *rest, char separator) {
    const char *end = rest->length ? memchr(rest->at, separator, rest->length) : NULL;
    mbp_slice before = {rest->at, end ? (size_t)(end - rest->at) : rest->length};
    size_t used = before.length + (end != NULL);
    rest->at += used;
    rest->length -= used;
    return before;
}

/* ---- numbers ---- */

static int digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

int mbp_parse_integer(mbp_slice slice, int64_t *value) {
    int64_t total = 0;
    if (slice.length == 0 || slice.length > 18)
        return 0;
    for (size_t i = 0; i < slice.length; i++) {
        if (digit(slice.at[i]) > 9)
            return 0;
        total = total * 10 + digit(slice.at[i]);
    }
    *value = total;
    return 1;
}

/* The exponent after 'e' or 'p', with or without a sign. */
static int parse_exponent(mbp_slice slice, int *exponent) {
    int negative = slice.length && *slice.at == '-';
    if (slice.length && (*slice.at == '-' || *slice.at == '+'))
        slice.at++, slice.length--;
    int64_t value;
    if (slice.length > 5 || !mbp_parse_integer(slice, &value))
        return 0;
    *exponent = (int)(negative ? -value : value);
    return 1;
}

/* Digits with or without a point, in base 10 or 16: value = mantissa x base^-places. At most 15 decimal digits, which
 * are exact in a double, or 14 hexadecimal ones, which fit in 63 bits. Leading zeros do not count. */
static int parse_mantissa(mbp_slice slice, int base, int64_t *mantissa, int *places) {
    int point = 0, any = 0, digits = 0;
    *mantissa = *places = 0;
    for (size_t i = 0; i < slice.length; i++) {
        if (slice.at[i] == '.' && !point) {
            point = 1;
            continue;
        }
        if (digit(slice.at[i]) >= base)
            return 0;
        *mantissa = *mantissa * base + digit(slice.at[i]);
        *places += point;
        any = 1;
        digits += *mantissa != 0;
        if (digits > (base == 10 ? 15 : 14))
            return 0;
    }
    return any;
}

/* value = mantissa x 10^exponent, correctly rounded: mantissa < 10^15 < 2^53 and 10^22 are exact, so the one
 * multiplication or division is the only rounding (Clinger 1990). Returns 0 for exponents beyond 22. */
static int scale_decimal(double mantissa, int exponent, double *value) {
    double power = 1;
    if (exponent < -22 || exponent > 22)
        return mantissa == 0 ? (*value = 0, 1) : 0;
    for (int i = 0; i < (exponent < 0 ? -exponent : exponent); i++)
        power *= 10;
    *value = exponent < 0 ? mantissa / power : mantissa * power;
    return 1;
}

static MBP_APART int parse_number(mbp_slice slice, double *value) {
    int negative = slice.length && *slice.at == '-', exponent = 0, places;
    int64_t mantissa;
    if (slice.length && (*slice.at == '-' || *slice.at == '+'))
        slice.at++, slice.length--;
    int hexadecimal = slice.length > 2 && slice.at[0] == '0' && (slice.at[1] | 32) == 'x';
    if (hexadecimal)
        slice.at += 2, slice.length -= 2;
    if (mbp_slice_is(slice, "inf"))
        return *value = negative ? -INFINITY : INFINITY, 1;
    size_t whole = slice.length;
    mbp_slice digits = mbp_take_until(&slice, hexadecimal ? 'p' : 'e');
    if (digits.length < whole && !parse_exponent(slice, &exponent))
        return 0;
    if (!parse_mantissa(digits, hexadecimal ? 16 : 10, &mantissa, &places))
        return 0;
    if (hexadecimal)
        *value = ldexp((double)mantissa, exponent - 4 * places);
    else if (!scale_decimal((double)mantissa, exponent - places, value))
        return 0;
    if (negative)
        *value = -*value;
    return 1;
}

int mbp_parse_number(mbp_slice slice, double *value) {
    const mbp_float_state before = mbp_float_enter(MBP_KEEP_SUBNORMALS);
    const int found = parse_number(slice, value);
    mbp_float_leave(before);
    return found;
}

/* The shortest decimal (without an exponent, at most 15 digits) that reads back as this value, or as the same float;
 * returns 0 if there is none. */
static size_t print_decimal(char *text, double value, int as_float) {
    double power = 1;
    for (int places = 0; places <= 15; places++, power *= 10) {
        double mantissa = value * power + 0.5, back;
        if (mantissa >= 1e15)
            return 0;
        long long whole = (long long)mantissa, unit = (long long)power;
        if (scale_decimal((double)whole, -places, &back) && (as_float ? (float)back == (float)value : back == value))
            return (size_t)(places ? sprintf(text, "%lld.%0*lld", whole / unit, places, whole % unit)
                                   : sprintf(text, "%lld", whole));
    }
    return 0;
}

static MBP_APART size_t print_number(char *text, double value, int as_float) {
    size_t sign = value < 0;
    text[0] = '-';
    value = fabs(value);
    if (!isfinite(value))
        return sign + (size_t)sprintf(text + sign, isnan(value) ? "nan" : "inf");
    size_t length = print_decimal(text + sign, value, as_float);
    if (length)
        return sign + length;
    int exponent;
    long long mantissa = (long long)ldexp(frexp(value, &exponent), 53);
    return sign + (size_t)sprintf(text + sign, "0x%llxp%d", mantissa, exponent - 53);
}

size_t mbp_print_number(char *text, double value) {
    const mbp_float_state before = mbp_float_enter(MBP_KEEP_SUBNORMALS);
    const size_t length = print_number(text, value, 0);
    mbp_float_leave(before);
    return length;
}

size_t mbp_print_float(char *text, double value) {
    const mbp_float_state before = mbp_float_enter(MBP_KEEP_SUBNORMALS);
    const size_t length = print_number(text, value, 1);
    mbp_float_leave(before);
    return length;
}
