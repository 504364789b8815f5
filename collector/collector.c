/* The collector's main thread: how lines become durable, acknowledged and shipped.
 *
 * A COMMIT    settle (bill up to the present) -> seal -> spool_append -> spool_sync -> the meter's numbers are durable
 * -> a new segment if the old one is full -> acks. At the end of each seal interval, or as soon as the meter says that
 * it is full. FULL SPOOL  spool_roll or spool_append says LIMIT: the sealed batch, or the state, waits (`blocked`),
 * nothing is taken from the sockets and no time passes in the meter until Kafka has taken batches and the same call
 * succeeds. FAILURES    Anything the spool calls IO or CORRUPT, and want of memory, ends the program; starting it is
 * recovery. Kafka away is not a failure: the spool grows, health turns red. INVARIANTS  Nothing is acknowledged before
 * the batch with its effect is on disk. Between a seal and the roll that follows it, the meter takes nothing. */
#include "collector/collector.h"

#include <assert.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/ingest.h"
#include "collector/meter.h"
#include "collector/sampler.h"
#include "collector/shipper.h"
#include "collector/spool.h"
#include "common/health.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/ops_http.h"
#include "common/service.h"

_Static_assert((int)METER_SNAPSHOT_BYTES_MAX <= (int)SPOOL_SNAPSHOT_BYTES_MAX, "a state that was taken can be saved");
_Static_assert((int)METER_DELTA_BYTES_MAX <= (int)SPOOL_DELTA_BYTES_MAX, "a change that was taken can be stored");

enum { FILES_MAX = 1 << 20, BLOCKED_RETRY_MS = 100, CLIENT_ID_BYTES = 128, SEALS_A_TURN_MAX = 64 };

enum component { COMPONENT_KAFKA, COMPONENT_SPOOL, COMPONENTS };
static const struct health_component components[COMPONENTS] = {
    [COMPONENT_KAFKA] = {"kafka", 5 * SECOND_MS},
    [COMPONENT_SPOOL] = {"spool", 0},
};

/* What the spool could not take yet. */
enum blocked { BLOCKED_NOT, BLOCKED_APPEND, BLOCKED_ROLL };

struct collector {
    const struct collector_config *config;
    struct loop loop;
    struct meter *meter;
    struct spool spool;
    struct shipper *shipper;
    struct sampler *sampler;
    struct ingest *ingest;
    struct ops_http *ops;
    struct health health;
    struct counters counters;
    struct buffer snapshot;
    enum blocked blocked;
    const uint8_t *batch, *delta; /* sealed, while BLOCKED_APPEND; the meter's */
    size_t batch_bytes, delta_bytes;
    uint64_t delivered_seq;
    struct boot_ms seal_at, second_at, heartbeat_at, sample_at;
    struct sg_fault *fault;
    enum sg_error error; /* what ends the program */
};

/* ---- becoming durable ---- */

/* What is still to be done: batches that Kafka does not have, and what the meter holds unsealed. Told before an ack
 * leaves, so that whoever sees the ack and then no lag knows that its event is in Kafka. */
static void tell_lag(struct collector *c)
{
    uint64_t delivered = spool_delivered_seq(&c->spool), lag = spool_last_seq(&c->spool) - delivered;
    if (delivered != c->delivered_seq) health_progress(&c->health);
    c->delivered_seq = delivered;
    health_set_lag(&c->health, lag + meter_dirty(c->meter));
}

/* The sealed batch to the spool. OK also when it has to wait. */
static enum sg_error store(struct collector *c)
{
    enum sg_error e = spool_append(&c->spool, c->batch, c->batch_bytes, c->delta, c->delta_bytes, c->fault);
    c->blocked = e == SG_ERR_LIMIT ? BLOCKED_APPEND : BLOCKED_NOT;
    if (e == SG_ERR_LIMIT) return SG_OK;
    if (!e) e = spool_sync(&c->spool, c->fault);
    if (e) return e;
    meter_durable(c->meter);
    counters_add(&c->counters, COUNT_BATCHES, 1);
    counters_add(&c->counters, COUNT_BATCH_BYTES, c->batch_bytes);
    return SG_OK;
}

/* A new segment when the old one is full. OK also when it has to wait. */
static enum sg_error roll(struct collector *c)
{
    c->blocked = BLOCKED_NOT;
    if (!spool_wants_roll(&c->spool)) return SG_OK;
    enum sg_error e = meter_save(c->meter, &c->snapshot);
    if (e) return sg_fail(c->fault, e, "the meter's state could not be saved");
    e = spool_roll(&c->spool, (const uint8_t *)c->snapshot.data, c->snapshot.length, c->fault);
    if (e == SG_ERR_LIMIT) c->blocked = BLOCKED_ROLL;
    buffer_destroy(&c->snapshot); /* it is large and seldom needed */
    buffer_init(&c->snapshot, METER_SNAPSHOT_BYTES_MAX);
    return e == SG_ERR_LIMIT ? SG_OK : e;
}

