/* Growing arrays, in one place: capacity doubles, sizes are checked, the array stays as it was without memory. */
#ifndef COMMON_ARRAY_H
#define COMMON_ARRAY_H

#include <stdbool.h>
#include <stddef.h>

/* Makes room for one item behind count in *array (a pointer to items of item_bytes). False without memory: nothing has
 * changed. */
__attribute__((warn_unused_result)) bool array_reserve(void *array, size_t *capacity, size_t count, size_t item_bytes);

#endif
