/* Growing arrays of the rollup. No memory ends the process: what is stored is whole, and starting again is the recovery
 * that every other doubt has too (design.md, law 10). */
#ifndef ROLLUP_MEMORY_H
#define ROLLUP_MEMORY_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "sandglass/error.h"

/* p, or the end of the process. */
static inline void *memory_checked(void *p)
{
    if (!p) memory_exhausted("the rollup");
    return p;
}

/* Want of memory ends the process; any other error is the caller's. */
static inline void memory_sufficed(enum sg_error e)
{
    if (e == SG_ERR_NOMEM) memory_exhausted("the rollup");
}

/* An array of at least `need` elements: p itself or p grown; *capacity in elements. */
static inline void *memory_grow(void *p, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity) return p;
    size_t grown = *capacity ? *capacity : 16;
    while (grown < need) grown *= 2;
    *capacity = grown;
    return memory_checked(reallocarray(p, grown, size));
}

/* Copies s[0..length) with a NUL behind it. */
static inline char *memory_text(const char *s, size_t length)
{
    char *copy = memory_checked(malloc(length + 1));
    memcpy(copy, s, length);
    copy[length] = '\0';
    return copy;
}

#endif
