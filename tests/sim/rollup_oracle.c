#include "tests/sim/rollup_oracle.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "proto/keys.h"

void oracle_reset(struct oracle *o)
{
    if (o->slot) memset(o->slot, 0, 2 * o->capacity * sizeof *o->slot);
    memset(o->last, 0, sizeof o->last);
    arena_empty(&o->extras);
    o->count = 0;
}

static void slot_take(struct oracle *o, size_t i)
{
    size_t mask = 2 * o->capacity - 1;
    size_t at = XXH3_64bits(&o->cell[i].name, sizeof o->cell[i].name) & mask;
    while (o->slot[at]) at = (at + 1) & mask;
    o->slot[at] = (uint32_t)i + 1;
}

/* Its index. */
static uint32_t cell_find(struct oracle *o, const struct oracle_name *name)
{
    size_t mask = 2 * o->capacity - 1;
    size_t at = XXH3_64bits(name, sizeof *name) & mask;
    for (; o->capacity && o->slot[at]; at = (at + 1) & mask)
        if (memcmp(&o->cell[o->slot[at] - 1].name, name, sizeof *name) == 0) return o->slot[at] - 1;
    if (o->count == o->capacity) {
        o->capacity = o->capacity ? 2 * o->capacity : 256;
        o->cell = reallocarray(o->cell, o->capacity, sizeof *o->cell);
        free(o->slot);
        o->slot = calloc(2 * o->capacity, sizeof *o->slot);
        if (!o->cell || !o->slot) abort();
        for (size_t i = 0; i < o->count; i++) slot_take(o, i);
    }
    struct oracle_cell *c = &o->cell[o->count];
    *c = (struct oracle_cell){.name = *name};
    slot_take(o, o->count);
    return (uint32_t)o->count++;
}

/* Rows that follow each other are often of the same cells: the last one of each kind is looked at first. */
struct oracle_cell *oracle_cell(struct oracle *o, const struct oracle_name *name)
{
    uint32_t *last = &o->last[name->kind][name->window];
    if (*last >= o->count || memcmp(&o->cell[*last].name, name, sizeof *name) != 0) *last = cell_find(o, name);
    return &o->cell[*last];
}

void oracle_add(struct oracle *o, struct oracle_sums *s, uint32_t field, uint64_t value)
{
    for (size_t i = 0; i < s->extras; i++) {
        if (s->extra[i].field != field) continue;
        s->extra[i].value += value;
        return;
    }
    if (s->extras == s->room) {
        s->room = s->room ? 2 * s->room : 2;
        struct oracle_extra *grown = arena_take(&o->extras, s->room * sizeof *grown);
        if (s->extras) memcpy(grown, s->extra, s->extras * sizeof *grown);
        s->extra = grown;
    }
    s->extra[s->extras++] = (struct oracle_extra){.field = field, .value = value};
}

static uint64_t extra_of(const struct oracle_sums *s, uint32_t field)
{
    for (size_t i = 0; i < s->extras; i++)
        if (s->extra[i].field == field) return s->extra[i].value;
    return 0;
}

bool oracle_same(const struct oracle_sums *a, const struct oracle_sums *b)
{
    if (memcmp(a->plain, b->plain, sizeof a->plain) != 0 || a->extras != b->extras) return false;
    for (size_t i = 0; i < a->extras; i++)
        if (a->extra[i].value != extra_of(b, a->extra[i].field)) return false;
    return true;
}

/* ---- what a row brings ---- */

/* The only extra field of a row. */
static void extra_of_row(struct oracle_sums *s, uint32_t field)
{
    s->extra[0] = (struct oracle_extra){.field = field, .value = 1};
    s->extras = 1;
}

/* s is zero but for the room of one extra field. */
static void sums_of(const struct rollup_world *w, const struct rollup_row *r, struct oracle_sums *s)
{
    const struct rollup_sandbox *b = &w->sandbox[r->sandbox];
    switch ((enum row_kind)r->kind) {
    case ROW_SLICE:
        s->plain[FIELD_VCPU_MS] = (uint64_t)b->vcpus * r->length;
        s->plain[FIELD_MEM_MIB_MS] = (uint64_t)b->mem_mib * r->length;
        s->plain[FIELD_DISK_MIB_MS] = (uint64_t)b->disk_mib * r->length;
        s->plain[FIELD_RUNNING_MS] = r->length;
        s->plain[FIELD_CPU_US] = r->rise[0];
        s->plain[FIELD_NET_RX_BYTES] = r->rise[1];
        s->plain[FIELD_NET_TX_BYTES] = r->rise[2];
        s->plain[FIELD_IO_READ_BYTES] = r->rise[3];
        s->plain[FIELD_IO_WRITE_BYTES] = r->rise[4];
        break;
    case ROW_START:
        if (r->value) extra_of_row(s, FIELD_CREATES + r->value - 1);
        break;
    case ROW_END: extra_of_row(s, FIELD_DESTROYS + r->value); break;
    case ROW_EXEC:
        s->plain[FIELD_EXECS] = 1;
        extra_of_row(s, FIELD_EXIT + r->value);
        break;
    case ROW_CALL: extra_of_row(s, FIELD_API + r->value / 1000 * STATUS_CLASSES + r->value % 1000 / 100 - 1); break;
    case ROW_STATE:
    case ROW_KINDS: break;
    }
}

/* ---- what a batch brings ---- */

/* Of any region, shard and era: what is not asked for is left out later. */
struct adding {
    struct oracle *o;
    const struct rollup_world *w;
    const struct rollup_batch *batch;
};

