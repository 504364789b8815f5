/* Redis as redis_store.h gives it to the programs, and what may befall its shards. Each request has its own fate: not
 * sent, run whole or in part, answered or not, late, refused for want of memory. Before it takes effect and before its
 * answer is read others may go on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/store/scripts.h"
#include "tests/sim/redis_lua.h"
#include "tests/sim/rollup_world.h"

enum { CUT_MOST = 40, CUT_EARLY = 8, FROZEN_STEPS = 60, RECENT_COMMANDS = 60, WATCHED_CHUNKS = 8 };

struct redis_store {
    struct rollup_world *world;
    struct rollup_process *process; /* NULL: not an aggregator's */
    struct sim_actor *actor;
    bool looks;  /* and nothing befalls it, nor goes on meanwhile */
    bool spared; /* the request under way is: a flush has many, and some are to come to an end */
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
    struct rollup_world *w = world_of_stores;
    **out = (struct redis_store){.world = w, .process = w ? w->acting : NULL, .actor = ports_acting()};
    return SG_OK;
}
void redis_store_free(struct redis_store *s)
{
    free(s);
}

struct redis_store *rollup_onlooker(struct rollup_world *w)
{
    struct redis_store *s = calloc(1, sizeof *s);
    if (!s) abort();
    *s = (struct redis_store){.world = w, .looks = true};
    return s;
}

static bool befalls(struct redis_store *s, enum sim_fault kind)
{
    return !s->spared && rollup_fault(s->world, kind);
}

/* ---- while a process waits ---- */

