/* Writing and reading the small texts of cells, runs, marks, vectors and the ledger: decimals, words, `name=value`
 * pairs. Pure.
 *
 * Reading is a cursor that goes bad and stays bad: after the first thing that is not as expected every call fails, so
 * that a caller checks once at the end (text_done). Numbers are canonical: no sign but where asked for, no leading
 * zero, no overflow. */
#ifndef PROTO_TEXT_H
#define PROTO_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TEXT_U64_BYTES_MAX = 20 };

/* Appends to out; each returns the new end. The caller has reserved the room. */
char *text_put(char *out, const char *s, size_t length);
/* Appends a NUL-terminated string. */
char *text_put_str(char *out, const char *s);
/* Appends a decimal. */
char *text_put_u64(char *out, uint64_t v);

/* What is left of a text, and whether all was well so far. */
struct text {
    const char *p, *end;
    bool bad;
};

/* A cursor over s[0..length). */
static inline struct text text_over(const char *s, size_t length)
{
    return (struct text){s, s + length, false};
}
/* Takes c, or goes bad. */
void text_expect(struct text *t, char c);
/* Takes s, or goes bad. */
void text_expect_str(struct text *t, const char *s);
/* Takes c if it is next. */
bool text_take(struct text *t, char c);
/* Takes a canonical decimal; 0 and bad when there is none. */
uint64_t text_u64(struct text *t);
/* Takes everything up to the next `stop` or the end; at least one byte, or goes bad. The stop is not taken. */
const char *text_until(struct text *t, char stop, size_t *length);
/* True when all was well and nothing is left. */
static inline bool text_done(const struct text *t)
{
    return !t->bad && t->p == t->end;
}

#endif
