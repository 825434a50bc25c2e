#include "system/text.h"
#include "system/floats.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

mbp_status mbp_fail_list(mbp_error *error, mbp_status status, const char *format, va_list arguments) {
    if (!error)
        return status;
    error->status = status;
    error->node = -1;
    error->number = 0;
    error->row = error->step = -1;
    /* The formats have only integers and strings, so the locale does not matter. */
    vsnprintf(error->text, sizeof error->text, format, arguments);
    return status;
}

mbp_status mbp_fail(mbp_error *error, mbp_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    mbp_fail_list(error, status, format, arguments);
    va_end(arguments);
    return status;
}

mbp_status mbp_fail_null(mbp_error *error, const char *argument, const char *target) {
    return mbp_fail(error, MBP_INVALID, "%s is NULL, but must point to %s", argument, target);
}

mbp_status mbp_fail_extra(mbp_error *error, const char *what, const char *extra) {
    char macro[16] = "";
    for (int i = 0; extra[i]; i++)
        macro[i] = (char)(extra[i] - 'a' + 'A');
    return mbp_fail(error, MBP_UNSUPPORTED,
                    "this build has no %s: add %s to MICROBP_EXTRAS, or compile microbp.c without -DMICROBP_%s=0", what,
                    extra, macro);
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
    if (length && u->valid[length - 1] == '.') /* it already ends with "..." */
        return;
    if (valid.length + sizeof ", , ..." < room)
        snprintf(u->valid + length, room, "%s%.*s", length ? ", " : "", (int)valid.length, valid.at);
    else if (length)
        snprintf(u->valid + length, room, ", ...");
}

