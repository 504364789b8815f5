/* The collector's main thread: how lines become durable, acknowledged and shipped. What becomes durable when is
 * commit.h's; this is the shell around it: sockets, sampler, shipper, health, what is shown.
 *
 * FULL SPOOL  While the commits are blocked nothing is taken from the sockets, and they are tried again every
 *             BLOCKED_RETRY_MS.
 * FAILURES    Anything the spool calls IO or CORRUPT, and want of memory, ends the program; starting it is recovery.
 *             Kafka away is not a failure: the spool grows, health turns red. */
#include "collector/collector.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/collector_counters.h"
#include "collector/ingest.h"
#include "collector/sampler.h"
#include "collector/shipper.h"
#include "common/log.h"
#include "common/service.h"

enum { BLOCKED_RETRY_MS = 100, CLIENT_ID_BYTES = 128 };

enum {
    UNCONFIRMED_MS = 2 * SECOND_MS, /* with the allowance: Kafka's silence is named before the progress rule speaks */
    BEHIND_MS = 45 * SECOND_MS,     /* complete_through moves in steps of 10 s, and is 5 s to 25 s old */
    AHEAD_MS = 60 * SECOND_MS,
};

enum component { COMPONENT_KAFKA, COMPONENT_SPOOL, COMPONENT_WATERMARK, COMPONENT_CLOCK, COMPONENTS };
static const struct health_component components[COMPONENTS] = {
    [COMPONENT_KAFKA] = {"kafka", 5 * SECOND_MS, 0},
    [COMPONENT_SPOOL] = {"spool", 0, 0},
    [COMPONENT_WATERMARK] = {"watermark", 0, 0},
    [COMPONENT_CLOCK] = {"clock", 0, 0},
};

/* What is still to be done: batches that Kafka does not have, and what the meter holds unsealed. Told before an ack
 * leaves, so that whoever sees the ack and then no lag knows that its event is in Kafka. */
static void tell_lag(struct collector *c)
{
    uint64_t delivered = spool_delivered_seq(&c->spool), lag = spool_last_seq(&c->spool) - delivered;
    if (delivered != c->delivered_seq) {
        health_progress(&c->health);
        c->delivered_at = loop_now(&c->loop);
    }
    c->delivered_seq = delivered;
    health_set_lag(&c->health, lag + meter_dirty(c->meter));
}

/* What the meter had taken is on disk. */
static void durable(void *arg)
{
    struct collector *c = arg;
    tell_lag(c);
    if (c->ingest) ingest_durable(c->ingest);
}

/* ---- what is due ---- */

static bool due(struct boot_ms *at, struct boot_ms now, uint64_t interval_ms)
{
    if (now.v < at->v) return false;
    at->v = now.v + interval_ms;
    return true;
}

static void sampled(void *arg, const struct sample *s)
{
    struct collector *c = arg;
    bool io = s->has & SAMPLE_IO, net = s->has & SAMPLE_NET;
    struct meter_sample m = {
        .present = {[METER_CPU_US] = (s->has & SAMPLE_CPU) != 0,
                    [METER_NET_RX_BYTES] = net,
                    [METER_NET_TX_BYTES] = net,
                    [METER_IO_READ_BYTES] = io,
                    [METER_IO_WRITE_BYTES] = io},
        .value = {[METER_CPU_US] = s->cpu_us,
                  [METER_NET_RX_BYTES] = s->net_rx_bytes,
                  [METER_NET_TX_BYTES] = s->net_tx_bytes,
                  [METER_IO_READ_BYTES] = s->io_read_bytes,
                  [METER_IO_WRITE_BYTES] = s->io_write_bytes},
        .mem_bytes = s->has & SAMPLE_MEM ? s->mem_bytes : 0,
        .mem_peak_bytes = s->has & SAMPLE_MEM_PEAK ? s->mem_peak_bytes : 0,
        .alive = (s->has & SAMPLE_LIFE) && s->populated,
    };
    if (!c->error && !c->commit.blocked)
        c->error = commit_sample(&c->commit, s->handle, &m, loop_now(&c->loop), c->fault);
}

