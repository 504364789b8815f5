/* The meter's state as bytes: snapshots and deltas. Format: proto/meter_state.md.
 *
 *     snapshot  = version kind=1 runner-part sources sandboxes(full)
 *     delta     = version kind=2 runner-part sources removed-ids sandboxes(full or changed part)
 *
 * Numbers are LEB128; text is a length byte and the bytes. The runner's part and the sources are small and always
 * whole; of sandboxes a delta tells the marked ones.
 *
 * READING   A cursor that goes bad and stays bad. Counts are bounded by what is left and by the configured table before
 *           anything is allocated. Checksums are the spool's.
 * INVARIANTS  snapshot(load(snapshot)) is the snapshot, up to the order of sandboxes; load + apply of every delta gives
 *           the state that wrote them. What is not part of the state (sessions, the open batch) starts empty. */
#include <assert.h>
#include <string.h>

#include "collector/meter_internal.h"

enum { STATE_VERSION = 1, KIND_SNAPSHOT = 1, KIND_DELTA = 2, ENTRY_FULL = 1, ENTRY_CHANGED = 2, ENTRY_BYTES_MIN = 16 };

/* ---- writing ---- */

static void put_u64(struct buffer *b, uint64_t v)
{
    unsigned char bytes[10];
    size_t n = 0;
    do {
        bytes[n] = (unsigned char)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        v >>= 7;
        n++;
    } while (v);
    buffer_append(b, bytes, n);
}

static void put_i64(struct buffer *b, int64_t v)
{
    put_u64(b, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
}

static void put_text(struct buffer *b, const char *s)
{
    size_t length = strlen(s);
    assert(length <= UINT8_MAX);
    put_u64(b, length);
    buffer_append(b, s, length);
}

static void put_runner(struct buffer *b, const struct meter *m)
{
    const struct batch_totals *t = &m->totals;
    put_i64(b, m->complete_through_ms);
    const uint64_t values[] = {t->vcpu_ms,
                               t->mem_mib_ms,
                               t->disk_mib_ms,
                               t->running_ms,
                               t->events,
                               t->refused,
                               m->late_events,
                               m->gaps,
                               m->saturated,
                               m->capacity_known,
                               m->capacity.vcpus_total,
                               m->capacity.mem_mib_total,
                               m->capacity.disk_mib_total,
                               m->capacity.warm};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) put_u64(b, values[i]);
}

static void put_sources(struct buffer *b, const struct meter *m)
{
    size_t count = 0;
    for (size_t i = 0; i < SOURCES_MAX; i++) count += m->source[i].used;
    put_u64(b, count);
    for (size_t i = 0; i < SOURCES_MAX; i++) {
        const struct source *s = &m->source[i];
        if (!s->used) continue;
        put_u64(b, i);
        put_text(b, s->name.s);
        put_text(b, s->boot_id.s);
        put_u64(b, s->n);
        put_u64(b, s->newest_ms);
        put_u64(b, s->closed_ms);
        put_u64(b, s->alive_ms);
        put_u64(b, s->greeted_ms);
        put_i64(b, s->offset_ms);
        put_i64(b, s->target_ms);
        put_u64(b, s->slewed_ms);
    }
}

/* What changes in a life. */
static void put_changing(struct buffer *b, const struct sandbox *s)
{
    put_u64(b, s->state);
    put_u64(b, s->open_ms);
    put_u64(b, s->proven_ms);
    put_u64(b, s->mem_peak_bytes);
    put_u64(b, s->known);
    put_u64(b, s->carried);
    put_u64(b, s->sampled);
    for (size_t c = 0; c < METER_COUNTERS; c++) {
        put_u64(b, s->last[c]);
        put_u64(b, s->sampled_last[c]);
    }
}

static void put_entry(struct buffer *b, const struct sandbox *s, bool whole)
{
    put_u64(b, whole ? ENTRY_FULL : ENTRY_CHANGED);
    put_text(b, sandbox_id(s));
    if (whole) {
        put_text(b, s->text + s->team_at);
        put_text(b, s->text + s->project_at);
        put_text(b, s->text + s->cgroup_at);
        put_text(b, s->text + s->tap_at);
        put_u64(b, s->source);
        put_u64(b, s->vcpus);
        put_u64(b, s->mem_mib);
        put_u64(b, s->disk_mib);
    }
    put_changing(b, s);
}

static void put_head(struct buffer *b, const struct meter *m, uint64_t kind)
{
    buffer_reset(b);
    put_u64(b, STATE_VERSION);
    put_u64(b, kind);
    put_runner(b, m);
    put_sources(b, m);
}

enum sg_error meter_save(const struct meter *m, struct buffer *out)
{
    assert(m->dirty_count == 0 && m->removed_count == 0 && batch_builder_rows(m->rows) == 0);
    put_head(out, m, KIND_SNAPSHOT);
    put_u64(out, m->table.count);
    for (size_t i = 0; i < m->table.slots; i++)
        if (m->table.slot[i]) put_entry(out, m->table.slot[i], true);
    return out->error;
}

