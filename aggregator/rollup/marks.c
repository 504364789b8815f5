#include "aggregator/rollup/marks.h"

#include <assert.h>

#include "aggregator/rollup/memory.h"
#include "proto/text.h"

void marks_clear(struct marks *m)
{
    struct marks old = *m;
    free(m->runner);
    free(m->slot);
    free(m->duplicate);
    free(m->capacity);
    free(m->gap);
    *m = (struct marks){.duplicates = old.duplicates,
                        .gaps = old.gaps,
                        .chain_breaks = old.chain_breaks,
                        .quarantined = old.quarantined};
}

void marks_destroy(struct marks *m)
{
    marks_clear(m);
    *m = (struct marks){0};
}

/* ---- runners ---- */

static uint64_t runner_hash(const char *runner, uint64_t epoch)
{
    return cells_hash(runner) + epoch * UINT64_C(0x9e3779b97f4a7c15);
}

static void slots_fill(struct marks *m)
{
    memset(m->slot, 0, m->slot_count * sizeof *m->slot);
    for (size_t i = 0; i < m->runner_count; i++) {
        size_t at = runner_hash(m->runner[i].runner.s, m->runner[i].epoch) & (m->slot_count - 1);
        while (m->slot[at]) at = (at + 1) & (m->slot_count - 1);
        m->slot[at] = (uint32_t)i + 1;
    }
}

/* Made with seq 0 when there is none. */
static struct marks_runner *runner_get(struct marks *m, const char *runner, uint64_t epoch)
{
    if (2 * (m->runner_count + 1) > m->slot_count) {
        m->slot_count = m->slot_count ? 2 * m->slot_count : 64;
        free(m->slot);
        m->slot = memory_checked(calloc(m->slot_count, sizeof *m->slot));
        slots_fill(m);
    }
    size_t at = runner_hash(runner, epoch) & (m->slot_count - 1);
    for (; m->slot[at]; at = (at + 1) & (m->slot_count - 1)) {
        struct marks_runner *r = &m->runner[m->slot[at] - 1];
        if (r->epoch == epoch && strcmp(r->runner.s, runner) == 0) return r;
    }
    m->runner = memory_grow(m->runner, &m->runner_capacity, m->runner_count + 1, sizeof *m->runner);
    struct marks_runner *r = &m->runner[m->runner_count++];
    *r = (struct marks_runner){.epoch = epoch};
    memcpy(r->runner.s, runner, strlen(runner) + 1);
    m->slot[at] = (uint32_t)m->runner_count;
    for (size_t i = 0; i + 1 < m->runner_count; i++) {
        if (strcmp(m->runner[i].runner.s, runner) != 0) continue;
        if (m->runner[i].epoch < epoch)
            m->runner[i].superseded = true;
        else
            r->superseded = true;
    }
    return r;
}

/* ---- duplicates ---- */

