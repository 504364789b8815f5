#include "tests/sim/pool.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Sizes are multiples of a step; what is larger than the largest is the heap's. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { POOLED_BYTES_MAX = 0 };
#else
enum { POOLED_BYTES_MAX = 1024 };
#endif
enum { STEP = 16, SLAB_BYTES = 1 << 18 };

struct block {
    struct block *next;
};

static struct {
    struct block *kept[POOLED_BYTES_MAX / STEP + 1]; /* by size in steps */
    char *slab;
    size_t left;
} pool;

static void *checked(void *p)
{
    if (!p) abort();
    return p;
}

static bool pooled(size_t bytes)
{
    return bytes <= POOLED_BYTES_MAX;
}

void *pool_take(size_t bytes)
{
    if (!pooled(bytes)) return checked(malloc(bytes));
    size_t steps = (bytes + STEP - 1) / STEP;
    struct block *b = pool.kept[steps];
    if (b) {
        pool.kept[steps] = b->next;
        return b;
    }
    if (pool.left < steps * STEP) {
        pool.slab = checked(malloc(SLAB_BYTES)); /* what is left of the last one is lost */
        pool.left = SLAB_BYTES;
    }
    pool.left -= steps * STEP;
    return pool.slab + pool.left;
}

void pool_give(void *p, size_t bytes)
{
    if (!p) return;
    if (!pooled(bytes)) {
        free(p);
        return;
    }
    struct block *b = p;
    b->next = pool.kept[(bytes + STEP - 1) / STEP];
    pool.kept[(bytes + STEP - 1) / STEP] = b;
}

void *pool_resize(void *p, size_t old_bytes, size_t bytes)
{
    if (p && (old_bytes + STEP - 1) / STEP == (bytes + STEP - 1) / STEP && pooled(bytes)) return p;
    if (p && !pooled(old_bytes) && !pooled(bytes)) return checked(realloc(p, bytes));
    void *q = pool_take(bytes);
    if (p) memcpy(q, p, old_bytes < bytes ? old_bytes : bytes);
    pool_give(p, old_bytes);
    return q;
}
