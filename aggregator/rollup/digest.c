#include "aggregator/rollup/digest.h"

#include <assert.h>

#include "aggregator/rollup/memory.h"

/* What all rows of one batch share. */
struct making {
    struct digester *g;
    struct cells *cells;
    const struct digest_place *place;
    const struct batch *b;
    struct digest *d;
    uint64_t region_hash;
    uint32_t last_team, last_project; /* of last_group */
    struct group *last_group;
};

void digest_destroy(struct digest *d)
{
    free(d->minute);
    free(d->count);
    free(d->hour);
    free(d->life);
    free(d->sandbox);
    free(d->capacity);
    free(d->gap);
    *d = (struct digest){0};
}

void digester_destroy(struct digester *g)
{
    free(g->team_hash);
    free(g->project_hash);
    free(g->sandbox_index);
    *g = (struct digester){0};
}

static struct wall_ms row_time(const struct batch *b, const int64_t *column, size_t i)
{
    return (struct wall_ms){b->base_ms + column_i64(column, i)};
}

/* NULL when the shard already vouches for this offset: its rows are left out. */
static struct group *group_of(struct making *m, uint32_t team, uint32_t project)
{
    if (!m->last_group || team != m->last_team || project != m->last_project) {
        const uint64_t hashes[] = {m->g->team_hash[team], m->g->project_hash[project], m->region_hash};
        m->last_group = cells_group(m->cells, m->place->partition, m->b->teams[team], m->b->projects[project],
                                    m->b->region, hashes);
        m->last_team = team;
        m->last_project = project;
    }
    return m->place->offset < m->place->vouched[m->last_group->shard] ? NULL : m->last_group;
}

/* ---- minutes ---- */

static struct digest_minute *minute_new(struct making *m, struct group *g, struct cell *cell, struct wall_ms start)
{
    struct digest *d = m->d;
    d->minute = memory_grow(d->minute, &d->minute_capacity, d->minute_count + 1, sizeof *d->minute);
    struct digest_minute *n = &d->minute[d->minute_count];
    *n = (struct digest_minute){.counts = DIGEST_NONE};
    n->cell[WINDOW_MINUTE] = cell;
    n->cell[WINDOW_HOUR] = cells_rollup(m->cells, g, WINDOW_HOUR, wall_floor(start, HOUR_MS));
    n->cell[WINDOW_DAY] = cells_rollup(m->cells, g, WINDOW_DAY, wall_floor(start, DAY_MS));
    cell->digest = d->number;
    cell->digest_index = (uint32_t)d->minute_count++;
    return n;
}

/* Rows come in order of time: mostly the group's last minute is the one. */
static inline struct digest_minute *minute_of(struct making *m, struct group *g, struct wall_ms at)
{
    struct wall_ms start = wall_floor(at, MINUTE_MS);
    if (g->digest == m->d->number && m->d->minute[g->digest_index].cell[WINDOW_MINUTE]->start.v == start.v)
        return &m->d->minute[g->digest_index];
    struct cell *cell = cells_rollup(m->cells, g, WINDOW_MINUTE, start);
    struct digest_minute *n =
        cell->digest == m->d->number ? &m->d->minute[cell->digest_index] : minute_new(m, g, cell, start);
    g->digest = m->d->number;
    g->digest_index = cell->digest_index;
    return n;
}

static void count_one(struct making *m, struct digest_minute *n, enum field f)
{
    struct digest *d = m->d;
    d->count = memory_grow(d->count, &d->count_capacity, d->count_count + 1, sizeof *d->count);
    d->count[d->count_count] = (struct digest_count){.next = n->counts, .field = (uint16_t)f};
    n->counts = (uint32_t)d->count_count++;
}

/* ---- sandboxes ---- */

