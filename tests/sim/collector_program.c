/* The collector's program, and what it talks to: the disk, instead of files; sessions of this world's supervisors,
 * instead of sockets (ingest.h). Its producers are the broker's (collector_broker.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/ingest.h"
#include "collector/meter_internal.h" /* to ask what a recovered meter knows, without a greeting that would change it */
#include "tests/sim/collector_world.h"

enum { SEAL_INTERVAL_MS = 200, HEARTBEAT_INTERVAL_MS = 10 * SECOND_MS, RESTART_MS = 3 * SECOND_MS, CALLS_TO_LIVE = 40 };

/* Whose program it is that runs. */
static struct collector_runner *acting;

struct collector_runner *collector_acting(void)
{
    return acting;
}

/* Returns whose turn it was, in whatever world. */
static struct sim_actor *act(struct collector_runner *r)
{
    acting = r;
    (void)snprintf(r->actor.name, sizeof r->actor.name, "%s", r->name);
    r->actor.skew_ms = r->skew;
    r->actor.booted_at = r->booted_at;
    return ports_act(&r->actor);
}

static void act_no_more(struct sim_actor *before)
{
    acting = NULL;
    (void)ports_act(before);
}

/* ---- instead of files ---- */

enum sg_error __real_spool_open(struct spool *s, const struct spool_options *o, spool_apply *apply, void *arg,
                                struct sg_fault *f);
enum sg_error __wrap_spool_open(struct spool *s, const struct spool_options *o, spool_apply *apply, void *arg,
                                struct sg_fault *f);
enum sg_error __wrap_spool_open(struct spool *s, const struct spool_options *o, spool_apply *apply, void *arg,
                                struct sg_fault *f)
{
    struct spool_options here = *o;
    if (acting) here.io = &acting->io;
    return __real_spool_open(s, &here, apply, arg, f);
}

/* ---- instead of sockets ---- */

struct ingest {
    struct collector_runner *runner;
};

enum sg_error ingest_start(struct ingest **out, const struct ingest_options *o, struct sg_fault *f)
{
    *out = malloc(sizeof **out);
    if (!*out) return sg_fail(f, SG_ERR_NOMEM, "no memory");
    (*out)->runner = acting;
    sessions_init(
        &acting->sessions,
        &(struct sessions_options){.meter = o->meter, .counters = o->counters, .refused_index = o->refused_index});
    return SG_OK;
}

void ingest_stop(struct ingest *i)
{
    if (!i) return;
    struct collector_runner *r = i->runner;
    for (size_t k = 0; k < r->sources; k++) {
        collector_source_cut(&r->source[k], false);
        session_end(&r->source[k].session[0]);
        session_end(&r->source[k].session[1]);
    }
    sessions_destroy(&r->sessions);
    free(i);
}

bool ingest_wants_seal(const struct ingest *i)
{
    return i->runner->sessions.wants_seal;
}

void ingest_pause(struct ingest *i)
{
    sessions_pause(&i->runner->sessions);
}

void ingest_continue(struct ingest *i)
{
    struct collector_runner *r = i->runner;
    sessions_continue(&r->sessions);
    for (size_t k = 0; k < r->sources; k++) {
        session_take(&r->source[k].session[0]);
        session_take(&r->source[k].session[1]);
    }
}

void ingest_durable(struct ingest *i)
{
    (void)i; /* sources ask by themselves */
}

/* ---- the disk's faults ---- */

static bool disk_happens(void *arg, enum disk_event event)
{
    static const enum sim_fault kinds[] = {[DISK_WRITE_SHORT] = SIM_WRITE_SHORT,
                                           [DISK_WRITE_FAILS] = SIM_WRITE_FAILS,
                                           [DISK_READ_FAILS] = SIM_READ_FAILS,
                                           [DISK_SYNC_FAILS] = SIM_SYNC_FAILS};
    struct collector_runner *r = arg;
    if (event == DISK_KEEPS) return sim_draw(r->world->sim, 2);
    if (event == DISK_FULL) return r->disk_full;
    if (event == DISK_FULL_FOR_A_WRITE) return r->disk_full && !r->world->sim->quiet; /* which ends it */
    if (event == DISK_READ_FAILS && sim_draw(r->world->sim, 32)) return false;        /* recovery reads a lot */
    return collector_fault(r->world, kinds[event]);
}

/* A kill that waits for the moment in which a segment has its name, and nobody has synced that. */
static void before_call(void *arg, const char *name)
{
    struct collector_runner *r = arg;
    if (r->die_in_roll && strcmp(r->last_call, "rename") == 0) r->disk.dies_at = r->disk.calls + 1;
    r->last_call = name;
}