static void watch_begin(void *arg, uint64_t handle, const char *cgroup, const char *tap)
{
    struct collector *c = arg;
    struct sg_fault f = {0};
    if (c->sampler && (*cgroup || *tap) && sampler_add(c->sampler, handle, cgroup, tap, &f))
        log_fault(LOG_WARN, "sandbox_not_sampled", &f);
}

static void watch_end(void *arg, uint64_t handle)
{
    struct collector *c = arg;
    if (c->sampler) sampler_remove(c->sampler, handle);
}

static void show_one(struct collector *c, size_t index, uint64_t value)
{
    if (collector_counter_specs[index].type == GAUGE)
        counters_set(&c->counters, index, value);
    else
        counters_add(&c->counters, index, value - counters_get(&c->counters, index));
}

static void judge_component(struct collector *c, enum component component, const char *fault)
{
    if (fault)
        health_set_fault(&c->health, component, fault);
    else
        health_clear(&c->health, component);
}

/* What the numbers mean for health. With clock = event usage is of any time, and old usage is no fault. */
static void judge(struct collector *c, const struct meter_stats *m, const struct shipper_status *s, struct boot_ms now)
{
    uint64_t silent_ms = clock_since(now, c->delivered_at), through = (uint64_t)m->complete_through.v;
    uint64_t wall = c->config->clock == METER_CLOCK_SYSTEM && through ? (uint64_t)clock_wall().v : through;
    if (s->lag_age_ms < silent_ms) silent_ms = s->lag_age_ms;
    const char *unconfirmed = silent_ms > UNCONFIRMED_MS ? "brokers do not confirm what they were sent" : NULL;
    judge_component(c, COMPONENT_KAFKA, s->fault ? s->fault : unconfirmed);
    judge_component(c, COMPONENT_SPOOL,
                    c->commit.blocked ? "the spool is full: nothing is taken until Kafka takes batches" : NULL);
    bool behind = m->running > 0 && wall > through + BEHIND_MS;
    judge_component(c, COMPONENT_WATERMARK,
                    behind
                        ? "usage of running sandboxes is not known up to now: their supervisor is away, or the host's "
                          "clock is ahead"
                        : NULL);
    judge_component(c, COMPONENT_CLOCK,
                    through > wall + AHEAD_MS ? "the host's clock is behind the usage that was metered" : NULL);
}

static void show(struct collector *c, struct boot_ms now)
{
    struct meter_stats m;
    struct shipper_status s;
    meter_stats(c->meter, &m);
    shipper_status(c->shipper, now, &s);
    const uint64_t values[COUNT_REFUSED] = {
        [COUNT_EVENTS] = m.totals.events,
        [COUNT_LINES_REFUSED] = m.totals.refused,
        [COUNT_VCPU_MS] = m.totals.vcpu_ms,
        [COUNT_MEM_MIB_MS] = m.totals.mem_mib_ms,
        [COUNT_DISK_MIB_MS] = m.totals.disk_mib_ms,
        [COUNT_RUNNING_MS] = m.totals.running_ms,
        [COUNT_LATE] = m.late_events,
        [COUNT_GAPS] = m.gaps,
        [COUNT_SOURCES] = m.sources,
        [COUNT_SESSIONS] = counters_get(&c->counters, COUNT_SESSIONS),
        [COUNT_SANDBOXES] = m.sandboxes,
        [COUNT_RUNNING] = m.running,
        [COUNT_COMPLETE_THROUGH] = (uint64_t)m.complete_through.v,
        [COUNT_BATCHES] = c->commit.batches,
        [COUNT_BATCH_BYTES] = c->commit.batch_bytes_sum,
        [COUNT_EPOCH] = spool_epoch(&c->spool),
        [COUNT_SEQ] = spool_durable_seq(&c->spool),
        [COUNT_DELIVERED_SEQ] = s.delivered_seq,
        [COUNT_LAG] = s.lag_batches,
        [COUNT_LAG_AGE] = s.lag_age_ms,
        [COUNT_SPOOL_BYTES] = spool_bytes(&c->spool),
        [COUNT_SPOOL_BYTES_MAX] = c->config->spool_bytes_max,
        [COUNT_SPOOL_FULL] = c->commit.blocked != COMMIT_NOT_BLOCKED,
        [COUNT_SENT] = s.sent,
        [COUNT_RESTARTS] = s.restarts,
        [COUNT_SATURATED] = m.saturated,
    };
    for (size_t i = 0; i < COUNT_REFUSED; i++) show_one(c, i, values[i]);
    judge(c, &m, &s, now);
}

