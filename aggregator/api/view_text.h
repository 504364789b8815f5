/* Reading of the `name=value name=value` texts in Redis whose writers own their order (marks, gaps, capacities, ledger
 * rows). Pure.
 *
 * A name that is asked for and is not there, or is no number, makes the reading bad; it stays bad and is asked once at
 * the end. */
#ifndef API_VIEW_TEXT_H
#define API_VIEW_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/id.h"
#include "sandglass/time.h"

/* A text of words, and whether all was well so far. */
struct words {
    const char *p;
    size_t length;
    bool bad;
};

/* The value of name; NULL and bad when it is not there. */
const char *words_get(struct words *w, const char *name, size_t *length);
/* Its value as a decimal. */
uint64_t words_u64(struct words *w, const char *name);
/* Its value as an instant. */
struct wall_ms words_wall(struct words *w, const char *name);
/* Its value, copied with its NUL into out[size]; bad when it does not fit, or holds a NUL. */
void words_copy(struct words *w, const char *name, char *out, size_t size);
/* Its value as an identifier, or "-" for none. */
void words_id(struct words *w, const char *name, struct id *out);

#endif
