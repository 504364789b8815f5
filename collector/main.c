/* sandglass-collector. */
#include <stdlib.h>

#include "collector/collector.h"
#include "common/args.h"
#include "common/log.h"

int main(int argc, char **argv)
{
    struct collector_config config = {0};
    struct sg_fault f = {0};
    int status = EXIT_SUCCESS;
    if (!args_main_setup(argc, argv, &collector_config_table, &config, &status)) return status;
    log_init("sandglass-collector", (enum log_level)config.log_level);
    if (collector_run(&config, &f)) {
        log_fault(LOG_ERROR, "stopped", &f);
        status = EXIT_FAILURE;
    } else
        log_event(LOG_INFO, "stopped", "");
    log_flush(true);
    config_destroy(&collector_config_table, &config);
    return status;
}
