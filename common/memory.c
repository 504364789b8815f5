#include "common/memory.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/log.h"
#include "sandglass/error.h"

/* Nothing is freed or flushed: that may want memory. */
void memory_exhausted(const char *what)
{
    struct sg_fault f = {0};
    (void)!sg_fail(&f, SG_ERR_NOMEM, "no memory for %s", what);
    log_fault(LOG_ERROR, "stopped", &f);
    _exit(EXIT_FAILURE);
}