/* ---- begin and end ---- */

static void release(struct collector_runner *r)
{
    struct sim_actor *before = act(r);
    collector_destroy(&r->collector);
    act_no_more(before);
    disk_restart(&r->disk);
    r->alive = false;
    r->start_at = r->world->sim->now + (int64_t)sim_draw(r->world->sim, RESTART_MS);
}

void collector_program_kill(struct collector_runner *r)
{
    if (!r->alive) return;
    sim_trace(r->world->sim, "%s: killed", r->name);
    r->disk.dead = true; /* what it does from now on was never done */
    release(r);
}

/* What the recovered meter knows of the boot of a life; false: nothing. */
static bool known(const struct collector_runner *r, const struct collector_source *c, uint64_t *n)
{
    char boot_id[16];
    snprintf(boot_id, sizeof boot_id, "b%zu", c->life[c->lives - 1].boot);
    for (size_t i = 0; i < SOURCES_MAX; i++) {
        const struct source *s = &r->collector.meter->source[i];
        *n = s->durable_n;
        if (s->used && strcmp(s->name.s, c->name) == 0 && strcmp(s->boot_id.s, boot_id) == 0) return true;
    }
    *n = 0;
    return false;
}

/* Up to where the sandbox of line n + 1 is billed, if it runs. What of that may be, the oracle knows. */
static uint64_t billed_ms(const struct collector_runner *r, const struct collector_source *c, uint64_t n)
{
    const struct collector_boot *boot = &c->boot[c->life[c->lives - 1].boot];
    char id[ID_BYTES_MAX + 1];
    if (n >= boot->count) return 0;
    snprintf(id, sizeof id, "x%u-%u-%u", r->index, c->index, boot->line[n].box);
    const struct sandbox *s = table_find(&r->collector.meter->table, id);
    return s && s->state == SANDBOX_RUNNING ? s->open_ms : 0;
}

/* What was acknowledged is there, and nothing that was not said; the anchor of what is not there may come anew. */
static void expect_recovered(struct collector_runner *r)
{
    for (size_t i = 0; i < r->sources; i++) {
        struct collector_source *c = &r->source[i];
        struct collector_life *life = collector_life(c);
        uint64_t n;
        life->anchored &= known(r, c, &n);
        if (n < c->acked && c->acked >= life->first_n)
            sim_fail(r->world->sim, "%s %s: acknowledged lines are gone: %llu of %llu", r->name, c->name,
                     (unsigned long long)n, (unsigned long long)c->acked);
        if (n > c->boot[life->boot].count)
            sim_fail(r->world->sim, "%s %s: line %llu was never said", r->name, c->name, (unsigned long long)n);
        if (r->reboot) life->last_n = n >= life->first_n ? n : life->first_n - 1;
        if (r->reboot) life->billed_ms = billed_ms(r, c, life->last_n);
    }
    if (spool_delivered_seq(&r->collector.spool) > r->delivered_most)
        sim_fail(r->world->sim, "%s: a position beyond what Kafka said", r->name);
}

/* A host that was booted again has new boots of its sources, once it is known what of the old ones was taken. */
static void after_reboot(struct collector_runner *r)
{
    if (!r->reboot) return;
    r->reboot = false;
    for (size_t i = 0; i < r->sources; i++) {
        collector_life(&r->source[i])->rebooted = true;
        collector_source_boot(&r->source[i]);
    }
}

static void configure(struct collector_runner *r)
{
    static char name[] = "", mode[] = "600", spool[] = "spool";
    const struct collector_world *w = r->world;
    r->config = (struct collector_config){.runner = r->name,
                                          .region = r->region_name,
                                          .clock = w->system_clock ? METER_CLOCK_SYSTEM : METER_CLOCK_EVENT,
                                          .ingest_socket = name,
                                          .ingest_socket_mode = mode,
                                          .ingest_socket_owner = name,
                                          .sandboxes_max = (int64_t)r->sandboxes_max,
                                          .spool_dir = spool,
                                          .spool_bytes_max = SPOOL_BYTES_MIN,
                                          .spool_segment_bytes = w->segment_bytes,
                                          .kafka_brokers = name,
                                          .events_topic = name,
                                          .cgroup_root = name,
                                          .seal_interval_ms = SEAL_INTERVAL_MS,
                                          .heartbeat_interval_ms = HEARTBEAT_INTERVAL_MS};
}

