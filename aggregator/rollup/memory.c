#include "aggregator/rollup/memory.h"

#include <unistd.h>

#include "common/log.h"
#include "sandglass/error.h"

/* Exit code and line are those of every other end that is no crash. Nothing is freed or flushed: that may want memory.
 */
void memory_exhausted(void)
{
    struct sg_fault f = {0};
    (void)!sg_fail(&f, SG_ERR_NOMEM, "no memory for the rollup");
    log_fault(LOG_ERROR, "stopped", &f);
    _exit(EXIT_FAILURE);
}
