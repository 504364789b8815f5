/* What the API would answer about runners, by its own code over the shards as they are: the gaps that the log tells of,
 * and each runner that was silent for longer than the grace, from where it was complete. No other, at any time. */
#include <stdio.h>
#include <string.h>

#include "aggregator/api/view.h"
#include "proto/keys.h"
#include "tests/sim/rollup_oracle.h"

struct answers {
    struct rollup_world *world;
    size_t recorded;
    bool silent[RUNNERS_MAX]; /* told, and not looked for yet */
    int64_t from[RUNNERS_MAX];
};

static enum sg_error take_gap(void *arg, const struct view_gap *g)
{
    struct answers *a = arg;
    uint32_t runner = (uint32_t)(g->runner.s[1] - '0');
    if (g->to.v) {
        a->recorded++;
        return SG_OK;
    }
    if (runner >= a->world->runners || a->silent[runner] || strcmp(g->region.s, runner % 2 ? "us" : "eu") != 0) {
        sim_fail(a->world->sim, "a silence of somebody, or told twice: %s in %s", g->runner.s, g->region.s);
        return SG_OK;
    }
    a->silent[runner] = true;
    a->from[runner] = g->from.v;
    return SG_OK;
}

static const struct redis_field *field_of(const struct rollup_world *w, uint32_t shard, const char *key,
                                          const char *field)
{
    return redis_state_get(&w->shard[shard].now, redis_text(key), redis_text(field));
}

/* When the partition was last heard of, as its home shard says; 0: it was not. */
static int64_t heard_at(const struct rollup_world *w, uint32_t p)
{
    char key[KEY_BYTES_MAX], number[12];
    struct vector_entry e = {0};
    uint32_t shard = shard_home(p, w->shards);
    key_plain(key, shard, "v");
    (void)snprintf(number, sizeof number, "%u", p);
    const struct redis_field *f = field_of(w, shard, key, number);
    if (f && vector_entry_decode(f->text, f->text_length, &e)) return 0;
    int64_t at = e.heard.v;
    vector_entry_destroy(&e);
    return at;
}

/* How many gaps the partition has; which ones they are is rollup_check.c's matter. */
static size_t recorded(const struct rollup_world *w, uint32_t p)
{
    char key[KEY_BYTES_MAX];
    uint32_t shard = shard_home(p, w->shards);
    key_partition(key, shard, "gaps", p);
    const struct redis_key *k = redis_state_find(&w->shard[shard].now, redis_text(key));
    return k ? k->live : 0;
}

static void check_silence(struct answers *a, uint32_t p)
{
    char key[KEY_BYTES_MAX];
    struct oracle_heard heard[RUNNERS_MAX];
    struct rollup_world *w = a->world;
    uint32_t shard = shard_home(p, w->shards);
    int64_t since = heard_at(w, p) - GRACE_MS;
    key_partition(key, shard, "marks", p);
    const struct redis_field *at = field_of(w, shard, key, "at");
    oracle_listen(w, p, at ? strtoull(at->text, NULL, 10) : 0, heard);
    for (uint32_t i = p; i < w->runners; i += w->parts) {
        bool silent = heard[i].seq && heard[i].time < since;
        w->sim->checks++;
        if (silent != a->silent[i])
            sim_fail(w->sim, "runner %u is %ssilent for longer than the grace, and the answer is another", i,
                     silent ? "" : "not ");
        else if (silent && a->from[i] != heard[i].ct)
            sim_fail(w->sim, "runner %u is silent since another moment", i);
    }
}

/* False: some shard is restored just now, and the answer is no. */
static bool ask(struct answers *a)
{
    struct rollup_world *w = a->world;
    struct view v = {.store = rollup_onlooker(w), .shards = w->shards, .grace_ms = GRACE_MS};
    struct sg_fault f;
    enum sg_error e = SG_OK;
    for (uint32_t s = 0; s < w->shards && !e; s++) e = view_refresh(&v, s, &f);
    bool there = !e;
    if (there) e = view_gaps(&v, take_gap, a, &f);
    if (there && e) sim_fail(w->sim, "the gaps are not told: %s", f.text);
    redis_store_free(v.store);
    return there;
}

void rollup_check_answers(struct rollup_world *w)
{
    struct answers a = {.world = w};
    size_t count = 0;
    if (!ask(&a)) return;
    for (uint32_t p = 0; p < w->parts && !w->sim->failed; p++) {
        check_silence(&a, p);
        count += recorded(w, p);
    }
    if (a.recorded != count) sim_fail(w->sim, "%zu gaps are told of %zu", a.recorded, count);
}

bool rollup_tells_silence(struct rollup_world *w, uint32_t runner)
{
    struct answers a = {.world = w};
    return ask(&a) && a.silent[runner];
}