enum sg_error meter_encode_delta(struct meter *m)
{
    struct buffer *b = &m->delta;
    put_head(b, m, KIND_DELTA);
    put_u64(b, m->removed_count);
    buffer_append(b, m->removed.data, m->removed.length);
    put_u64(b, m->dirty_count);
    for (size_t i = 0; i < m->dirty_count; i++) put_entry(b, m->dirty[i], m->dirty[i]->change == CREATED);
    return b->error;
}

/* ---- reading ---- */

struct cursor {
    const uint8_t *p, *end;
    bool bad;
};

static uint64_t take_u64(struct cursor *c, uint64_t max)
{
    uint64_t v = 0;
    for (unsigned shift = 0; c->p < c->end; shift += 7) {
        uint64_t byte = *c->p++;
        if (shift == 63 && byte > 1) break; /* more than 64 bits: the tenth byte is the last */
        if (shift && byte == 0) break;      /* longer than it is written */
        v |= (byte & 0x7f) << shift;
        if (byte & 0x80) continue;
        c->bad |= v > max;
        return c->bad ? 0 : v;
    }
    c->bad = true;
    return 0;
}

static int64_t take_i64(struct cursor *c)
{
    uint64_t v = take_u64(c, UINT64_MAX);
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

/* Copies to out, which holds size bytes. */
static void take_text(struct cursor *c, char *out, size_t size)
{
    size_t length = take_u64(c, size - 1);
    out[0] = '\0';
    if (c->bad || (size_t)(c->end - c->p) < length || memchr(c->p, '\0', length)) {
        c->bad = true;
        return;
    }
    memcpy(out, c->p, length);
    out[length] = '\0';
    c->p += length;
}

static void take_id(struct cursor *c, struct id *out)
{
    take_text(c, out->s, sizeof out->s);
    c->bad |= !id_valid(out->s, strlen(out->s));
}

static void take_runner(struct cursor *c, struct meter *m)
{
    struct batch_totals *t = &m->totals;
    uint64_t *const values[] = {&t->vcpu_ms, &t->mem_mib_ms, &t->disk_mib_ms, &t->running_ms,
                                &t->events,  &t->refused,    &m->late_events, &m->gaps};
    uint64_t *const capacity[] = {&m->capacity.vcpus_total, &m->capacity.mem_mib_total, &m->capacity.disk_mib_total,
                                  &m->capacity.warm};
    m->complete_through_ms = take_i64(c);
    c->bad |= m->complete_through_ms < 0 || m->complete_through_ms > WALL_MS_MAX;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) *values[i] = take_u64(c, UINT64_MAX);
    m->saturated = take_u64(c, 1);
    m->capacity_known = take_u64(c, 1);
    for (size_t i = 0; i < sizeof capacity / sizeof *capacity; i++) *capacity[i] = take_u64(c, COUNTER_MAX);
}

/* running stays as the table has it. */
static void take_sources(struct cursor *c, struct meter *m)
{
    size_t count = take_u64(c, SOURCES_MAX), next = 0;
    for (size_t i = 0; i < count && !c->bad; i++) {
        struct source s = {.used = true};
        size_t index = take_u64(c, SOURCES_MAX - 1);
        c->bad |= index < next;
        next = index + 1;
        take_id(c, &s.name);
        take_id(c, &s.boot_id);
        s.n = s.durable_n = take_u64(c, COUNTER_MAX);
        s.newest_ms = take_u64(c, COUNTER_MAX);
        s.closed_ms = take_u64(c, INT64_MAX);
        s.alive_ms = take_u64(c, INT64_MAX);
        s.greeted_ms = take_u64(c, COUNTER_MAX);
        s.offset_ms = take_i64(c);
        s.target_ms = take_i64(c);
        s.slewed_ms = take_u64(c, INT64_MAX);
        c->bad |= s.offset_ms > WALL_MS_MAX || s.offset_ms < -(int64_t)COUNTER_MAX;
        c->bad |= s.target_ms > WALL_MS_MAX || s.target_ms < -(int64_t)COUNTER_MAX;
        s.running = m->source[index].running;
        if (!c->bad) m->source[index] = s;
    }
}

static void take_changing(struct cursor *c, struct sandbox *s)
{
    enum { COUNTER_BITS = (1 << METER_COUNTERS) - 1 };
    s->state = (uint8_t)take_u64(c, SANDBOX_HIBERNATED);
    s->open_ms = take_u64(c, INT64_MAX);
    s->proven_ms = take_u64(c, INT64_MAX);
    s->mem_peak_bytes = take_u64(c, UINT64_MAX);
    s->known = (uint8_t)take_u64(c, COUNTER_BITS);
    s->carried = (uint8_t)take_u64(c, COUNTER_BITS);
    s->sampled = (uint8_t)take_u64(c, COUNTER_BITS);
    for (size_t i = 0; i < METER_COUNTERS; i++) {
        s->last[i] = take_u64(c, UINT64_MAX);
        s->sampled_last[i] = take_u64(c, UINT64_MAX);
    }
}

