/* Memory of a simulated Redis or of an oracle: taken in small pieces by the million, given back as a whole. Its chunks
 * are kept for the next one, warm; under sanitizers they are the heap's, which those watch. One thread. */
#ifndef SIM_ARENA_H
#define SIM_ARENA_H

#include <stddef.h>

struct arena_chunk;
/* Zeroed is empty. */
struct arena {
    struct arena_chunk *chunk; /* the newest, of which `left` bytes from `at` on are free */
    char *at;
    size_t left;
};

/* A piece, not zeroed, for whatever type. */
void *arena_take(struct arena *a, size_t bytes);
/* A piece with `bytes` zeros. */
void *arena_zeroed(struct arena *a, size_t bytes);
/* Gives all of it back. */
void arena_empty(struct arena *a);

#endif