static struct digest_sandbox *sandbox_new(struct making *m, uint32_t index)
{
    const struct batch_sandboxes *dictionary = &m->b->sandboxes;
    struct digest *d = m->d;
    struct group *g = group_of(m, column_u32(dictionary->team, index), column_u32(dictionary->project, index));
    if (!g) {
        m->g->sandbox_index[index] = DIGEST_NONE;
        return NULL;
    }
    const char *id = dictionary->id[index];
    d->sandbox = memory_grow(d->sandbox, &d->sandbox_capacity, d->sandbox_count + 1, sizeof *d->sandbox);
    struct digest_sandbox *s = &d->sandbox[d->sandbox_count++];
    *s = (struct digest_sandbox){.group = g, .hours = DIGEST_NONE, .life_first = DIGEST_NONE, .life_last = DIGEST_NONE};
    s->run = cells_run(m->cells, m->place->partition, g->shard, id, cells_hash(id));
    s->vcpus = column_u32(dictionary->vcpus, index);
    s->mem_mib = column_u32(dictionary->mem_mib, index);
    s->disk_mib = column_u32(dictionary->disk_mib, index);
    if (s->run->digest != d->number) {
        s->run->digest = d->number;
        s->run->digest_index = (uint32_t)d->sandbox_count - 1;
    }
    s->first = s->run->digest_index;
    m->g->sandbox_index[index] = (uint32_t)d->sandbox_count;
    return s;
}

/* NULL: its shard has this batch already. */
static inline struct digest_sandbox *sandbox_of(struct making *m, uint32_t index)
{
    uint32_t known = m->g->sandbox_index[index];
    if (known == 0) return sandbox_new(m, index);
    return known == DIGEST_NONE ? NULL : &m->d->sandbox[known - 1];
}

static void earlier(struct digest_sandbox *s, struct wall_ms at)
{
    if (s->earliest.v == 0 || at.v < s->earliest.v) s->earliest = at;
}

static struct digest_hour *hour_of(struct making *m, struct digest_sandbox *s, struct wall_ms at)
{
    struct digest *d = m->d;
    struct wall_ms hour = wall_floor(at, HOUR_MS);
    earlier(s, at);
    for (uint32_t i = s->hours; i != DIGEST_NONE; i = d->hour[i].next)
        if (d->hour[i].hour.v == hour.v) return &d->hour[i];
    d->hour = memory_grow(d->hour, &d->hour_capacity, d->hour_count + 1, sizeof *d->hour);
    struct digest_hour *h = &d->hour[d->hour_count];
    *h = (struct digest_hour){.hour = hour, .next = s->hours};
    s->hours = (uint32_t)d->hour_count++;
    return h;
}

static void life_add(struct making *m, struct digest_sandbox *s, struct digest_life life)
{
    struct digest *d = m->d;
    earlier(s, life.at);
    d->life = memory_grow(d->life, &d->life_capacity, d->life_count + 1, sizeof *d->life);
    life.next = DIGEST_NONE;
    d->life[d->life_count] = life;
    if (s->life_first == DIGEST_NONE)
        s->life_first = (uint32_t)d->life_count;
    else
        d->life[s->life_last].next = (uint32_t)d->life_count;
    s->life_last = (uint32_t)d->life_count++;
}

/* ---- rows ---- */

static void slice(struct making *m, const struct batch_slices *r, size_t i)
{
    struct cells *c = m->cells;
    struct digest_sandbox *s = sandbox_of(m, r->sandbox[i]);
    if (!s) return;
    struct wall_ms start = row_time(m->b, r->start_ms, i);
    uint64_t length = column_u32(r->length_ms, i);
    struct digest_minute *n = minute_of(m, s->group, start);
    struct digest_hour *h = hour_of(m, s, start);
    uint64_t cpu = column_u64(r->cpu_us, i), rx = column_u64(r->net_rx_bytes, i), tx = column_u64(r->net_tx_bytes, i);
    uint64_t in = column_u64(r->io_read_bytes, i), out = column_u64(r->io_write_bytes, i);
    uint64_t mem = column_u64(r->mem_bytes, i);
    /* no batch's sums of these four can wrap: 2^30 * 2^16 ms * 2^14 rows */
    n->plain[FIELD_VCPU_MS] += s->vcpus * length;
    n->plain[FIELD_MEM_MIB_MS] += s->mem_mib * length;
    n->plain[FIELD_DISK_MIB_MS] += s->disk_mib * length;
    n->plain[FIELD_RUNNING_MS] += length;
    cells_add(c, &n->plain[FIELD_CPU_US], cpu);
    cells_add(c, &n->plain[FIELD_NET_RX_BYTES], rx);
    cells_add(c, &n->plain[FIELD_NET_TX_BYTES], tx);
    cells_add(c, &n->plain[FIELD_IO_READ_BYTES], in);
    cells_add(c, &n->plain[FIELD_IO_WRITE_BYTES], out);
    h->running_ms += length;
    cells_add(c, &h->cpu_us, cpu);
    cells_add(c, &h->net_rx_bytes, rx);
    cells_add(c, &h->net_tx_bytes, tx);
    cells_add(c, &h->io_read_bytes, in);
    cells_add(c, &h->io_write_bytes, out);
    if (start.v + (int64_t)length > s->seen.v) s->seen.v = start.v + (int64_t)length;
    if (mem > s->mem_peak_bytes) s->mem_peak_bytes = mem;
}

