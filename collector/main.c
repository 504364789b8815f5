/* sandglass-collector: its start, its main thread, its end. */
#include <malloc.h>
#include <stdlib.h>

#include "collector/collector.h"
#include "common/args.h"
#include "common/log.h"
#include "common/ops_http.h"
#include "common/service.h"

enum { FILES_MAX = 1 << 20 };

/* Large buffers go back to the system when they are freed, and threads share their heaps: a collector shares its host
 * with those who pay for it. */
static void bound_memory(void)
{
    enum { ARENAS = 1, MMAP_BYTES = 64 * 1024, TRIM_BYTES = 128 * 1024 };
    (void)mallopt(M_ARENA_MAX, ARENAS);
    (void)mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, TRIM_BYTES);
}

static struct boot_ms on_tick(void *arg, struct boot_ms now)
{
    struct collector *c = arg;
    struct boot_ms next = LOOP_NEVER;
    if (collector_turn(c, now, &next)) loop_stop(&c->loop);
    return next;
}

static enum sg_error run(struct collector *c)
{
    enum sg_error e = loop_run(&c->loop, on_tick, c, c->fault);
    return c->error ? c->error : e;
}

static enum sg_error start(struct collector *c, struct ops_http **ops, struct sg_fault *f)
{
    struct ops_http_config listen = {.listen = c->config->ops_listen,
                                     .program = collector_config_table.program,
                                     .health = &c->health,
                                     .counters = &c->counters};
    enum sg_error e = collector_open(c);
    if (!e) e = ops_http_start(ops, &listen, f);
    if (!e) e = collector_listen(c);
    if (e) return e;
    log_event(LOG_INFO, "started", "epoch=%llu seq=%llu delivered=%llu ops_port=%u",
              (unsigned long long)spool_epoch(&c->spool), (unsigned long long)spool_last_seq(&c->spool),
              (unsigned long long)spool_delivered_seq(&c->spool), ops_http_port(*ops));
    service_ready();
    return SG_OK;
}

int main(int argc, char **argv)
{
    static struct collector c;
    struct collector_config config = {0};
    struct sg_fault f = {0};
    struct ops_http *ops = NULL;
    int status = EXIT_SUCCESS;
    if (!args_main_setup(argc, argv, &collector_config_table, &config, &status)) return status;
    log_init("sandglass-collector", (enum log_level)config.log_level);
    bound_memory();
    service_setup(FILES_MAX);
    collector_init(&c, &config, &f);
    enum sg_error e = start(&c, &ops, &f);
    if (!e) e = run(&c);
    service_stopping();
    if (!e) e = collector_end(&c);
    ops_http_stop(ops);
    collector_destroy(&c);
    if (e)
        log_fault(LOG_ERROR, "stopped", &f);
    else
        log_event(LOG_INFO, "stopped", "");
    log_flush(true);
    config_destroy(&collector_config_table, &config);
    return e ? EXIT_FAILURE : EXIT_SUCCESS;
}
