#include "text.h"
#include "floats.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

mbp_status mbp_fail(mbp_error *error, mbp_status status, const char *format, ...) {
    if (!error)
        return status;
    error->status = status;
    error->node = -1;
    error->number = 0;
    error->row = error->step = -1;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments); /* integers and strings only: no locale */
    va_end(arguments);
    return status;
}

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20, LARGE = 4 * HUGE_PAGE };

/* Large blocks ask for huge pages, which a step of 2048-4096-4096-1000 is 3 % faster with. */
static void *allocate_own(size_t bytes) {
    const size_t alignment = bytes < LARGE ? ALIGNMENT : HUGE_PAGE;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    void *block = aligned_alloc(alignment, bytes);
#ifdef MADV_HUGEPAGE
    if (block && bytes >= LARGE)
        (void)madvise(block, bytes, MADV_HUGEPAGE);
#endif
    return block;
}

void *mbp_allocate(const mbp_allocator *allocator, size_t bytes) {
    if (bytes > PTRDIFF_MAX - HUGE_PAGE)
        return NULL;
    return allocator ? allocator->allocate(allocator->user, bytes, ALIGNMENT) : allocate_own(bytes);
}

void mbp_release(const mbp_allocator *allocator, void *block, size_t bytes) {
    if (allocator && block)
        allocator->release(allocator->user, block, bytes);
    else
        free(block);
}

mbp_slice mbp_slice_of(const char *text) { return (mbp_slice){text, strlen(text)}; }

int mbp_slice_is(mbp_slice slice, const char *text) {
    return slice.length == strlen(text) && memcmp(slice.at, text, slice.length) == 0;
}

/* Table 3-7 of the Unicode standard: only the second byte's range depends on the first. */
int mbp_is_utf8(const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        const int more = *c < 0x80 ? 0 : *c >= 0xc2 && *c < 0xe0 ? 1 : *c >= 0xe0 && *c < 0xf0 ? 2 : *c >= 0xf0 && *c < 0xf5 ? 3 : -1;
        unsigned char low = *c == 0xe0 ? 0xa0 : *c == 0xf0 ? 0x90 : 0x80, high = *c == 0xed ? 0x9f : *c == 0xf4 ? 0x8f : 0xbf;
        if (more < 0)
            return 0;
        for (int i = 0; i < more; i++, low = 0x80, high = 0xbf)
            if (*++c < low || *c > high)
                return 0;
    }
    return 1;
}

static int is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