static void others_go_on(struct redis_store *s)
{
    struct rollup_world *w = s->world;
    struct rollup_process *acting = w->acting;
    struct sim_actor *actor = ports_acting();
    if (w->sim->quiet || w->depth == NESTED_MAX) return;
    bool frozen = s->process && befalls(s, SIM_AGGREGATOR_FROZEN);
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
    (void)ports_act(actor);
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

static void late_takes_effect(struct rollup_world *w, size_t i, int32_t writes)
{
    const char *why;
    struct redisReply *reply = NULL;
    if (redis_lua_run(&w->shard[w->late[i].shard].now, &w->late[i].request, writes, &reply, &why) == REDIS_FAILED)
        sim_fail(w->sim, "a script failed: %s", why);
    if (reply) freeReplyObject(reply);
    late_remove(w, i);
}

void rollup_late_arrives(struct rollup_world *w)
{
    if (w->lates) late_takes_effect(w, sim_draw(w->sim, w->lates), REDIS_WRITES_ALL);
}

/* Between two chunks of a flush, one of a flush that was given up, by a former owner or by this process itself. Most of
 * the time it is cut. */
static void writers_meet(struct redis_store *s, uint32_t shard)
{
    struct rollup_world *w = s->world;
    if (!s->process || s->process->aggregator.sync.flushes[shard].chunks < 2) return;
    for (size_t i = w->lates; i-- > 0;) { /* a new one may still find the vector that it wants */
        if (w->late[i].shard != shard || w->late[i].request.script != script_flush) continue;
        if (!w->shard[shard].meets && (w->sim->quiet || sim_draw(w->sim, 4) == 0)) continue;
        w->shard[shard].meets = false;
        sim_trace(w->sim, "shard %u: a late flush between two chunks", shard);
        late_takes_effect(w, i, sim_draw(w->sim, 4) ? (int32_t)sim_draw(w->sim, CUT_EARLY) : REDIS_WRITES_ALL);
        w->shard[shard].watched = WATCHED_CHUNKS;
        return;
    }
}

/* Kill -9 while the request is under way. */
static void killed(struct redis_store *s)
{
    if (s->process && befalls(s, SIM_AGGREGATOR_KILLED)) s->actor->dead = true;
}

/* Any number of commands, or just some of the last. */
static uint64_t earlier(struct rollup_world *w, const struct redis_state *s)
{
    uint64_t most = s->command - s->oldest;
    if (sim_draw(w->sim, 2) && most > RECENT_COMMANDS) most = RECENT_COMMANDS;
    return s->command - sim_draw(w->sim, most + 1);
}

/* What a flush has claimed, and what it may now have done wrong, the next one mends: so it is looked at. */
static void flushed(struct rollup_world *w, uint32_t shard, const struct redis_state *s)
{
    struct rollup_shard *h = &w->shard[shard];
    if (w->others) return;
    rollup_check_claims(w, shard, s);
    if (h->watched == 0) return;
    h->watched--;
    rollup_check_state(w, shard, &h->now, false);
}

static enum sg_error run(struct redis_store *s, struct store_request *q, struct sg_fault *f)
{
    struct rollup_world *w = s->world;
    struct rollup_shard *h = &w->shard[q->shard];
    struct redis_state *state = state_of(s, q->shard);
    const char *why = "";
    bool full = befalls(s, SIM_REDIS_FULL), flush = q->script == script_flush;
    bool cut = !full && ((flush && h->cut_next) || befalls(s, SIM_SCRIPT_CUT));
    bool fails = !full && !cut && befalls(s, SIM_SCRIPT_FAILS);
    int32_t writes = full ? REDIS_NO_MEMORY : cut || fails ? (int32_t)sim_draw(w->sim, CUT_MOST) : REDIS_WRITES_ALL;
    bool stale = q->script == script_read && h->stale_reads;
    h->stale_reads -= stale;
    if (stale) redis_state_see(state, earlier(w, state));
    enum redis_end end = redis_lua_run(state, q, writes, &q->reply, &why);
    if (stale) redis_state_seen(state);
    if (flush && end == REDIS_CUT) h->cut_next = false;
    if (flush) flushed(w, q->shard, state);
    if (end == REDIS_FAILED) {
        sim_fail(w->sim, "a script failed: %s", why);
        return sg_fail(f, SG_ERR_IO, "redis: an error");
    }
    if (full && flush && end == REDIS_DONE && store_reply_is(q->reply, "ok"))
        sim_fail(w->sim, "a flush goes on in a Redis without memory");
    if (end == REDIS_CUT && fails) return sg_fail(f, SG_ERR_IO, "redis: WRONGTYPE");
    if (end == REDIS_CUT && full) return sg_fail(f, SG_ERR_STATE, "redis: out of memory");
    if (end == REDIS_CUT || befalls(s, SIM_REDIS_ANSWER_LOST)) return sg_fail(f, SG_ERR_UNKNOWN, "redis: no answer");
    return SG_OK;
}

static bool writes(const struct store_request *q)
{
    return q->script && q->script != script_read && q->script != script_know;
}

/* The next flush of a shard does, when that is staged. */
static bool comes_late(struct rollup_world *w, const struct store_request *q)
{
    struct rollup_shard *h = &w->shard[q->shard];
    if (q->script != script_flush || !h->late_next) return writes(q) && rollup_fault(w, SIM_SCRIPT_LATE);
    h->late_next = false;
    h->meets = true;
    return true;
}

/* *sent: whether the requests after it go out, too. */
static enum sg_error one(struct redis_store *s, struct store_request *q, bool *sent, struct sg_fault *f)
{
    struct rollup_world *w = s->world;
    struct rollup_shard *h = &w->shard[q->shard];
    s->spared = sim_draw(w->sim, 3);
    others_go_on(s);
    *sent = !(s->actor && s->actor->dead) && w->sim->now >= h->away_until;
    if (!*sent) return sg_fail(f, SG_ERR_UNREACHABLE, "redis: no connection");
    killed(s);
    if (w->lates < LATE_MAX && comes_late(w, q)) {
        late_add(w, q);
        if (sim_draw(w->sim, 2)) rollup_rebalance(w);
        return sg_fail(f, SG_ERR_UNKNOWN, "redis: no answer in time");
    }
    if (q->script == script_flush) writers_meet(s, q->shard);
    enum sg_error e = run(s, q, f);
    others_go_on(s);
    killed(s);
    if (!e && s->actor && s->actor->dead) e = sg_fail(f, SG_ERR_UNKNOWN, "killed");
    return e;
}

static enum sg_error look(struct redis_store *s, struct store_request *requests, size_t count, struct sg_fault *f)
{
    const char *why;
    for (size_t i = 0; i < count; i++)
        if (redis_lua_run(&s->world->shard[requests[i].shard].now, &requests[i], 0, &requests[i].reply, &why))
            return sg_fail(f, SG_ERR_IO, "redis: %s", why);
    return SG_OK;
}

enum sg_error redis_store_run(struct redis_store *s, struct store_request *requests, size_t count, struct sg_fault *f)
{
    if (s->looks) return look(s, requests, count, f);
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
    redis_state_back(s, earlier(w, s));
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
