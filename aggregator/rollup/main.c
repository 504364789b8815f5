/* sandglass-aggregator: its start. */
#include <malloc.h>

#include "aggregator/rollup/aggregator.h"
#include "common/args.h"
#include "common/log.h"
#include "common/ops_http.h"
#include "common/service.h"

/* librdkafka allocates every fetched and every unpacked message set, 1 MiB and more, and frees it soon: kept, not given
 * back to the kernel and faulted in again each time. What is kept is bounded by the queue's 64 MiB. */
static void keep_memory(void)
{
    enum { KEPT_BYTES = 32 << 20, TRIM_BYTES = 64 << 20 };
    (void)mallopt(M_MMAP_THRESHOLD, KEPT_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, TRIM_BYTES);
}

int main(int argc, char **argv)
{
    static struct aggregator a;
    struct aggregator_config config;
    struct sg_fault f = {0};
    struct ops_http *ops = NULL;
    int status;
    if (!args_main_setup(argc, argv, &aggregator_config_table, &config, &status)) return status;
    log_init("sandglass-aggregator", (enum log_level)config.log_level);
    service_setup(4096);
    keep_memory();
    enum sg_error e = aggregator_init(&a, &config, &f);
    if (e == SG_OK) {
        struct ops_http_config listen = {.listen = config.ops_listen,
                                         .program = "sandglass-aggregator",
                                         .health = &a.health,
                                         .counters = &a.counters};
        e = ops_http_start(&ops, &listen, &f);
    }
    if (e == SG_OK) {
        log_event(LOG_INFO, "started", "version=%s shards=%lld ops_port=%u", SANDGLASS_VERSION,
                  (long long)config.shards, ops_http_port(ops));
        e = aggregator_run(&a, &f);
    }
    service_stopping();
    if (e != SG_OK) log_fault(LOG_ERROR, "stopped", &f);
    if (e == SG_OK) log_event(LOG_INFO, "stopped", "%s", "");
    log_flush(true);
    ops_http_stop(ops);
    aggregator_destroy(&a);
    config_destroy(&aggregator_config_table, &config);
    return e == SG_OK ? 0 : 1;
}