mbp_slice mbp_take_word(mbp_slice *rest) {
    while (rest->length && is_blank(*rest->at))
        rest->at++, rest->length--;
    mbp_slice word = {rest->at, 0};
    while (rest->length && !is_blank(*rest->at))
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

/* The exponent after 'e' or 'p', with its sign. */
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

/* Digits with an optional point, in base 10 or 16: value = mantissa x base^-places. At most 15 decimal or 14 hexadecimal digits,
 * so that the mantissa is exact in a double; leading zeros are free. */
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

/* mantissa < 10^15 < 2^53 and 10^22 are exact, so one operation rounds correctly (Clinger 1990). */
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

/* The shortest mantissa x 10^-places that reads back, as a plain decimal with at most 15 digits; 0 when there is none. */
static size_t print_decimal(char *text, double value) {
    double power = 1;
    for (int places = 0; places <= 15; places++, power *= 10) {
        double mantissa = value * power + 0.5, back;
        if (mantissa >= 1e15)
            return 0;
        long long whole = (long long)mantissa, unit = (long long)power;
        if (scale_decimal((double)whole, -places, &back) && back == value)
            return (size_t)(places ? sprintf(text, "%lld.%0*lld", whole / unit, places, whole % unit) : sprintf(text, "%lld", whole));
    }
    return 0;
}

static MBP_APART size_t print_number(char *text, double value) {
    size_t sign = value < 0;
    text[0] = '-';
    value = fabs(value);
    if (!isfinite(value))
        return sign + (size_t)sprintf(text + sign, isnan(value) ? "nan" : "inf");
    size_t length = print_decimal(text + sign, value);
    if (length)
        return sign + length;
    int exponent;
    long long mantissa = (long long)ldexp(frexp(value, &exponent), 53);
    return sign + (size_t)sprintf(text + sign, "0x%llxp%d", mantissa, exponent - 53);
}

size_t mbp_print_number(char *text, double value) {
    const mbp_float_state before = mbp_float_enter(MBP_KEEP_SUBNORMALS);
    const size_t length = print_number(text, value);
    mbp_float_leave(before);
    return length;
}

/* ---- parameter texts and specs ---- */

mbp_interval mbp_parse_interval(mbp_slice text) {
    mbp_interval interval = {0, 0, text.at[0] == '(', text.at[text.length - 1] == ')'};
    mbp_slice inside = {text.at + 1, text.length - 2};
    mbp_slice low = mbp_take_until(&inside, ',');
    mbp_parse_number(low, &interval.low);
    mbp_parse_number(inside, &interval.high);
    return interval;
}

int mbp_interval_has(mbp_interval interval, double value) {
    int above = interval.low_open ? isgreater(value, interval.low) : isgreaterequal(value, interval.low); /* quiet for NaN */
    int below = interval.high_open ? isless(value, interval.high) : islessequal(value, interval.high);
    return above && below;
}

int mbp_parameter(const char *parameters, int i, mbp_slice *name, double *value, mbp_interval *interval) {
    mbp_slice rest = mbp_slice_of(parameters), word;
    do
        word = mbp_take_word(&rest);
    while (i-- > 0 && word.length);
    if (!word.length)
        return 0;
    *name = mbp_take_until(&word, '=');
    size_t length = 0;
    while (word.at[length] != '[' && word.at[length] != '(')
        length++;
    mbp_parse_number((mbp_slice){word.at, length}, value);
    *interval = mbp_parse_interval((mbp_slice){word.at + length, word.length - length});
    return 1;
}

int mbp_parameter_index(const char *parameters, mbp_slice name) {
    mbp_slice here;
    double value;
    mbp_interval interval;
    for (int i = 0; mbp_parameter(parameters, i, &here, &value, &interval); i++)
        if (here.length == name.length && memcmp(here.at, name.at, name.length) == 0)
            return i;
    return -1;
}

mbp_status mbp_parameter_check(const char *parameters, int i, double value, mbp_error *error) {
    mbp_slice name;
    double standard;
    mbp_interval interval;
    if (!mbp_parameter(parameters, i, &name, &standard, &interval))
        return mbp_fail(error, MBP_INVALID, "there is no parameter %d in \"%s\"", i, parameters);
    if (mbp_interval_has(interval, value))
        return MBP_OK;
    char number[MBP_NUMBER_SIZE];
    number[mbp_print_number(number, value)] = 0;
    const char *range = name.at + name.length;
    while (*range != '[' && *range != '(')
        range++;
    return mbp_fail(error, MBP_INVALID, "%.*s=%s is not in %.*s", (int)name.length, name.at, number, (int)strcspn(range, " "),
                    range);
}

mbp_slice mbp_spec_name(mbp_slice spec) { return mbp_take_until(&spec, '('); }

void mbp_parameter_defaults(const char *parameters, double values[MBP_PARAMETERS_MAX]) {
    mbp_slice name;
    mbp_interval interval;
    for (int i = 0; i < MBP_PARAMETERS_MAX && mbp_parameter(parameters, i, &name, &values[i], &interval); i++) {
    }
}

mbp_status mbp_parameter_read(mbp_slice pair, const char *parameters, double *values, unsigned *given, mbp_error *error) {
    mbp_slice value = pair;
    mbp_slice key = mbp_take_until(&value, '=');
    int i = mbp_parameter_index(parameters, key);
    if (i < 0)
        return mbp_fail(error, MBP_INVALID, "unknown parameter \"%.*s\"; the parameters are: %s", (int)(key.length > 60 ? 60 : key.length),
                        key.at, *parameters ? parameters : "none");
    double number;
    if (!mbp_parse_number(value, &number))
        return mbp_fail(error, MBP_INVALID,
                        "\"%.*s\" is no number: give a decimal with at most 15 digits, or a hexadecimal one (0x1.8p-3)",
                        (int)(pair.length > 60 ? 60 : pair.length), pair.at);
    if (*given >> i & 1)
        return mbp_fail(error, MBP_INVALID, "%.*s is given twice", (int)key.length, key.at);
    *given |= 1u << i;
    mbp_status status = mbp_parameter_check(parameters, i, number, error);
    if (status == MBP_OK)
        values[i] = number;
    return status;
}

mbp_status mbp_spec_values(mbp_slice spec, const char *parameters, double values[MBP_PARAMETERS_MAX], mbp_error *error) {
    size_t whole = spec.length;
    mbp_slice name = mbp_take_until(&spec, '(');
    mbp_parameter_defaults(parameters, values);
    if (name.length == whole)
        return MBP_OK;
    if (!spec.length || spec.at[spec.length - 1] != ')')
        return mbp_fail(error, MBP_INVALID, "the parameters of %.*s must end in ')'", (int)name.length, name.at);
    spec.length--;
    unsigned given = 0;
    while (spec.length) {
        mbp_status status = mbp_parameter_read(mbp_take_until(&spec, ','), parameters, values, &given, error);
        if (status != MBP_OK)
            return status;
    }
    return MBP_OK;
}
