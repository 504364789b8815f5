/* Memory for the interpreter of scripts, which takes and gives back small blocks by the million: blocks of known sizes,
 * kept by size for whoever wants one next, in this schedule or in another. Under sanitizers it is the heap, which they
 * watch. One thread. */
#ifndef SIM_POOL_H
#define SIM_POOL_H

#include <stddef.h>

/* A block, not zeroed, of at least one byte. */
void *pool_take(size_t bytes);
/* Of the size that was asked for. p NULL: nothing. */
void pool_give(void *p, size_t bytes);
/* Its first bytes are kept. p NULL: a new one. */
void *pool_resize(void *p, size_t old_bytes, size_t bytes);

#endif
