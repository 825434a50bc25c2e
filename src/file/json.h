/* Floor 8: reads the JSON of a file's header, strictly and in place. The caller knows the structure of the header and
 * reads the token that must come next, so there is no tree, no recursion and no allocation here. Every function
 * returns 0 (json_string: -1) if the text is something else; do not use the cursor after that. */
#ifndef MBP_JSON_H
#define MBP_JSON_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct json {
    const char *at, *end;
} json;

static inline void json_space(json *j) {
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\n' || *j->at == '\r' || *j->at == '\t'))
        j->at++;
}

/* One of { } [ ] : , */
static inline int json_take(json *j, char token) {
    json_space(j);
    if (j->at == j->end || *j->at != token)
        return 0;
    j->at++;
    return 1;
}

static inline int json_done(json *j) {
    json_space(j);
    return j->at == j->end;
}

/* We write each character that needs an escape in one form: backslash and a letter if the character is in this table,
 * or \u001f (hexadecimal) for the other control characters. Other valid escapes, and \u0000, are read as JSON_OTHER:
 * this byte occurs in no UTF-8 text, so the checks of the text refuse it. */
enum { JSON_OTHER = 0xff };
static const char json_escapes[] = "\"\\/bfnrt", json_escaped[] = "\"\\\xff\b\f\n\r\t";

/* The letter after the backslash for c, 'u' if c is written as a number, 0 if c needs no escape. */
static inline char json_escape_of(char c) {
    const unsigned char byte = (unsigned char)c;
    const char *found = byte && byte < 0x80 ? strchr(json_escaped, c) : NULL;
    return found ? json_escapes[found - json_escaped] : byte < ' ' ? 'u' : 0;
}

/* Reads the four digits of \u001f; returns the character, JSON_OTHER if we would write it in another form, or -1. */
static inline int json_escaped_number(json *j) {
    static const char digits[] = "0123456789abcdefABCDEF";
    int value = 0, small = 1;
    for (int i = 0; i < 4; i++, j->at++) {
        const char *digit = j->at < j->end && *j->at ? strchr(digits, *j->at) : NULL;
        if (!digit)
            return -1;
        small &= digit - digits < 16;
        value = 16 * value + (int)(digit - digits) % 16;
    }
    return small && value && json_escape_of((char)(value < ' ' ? value : ' ')) == 'u' ? value : JSON_OTHER;
}

/* Reads the rest of an escape after its backslash; returns the character, JSON_OTHER, or -1 if it is not valid JSON. */
static inline int json_escape(json *j) {
    if (j->at == j->end || !*j->at)
        return -1;
    const char kind = *j->at++, *found = strchr(json_escapes, kind);
    return found ? (unsigned char)json_escaped[found - json_escapes] : kind == 'u' ? json_escaped_number(j) : -1;
}

/* Reads a string into `to`, zero-terminated, and returns its length, or -1. If it does not fit in `room` bytes, `to`
 * becomes "". With room 0 it only returns the length. Bytes above ASCII are copied unchecked.
 *
 * Not inlined: the copies in its callers would add 10 KB to the library. */
__attribute__((noinline, unused)) static ptrdiff_t json_string(json *j, char *to, size_t room) {
    size_t length = 0;
    if (!json_take(j, '"'))
        return -1;
    for (;;) {
        if (j->at == j->end)
            return -1;
        int c = (unsigned char)*j->at++;
        if (c == '"')
            break;
        if (c < ' ' || (c == '\\' && (c = json_escape(j)) < 0))
            return -1;
        if (length < room)
            to[length] = (char)c;
        length++;
    }
    if (room)
        to[length < room ? length : 0] = 0;
    return (ptrdiff_t)length;
}

/* Reads the name of a member, which must be this one, and the colon after it. */
static inline int json_key(json *j, const char *name) {
    char key[32];
    return json_string(j, key, sizeof key) >= 0 && strcmp(key, name) == 0 && json_take(j, ':');
}

/* Reads an integer from 0 to 2^63 - 1 without a sign and without leading zeros. */
static inline int json_integer(json *j, int64_t *value) {
    json_space(j);
    const char *start = j->at;
    int64_t total = 0;
    for (; j->at < j->end && *j->at >= '0' && *j->at <= '9'; j->at++)
        if (__builtin_mul_overflow(total, 10, &total) || __builtin_add_overflow(total, *j->at - '0', &total))
            return 0;
    *value = total;
    return j->at - start == 1 || (j->at > start && *start != '0');
}

#endif