mbp_status mbp_unknown_fail(const mbp_unknown *u, const char *what, mbp_error *error) {
    char hint[80] = ";";
    if (u->closest.length)
        snprintf(hint, sizeof hint, "; did you mean \"%.*s\"?", (int)u->closest.length, u->closest.at);
    return mbp_fail(error, u->status ? u->status : MBP_INVALID, "%s \"%.*s\"%s %s: %s", what,
                    smaller((int)u->word.length, 40), u->word.at, hint, u->valid_are ? u->valid_are : "valid",
                    *u->valid ? u->valid : "none");
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

mbp_slice mbp_trimmed(mbp_slice slice) {
    while (slice.length && mbp_is_blank(*slice.at))
        slice.at++, slice.length--;
    while (slice.length && mbp_is_blank(slice.at[slice.length - 1]))
        slice.length--;
    return slice;
}

mbp_slice mbp_take_term(mbp_slice *rest) {
    int inside = 0;
    while (rest->length && mbp_is_blank(*rest->at))
        rest->at++, rest->length--;
    mbp_slice term = {rest->at, 0};
    while (rest->length && (inside || !mbp_is_blank(*rest->at))) {
        inside = *rest->at == '(' || (inside && *rest->at != ')');
        rest->at++, rest->length--, term.length++;
    }
    return mbp_trimmed(term);
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

enum { EXPONENT_MAX = 100000 }; /* numbers with larger exponents are 0 or infinite anyway */

/* The exponent after 'e' or 'p', with or without a sign. */
static int parse_exponent(mbp_slice slice, int *exponent) {
    int negative = slice.length && *slice.at == '-';
    if (slice.length && (*slice.at == '-' || *slice.at == '+'))
        slice.at++, slice.length--;
    int64_t value;
    if (!mbp_parse_integer(slice, &value))
        return 0;
    const int size = (int)(value < EXPONENT_MAX ? value : EXPONENT_MAX);
    *exponent = negative ? -size : size;
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

/* mantissa x 10^exponent, correctly rounded: mantissa < 10^15 < 2^53 and 10^22 are exact, so the one multiplication or
 * division is the only rounding (Clinger 1990). Only for exponents from -22 to 22. */
static double scale_decimal(double mantissa, int exponent) {
    double power = 1;
    for (int i = 0; i < (exponent < 0 ? -exponent : exponent); i++)
        power *= 10;
    return exponent < 0 ? mantissa / power : mantissa * power;
}

/* A number of any size: the whole number in `limb`, base 2^32 from the lowest, times 2^exponent. */
enum { LIMBS = 80, FRACTION_LIMBS = 40 };
typedef struct big {
    uint32_t limb[LIMBS];
    int exponent, cut; /* cut: whether a part below 2^exponent was cut off */
} big;

static int bit(const big *b, int i) { return i >= 0 && b->limb[i / 32] >> i % 32 & 1; }

/* The number as a double, rounded once, to the nearest, and to even if two are equally near. */
static double round_big(const big *b) {
    int top = 32 * LIMBS - 1;
    while (top >= 0 && !bit(b, top))
        top--;
    if (top < 0)
        return 0;
    const int lowest = -1074 - b->exponent; /* the bit of the smallest subnormal number */
    const int last = top - 52 > lowest ? top - 52 : lowest;
    uint64_t mantissa = 0;
    for (int i = top; i >= last; i--)
        mantissa = mantissa << 1 | (uint64_t)bit(b, i);
    int more = b->cut; /* whether there is a part below half of the last bit */
    for (int i = 0; i < last - 1 && i <= top; i++)
        more |= bit(b, i);
    if (last - 1 <= top && bit(b, last - 1) && (more || mantissa & 1))
        mantissa++;
    return ldexp((double)mantissa, b->exponent + last);
}

static void multiply_by_10(big *b) {
    uint64_t carry = 0;
    for (int i = 0; i < LIMBS; i++, carry >>= 32) {
        carry += (uint64_t)b->limb[i] * 10;
        b->limb[i] = (uint32_t)carry;
    }
}

static void divide_by_10(big *b) {
    uint64_t rest = 0;
    for (int i = LIMBS - 1; i >= 0; i--, rest %= 10) {
        rest = rest << 32 | b->limb[i];
        b->limb[i] = (uint32_t)(rest / 10);
    }
    b->cut |= rest != 0;
}

/* mantissa x base^exponent, correctly rounded, for a mantissa below 2^56. base: 10 or 2. */
static double scale_exactly(int64_t mantissa, int base, int exponent) {
    const int powers = base == 10 ? exponent : 0;
    big b = {.exponent = (base == 2 ? exponent : 0) - 32 * FRACTION_LIMBS};
    if (mantissa == 0 || powers < -345) /* 10^17 x 10^-345 is less than half of the smallest subnormal number */
        return 0;
    if (powers > 308)
        return INFINITY;
    b.limb[FRACTION_LIMBS] = (uint32_t)mantissa;
    b.limb[FRACTION_LIMBS + 1] = (uint32_t)(mantissa >> 32);
    for (int i = 0; i < powers; i++)
        multiply_by_10(&b);
    for (int i = 0; i > powers; i--)
        divide_by_10(&b);
    return round_big(&b);
}

/* The part before the exponent's letter, a small or a capital one. *slice becomes the part after it. */
static mbp_slice take_digits(mbp_slice *slice, char letter) {
    mbp_slice rest = *slice, digits = mbp_take_until(&rest, letter);
    if (digits.length == slice->length)
        rest = *slice, digits = mbp_take_until(&rest, (char)(letter - 32));
    *slice = rest;
    return digits;
}

static MBP_APART int parse_number(mbp_slice slice, double *value) {
    int negative = slice.length && *slice.at == '-', exponent = 0, places;
    int64_t mantissa;
    if (slice.length && (*slice.at == '-' || *slice.at == '+'))
        slice.at++, slice.length--;
    if (mbp_slice_is(slice, "inf"))
        return *value = negative ? -INFINITY : INFINITY, 1;
    int hexadecimal = slice.length > 2 && slice.at[0] == '0' && (slice.at[1] | 32) == 'x';
    if (hexadecimal)
        slice.at += 2, slice.length -= 2;
    size_t whole = slice.length;
    mbp_slice digits = take_digits(&slice, hexadecimal ? 'p' : 'e');
    if (digits.length < whole && !parse_exponent(slice, &exponent))
        return 0;
    if (!parse_mantissa(digits, hexadecimal ? 16 : 10, &mantissa, &places))
        return 0;
    exponent -= (hexadecimal ? 4 : 1) * places;
    if (hexadecimal || exponent < -22 || exponent > 22)
        *value = scale_exactly(mantissa, hexadecimal ? 2 : 10, exponent);
    else
        *value = scale_decimal((double)mantissa, exponent);
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
        back = scale_decimal((double)whole, -places);
        if (as_float ? (float)back == (float)value : back == value)
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