static enum sg_error open_and_listen(struct collector_runner *r)
{
    struct sim_actor *before = act(r);
    collector_init(&r->collector, &r->config, &r->fault);
    enum sg_error e = collector_open(&r->collector);
    if (!e) {
        expect_recovered(r);
        after_reboot(r);
        e = collector_listen(&r->collector);
    }
    act_no_more(before);
    return e;
}

static void start(struct collector_runner *r)
{
    struct collector_world *w = r->world;
    r->disk.happens = disk_happens;
    r->disk.before = before_call;
    r->last_call = "";
    r->die_in_roll = false;
    configure(r);
    enum sg_error e = open_and_listen(r);
    r->alive = true;
    if (!e) {
        sim_trace(w->sim, "%s: starts, batch %llu, delivered %llu", r->name,
                  (unsigned long long)spool_last_seq(&r->collector.spool),
                  (unsigned long long)spool_delivered_seq(&r->collector.spool));
        return;
    }
    bool may = e == SG_ERR_IO || e == SG_ERR_LIMIT;
    sim_trace(w->sim, "%s: does not start: %s", r->name, r->fault.text);
    if (!may || w->sim->quiet) sim_fail(w->sim, "%s does not start: %s", r->name, r->fault.text);
    release(r);
}

/* ---- a turn ---- */

/* What has a limit is within it, also while nobody reads or nothing can be sent. */
static void expect_limits(struct collector_runner *r)
{
    struct meter_stats stats;
    meter_stats(r->collector.meter, &stats);
    r->world->late |= stats.late_events > 0;
    if (stats.sandboxes > r->sandboxes_max)
        sim_fail(r->world->sim, "%s: %zu sandboxes of %zu", r->name, stats.sandboxes, r->sandboxes_max);
    for (size_t i = 0; i < 2 * r->sources; i++) {
        const struct session *s = &r->source[i / 2].session[i % 2];
        if (s->state == SESSION_OVER) continue;
        if (s->refused.count > SESSION_REFUSALS_MAX || s->in_used > sizeof s->in || s->out_used > sizeof s->out)
            sim_fail(r->world->sim, "%s %s: a session passes a limit", r->name, r->source[i / 2].name);
    }
    r->world->sim->checks++;
}

/* What was taken is durable, and the shell is left in order. */
static void stop(struct collector_runner *r)
{
    struct sim_actor *before = act(r);
    enum sg_error e = collector_end(&r->collector);
    act_no_more(before);
    sim_trace(r->world->sim, "%s: was asked to stop", r->name);
    if (e && e != SG_ERR_IO) sim_fail(r->world->sim, "%s does not stop: %s", r->name, r->fault.text);
    if (!e && !r->collector.commit.blocked && meter_dirty(r->collector.meter))
        sim_fail(r->world->sim, "%s has stopped, and what it had taken is not durable", r->name);
    release(r);
}

void collector_program_turn(struct collector_runner *r)
{
    struct boot_ms now = collector_boot_now(r), next;
    if (!r->alive && r->world->sim->now >= r->start_at) start(r);
    if (!r->alive) return;
    if (collector_fault(r->world, SIM_COLLECTOR_KILLED)) {
        r->die_in_roll = sim_draw(r->world->sim, 3) == 0;
        if (!r->die_in_roll) r->disk.dies_at = r->disk.calls + 1 + sim_draw(r->world->sim, CALLS_TO_LIVE);
    }
    if (collector_fault(r->world, SIM_COLLECTOR_STOPS)) return stop(r);
    struct sim_actor *before = act(r);
    enum sg_error e = collector_turn(&r->collector, now, &next);
    act_no_more(before);
    expect_limits(r);
    if (!e) return;
    sim_trace(r->world->sim, "%s: ends: %s", r->name, r->fault.text);
    if (!r->disk.dead && (e != SG_ERR_IO || r->world->sim->quiet))
        sim_fail(r->world->sim, "%s ends: %s", r->name, r->fault.text);
    release(r);
}

void collector_program_health(struct collector_runner *r, struct health_report *out)
{
    struct sim_actor *before = act(r);
    health_judge(&r->collector.health, out);
    act_no_more(before);
}

bool collector_program_quiet(const struct collector_runner *r)
{
    const struct collector *c = &r->collector;
    return r->alive && !c->commit.blocked && !meter_dirty(c->meter) && !r->reboot &&
           spool_delivered_seq(&c->spool) == spool_last_seq(&c->spool);
}
