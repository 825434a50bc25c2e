/* Floor 1: the JSON of a file's header, read strictly and in place. The header's shape is known, so its reader asks for what must come
 * next and this page only knows the tokens: no tree, no recursion, no memory. Every function returns 0 (a string: -1) when the text is
 * something else; the cursor is of no use then. */
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

/* What must be escaped has one way that is ours: the two characters of this table where it is in there, \u001f for other control
 * characters. JSON_OTHER stands for a valid escape of another kind, and for the zero byte: it occurs in no text in UTF-8. */
enum { JSON_OTHER = 0xff };
static const char json_escapes[] = "\"\\/bfnrt", json_escaped[] = "\"\\\xff\b\f\n\r\t";

/* The character after a backslash that stands for c, u where it takes a number; 0: c needs no escape. */
static inline char json_escape_of(char c) {
    const char *found = c > 0 ? strchr(json_escaped, c) : NULL;
    return found ? json_escapes[found - json_escaped] : c >= 0 && c < ' ' ? 'u' : 0;
}

/* The four digits of \u001f: the character, or -1. */
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

/* What follows a backslash: the character, or JSON_OTHER, or -1 for what is no JSON. */
static inline int json_escape(json *j) {
    if (j->at == j->end || !*j->at)
        return -1;
    const char kind = *j->at++, *found = strchr(json_escapes, kind);
    return found ? (unsigned char)json_escaped[found - json_escapes] : kind == 'u' ? json_escaped_number(j) : -1;
}

/* A string into `to`, zero-terminated; returns its length, or -1. One that does not fit in `room` is given as "". Bytes above ASCII pass
 * through. */
static inline ptrdiff_t json_string(json *j, char *to, size_t room) {
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

/* A member's name, as expected, and its colon. */
static inline int json_key(json *j, const char *name) {
    char key[32];
    return json_string(j, key, sizeof key) >= 0 && strcmp(key, name) == 0 && json_take(j, ':');
}

/* A whole number from 0 to 2^63 - 1, written as JSON writes it: no sign, no leading zero. */
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