static void add_sums(struct oracle *o, struct oracle_sums *to, const struct oracle_sums *s)
{
    for (int i = 0; i < PLAIN_FIELDS; i++) to->plain[i] += s->plain[i];
    for (size_t i = 0; i < s->extras; i++) oracle_add(o, to, s->extra[i].field, s->extra[i].value);
}

static void add(const struct adding *a, struct oracle_name name, const struct oracle_sums *s)
{
    name.partition = a->w->runner[a->batch->runner].partition;
    add_sums(a->o, &oracle_cell(a->o, &name)->want, s);
}

/* Of its sums s keeps what a run has. */
static void add_run(const struct adding *a, const struct rollup_row *r, struct oracle_sums *s)
{
    int64_t created = a->w->sandbox[r->sandbox].created, hour = r->at - r->at % HOUR_MS;
    s->plain[FIELD_VCPU_MS] = s->plain[FIELD_MEM_MIB_MS] = s->plain[FIELD_DISK_MIB_MS] = s->extras = 0;
    add(a, (struct oracle_name){.kind = ORACLE_RUN, .sandbox = r->sandbox}, s);
    if ((r->kind == ROW_SLICE || r->kind == ROW_EXEC) && hour != created - created % HOUR_MS)
        add(a, (struct oracle_name){.kind = ORACLE_RUN_HOUR, .sandbox = r->sandbox, .start = hour}, s);
}

static void add_row(const struct adding *a, const struct rollup_row *r)
{
    static const int64_t lengths[] = {MINUTE_MS, HOUR_MS, DAY_MS};
    const struct rollup_sandbox *b = &a->w->sandbox[r->sandbox];
    bool call = r->kind == ROW_CALL;
    struct oracle_name name = {.kind = ORACLE_ROLLUP,
                               .team = call ? r->sandbox % TEAMS : b->team,
                               .project = call ? r->sandbox / TEAMS : b->project,
                               .us = a->batch->runner % 2};
    struct oracle_extra extra;
    struct oracle_sums s = {.extra = &extra, .room = 1};
    sums_of(a->w, r, &s);
    bool counts = r->kind != ROW_STATE && !(r->kind == ROW_START && r->value == START_ADOPTED);
    for (; counts && name.window < WINDOW_KINDS; name.window++) {
        name.start = r->at - r->at % lengths[name.window];
        add(a, name, &s);
    }
    if (!call) add_run(a, r, &s);
}

/* Reckoned once, when the batch counts: by then it is known when its runs were created. */
static void reckon(struct rollup_world *w, struct rollup_batch *m)
{
    static struct oracle o;
    const struct adding a = {&o, w, m};
    oracle_reset(&o);
    for (size_t i = 0; i < m->row_count; i++) add_row(&a, &w->row[m->row + i]);
    m->part = arena_take(&w->reckoned, (o.count + 1) * sizeof *m->part);
    m->parts = o.count;
    for (size_t i = 0; i < o.count; i++) {
        struct oracle_sums *s = &m->part[i].sums;
        m->part[i] = (struct oracle_part){o.cell[i].name, o.cell[i].want};
        if (s->extras)
            s->extra =
                memcpy(arena_take(&w->reckoned, s->extras * sizeof *s->extra), s->extra, s->extras * sizeof *s->extra);
    }
}

/* ---- what a shard should hold ---- */

/* here: by team. */
static bool lives(const struct rollup_world *w, const bool here[static TEAMS], const struct oracle_name *n)
{
    const struct rollup_sandbox *b = &w->sandbox[n->sandbox];
    bool rollup = n->kind == ORACLE_ROLLUP;
    if (!here[rollup ? n->team : b->team]) return false;
    if (rollup) return n->window != WINDOW_MINUTE || n->start >= w->era_start;
    return b->era == w->era;
}

static void bring(struct oracle *o, const struct oracle_part *part, uint64_t offset, uint64_t vouched)
{
    struct oracle_cell *c = oracle_cell(o, &part->name);
    if (offset < c->stored_offset) add_sums(o, &c->want, &part->sums);
    if (offset < vouched) c->last = offset + 1;
}

void oracle_add_rows(struct oracle *o, struct rollup_world *w, uint32_t shard, const uint64_t vouched[static PARTS_MAX])
{
    bool here[TEAMS];
    for (uint32_t i = 0; i < TEAMS; i++) here[i] = shard_of_team((char[]){'t', (char)('0' + i), 0}, w->shards) == shard;
    for (uint32_t p = 0; p < w->parts; p++) {
        for (uint64_t offset = 0; offset < w->topic[p].committed; offset++) {
            const struct rollup_place *place = &w->topic[p].place[offset];
            if (place->verdict != COUNTS) continue;
            struct rollup_batch *m = &w->batch[place->batch];
            if (!m->part) reckon(w, m);
            for (size_t i = 0; i < m->parts; i++)
                if (lives(w, here, &m->part[i].name)) bring(o, &m->part[i], offset, vouched[p]);
        }
    }
}

void oracle_listen(const struct rollup_world *w, uint32_t p, uint64_t offset,
                   struct oracle_heard heard[static RUNNERS_MAX])
{
    memset(heard, 0, RUNNERS_MAX * sizeof *heard);
    for (uint64_t o = 0; o < offset; o++) {
        const struct rollup_place *place = &w->topic[p].place[o];
        if (place->verdict != COUNTS) continue;
        const struct rollup_batch *m = &w->batch[place->batch];
        struct oracle_heard *h = &heard[m->runner];
        if (m->epoch >= h->epoch) *h = (struct oracle_heard){m->epoch, m->seq, place->time, m->ct};
    }
}
