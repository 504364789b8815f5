/* A word list: what the pure core says to Redis, as lists of byte strings in one piece of memory. */
#ifndef ROLLUP_WORDLIST_H
#define ROLLUP_WORDLIST_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed is empty. Owns both. */
struct wordlist {
    char *bytes;
    size_t length, capacity;
    size_t *end; /* of word i in bytes */
    size_t count, end_capacity;
};

/* Frees. */
void wordlist_destroy(struct wordlist *w);
/* Empty again; keeps its memory. */
void wordlist_reset(struct wordlist *w);
/* Appends a word. */
void wordlist_add(struct wordlist *w, const char *p, size_t length);
/* Appends a NUL-terminated word. */
void wordlist_text(struct wordlist *w, const char *s);
/* Appends a decimal. */
void wordlist_number(struct wordlist *w, uint64_t v);
/* Room for a word of at most `most` bytes; wordlist_commit says how many there are. */
char *wordlist_room(struct wordlist *w, size_t most);
/* Ends the word that was written to wordlist_room. */
void wordlist_commit(struct wordlist *w, size_t length);
/* Word i; *length bytes, not NUL-terminated; until the next change. */
static inline const char *wordlist_at(const struct wordlist *w, size_t i, size_t *length)
{
    size_t start = i ? w->end[i - 1] : 0;
    *length = w->end[i] - start;
    return w->bytes + start;
}
/* Replaces word i, which is a number of `width` digits, by v with leading zeros. */
void wordlist_patch(struct wordlist *w, size_t i, uint64_t v);

#endif
