/* Redis as redis_store.h gives it to the programs, and what may befall its shards. Each request has its own fate: not
 * sent, run whole or in part, answered or not, late, refused for want of memory. Before it takes effect and before its
 * answer is read others may go on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/store/scripts.h"
#include "tests/sim/redis_lua.h"
#include "tests/sim/rollup_world.h"

enum { CUT_MOST = 40, CUT_EARLY = 8, FROZEN_STEPS = 60, RECENT_COMMANDS = 60, LOOKS_AFTER = 10, MEET_DICE = 40 };

struct redis_store {
    struct rollup_world *world;
    struct rollup_process *process; /* NULL: the archiver */
};

static struct rollup_world *world_of_stores;

void rollup_redis_begin(struct rollup_world *w)
{
    world_of_stores = w;
}

enum sg_error redis_store_new(struct redis_store **out, const struct redis_store_config *config, struct sg_fault *f)
{
    (void)config;
    *out = calloc(1, sizeof **out);
    if (!*out) return sg_fail(f, SG_ERR_NOMEM, "no memory");
    **out = (struct redis_store){world_of_stores, world_of_stores->acting};
    return SG_OK;
}
void redis_store_free(struct redis_store *s)
{
    free(s);
}

/* ---- while a process waits ---- */

static void others_go_on(struct redis_store *s)
{
    struct rollup_world *w = s->world;
    struct rollup_process *acting = w->acting;
    if (w->sim->quiet || w->depth == NESTED_MAX) return;
    bool frozen = s->process && rollup_fault(w, SIM_AGGREGATOR_FROZEN);
    uint64_t steps = frozen ? 10 + sim_draw(w->sim, FROZEN_STEPS) : sim_draw(w->sim, 10) ? 0 : 1 + sim_draw(w->sim, 3);
    if (steps == 0) return;
    w->depth++;
    if (s->process) s->process->busy = true;
    if (frozen && s->process->member) {
        s->process->member = false;
        rollup_rebalance(w);
    }
    for (; steps > 0 && w->sim->steps < w->steps_end && sim_goes_on(w->sim); steps--)
        w->others ? w->others(w->others_arg) : rollup_step(w);
    if (s->process) s->process->busy = false;
    w->acting = acting;
    w->depth--;
}

/* Somebody who has not heard yet that his partitions are others'; NULL: nobody, or he is in a call himself. */
static struct rollup_process *former_owner(const struct rollup_world *w, const struct rollup_process *p)
{
    for (size_t i = 0; i < PROCESSES; i++) {
        struct rollup_process *other = &w->process[i];
        if (other == p || !other->alive || other->busy || !rollup_dirty(&other->aggregator.rollup)) continue;
        for (uint32_t k = 0; k < w->parts; k++)
            if (p->aggregator.rollup.partition[k].taken && other->aggregator.rollup.partition[k].taken) return other;
    }
    return NULL;
}

/* Between two chunks of a flush: he flushes, too, and most of the time it is cut. What he brings back may heal with the
 * next flush: so the next steps are looked at. */
static void writers_meet(struct redis_store *s, uint32_t shard)
{
    struct rollup_world *w = s->world;
    struct rollup_process *acting = w->acting, *other = s->process ? former_owner(w, s->process) : NULL;
    bool meet = false;
    if (!other || w->depth == NESTED_MAX || s->process->aggregator.sync.flushes[shard].chunks < 2) return;
    for (int i = 0; i < MEET_DICE && !meet; i++) meet = rollup_fault(w, SIM_WRITERS_MEET);
    if (!meet) return;
    w->depth++;
    s->process->busy = w->meeting = true;
    w->cut_flushes = sim_draw(w->sim, 4);
    w->looks = LOOKS_AFTER;
    other->aggregator.flush_at.v = 0;
    rollup_process_turn(w, other);
    s->process->busy = w->meeting = w->cut_flushes = false;
    w->acting = acting;
    w->depth--;
}

/* ---- one request ---- */

static struct redis_state *state_of(struct redis_store *s, uint32_t shard)
{
    struct rollup_shard *h = &s->world->shard[shard];
    return h->has_old && s->process && s->process->old[shard] ? &h->old : &h->now;
}

static void late_add(struct rollup_world *w, const struct store_request *q)
{
    size_t length = 0, at = 0;
    struct store_bytes *arg = calloc(q->count, sizeof *arg);
    struct rollup_late *l = &w->late[w->lates++];
    for (size_t i = 0; i < q->count; i++) length += q->arg[i].length;
    *l = (struct rollup_late){q->shard, *q, malloc(length + 1)};
    if (!arg || !l->bytes) abort();
    for (size_t i = 0; i < q->count; i++) {
        if (q->arg[i].length) memcpy(l->bytes + at, q->arg[i].p, q->arg[i].length);
        arg[i] = (struct store_bytes){l->bytes + at, q->arg[i].length};
        at += q->arg[i].length;
    }
    l->request.arg = arg;
}

static void late_remove(struct rollup_world *w, size_t i)
{
    free((void *)(uintptr_t)w->late[i].request.arg);
    free(w->late[i].bytes);
    w->late[i] = w->late[--w->lates];
}