/* The meter's own work: time, samples, heartbeat, commit. */
static enum sg_error work(struct collector *c, struct boot_ms now, bool second)
{
    enum sg_error e = second ? commit_tick(&c->commit, now, c->fault) : SG_OK;
    if (!e && !c->commit.blocked && c->sampler && due(&c->sample_at, now, c->config->sample_interval_ms)) {
        sampler_sweep(c->sampler, sampled, c);
        e = c->error;
    }
    if (e || c->commit.blocked) return e;
    return commit_step(&c->commit, now, ingest_wants_seal(c->ingest), c->fault);
}

static enum sg_error unblock(struct collector *c)
{
    enum sg_error e = commit_unblock(&c->commit, c->fault);
    if (!e && !c->commit.blocked)
        log_event(LOG_INFO, "spool_has_room", "bytes=%llu", (unsigned long long)spool_bytes(&c->spool));
    return e;
}

static struct boot_ms earlier(struct boot_ms a, struct boot_ms b)
{
    return a.v < b.v ? a : b;
}

static enum sg_error turn(struct collector *c, struct boot_ms now, struct boot_ms *next)
{
    struct boot_ms ship_at = LOOP_NEVER;
    bool second = due(&c->second_at, now, METER_TICK_MS), was_blocked = c->commit.blocked != COMMIT_NOT_BLOCKED;
    health_doing(&c->health, "a write to the spool");
    enum sg_error e = was_blocked ? unblock(c) : work(c, now, second);
    health_doing(&c->health, NULL);
    if (e) return e;
    if (c->commit.blocked) {
        ingest_pause(c->ingest);
        if (!was_blocked) log_event(LOG_WARN, "spool_full", "bytes=%llu", (unsigned long long)spool_bytes(&c->spool));
    } else if (was_blocked || ingest_wants_seal(c->ingest))
        ingest_continue(c->ingest);
    e = shipper_step(c->shipper, now, &ship_at, c->fault);
    if (e) return e;
    tell_lag(c);
    if (second || was_blocked != (c->commit.blocked != COMMIT_NOT_BLOCKED)) {
        show(c, now);
        log_flush(false);
        service_alive();
    }
    *next = earlier(ship_at, c->second_at);
    *next = earlier(*next, c->commit.blocked ? (struct boot_ms){now.v + BLOCKED_RETRY_MS} : c->commit.heartbeat_at);
    if (!c->commit.blocked && meter_dirty(c->meter)) *next = earlier(*next, c->commit.seal_at);
    if (!c->commit.blocked && ingest_wants_seal(c->ingest)) *next = now;
    return SG_OK;
}

enum sg_error collector_turn(struct collector *c, struct boot_ms now, struct boot_ms *next)
{
    *next = LOOP_NEVER;
    return c->error = turn(c, now, next);
}

/* ---- start and end ---- */

