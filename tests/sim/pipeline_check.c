/* Accepted = rolled up, to the unit: the collectors' oracle against the cells of all shards. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"
#include "tests/sim/pipeline_world.h"

enum { SLOTS = 1 << 18 };

static bool same(const struct pipeline_sum *a, const struct pipeline_sum *b)
{
    return a->start == b->start && a->team == b->team && a->project == b->project && a->region == b->region &&
           a->window == b->window && a->field == b->field;
}

/* The slot of a sum; 0 stands there when there is none. */
static uint32_t *slot_of(const struct pipeline_world *w, const struct pipeline_sum *name)
{
    uint64_t hash = (uint64_t)(name->start / MINUTE_MS) * UINT64_C(15485863) + name->team * UINT64_C(1000003) +
                    name->project * UINT64_C(998244353) + (uint64_t)name->window * UINT64_C(7919) +
                    (uint64_t)name->field * UINT64_C(104729) + name->region * UINT64_C(32452843);
    size_t i = (hash * UINT64_C(0x9E3779B97F4A7C15)) >> 46;
    while (w->slot[i] && !same(&w->sum[w->slot[i] - 1], name)) i = (i + 1) % SLOTS;
    return &w->slot[i];
}

/* Made when there is none. Until the next one is made. */
static struct pipeline_sum *sum_of(struct pipeline_world *w, const struct pipeline_sum *name)
{
    uint32_t *slot = slot_of(w, name);
    if (*slot) return &w->sum[*slot - 1];
    if (w->sums == w->sum_capacity) {
        w->sum_capacity = w->sum_capacity ? 2 * w->sum_capacity : 1024;
        w->sum = reallocarray(w->sum, w->sum_capacity, sizeof *w->sum);
        if (!w->sum || w->sum_capacity > SLOTS / 2) abort();
    }
    w->sum[w->sums] = *name;
    *slot = (uint32_t)++w->sums;
    return &w->sum[w->sums - 1];
}

static void accepted(void *arg, unsigned region, unsigned team, unsigned project, int64_t at, enum field field,
                     uint64_t value)
{
    for (int k = 0; k < WINDOW_KINDS; k++) {
        struct pipeline_sum name = {.team = team,
                                    .project = project,
                                    .region = region,
                                    .window = (enum window_kind)k,
                                    .field = field,
                                    .start = at - at % window_length_ms((enum window_kind)k)};
        sum_of(arg, &name)->accepted += value;
    }
}

void pipeline_expect(struct pipeline_world *w)
{
    w->slot = calloc(SLOTS, sizeof *w->slot);
    if (!w->slot) abort();
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
    if (!w->slot) return UINT64_MAX; /* not known yet */
    for (unsigned part = 0; part < (COLLECTOR_PROJECTS + 1) * COLLECTOR_REGIONS; part++) {
        struct pipeline_sum name = {.team = team_number(k.team),
                                    .project = part / COLLECTOR_REGIONS,
                                    .region = part % COLLECTOR_REGIONS,
                                    .window = WINDOW_HOUR,
                                    .field = billing_meters[k.meter].meter.field,
                                    .start = w->start + k.hour * (int64_t)HOUR_MS};
        uint32_t slot = *slot_of(w, &name);
        total += slot ? w->sum[slot - 1].accepted : 0;
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
    sum_of(r->w, &r->name)->rolled_up += value.v;
    r->w->sim->checks++;
}

/* u:<w>:<start>:<team>:<project>:<region>; false: another key. A region that nobody has is COLLECTOR_REGIONS. */
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
    for (out->region = 0; out->region < COLLECTOR_REGIONS; out->region++)
        if (strcmp(region, collector_regions[out->region]) == 0) break;
    return true;
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
    for (uint32_t s = 0; s < w->rollup->shards; s++)
        for (size_t i = 0; i < w->rollup->shard[s].now.count; i++) take_key(w, w->rollup->shard[s].now.key[i]);
    for (size_t i = 0; i < w->sums && !w->sim->failed; i++) {
        const struct pipeline_sum *s = &w->sum[i];
        char field[FIELD_NAME_BYTES_MAX];
        if (s->accepted == s->rolled_up) continue;
        field_name(s->field, field);
        sim_fail(w->sim, "t%u p%u region %u window %d %" PRId64 " %s: accepted %" PRIu64 ", rolled up %" PRIu64,
                 s->team, s->project, s->region, (int)s->window, s->start, field, s->accepted, s->rolled_up);
    }
}

/* ---- billing cells ---- */

static const char *text_of(const struct pipeline_world *w, uint32_t shard, const char *name, const char *field)
{
    char key[KEY_BYTES_MAX];
    key_plain(key, shard, name);
    const struct redis_field *f = redis_state_get(&w->rollup->shard[shard].now, redis_text(key), redis_text(field));
    return f && f->text ? f->text : "";
}

static void check_bill(struct pipeline_world *w, uint32_t shard, const struct book *b, const struct book_entry *e)
{
    char name[KEY_BYTES_MAX], field[64], meter[FIELD_NAME_BYTES_MAX], expected[256];
    field_name((enum field)e->meter, meter);
    (void)snprintf(name, sizeof name, "bill:%s", book_name(b, e->team));
    (void)snprintf(field, sizeof field, "%" PRId64 ":%s", e->hour.v / SECOND_MS, meter);
    (void)snprintf(expected, sizeof expected,
                   "@%" PRIu64 " customer=%s revision=%" PRIu64 " total=%" PRIu64 " state=%s", e->offset,
                   book_name(b, e->customer), e->revision, e->total.v, book_state_text((enum book_state)e->state));
    const char *held = text_of(w, shard, name, field);
    w->sim->checks++;
    if (strcmp(held, expected) != 0)
        sim_fail(w->sim, "shard %u, %s %s: '%s', and the book: '%s'", shard, name, field, held, expected);
}

void pipeline_check_bills(void *arg, uint32_t shard, const struct book *b)
{
    struct pipeline_world *w = arg;
    uint64_t at = strtoull(text_of(w, shard, "ledger", "at"), NULL, 10);
    if (at != b->end) sim_fail(w->sim, "shard %u: billing cells go to %" PRIu64 " of %" PRIu64, shard, at, b->end);
    for (size_t i = 0; i < b->entry_count && !w->sim->failed; i++) check_bill(w, shard, b, &b->entry[i]);
}