_Static_assert((UINT64_C(1) << 30) * MINUTE_MS <= UINT64_MAX / BATCH_ROWS_MAX && DISK_MIB_MAX <= 1 << 30,
               "sums of allocation x time of one batch fit");

static void lives(struct making *m)
{
    const struct batch_starts *starts = &m->b->starts;
    const struct batch_states *states = &m->b->states;
    const struct batch_ends *ends = &m->b->ends;
    struct digest_sandbox *s;
    for (size_t i = 0; i < starts->count; i++) {
        if (!(s = sandbox_of(m, starts->sandbox[i]))) continue;
        uint32_t origin = column_u32(starts->origin, i);
        struct wall_ms at = row_time(m->b, starts->at_ms, i);
        if (origin != START_ADOPTED)
            count_one(m, minute_of(m, s->group, at), (enum field)(FIELD_CREATES + (int)origin - 1));
        life_add(m, s,
                 (struct digest_life){
                     .kind = LIFE_START, .value = origin, .at = at, .amount = column_u32(starts->create_ms, i)});
    }
    for (size_t i = 0; i < states->count; i++) {
        if (!(s = sandbox_of(m, states->sandbox[i]))) continue;
        life_add(m, s,
                 (struct digest_life){.kind = LIFE_STATE,
                                      .value = column_u32(states->state, i),
                                      .at = row_time(m->b, states->at_ms, i)});
    }
    for (size_t i = 0; i < ends->count; i++) {
        if (!(s = sandbox_of(m, ends->sandbox[i]))) continue;
        uint32_t reason = column_u32(ends->reason, i);
        struct wall_ms at = row_time(m->b, ends->at_ms, i);
        count_one(m, minute_of(m, s->group, at), (enum field)(FIELD_DESTROYS + (int)reason));
        life_add(m, s,
                 (struct digest_life){
                     .kind = LIFE_END, .value = reason, .at = at, .amount = column_u64(ends->mem_peak_bytes, i)});
    }
}

static void calls(struct making *m)
{
    const struct batch_execs *execs = &m->b->execs;
    const struct batch_api_calls *api = &m->b->api_calls;
    for (size_t i = 0; i < execs->count; i++) {
        struct digest_sandbox *s = sandbox_of(m, execs->sandbox[i]);
        if (!s) continue;
        uint32_t code = column_u32(execs->exit_code, i);
        struct wall_ms at = row_time(m->b, execs->at_ms, i);
        struct digest_minute *n = minute_of(m, s->group, at);
        n->plain[FIELD_EXECS]++;
        count_one(m, n, (enum field)(FIELD_EXIT + (int)code));
        hour_of(m, s, at)->execs++;
        if (!s->has_exit || at.v >= s->exit_at.v) {
            s->has_exit = true;
            s->exit_code = code;
            s->exit_at = at;
        }
    }
    for (size_t i = 0; i < api->count; i++) {
        struct group *g = group_of(m, api->team[i], column_u32(api->project, i));
        if (!g) continue;
        count_one(m, minute_of(m, g, row_time(m->b, api->at_ms, i)),
                  field_of_api_call((enum operation)column_u32(api->operation, i), column_u32(api->status, i)));
    }
}

