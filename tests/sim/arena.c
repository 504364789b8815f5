#include "tests/sim/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 256 * 1024, ALIGN = 16 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t bytes; /* behind this head */
    max_align_t piece[];
};

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
static const size_t kept_bytes = SIZE_MAX;
#else
static const size_t kept_bytes = CHUNK_BYTES;
#endif
static struct arena_chunk *kept; /* of CHUNK_BYTES each */

static struct arena_chunk *chunk_for(size_t bytes)
{
    struct arena_chunk *c = kept;
    if (bytes <= CHUNK_BYTES && c) {
        kept = c->next;
        return c;
    }
    size_t size = bytes < CHUNK_BYTES ? CHUNK_BYTES : bytes;
    c = malloc(sizeof *c + size);
    if (!c) abort();
    c->bytes = size;
    return c;
}

void *arena_take(struct arena *a, size_t bytes)
{
    size_t rounded = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (a->left < rounded) {
        struct arena_chunk *c = chunk_for(rounded); /* what is left of the last one is lost */
        c->next = a->chunk;
        a->chunk = c;
        a->at = (char *)c->piece;
        a->left = c->bytes;
    }
    void *p = a->at;
    a->at += rounded;
    a->left -= rounded;
    return p;
}

void *arena_zeroed(struct arena *a, size_t bytes)
{
    return memset(arena_take(a, bytes), 0, bytes);
}

void arena_empty(struct arena *a)
{
    while (a->chunk) {
        struct arena_chunk *c = a->chunk;
        a->chunk = c->next;
        if (c->bytes != kept_bytes) {
            free(c);
            continue;
        }
        c->next = kept;
        kept = c;
    }
    *a = (struct arena){0};
}
