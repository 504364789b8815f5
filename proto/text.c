#include "proto/text.h"

#include <string.h>

char *text_put(char *out, const char *s, size_t length)
{
    memcpy(out, s, length);
    return out + length;
}

char *text_put_str(char *out, const char *s)
{
    return text_put(out, s, strlen(s));
}

char *text_put_u64(char *out, uint64_t v)
{
    char digits[TEXT_U64_BYTES_MAX];
    size_t i = sizeof digits;
    do {
        digits[--i] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    return text_put(out, digits + i, sizeof digits - i);
}

bool text_take(struct text *t, char c)
{
    if (t->bad || t->p == t->end || *t->p != c) return false;
    t->p++;
    return true;
}

void text_expect(struct text *t, char c)
{
    if (!text_take(t, c)) t->bad = true;
}

void text_expect_str(struct text *t, const char *s)
{
    size_t length = strlen(s);
    if (t->bad || (size_t)(t->end - t->p) < length || memcmp(t->p, s, length) != 0)
        t->bad = true;
    else
        t->p += length;
}

uint64_t text_u64(struct text *t)
{
    const char *start = t->p;
    uint64_t v = 0;
    if (t->bad) return 0;
    for (; t->p < t->end && *t->p >= '0' && *t->p <= '9'; t->p++) {
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*t->p - '0'), &v)) {
            t->bad = true;
            return 0;
        }
    }
    if (t->p == start || (*start == '0' && t->p - start > 1)) {
        t->bad = true;
        return 0;
    }
    return v;
}

const char *text_until(struct text *t, char stop, size_t *length)
{
    const char *start = t->p;
    *length = 0;
    if (t->bad) return start;
    const char *at = memchr(t->p, stop, (size_t)(t->end - t->p));
    t->p = at ? at : t->end;
    *length = (size_t)(t->p - start);
    if (*length == 0) t->bad = true;
    return start;
}