static enum sg_error start_meter(struct collector *c)
{
    const struct collector_config *config = c->config;
    struct meter_config m = {.runner = config->runner,
                             .region = config->region,
                             .clock = (enum meter_clock)config->clock,
                             .sandboxes_max = (size_t)config->sandboxes_max,
                             .watch = {watch_begin, watch_end, c}};
    struct spool_options s = {.directory = config->spool_dir,
                              .runner = config->runner,
                              .now = clock_wall(),
                              .bytes_max = config->spool_bytes_max,
                              .segment_bytes = config->spool_segment_bytes};
    c->meter = meter_new(&m);
    if (!c->meter) return sg_fail(c->fault, SG_ERR_NOMEM, "no memory for the meter");
    enum sg_error e = spool_open(&c->spool, &s, commit_recover, c->meter, c->fault);
    if (e) return e;
    commit_init(&c->commit, &(struct commit_options){.meter = c->meter,
                                                     .spool = &c->spool,
                                                     .seal_interval_ms = config->seal_interval_ms,
                                                     .heartbeat_interval_ms = config->heartbeat_interval_ms,
                                                     .durable = durable,
                                                     .arg = c});
    bool sample = config->clock == METER_CLOCK_SYSTEM && (*config->cgroup_root || config->sample_links);
    if (sample) e = sampler_new(&c->sampler, config->cgroup_root, config->sample_links, c->fault);
    if (!e) meter_watch_all(c->meter);
    return e;
}

/* `NAME VALUE` items to the list that the shipper wants; every value behind its name's NUL. */
static const char **kafka_properties(const struct config_list *list)
{
    const char **out = calloc(2 * list->count + 1, sizeof *out);
    for (size_t i = 0; out && i < list->count; i++) {
        char *space = strchr(list->item[i], ' ');
        if (space) *space = '\0'; /* config's check has seen it */
        out[2 * i] = list->item[i];
        out[2 * i + 1] = space ? space + 1 : "";
    }
    return out;
}

static enum sg_error start_shipper(struct collector *c)
{
    char client_id[CLIENT_ID_BYTES];
    const char **properties = kafka_properties(&c->config->kafka_properties);
    if (!properties) return sg_fail(c->fault, SG_ERR_NOMEM, "no memory for the shipper");
    snprintf(client_id, sizeof client_id, "sandglass-collector-%s", c->config->runner);
    struct shipper_config s = {.brokers = c->config->kafka_brokers,
                               .topic = c->config->events_topic,
                               .runner = c->config->runner,
                               .client_id = client_id,
                               .kafka = properties,
                               .wake_fd = loop_wake_fd(&c->loop)};
    enum sg_error e = shipper_new(&c->shipper, &s, &c->spool, c->fault);
    free(properties);
    return e;
}

void collector_init(struct collector *c, const struct collector_config *config, struct sg_fault *f)
{
    *c = (struct collector){.config = config, .fault = f};
    counters_init(&c->counters, collector_counter_specs, COLLECTOR_COUNTER_COUNT);
    health_init(&c->health, components, COMPONENTS, NULL);
}

enum sg_error collector_open(struct collector *c)
{
    c->error = loop_init(&c->loop, NULL, c->fault);
    if (!c->error) c->error = start_meter(c);
    if (!c->error) c->error = start_shipper(c);
    if (!c->error) c->error = commit_roll(&c->commit, c->fault);
    return c->error;
}

enum sg_error collector_listen(struct collector *c)
{
    const struct collector_config *config = c->config;
    struct ingest_options i = {.path = config->ingest_socket,
                               .mode = (unsigned)strtoul(config->ingest_socket_mode, NULL, 8),
                               .owner = config->ingest_socket_owner,
                               .loop = &c->loop,
                               .meter = c->meter,
                               .counters = &c->counters,
                               .refused_index = COUNT_REFUSED,
                               .sessions_index = COUNT_SESSIONS};
    c->error = ingest_start(&c->ingest, &i, c->fault);
    if (c->error) return c->error;
    if (c->commit.blocked) ingest_pause(c->ingest);
    show(c, loop_now(&c->loop));
    tell_lag(c);
    health_set_ready(&c->health, true);
    return SG_OK;
}

enum sg_error collector_end(struct collector *c)
{
    if (!c->error && c->ingest && !c->commit.blocked && meter_dirty(c->meter))
        c->error = commit_settle(&c->commit, c->fault);
    return c->error;
}

void collector_destroy(struct collector *c)
{
    ingest_stop(c->ingest);
    shipper_free(c->shipper);
    spool_close(&c->spool);
    meter_free(c->meter);
    sampler_free(c->sampler);
    health_destroy(&c->health);
    commit_destroy(&c->commit);
    loop_destroy(&c->loop);
}
