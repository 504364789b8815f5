/* Every gap that exists is told, and no other: what the API says of gaps, by its own code, against the topic and the
 * clock. So are the sums that collectors say of themselves. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/api/view.h"
#include "proto/keys.h"
#include "proto/mark.h"
#include "tests/sim/pipeline_world.h"

struct gaps {
    struct pipeline_world *w;
    const struct collector_told *told; /* by runner */
    size_t of_numbers[COLLECTOR_RUNNERS], silent[COLLECTOR_RUNNERS];
    int64_t silent_since[COLLECTOR_RUNNERS];
};

static enum sg_error take_gap(void *arg, const struct view_gap *gap)
{
    struct gaps *g = arg;
    for (unsigned i = 0; i < g->w->collectors->runners; i++) {
        const struct collector_runner *r = &g->w->collectors->runner[i];
        if (strcmp(r->name, gap->runner.s) != 0) continue;
        if (strcmp(gap->region.s, collector_regions[r->region]) != 0)
            sim_fail(g->w->sim, "a gap of %s in the region %s", r->name, gap->region.s);
        if (gap->to.v) g->of_numbers[i]++;
        if (gap->to.v == 0) g->silent[i]++, g->silent_since[i] = gap->from.v;
        return SG_OK;
    }
    sim_fail(g->w->sim, "a gap of %s, which is no runner", gap->runner.s);
    return SG_OK;
}

/* Lines first..last of a source of the runner's: so often the shard that keeps its gaps has them. */
static size_t stored(const struct pipeline_world *w, unsigned runner, uint64_t first, uint64_t last)
{
    char key[KEY_BYTES_MAX], end[64];
    uint32_t shard = shard_home(runner, w->rollup->shards);
    size_t count = 0;
    key_partition(key, shard, "gaps", runner);
    (void)snprintf(end, sizeof end, " first=%" PRIu64 " last=%" PRIu64, first, last);
    const struct redis_key *k = redis_state_find(&w->rollup->shard[shard].now, redis_text(key));
    for (size_t i = 0; k && i < k->count; i++)
        if (k->field[i].text && strncmp(k->field[i].text, "kind=source ", strlen("kind=source ")) == 0 &&
            strcmp(k->field[i].text + k->field[i].text_length - strlen(end), end) == 0)
            count++;
    return count;
}

static void check_numbers(const struct gaps *g, unsigned runner)
{
    const struct collector_told *t = &g->told[runner];
    struct sim *s = g->w->sim;
    if (g->of_numbers[runner] != t->gaps)
        sim_fail(s, "runner %u has %zu gaps, and %zu are told", runner, t->gaps, g->of_numbers[runner]);
    for (size_t i = 0; i < t->gaps && !s->failed; i++) {
        size_t equal = 0;
        for (size_t k = 0; k < t->gaps; k++)
            equal += t->gap[k].first_n == t->gap[i].first_n && t->gap[k].last_n == t->gap[i].last_n;
        s->checks++;
        if (stored(g->w, runner, t->gap[i].first_n, t->gap[i].last_n) != equal)
            sim_fail(s, "runner %u: a gap %" PRIu64 "..%" PRIu64 " is not told", runner, t->gap[i].first_n,
                     t->gap[i].last_n);
    }
}

/* What aggregators last saw lies between the start of the quiet and now. Who had nothing to be waited for is not
 * missed.
 */
static void check_silence(const struct gaps *g, unsigned runner)
{
    const struct collector_told *t = &g->told[runner];
    struct sim *s = g->w->sim;
    bool must = t->complete_through && t->sent_ms < g->w->quiet_at - GRACE_MS,
         may = t->complete_through && t->sent_ms < s->now - GRACE_MS;
    s->checks++;
    if (g->silent[runner] > may || g->silent[runner] < must)
        sim_fail(s, "runner %u was last heard of %" PRId64 " ms ago, and it is told %zu times to be silent", runner,
                 s->now - t->sent_ms, g->silent[runner]);
    else if (g->silent[runner] && g->silent_since[runner] != t->complete_through)
        sim_fail(s, "runner %u is silent since %" PRId64 ", and told to be so since %" PRId64, runner,
                 t->complete_through, g->silent_since[runner]);
}

static void check_accepted(struct view *v, const struct gaps *g)
{
    struct view_accepted accepted;
    uint64_t events = 0, refused = 0;
    struct sg_fault f = {0};
    for (unsigned i = 0; i < g->w->collectors->runners; i++) {
        events += g->told[i].events;
        refused += g->told[i].refused;
    }
    if (view_accepted(v, &accepted, &f))
        sim_fail(g->w->sim, "what was accepted is not told: %s", f.text);
    else if (accepted.events.v != events || accepted.refused.v != refused)
        sim_fail(g->w->sim, "%" PRIu64 " lines were accepted and %" PRIu64 " refused; told %" PRIu64 ", %" PRIu64,
                 events, refused, accepted.events.v, accepted.refused.v);
}

void pipeline_check_gaps(struct pipeline_world *w)
{
    static struct collector_told told[COLLECTOR_RUNNERS];
    struct view v = {
        .store = w->store, .shards = w->rollup->shards, .partitions = w->rollup->parts, .grace_ms = GRACE_MS};
    struct gaps g = {.w = w, .told = told};
    struct sg_fault f = {0};
    for (unsigned i = 0; i < w->collectors->runners; i++) collector_tell(w->collectors, i, &told[i]);
    if (view_gaps(&v, take_gap, &g, &f)) sim_fail(w->sim, "gaps are not told: %s", f.text);
    for (unsigned i = 0; i < w->collectors->runners && !w->sim->failed; i++) {
        check_numbers(&g, i);
        check_silence(&g, i);
    }
    if (!w->sim->failed) check_accepted(&v, &g);
}
