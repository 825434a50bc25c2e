#include "system/spec.h"

#include <string.h>

#include "config/config.h"
#include "system/floats.h"

mbp_interval mbp_parse_interval(mbp_slice text) {
    mbp_interval interval = {0, 0, text.at[0] == '(', text.at[text.length - 1] == ')'};
    mbp_slice inside = {text.at + 1, text.length - 2};
    mbp_slice low = mbp_take_until(&inside, ',');
    mbp_parse_number(low, &interval.low);
    mbp_parse_number(inside, &interval.high);
    return interval;
}

MBP_APART int mbp_interval_has(mbp_interval interval, double value) {
    const int above = interval.low_open ? value > interval.low : value >= interval.low;
    const int below = interval.high_open ? value < interval.high : value <= interval.high;
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

void mbp_parameters_list(const char *parameters, mbp_unknown *unknown) {
    mbp_slice rest = mbp_slice_of(parameters);
    for (mbp_slice word = mbp_take_word(&rest); word.length; word = mbp_take_word(&rest))
        mbp_unknown_add(unknown, word);
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

static mbp_status unknown_parameter(mbp_slice key, const char *parameters, mbp_error *error) {
    mbp_unknown unknown = {.word = key};
    mbp_parameters_list(parameters, &unknown);
    return mbp_unknown_fail(&unknown, "unknown parameter", error);
}

mbp_status mbp_parameter_check(const char *parameters, int i, double value, mbp_error *error) {
    mbp_slice name;
    double standard;
    mbp_interval interval;
    if (!mbp_parameter(parameters, i, &name, &standard, &interval))
        return mbp_fail(error, MBP_INVALID, "there is no parameter %d in \"%s\"", i, parameters);
    /* Comparisons raise flags and depend on whether the caller keeps subnormals. */
    const mbp_float_state before = mbp_float_enter(MBP_KEEP_SUBNORMALS);
    const int has = mbp_interval_has(interval, value);
    mbp_float_leave(before);
    if (has)
        return MBP_OK;
    char number[MBP_NUMBER_SIZE];
    mbp_print_number(number, value);
    const char *range = name.at + name.length;
    while (*range != '[' && *range != '(')
        range++;
    return mbp_fail(error, MBP_INVALID, "%.*s must be in %.*s, not %s", (int)name.length, name.at,
                    (int)strcspn(range, " "), range, number);
}

mbp_slice mbp_spec_name(mbp_slice spec) { return mbp_trimmed(mbp_take_until(&spec, '(')); }

void mbp_parameter_defaults(const char *parameters, double values[MBP_PARAMETERS_MAX]) {
    mbp_slice name;
    mbp_interval interval;
    for (int i = 0; i < MBP_PARAMETERS_MAX && mbp_parameter(parameters, i, &name, &values[i], &interval); i++) {
    }
}

/* Reads a number into *value and checks it against the interval of parameter i. */
static mbp_status read_value(mbp_slice text, const char *parameters, int i, mbp_slice key, double *value,
                             mbp_error *error) {
    double number;
    if (!mbp_parse_number(text, &number))
        return mbp_fail(
            error, MBP_INVALID,
            "%.*s must be a number, not \"%.*s\": a decimal with at most 15 digits, or hexadecimal (0x1.8p-3)",
            (int)key.length, key.at, (int)(text.length > 60 ? 60 : text.length), text.at);
    mbp_status status = mbp_parameter_check(parameters, i, number, error);
    if (status == MBP_OK)
        *value = number;
    return status;
}

/* Reads the numbers of a list: the first into *value. */
static mbp_status read_list(mbp_slice text, const char *parameters, int i, mbp_slice key, double *value,
                            mbp_lists *lists, mbp_error *error) {
    mbp_slice inside = {text.at + 1, text.length - 2}, rest = inside;
    mbp_status status = MBP_OK;
    double number;
    if (text.length < 2 || text.at[text.length - 1] != ']' || !mbp_trimmed(inside).length)
        return mbp_fail(error, MBP_INVALID, "%.*s must be a list of numbers like [0.1 0.9], not \"%.*s\"",
                        (int)key.length, key.at, (int)(text.length > 60 ? 60 : text.length), text.at);
    lists->of[i].inside = inside;
    while (status == MBP_OK && mbp_trimmed(rest).length)
        status = read_value(mbp_take_word(&rest), parameters, i, key, lists->of[i].count++ ? &number : value, error);
    return status;
}

/* mbp_parameter_read, but a value may be a list unless lists is NULL. */
static mbp_status read_pair(mbp_slice pair, const char *parameters, double *values, unsigned *given, mbp_lists *lists,
                            mbp_error *error) {
    mbp_slice value = pair;
    const mbp_slice key = mbp_trimmed(mbp_take_until(&value, '='));
    value = mbp_trimmed(value);
    int i = mbp_parameter_index(parameters, key);
    if (i < 0)
        return unknown_parameter(key, parameters, error);
    double first = 0; /* for compilers that do not see that a list has a number */
    const int listed = MICROBP_TRAINING && lists && value.length && *value.at == '[';
    if (listed && !MICROBP_LISTS)
        return mbp_fail_extra(error, "lists of parameters", "lists");
    mbp_status status = listed ? read_list(value, parameters, i, key, &first, lists, error)
                               : read_value(value, parameters, i, key, &first, error);
    if (status != MBP_OK)
        return status;
    if (*given >> i & 1)
        return mbp_fail(error, MBP_INVALID, "%.*s is given twice", (int)key.length, key.at);
    *given |= 1u << i;
    values[i] = first;
    return MBP_OK;
}

mbp_status mbp_parameter_read(mbp_slice pair, const char *parameters, double *values, unsigned *given,
                              mbp_error *error) {
    return read_pair(pair, parameters, values, given, NULL, error);
}

mbp_status mbp_spec_values(mbp_slice spec, const char *parameters, double values[MBP_PARAMETERS_MAX], mbp_lists *lists,
                           mbp_error *error) {
    const mbp_slice whole = spec = mbp_trimmed(spec);
    mbp_slice name = mbp_take_until(&spec, '(');
    mbp_parameter_defaults(parameters, values);
    if (name.length == whole.length)
        return MBP_OK;
    if (!spec.length || spec.at[spec.length - 1] != ')')
        return mbp_fail(error, MBP_INVALID, "\"%.*s\" does not end with \")\": add \")\"",
                        (int)(whole.length > 60 ? 60 : whole.length), whole.at);
    spec.length--;
    unsigned given = 0;
    while (mbp_trimmed(spec).length) {
        mbp_status status = read_pair(mbp_take_until(&spec, ','), parameters, values, &given, lists, error);
        if (status != MBP_OK)
            return status;
    }
    return MBP_OK;
}