/* Index of the first duplicate at or beyond offset. */
static size_t duplicate_position(const struct marks *m, uint64_t offset)
{
    size_t low = 0, high = m->duplicate_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (m->duplicate[middle] < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void duplicate_add(struct marks *m, uint64_t offset)
{
    size_t at = duplicate_position(m, offset);
    m->duplicate = memory_grow(m->duplicate, &m->duplicate_capacity, m->duplicate_count + 1, sizeof *m->duplicate);
    memmove(m->duplicate + at + 1, m->duplicate + at, (m->duplicate_count - at) * sizeof *m->duplicate);
    m->duplicate[at] = offset;
    m->duplicate_count++;
}

static bool duplicate_known(const struct marks *m, uint64_t offset)
{
    size_t at = duplicate_position(m, offset);
    return at < m->duplicate_count && m->duplicate[at] == offset;
}

size_t marks_duplicates_below(const struct marks *m, uint64_t offset)
{
    return duplicate_position(m, offset);
}

/* ---- gaps and capacities ---- */

static void gap_add(struct marks *m, uint64_t offset, uint32_t index, const struct gap *g)
{
    m->gap = memory_grow(m->gap, &m->gap_capacity, m->gap_count + 1, sizeof *m->gap);
    m->gap[m->gap_count++] = (struct marks_gap){offset, index, *g};
    m->gaps++;
}

/* Returns the next index. */
static uint32_t gap_of_seq(struct marks *m, const struct digest *d, const struct mark *before)
{
    struct gap g = {.kind = GAP_SEQ, .runner = d->runner, .region = d->region, .from = before->ct};
    if (d->seq == before->seq + 1) return 0;
    g.to = d->complete_through;
    if (g.from.v == 0 || g.from.v > g.to.v) g.from = g.to;
    g.first = before->seq + 1;
    g.last = d->seq - 1;
    gap_add(m, d->offset, 0, &g);
    return 1;
}

static struct marks_capacity *capacity_get(struct marks *m, const char *runner, struct wall_ms hour)
{
    for (size_t i = 0; i < m->capacity_count; i++)
        if (m->capacity[i].hour.v == hour.v && strcmp(m->capacity[i].runner.s, runner) == 0) return &m->capacity[i];
    m->capacity = memory_grow(m->capacity, &m->capacity_capacity, m->capacity_count + 1, sizeof *m->capacity);
    struct marks_capacity *c = &m->capacity[m->capacity_count++];
    *c = (struct marks_capacity){.hour = hour};
    memcpy(c->runner.s, runner, strlen(runner) + 1);
    return c;
}

static void peak(uint64_t *a, uint64_t b)
{
    if (b > *a) *a = b;
}

/* The newest, and the highest of its hour: both are the same at every replay. */
static void capacity_take(struct marks *m, const struct digest *d, const struct digest_capacity *row)
{
    struct marks_capacity *newest = capacity_get(m, d->runner.s, (struct wall_ms){0});
    if (row->at.v >= newest->capacity.at.v) {
        newest->capacity = (struct capacity){d->region, row->at, row->is};
        newest->changed = true;
    }
    struct marks_capacity *hour = capacity_get(m, d->runner.s, wall_floor(row->at, HOUR_MS));
    struct batch_capacity was = hour->capacity.is;
    if (row->at.v >= hour->capacity.at.v) hour->capacity = (struct capacity){d->region, row->at, row->is};
    peak(&hour->capacity.is.vcpus_allocated, was.vcpus_allocated);
    peak(&hour->capacity.is.mem_mib_allocated, was.mem_mib_allocated);
    peak(&hour->capacity.is.disk_mib_allocated, was.disk_mib_allocated);
    peak(&hour->capacity.is.sandboxes_running, was.sandboxes_running);
    peak(&hour->capacity.is.vcpus_allocated, row->is.vcpus_allocated);
    peak(&hour->capacity.is.mem_mib_allocated, row->is.mem_mib_allocated);
    peak(&hour->capacity.is.disk_mib_allocated, row->is.disk_mib_allocated);
    peak(&hour->capacity.is.sandboxes_running, row->is.sandboxes_running);
    hour->changed = true;
    for (size_t i = 0; i < m->capacity_count; i++) {
        struct marks_capacity *c = &m->capacity[i];
        if (c->hour.v && c->hour.v < row->at.v - MARKS_CAPACITY_KEPT_MS && strcmp(c->runner.s, d->runner.s) == 0)
            c->dropped = true;
    }
}

/* ---- deciding ---- */

static void quarantine(struct marks *m, const struct digest *d)
{
    struct gap g = {
        .kind = GAP_QUARANTINED, .runner = {"-"}, .region = {"-"}, .from = d->message_time, .to = d->message_time};
    gap_add(m, d->offset, 0, &g);
    m->quarantined++;
}

static void runner_facts(struct marks *m, const struct digest *d, uint32_t gap_index)
{
    for (size_t i = 0; i < d->gap_count; i++) {
        struct gap g = {.kind = GAP_SOURCE,
                        .runner = d->runner,
                        .region = d->region,
                        .from = d->gap[i].from,
                        .to = d->gap[i].to,
                        .first = d->gap[i].first,
                        .last = d->gap[i].last};
        gap_add(m, d->offset, gap_index++, &g);
    }
    for (size_t i = 0; i < d->capacity_count; i++) capacity_take(m, d, &d->capacity[i]);
}

bool marks_decide(struct marks *m, const struct digest *d)
{
    if (d->offset < m->at) return !d->unreadable && !duplicate_known(m, d->offset);
    m->at = d->offset + 1;
    if (d->unreadable) {
        quarantine(m, d);
        return false;
    }
    struct marks_runner *r = runner_get(m, d->runner.s, d->epoch);
    if (d->seq <= r->mark.seq) {
        duplicate_add(m, d->offset);
        m->duplicates++;
        return false;
    }
    if (d->seq == r->mark.seq + 1 && d->seq > 1 && memcmp(d->previous_sha256, r->mark.sha256, SHA256_BYTES) != 0)
        m->chain_breaks++;
    uint32_t gap_index = gap_of_seq(m, d, &r->mark);
    r->mark = (struct mark){
        .seq = d->seq, .ct = d->complete_through, .last = d->message_time, .region = d->region, .totals = d->totals};
    memcpy(r->mark.sha256, d->sha256, SHA256_BYTES);
    r->changed = m->at;
    runner_facts(m, d, gap_index);
    return true;
}

/* ---- storing ---- */

size_t marks_changed(const struct marks *m)
{
    size_t count = m->gap_count + m->duplicate_count - duplicate_position(m, m->stored);
    for (size_t i = 0; i < m->runner_count; i++) count += m->runner[i].changed > m->stored;
    return count;
}

void marks_stored(struct marks *m, uint64_t log_start, size_t dropped_max)
{
    size_t kept = 0, dropped = duplicate_position(m, log_start);
    if (m->at == m->stored) return;
    if (dropped > dropped_max) dropped = dropped_max;
    m->duplicate_count -= dropped;
    if (dropped) memmove(m->duplicate, m->duplicate + dropped, m->duplicate_count * sizeof *m->duplicate);
    m->stored = m->at;
    m->present = true;
    m->gap_count = 0;
    for (size_t i = 0; i < m->capacity_count; i++) {
        m->capacity[i].changed = false;
        if (!m->capacity[i].dropped) m->capacity[kept++] = m->capacity[i];
    }
    m->capacity_count = kept;
}

void marks_staircase(const struct marks *m, struct vector_entry *e)
{
    for (size_t i = 0; i < m->runner_count; i++)
        if (!m->runner[i].superseded)
            memory_sufficed(vector_entry_add(e, (struct vector_pair){m->runner[i].mark.ct, m->runner[i].mark.last}));
}

/* ---- loading ---- */

enum sg_error marks_load(struct marks *m, const char *field, size_t field_length, const char *text, size_t length)
{
    struct id runner;
    uint64_t epoch;
    struct text t = text_over(text, length);
    if (field_length == 2 && memcmp(field, "at", 2) == 0) {
        m->at = text_u64(&t);
        m->present = true;
        return text_done(&t) ? SG_OK : SG_ERR_MALFORMED;
    }
    if (field_length > 2 && memcmp(field, "d:", 2) == 0) {
        t = text_over(field + 2, field_length - 2);
        duplicate_add(m, text_u64(&t));
        return text_done(&t) ? SG_OK : SG_ERR_MALFORMED;
    }
    if (!mark_field_decode(field, field_length, &runner, &epoch)) return SG_ERR_MALFORMED;
    return mark_decode(text, length, &runner_get(m, runner.s, epoch)->mark);
}

enum sg_error marks_load_capacity(struct marks *m, const char *field, size_t field_length, const char *text,
                                  size_t length)
{
    struct text t = text_over(field, field_length);
    struct capacity c;
    struct id runner;
    struct wall_ms hour = {0};
    size_t id_length;
    const char *s = text_until(&t, ':', &id_length);
    if (t.bad || !id_valid(s, id_length)) return SG_ERR_MALFORMED;
    memcpy(runner.s, s, id_length);
    runner.s[id_length] = '\0';
    if (text_take(&t, ':')) {
        uint64_t seconds = text_u64(&t);
        if (seconds > (uint64_t)WALL_MS_MAX / SECOND_MS) return SG_ERR_MALFORMED;
        hour.v = (int64_t)seconds * SECOND_MS;
    }
    enum sg_error e = text_done(&t) ? capacity_decode(text, length, &c) : SG_ERR_MALFORMED;
    if (!e) capacity_get(m, runner.s, hour)->capacity = c;
    return e;
}

enum sg_error marks_loaded(struct marks *m, uint64_t vouched)
{
    if (m->at < vouched) return SG_ERR_CORRUPT;
    m->stored = m->at;
    return SG_OK;
}
