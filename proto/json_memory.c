#include "proto/json_memory.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/memory.h"

static void *take(size_t size)
{
    void *p = malloc(size);
    if (!p) memory_exhausted("reading JSON");
    return p;
}

void json_memory_setup(void)
{
    json_set_alloc_funcs(take, free);
}