static void runner_rows(struct making *m)
{
    const struct batch_capacities *c = &m->b->capacities;
    const struct batch_gaps *r = &m->b->gaps;
    struct digest *d = m->d;
    d->capacity = memory_grow(d->capacity, &d->capacity_capacity, c->count, sizeof *d->capacity);
    for (size_t i = 0; i < c->count; i++)
        d->capacity[d->capacity_count++] = (struct digest_capacity){
            row_time(m->b, c->at_ms, i),
            {column_u64(c->vcpus_total, i), column_u64(c->mem_mib_total, i), column_u64(c->disk_mib_total, i),
             column_u64(c->warm, i), column_u64(c->vcpus_allocated, i), column_u64(c->mem_mib_allocated, i),
             column_u64(c->disk_mib_allocated, i), column_u64(c->sandboxes_running, i)}};
    d->gap = memory_grow(d->gap, &d->gap_capacity, r->count, sizeof *d->gap);
    for (size_t i = 0; i < r->count; i++)
        d->gap[d->gap_count++] = (struct digest_gap){row_time(m->b, r->from_ms, i), row_time(m->b, r->to_ms, i),
                                                     column_u64(r->first_n, i), column_u64(r->last_n, i)};
}

/* ---- whole ---- */

static void digest_begin(struct digester *g, const struct digest_place *place, struct digest *d)
{
    d->number = ++g->number;
    d->offset = place->offset;
    d->message_time = place->message_time;
    d->unreadable = false;
    d->rows = 0;
    d->minute_count = d->count_count = d->hour_count = d->life_count = d->sandbox_count = 0;
    d->capacity_count = d->gap_count = 0;
}

static void head(struct digest *d, const struct batch *b)
{
    memcpy(d->runner.s, b->runner, strlen(b->runner) + 1);
    memcpy(d->region.s, b->region, strlen(b->region) + 1);
    memcpy(d->previous_sha256, b->previous_sha256, SHA256_BYTES);
    d->epoch = b->epoch;
    d->seq = b->seq;
    d->complete_through.v = b->complete_through_ms;
    d->totals = b->totals;
    d->rows = batch_row_count(b);
}

void digest_make(struct digester *g, const struct digest_place *place, const struct batch *b, struct digest *d)
{
    struct making m = {.g = g, .cells = g->cells, .place = place, .b = b, .d = d, .region_hash = cells_hash(b->region)};
    digest_begin(g, place, d);
    head(d, b);
    g->team_hash = memory_grow(g->team_hash, &g->team_capacity, b->team_count, sizeof *g->team_hash);
    g->project_hash = memory_grow(g->project_hash, &g->project_capacity, b->project_count, sizeof *g->project_hash);
    g->sandbox_index =
        memory_grow(g->sandbox_index, &g->sandbox_capacity, b->sandboxes.count, sizeof *g->sandbox_index);
    for (size_t i = 0; i < b->team_count; i++) g->team_hash[i] = cells_hash(b->teams[i]);
    for (size_t i = 0; i < b->project_count; i++) g->project_hash[i] = cells_hash(b->projects[i]);
    if (b->sandboxes.count) memset(g->sandbox_index, 0, b->sandboxes.count * sizeof *g->sandbox_index);
    lives(&m);
    for (size_t i = 0; i < b->slices.count; i++) slice(&m, &b->slices, i);
    calls(&m);
    runner_rows(&m);
}

void digest_make_unreadable(struct digester *g, const struct digest_place *place, struct digest *d)
{
    digest_begin(g, place, d);
    d->unreadable = true;
}

struct wall_ms digest_created(const struct digest *d, const struct digest_sandbox *s, const struct run *run)
{
    const struct digest_sandbox *first = &d->sandbox[s->first];
    if (run->created.v) return run->created;
    uint32_t life = first->life_first;
    return life != DIGEST_NONE && d->life[life].kind == LIFE_START ? d->life[life].at : first->earliest;
}
