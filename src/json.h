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

enum { JSON_OTHER = 0x80 }; /* stands for an escaped character that no string of ours contains */

/* What follows a backslash: the character, or JSON_OTHER for a valid escape that is not \n, or -1. */
static inline int json_escape(json *j) {
    if (j->at == j->end)
        return -1;
    char kind = *j->at++;
    if (kind == 'n')
        return '\n';
    if (kind != 'u')
        return kind && strchr("\"\\/bfrt", kind) ? JSON_OTHER : -1;
    for (int i = 0; i < 4; i++, j->at++)
        if (j->at == j->end || !*j->at || !strchr("0123456789abcdefABCDEF", *j->at))
            return -1;
    return JSON_OTHER;
}

/* A string into `to`, zero-terminated; returns its length, or -1. One that does not fit in `room` is given as "". Bytes above ASCII pass
 * through. The only escape decoded is \n: names and graph texts need no other, so a string with another equals none of them. */
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
