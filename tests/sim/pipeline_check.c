/* Accepted = rolled up, to the unit: the collectors' oracle against the cells of all shards. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"
#include "tests/sim/pipeline_world.h"

enum { SUMS_MAX = 1 << 17 };
#define REGION "eu"

/* The place of a sum; made when there is none. */
static struct pipeline_sum *sum_of(const struct pipeline_world *w, const struct pipeline_sum *name)
{
    uint64_t hash = (uint64_t)(name->start / MINUTE_MS) * UINT64_C(15485863) + name->team * UINT64_C(1000003) +
                    name->project * UINT64_C(998244353) + (uint64_t)name->window * UINT64_C(7919) +
                    (uint64_t)name->field * UINT64_C(104729);
    size_t i = (hash * UINT64_C(0x9E3779B97F4A7C15)) >> 47;
    for (;; i = (i + 1) % SUMS_MAX) {
        struct pipeline_sum *s = &w->sum[i];
        if (!s->used) return s;
        if (s->start == name->start && s->team == name->team && s->project == name->project &&
            s->window == name->window && s->field == name->field)
            return s;
    }
}

static void add(struct pipeline_world *w, const struct pipeline_sum *name, uint64_t value)
{
    struct pipeline_sum *s = sum_of(w, name);
    if (!s->used) {
        *s = *name;
        s->used = true;
        if (++w->sums > SUMS_MAX / 2) abort();
    }
    s->value += value;
}

static void accepted(void *arg, unsigned team, unsigned project, int64_t at, enum field field, uint64_t value)
{
    for (int k = 0; k < WINDOW_KINDS; k++) {
        struct pipeline_sum name = {.team = team,
                                    .project = project,
                                    .window = (enum window_kind)k,
                                    .field = field,
                                    .start = at - at % window_length_ms((enum window_kind)k)};
        add(arg, &name, value);
    }
}

void pipeline_expect(struct pipeline_world *w)
{
    w->sum = calloc(SUMS_MAX, sizeof *w->sum);
    if (!w->sum) abort();
    collector_accepted(w->collectors, accepted, w);
}

static unsigned team_number(int team)
{
    return (unsigned)(billing_teams[team][1] - '0');
}

uint64_t pipeline_truth(const struct pipeline_world *w, int key)
{
    struct billing_key k = billing_key_at(key);
    uint64_t total = 0;
    if (!w->sum) return UINT64_MAX; /* not known yet */
    for (unsigned project = 0; project <= COLLECTOR_PROJECTS; project++) {
        struct pipeline_sum name = {.team = team_number(k.team),
                                    .project = project,
                                    .window = WINDOW_HOUR,
                                    .field = billing_meters[k.meter].meter.field,
                                    .start = w->start + k.hour * (int64_t)HOUR_MS};
        const struct pipeline_sum *s = sum_of(w, &name);
        total += s->used ? s->value : 0;
    }
    return total;
}

/* ---- what Redis holds ---- */

/* Cells of one rollup. */
struct rolled_up {
    struct pipeline_world *w;
    struct pipeline_sum name;
};

static void take_field(void *arg, enum field field, struct amount value)
{
    struct rolled_up *r = arg;
    r->name.field = field;
    add(r->w, &r->name, -value.v);
    r->w->sim->checks++;
}

/* u:<w>:<start>:<team>:<project>:<region>; false: another key. */
static bool take_name(const char *key, struct pipeline_sum *out)
{
    char letter, project[16], region[16];
    int64_t start;
    const char *name = strchr(key, '}');
    if (!name || sscanf(name, "}:u:%c:%" SCNd64 ":t%u:%15[^:]:%15s", &letter, &start, &out->team, project, region) != 5)
        return false;
    out->window = letter == 'm' ? WINDOW_MINUTE : letter == 'h' ? WINDOW_HOUR : WINDOW_DAY;
    out->start = start * SECOND_MS;
    out->project = strcmp(project, "-") == 0 ? COLLECTOR_PROJECTS : (unsigned)(project[1] - '0');
    return strcmp(region, REGION) == 0;
}

static void take_key(struct pipeline_world *w, const struct redis_key *k)
{
    struct rolled_up r = {.w = w};
    if (!k->live || !take_name(k->name, &r.name)) return;
    for (size_t i = 0; i < k->count; i++) {
        struct sums sums = {0};
        uint64_t offset;
        if (!k->field[i].text) continue;
        if (cell_decode(k->field[i].text, k->field[i].text_length, &offset, &sums) != SG_OK)
            sim_fail(w->sim, "a cell cannot be read");
        sums_each(&sums, take_field, &r);
        sums_destroy(&sums);
    }
}

void pipeline_check_view(struct pipeline_world *w)
{
    struct pipeline_sum *expected = malloc(SUMS_MAX * sizeof *expected);
    if (!expected) abort();
    memcpy(expected, w->sum, SUMS_MAX * sizeof *expected);
    for (uint32_t s = 0; s < w->rollup->shards; s++)
        for (size_t i = 0; i < w->rollup->shard[s].now.count; i++) take_key(w, w->rollup->shard[s].now.key[i]);
    for (size_t i = 0; i < SUMS_MAX && !w->sim->failed; i++) {
        const struct pipeline_sum *s = &w->sum[i];
        char field[FIELD_NAME_BYTES_MAX];
        if (!s->used || !s->value) continue;
        field_name(s->field, field);
        sim_fail(w->sim, "accepted is not rolled up: t%u p%u window %d %" PRId64 " %s: %" PRId64 " are missing",
                 s->team, s->project, (int)s->window, s->start, field, (int64_t)s->value);
    }
    free(w->sum);
    w->sum = expected;
}