void rollup_late_drop(struct rollup_world *w)
{
    while (w->lates) late_remove(w, 0);
}

void rollup_late_arrives(struct rollup_world *w)
{
    const char *why;
    struct redisReply *reply = NULL;
    if (w->lates == 0) return;
    size_t i = sim_draw(w->sim, w->lates);
    if (redis_lua_run(&w->shard[w->late[i].shard].now, &w->late[i].request, REDIS_WRITES_ALL, &reply, &why) ==
        REDIS_FAILED)
        sim_fail(w->sim, "a script failed: %s", why);
    if (reply) freeReplyObject(reply);
    late_remove(w, i);
}

/* Kill -9 while the request is under way. */
static void killed(struct redis_store *s)
{
    if (s->process && rollup_fault(s->world, SIM_AGGREGATOR_KILLED)) s->process->dead = true;
}

static enum sg_error run(struct redis_store *s, struct store_request *q, struct sg_fault *f)
{
    struct rollup_world *w = s->world;
    const char *why = "";
    bool full = rollup_fault(w, SIM_REDIS_FULL), cut = !full && rollup_fault(w, SIM_SCRIPT_CUT);
    bool early = w->cut_flushes && q->script == script_flush;
    int32_t writes = full    ? 0
                     : early ? (int32_t)sim_draw(w->sim, CUT_EARLY)
                     : cut   ? (int32_t)sim_draw(w->sim, CUT_MOST)
                             : REDIS_WRITES_ALL;
    enum redis_end end = redis_lua_run(state_of(s, q->shard), q, writes, &q->reply, &why);
    if (end == REDIS_FAILED) {
        sim_fail(w->sim, "a script failed: %s", why);
        return sg_fail(f, SG_ERR_IO, "redis: an error");
    }
    if (end == REDIS_CUT && full) return sg_fail(f, SG_ERR_STATE, "redis: out of memory");
    if (end == REDIS_CUT || rollup_fault(w, SIM_REDIS_ANSWER_LOST))
        return sg_fail(f, SG_ERR_UNKNOWN, "redis: no answer");
    return SG_OK;
}

/* *sent: whether the requests after it go out, too. */
static enum sg_error one(struct redis_store *s, struct store_request *q, bool *sent, struct sg_fault *f)
{
    struct rollup_world *w = s->world;
    struct rollup_shard *h = &w->shard[q->shard];
    others_go_on(s);
    if (q->script == script_flush) writers_meet(s, q->shard);
    *sent = !(s->process && s->process->dead) && w->sim->now >= h->away_until;
    if (!*sent) return sg_fail(f, SG_ERR_UNREACHABLE, "redis: no connection");
    killed(s);
    if (w->lates < LATE_MAX && rollup_fault(w, SIM_SCRIPT_LATE)) {
        late_add(w, q);
        return sg_fail(f, SG_ERR_UNKNOWN, "redis: no answer in time");
    }
    enum sg_error e = run(s, q, f);
    others_go_on(s);
    killed(s);
    if (!e && s->process && s->process->dead) e = sg_fail(f, SG_ERR_UNKNOWN, "killed");
    return e;
}

enum sg_error redis_store_run(struct redis_store *s, struct store_request *requests, size_t count, struct sg_fault *f)
{
    enum sg_error first = SG_OK;
    bool sent = true;
    for (size_t i = 0; i < count; i++) requests[i].reply = NULL;
    for (size_t i = 0; i < count && sent; i++) {
        struct sg_fault why;
        enum sg_error e = one(s, &requests[i], &sent, first ? &why : f);
        if (e && !first) first = e;
    }
    if (first) store_requests_done(requests, count);
    return first;
}

/* ---- what befalls a shard ---- */

void rollup_roll_back(struct rollup_world *w, uint32_t shard)
{
    struct redis_state *s = &w->shard[shard].now;
    uint64_t most = s->command - s->oldest;
    if (sim_draw(w->sim, 2) && most > RECENT_COMMANDS) most = RECENT_COMMANDS;
    redis_state_back(s, s->command - sim_draw(w->sim, most + 1));
}

void rollup_empty(struct rollup_world *w, uint32_t shard)
{
    struct redis_state *s = &w->shard[shard].now;
    redis_state_begin(s);
    for (size_t i = 0; i < s->count; i++)
        (void)redis_state_delete_key(s, (struct redis_text){s->key[i]->name, s->key[i]->name_length});
}

void rollup_fail_over(struct rollup_world *w, uint32_t shard)
{
    struct rollup_shard *h = &w->shard[shard];
    if (h->has_old) return;
    redis_state_copy(&h->old, &h->now);
    h->has_old = true;
    rollup_roll_back(w, shard);
    for (size_t i = 0; i < PROCESSES; i++) w->process[i].old[shard] = sim_draw(w->sim, 2);
}

void rollup_old_gone(struct rollup_world *w, uint32_t shard, bool wins)
{
    struct rollup_shard *h = &w->shard[shard];
    if (!h->has_old) return;
    redis_state_destroy(wins ? &h->now : &h->old);
    if (wins) h->now = h->old;
    h->old = (struct redis_state){0};
    h->has_old = false;
    for (size_t i = 0; i < PROCESSES; i++) w->process[i].old[shard] = false;
}
