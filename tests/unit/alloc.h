/* Memory that runs out at the n-th allocation of the program's own code: linked with -Wl,--wrap for malloc, calloc,
 * realloc and reallocarray. Libraries keep theirs. */
#ifndef TESTS_ALLOC_H
#define TESTS_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/error.h"

/* The n-th allocation from now on fails; 0: none. */
void alloc_fail_at(uint64_t n);
/* As malloc; never made to fail. */
void *alloc_plain(size_t size);
/* True when one has failed since. */
bool alloc_failed(void);

/* Runs a scenario with its n-th allocation failing, for every n that it has; it must fail then, and succeed in the end.
 * What it was given memory for it gives back itself. */
void alloc_at_every(const char *name, enum sg_error (*scenario)(void));

#endif