/* Makes durable what the meter holds. May end blocked. */
static enum sg_error seal(struct collector *c)
{
    struct meter_position position = {spool_epoch(&c->spool), spool_last_seq(&c->spool) + 1,
                                      spool_previous_sha256(&c->spool)};
    enum sg_error e = meter_seal(c->meter, &position, &c->batch, &c->batch_bytes, &c->delta, &c->delta_bytes);
    if (e) return sg_fail(c->fault, e, "sealing batch %llu", (unsigned long long)position.seq);
    e = store(c);
    if (!e && !c->blocked) e = roll(c);
    if (e || c->blocked == BLOCKED_APPEND) return e;
    tell_lag(c);
    if (c->ingest) ingest_durable(c->ingest);
    return SG_OK;
}

/* Repeats a step of the meter with seals in between until it is through, or the spool is full. */
static enum sg_error seal_while_full(struct collector *c, enum meter_verdict (*step)(struct meter *))
{
    enum sg_error e = SG_OK;
    while (!e && !c->blocked && step(c->meter) == METER_FULL) e = seal(c);
    return e;
}

/* A leap of time makes more batches than may keep sockets, shipper and signals waiting: the rest comes in the next
 * turn, or after the next start. */
static enum sg_error commit(struct collector *c)
{
    enum sg_error e = SG_OK;
    enum meter_verdict v = METER_FULL;
    for (int i = 0; i < SEALS_A_TURN_MAX && !e && !c->blocked; i++) {
        v = meter_settle(c->meter);
        e = seal(c);
        if (v != METER_FULL) return e;
    }
    if (!e && !c->blocked) c->seal_at.v = 0;
    return e;
}

/* Tries again what the spool had no room for. */
static enum sg_error unblock(struct collector *c)
{
    enum sg_error e = SG_OK;
    if (c->blocked == BLOCKED_APPEND) {
        e = store(c);
        if (e || c->blocked) return e;
        tell_lag(c);
        ingest_durable(c->ingest);
    }
    if (!e) e = roll(c);
    if (!e && !c->blocked)
        log_event(LOG_INFO, "spool_has_room", "bytes=%llu", (unsigned long long)spool_bytes(&c->spool));
    return e;
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
    struct boot_ms now = loop_now(&c->loop);
    while (!c->error && !c->blocked && meter_sample(c->meter, s->handle, &m, now) == METER_FULL) c->error = seal(c);
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
        [COUNT_BATCHES] = counters_get(&c->counters, COUNT_BATCHES),
        [COUNT_BATCH_BYTES] = counters_get(&c->counters, COUNT_BATCH_BYTES),
        [COUNT_EPOCH] = spool_epoch(&c->spool),
        [COUNT_SEQ] = spool_durable_seq(&c->spool),
        [COUNT_DELIVERED_SEQ] = s.delivered_seq,
        [COUNT_LAG] = s.lag_batches,
        [COUNT_LAG_AGE] = s.lag_age_ms,
        [COUNT_SPOOL_BYTES] = spool_bytes(&c->spool),
        [COUNT_SPOOL_FULL] = c->blocked != BLOCKED_NOT,
        [COUNT_SENT] = s.sent,
        [COUNT_RESTARTS] = s.restarts,
        [COUNT_SATURATED] = m.saturated,
    };
    for (size_t i = 0; i < COUNT_REFUSED; i++) show_one(c, i, values[i]);
    if (s.fault)
        health_set_fault(&c->health, COMPONENT_KAFKA, s.fault);
    else
        health_clear(&c->health, COMPONENT_KAFKA);
    if (c->blocked)
        health_set_fault(&c->health, COMPONENT_SPOOL, "the spool is full: nothing is taken until Kafka takes batches");
    else
        health_clear(&c->health, COMPONENT_SPOOL);
}

/* The meter's own work: time, samples, heartbeat, commit. */
static enum sg_error work(struct collector *c, struct boot_ms now, bool second)
{
    enum sg_error e = SG_OK;
    bool beat = false;
    if (second)
        while (!e && !c->blocked && meter_tick(c->meter, now) == METER_FULL) e = seal(c);
    if (!e && !c->blocked && c->sampler && due(&c->sample_at, now, c->config->sample_interval_ms)) {
        sampler_sweep(c->sampler, sampled, c);
        e = c->error;
    }
    if (!e && !c->blocked && due(&c->heartbeat_at, now, c->config->heartbeat_interval_ms)) {
        e = seal_while_full(c, meter_heartbeat);
        beat = true;
    }
    if (e || c->blocked) return e;
    if (now.v >= c->seal_at.v && (beat || meter_dirty(c->meter))) {
        c->seal_at.v = now.v + c->config->seal_interval_ms;
        return commit(c);
    }
    return ingest_wants_seal(c->ingest) ? seal(c) : SG_OK;
}

static struct boot_ms earlier(struct boot_ms a, struct boot_ms b)
{
    return a.v < b.v ? a : b;
}

