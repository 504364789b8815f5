#include "common/array.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 16 };

bool array_reserve(void *array, size_t *capacity, size_t count, size_t item_bytes)
{
    void *items;
    if (count < *capacity) return true;
    size_t wanted = *capacity ? *capacity * 2 : FIRST_CAPACITY;
    memcpy(&items, array, sizeof items); /* array is a pointer to a pointer of any type: copied, not aliased */
    void *grown = reallocarray(items, wanted, item_bytes);
    if (!grown) return false;
    memcpy(array, &grown, sizeof grown);
    *capacity = wanted;
    return true;
}