/* NULL: it is wrong, or no memory. */
static struct sandbox *take_new(struct cursor *c, struct meter *m, const struct id *id)
{
    struct id team, project;
    char cgroup[INGEST_CGROUP_BYTES_MAX + 1], tap[INGEST_TAP_BYTES_MAX + 1];
    take_id(c, &team);
    take_id(c, &project);
    take_text(c, cgroup, sizeof cgroup);
    take_text(c, tap, sizeof tap);
    uint64_t source = take_u64(c, SOURCES_MAX - 1);
    uint64_t vcpus = take_u64(c, VCPUS_MAX), mem_mib = take_u64(c, MEM_MIB_MAX), disk_mib = take_u64(c, DISK_MIB_MAX);
    if (c->bad || !m->source[source].used || table_find(&m->table, id->s)) return NULL;
    struct sandbox_names names = {id->s, team.s, project.s, cgroup, tap};
    struct sandbox *s = table_add(&m->table, &names);
    if (!s) {
        m->no_memory = true;
        return NULL;
    }
    s->source = (uint8_t)source;
    s->vcpus = (uint32_t)vcpus;
    s->mem_mib = (uint32_t)mem_mib;
    s->disk_mib = (uint32_t)disk_mib;
    return s;
}

static void take_entry(struct cursor *c, struct meter *m, uint64_t entry_max)
{
    struct id id;
    uint64_t entry = take_u64(c, entry_max);
    take_id(c, &id);
    if (c->bad || entry == 0) {
        c->bad = true;
        return;
    }
    struct sandbox *s = entry == ENTRY_FULL ? take_new(c, m, &id) : table_find(&m->table, id.s);
    if (!s) {
        c->bad = true;
        return;
    }
    if (entry == ENTRY_CHANGED && s->state == SANDBOX_RUNNING) meter_release(m, s);
    take_changing(c, s);
    if (s->state == SANDBOX_RUNNING) meter_allocate(m, s);
}

/* In a snapshot there is nothing that could have changed. */
static void take_entries(struct cursor *c, struct meter *m, uint64_t kind)
{
    size_t count = take_u64(c, (uint64_t)(c->end - c->p) / ENTRY_BYTES_MIN);
    for (size_t i = 0; i < count && !c->bad; i++) take_entry(c, m, kind == KIND_DELTA ? ENTRY_CHANGED : ENTRY_FULL);
}

static void take_removed(struct cursor *c, struct meter *m)
{
    size_t count = take_u64(c, (uint64_t)(c->end - c->p) / 2);
    for (size_t i = 0; i < count; i++) {
        struct id id;
        take_id(c, &id);
        struct sandbox *s = c->bad ? NULL : table_find(&m->table, id.s);
        if (!s) {
            c->bad = true;
            return;
        }
        if (s->state == SANDBOX_RUNNING) meter_release(m, s);
        table_remove(&m->table, s);
    }
}

static enum sg_error load(struct meter *m, const uint8_t *bytes, size_t length, uint64_t kind, struct sg_fault *f)
{
    struct cursor c = {bytes, bytes + length, false};
    uint64_t version = take_u64(&c, UINT64_MAX);
    if (!c.bad && version != STATE_VERSION)
        return sg_fail(f, SG_ERR_VERSION, "meter state of version %llu", (unsigned long long)version);
    c.bad |= take_u64(&c, KIND_DELTA) != kind;
    take_runner(&c, m);
    take_sources(&c, m);
    if (kind == KIND_DELTA) take_removed(&c, m);
    take_entries(&c, m, kind);
    if (m->no_memory) return sg_fail(f, SG_ERR_NOMEM, "no memory for the meter's state");
    if (c.bad || c.p != c.end)
        return sg_fail(f, SG_ERR_MALFORMED, "meter state is wrong at byte %zu", (size_t)(c.p - bytes));
    if (m->table.count > m->config.sandboxes_max)
        return sg_fail(f, SG_ERR_LIMIT, "the meter's state has %zu sandboxes, configured are %zu at most",
                       m->table.count, m->config.sandboxes_max);
    return SG_OK;
}

enum sg_error meter_load(struct meter *m, const uint8_t *bytes, size_t length, struct sg_fault *f)
{
    assert(m->table.count == 0 && m->dirty_count == 0);
    return length == 0 ? SG_OK : load(m, bytes, length, KIND_SNAPSHOT, f);
}

enum sg_error meter_apply(struct meter *m, const uint8_t *bytes, size_t length, struct sg_fault *f)
{
    return load(m, bytes, length, KIND_DELTA, f);
}