static enum sg_error turn(struct collector *c, struct boot_ms now, struct boot_ms *next)
{
    struct boot_ms ship_at = LOOP_NEVER;
    bool second = due(&c->second_at, now, METER_TICK_MS), was_blocked = c->blocked != BLOCKED_NOT;
    enum sg_error e = was_blocked ? unblock(c) : work(c, now, second);
    if (e) return e;
    if (c->blocked) {
        ingest_pause(c->ingest);
        if (!was_blocked) log_event(LOG_WARN, "spool_full", "bytes=%llu", (unsigned long long)spool_bytes(&c->spool));
    } else if (was_blocked || ingest_wants_seal(c->ingest))
        ingest_continue(c->ingest);
    e = shipper_step(c->shipper, now, &ship_at, c->fault);
    if (e) return e;
    tell_lag(c);
    if (second || was_blocked != (c->blocked != BLOCKED_NOT)) {
        show(c, now);
        log_flush(false);
        service_alive();
    }
    *next = earlier(ship_at, c->second_at);
    *next = earlier(*next, c->blocked ? (struct boot_ms){now.v + BLOCKED_RETRY_MS} : c->heartbeat_at);
    if (!c->blocked && meter_dirty(c->meter)) *next = earlier(*next, c->seal_at);
    if (!c->blocked && ingest_wants_seal(c->ingest)) *next = now;
    return SG_OK;
}

static struct boot_ms on_tick(void *arg, struct boot_ms now)
{
    struct collector *c = arg;
    struct boot_ms next = LOOP_NEVER;
    c->error = turn(c, now, &next);
    if (c->error) loop_stop(&c->loop);
    return next;
}

/* ---- start and end ---- */

static enum sg_error apply_state(void *arg, enum spool_record_kind kind, uint64_t seq, const uint8_t *bytes,
                                 size_t length, struct sg_fault *f)
{
    struct collector *c = arg;
    (void)seq;
    return kind == SPOOL_SNAPSHOT ? meter_load(c->meter, bytes, length, f) : meter_apply(c->meter, bytes, length, f);
}

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
    enum sg_error e = spool_open(&c->spool, &s, apply_state, c, c->fault);
    if (e) return e;
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

static enum sg_error start_listeners(struct collector *c)
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
    struct ops_http_config o = {.listen = config->ops_listen,
                                .program = collector_config_table.program,
                                .health = &c->health,
                                .counters = &c->counters};
    enum sg_error e = ops_http_start(&c->ops, &o, c->fault);
    if (!e) e = ingest_start(&c->ingest, &i, c->fault);
    if (!e && c->blocked) ingest_pause(c->ingest);
    return e;
}

/* Large buffers go back to the system when they are freed, and threads share their heaps: a collector shares its host
 * with those who pay for it. */
static void bound_memory(void)
{
    enum { ARENAS = 1, MMAP_BYTES = 64 * 1024, TRIM_BYTES = 128 * 1024 };
    (void)mallopt(M_ARENA_MAX, ARENAS);
    (void)mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, TRIM_BYTES);
}

static enum sg_error start(struct collector *c)
{
    bound_memory();
    service_setup(FILES_MAX);
    enum sg_error e = loop_init(&c->loop, NULL, c->fault);
    if (!e) e = start_meter(c);
    if (!e) e = start_shipper(c);
    if (!e) e = roll(c);
    if (!e) e = start_listeners(c);
    if (e) return e;
    show(c, loop_now(&c->loop));
    tell_lag(c);
    health_set_ready(&c->health, true);
    log_event(LOG_INFO, "started", "epoch=%llu seq=%llu delivered=%llu ops_port=%u",
              (unsigned long long)spool_epoch(&c->spool), (unsigned long long)spool_last_seq(&c->spool),
              (unsigned long long)spool_delivered_seq(&c->spool), ops_http_port(c->ops));
    service_ready();
    return SG_OK;
}

static void stop(struct collector *c)
{
    service_stopping();
    if (!c->error && c->ingest && !c->blocked && meter_dirty(c->meter)) c->error = commit(c);
    ingest_stop(c->ingest);
    ops_http_stop(c->ops);
    shipper_free(c->shipper);
    spool_close(&c->spool);
    meter_free(c->meter);
    sampler_free(c->sampler);
    health_destroy(&c->health);
    buffer_destroy(&c->snapshot);
    loop_destroy(&c->loop);
}

enum sg_error collector_run(const struct collector_config *config, struct sg_fault *f)
{
    struct collector *c = calloc(1, sizeof *c);
    if (!c) return sg_fail(f, SG_ERR_NOMEM, "no memory");
    c->config = config;
    c->fault = f;
    buffer_init(&c->snapshot, METER_SNAPSHOT_BYTES_MAX);
    counters_init(&c->counters, collector_counter_specs, COLLECTOR_COUNTER_COUNT);
    health_init(&c->health, components, COMPONENTS, NULL);
    c->error = start(c);
    if (!c->error) {
        enum sg_error e = loop_run(&c->loop, on_tick, c, f);
        if (!c->error) c->error = e;
    }
    stop(c);
    enum sg_error e = c->error;
    free(c);
    return e;
}
