/* Time and counters into slices.
 *
 * A running sandbox is billed up to open_ms. Billing up to T appends slices [open, T), cut where UTC (boot time plus
 * the source's offset) crosses a minute, adds them to the runner's own sums and moves open_ms: so every millisecond of
 * boot time is in one slice, whatever the offset does meanwhile.
 * A rise of counters is booked at the time T of the event that brought it. Whole minutes before T are billed first, so
 * that it rides on a slice of T's own minute that ends at T. There is none when nothing runs or T is a minute's first
 * millisecond: then the rise has a slice of no length at T.
 *
 * FULL        Before each slice of a walk the batch must have room for it and for a whole event's rows; else the walk
 *             stops, and goes on after the seal where open_ms says.
 * INVARIANTS  open_ms never falls. The sums grow by exactly what the slices say. */
#include <assert.h>
#include <string.h>

#include "collector/meter_internal.h"

bool meter_full(const struct meter *m)
{
    return batch_builder_rows(m->rows) + EVENT_ROWS_MAX > METER_BATCH_ROWS_MAX ||
           batch_builder_full(m->rows, EVENT_ROWS_MAX) ||
           m->dirty_bytes + STATE_HEAD_BYTES_MAX + ENTRY_BYTES_MAX > METER_DELTA_BYTES_MAX;
}

uint32_t bill_index(struct meter *m, struct sandbox *s)
{
    uint64_t generation = batch_builder_generation(m->rows);
    if (s->dictionary_generation == generation) return s->dictionary_index;
    struct batch_sandbox entry = {sandbox_id(s), s->text + s->team_at, s->text + s->project_at,
                                  s->vcpus,      s->mem_mib,           s->disk_mib};
    enum sg_error e = batch_builder_sandbox(m->rows, &entry, &s->dictionary_index);
    if (e) {
        assert(e == SG_ERR_NOMEM); /* room was made sure of */
        m->no_memory = true;
        return 0;
    }
    s->dictionary_generation = generation;
    return s->dictionary_index;
}

/* *sum += a * b, or the largest number and a mark: these sums are a check, not the bill. */
static void sum_add(struct meter *m, uint64_t *sum, uint32_t a, uint32_t b)
{
    if (__builtin_add_overflow(*sum, (uint64_t)a * b, sum)) {
        *sum = UINT64_MAX;
        m->saturated = true;
    }
}

static void put_slice(struct meter *m, struct sandbox *s, uint64_t start, uint32_t length_ms,
                      const struct batch_rise *rise)
{
    static const struct batch_rise none = {0};
    struct wall_ms wall = source_wall(&m->source[s->source], start);
    uint32_t index = bill_index(m, s);
    if (m->no_memory || batch_builder_slice(m->rows, index, wall, length_ms, rise ? rise : &none)) m->no_memory = true;
    sum_add(m, &m->totals.running_ms, 1, length_ms);
    sum_add(m, &m->totals.vcpu_ms, s->vcpus, length_ms);
    sum_add(m, &m->totals.mem_mib_ms, s->mem_mib, length_ms);
    sum_add(m, &m->totals.disk_mib_ms, s->disk_mib, length_ms);
    meter_mark(m, s, CHANGED);
}

/* The end of the slice that starts at open_ms: `to`, or the end of the minute. */
static uint64_t slice_end(const struct meter *m, const struct sandbox *s, uint64_t to)
{
    int64_t into_minute = source_wall(&m->source[s->source], s->open_ms).v % MINUTE_MS;
    uint64_t left = (uint64_t)(MINUTE_MS - into_minute);
    return to - s->open_ms > left ? s->open_ms + left : to;
}

bool bill_until(struct meter *m, struct sandbox *s, uint64_t to)
{
    while (s->state == SANDBOX_RUNNING && s->open_ms < to) {
        if (meter_full(m)) return false;
        uint64_t end = slice_end(m, s, to);
        put_slice(m, s, s->open_ms, (uint32_t)(end - s->open_ms), NULL);
        s->open_ms = end;
    }
    return true;
}

bool bill_minutes_before(struct meter *m, struct sandbox *s, uint64_t to)
{
    uint64_t into_minute = (uint64_t)(source_wall(&m->source[s->source], to).v % MINUTE_MS);
    return bill_until(m, s, to > into_minute ? to - into_minute : 0) && !meter_full(m);
}

void bill_rise(struct meter *m, struct sandbox *s, uint64_t to, const struct batch_rise *rise)
{
    if (s->state == SANDBOX_RUNNING && s->open_ms < to) {
        assert(slice_end(m, s, to) == to && source_wall(&m->source[s->source], to).v % MINUTE_MS != 0);
        put_slice(m, s, s->open_ms, (uint32_t)(to - s->open_ms), rise);
        s->open_ms = to;
    } else if (bill_has_rise(rise))
        put_slice(m, s, to, 0, rise);
}

void bill_rise_apart(struct meter *m, struct sandbox *s, uint64_t at, const struct batch_rise *rise)
{
    put_slice(m, s, at, 0, rise);
}

bool bill_source(struct meter *m, unsigned source, uint64_t to)
{
    struct source *src = &m->source[source];
    size_t left = src->running;
    assert(src->closed_ms < to);
    for (size_t i = 0; left > 0; i++) {
        assert(i < m->table.slots);
        struct sandbox *s = m->table.slot[i];
        if (!s || s->source != source || s->state != SANDBOX_RUNNING) continue;
        left--;
        if (!bill_until(m, s, to)) return false;
    }
    src->closed_ms = to;
    m->changed = true;
    return true;
}

static uint64_t latest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool host_end_one(struct meter *m, struct sandbox *s)
{
    const struct source *src = &m->source[s->source];
    uint64_t alive = latest(latest(src->newest_ms, src->alive_ms), s->proven_ms);
    if (!bill_until(m, s, alive) || meter_full(m)) return false;
    uint64_t end = s->state == SANDBOX_RUNNING ? latest(alive, s->open_ms) : alive;
    uint32_t index = bill_index(m, s);
    if (m->no_memory || batch_builder_end(m->rows, index, source_wall(src, end), REASON_HOST, s->mem_peak_bytes))
        m->no_memory = true;
    if (m->config.watch.end && s->state == SANDBOX_RUNNING) m->config.watch.end(m->config.watch.arg, sandbox_handle(s));
    meter_forget(m, s);
    return true;
}

bool bill_host_end(struct meter *m, unsigned source)
{
    for (size_t i = 0; i < m->table.slots;) {
        struct sandbox *s = m->table.slot[i];
        if (!s || s->source != source)
            i++;
        else if (!host_end_one(m, s)) /* else the slot holds another one now, or none */
            return false;
    }
    return true;
}

/* ---- counters ---- */

/* The members of a rise and the fields of an event, in the order of enum meter_counter. */
static const struct {
    enum ingest_field field;
    size_t rise_offset;
} counters[METER_COUNTERS] = {
    {INGEST_FIELD_CPU_US, offsetof(struct batch_rise, cpu_us)},
    {INGEST_FIELD_NET_RX_BYTES, offsetof(struct batch_rise, net_rx_bytes)},
    {INGEST_FIELD_NET_TX_BYTES, offsetof(struct batch_rise, net_tx_bytes)},
    {INGEST_FIELD_IO_READ_BYTES, offsetof(struct batch_rise, io_read_bytes)},
    {INGEST_FIELD_IO_WRITE_BYTES, offsetof(struct batch_rise, io_write_bytes)},
};

static uint64_t *rise_member(struct batch_rise *rise, size_t counter)
{
    return (uint64_t *)((char *)rise + counters[counter].rise_offset);
}

/* An event's value. Where samples were counted before, they were of the same sandbox: the event rises from what they
 * have come to, and a lower value is older than the last sample, not a reset. */
static uint64_t event_rise(struct sandbox *s, size_t c, uint64_t value)
{
    uint8_t bit = (uint8_t)(1U << c);
    uint64_t last = s->last[c];
    bool known = s->known & bit, takes_over = !(s->carried & bit) && (s->sampled & bit);
    s->known |= bit;
    s->carried |= bit;
    s->last[c] = takes_over && value < last ? last : value;
    if (!known) return 0;
    if (takes_over && value < last) return 0;
    return value >= last ? value - last : value;
}

void bill_event_counters(struct sandbox *s, const struct ingest_event *e, struct batch_rise *rise)
{
    *rise = (struct batch_rise){0};
    for (size_t c = 0; c < METER_COUNTERS; c++)
        if (ingest_has(e, counters[c].field)) *rise_member(rise, c) = event_rise(s, c, e->number[counters[c].field]);
    if (ingest_has(e, INGEST_FIELD_MEM_BYTES)) rise->mem_bytes = e->number[INGEST_FIELD_MEM_BYTES];
}

static uint64_t sample_rise(struct sandbox *s, size_t c, uint64_t value)
{
    uint8_t bit = (uint8_t)(1U << c);
    uint64_t last = s->sampled_last[c];
    bool known = s->known & bit;
    if (s->carried & bit) return 0;
    s->known |= bit;
    s->sampled |= bit;
    s->sampled_last[c] = value;
    if (!known) {
        s->last[c] = value;
        return 0;
    }
    uint64_t rise = value >= last ? value - last : value;
    s->last[c] += rise;
    return rise;
}

void bill_sample_counters(struct sandbox *s, const struct meter_sample *sample, struct batch_rise *rise)
{
    *rise = (struct batch_rise){0};
    for (size_t c = 0; c < METER_COUNTERS; c++)
        if (sample->present[c]) *rise_member(rise, c) = sample_rise(s, c, sample->value[c]);
    rise->mem_bytes = sample->mem_bytes;
    s->mem_peak_bytes = latest(s->mem_peak_bytes, sample->mem_peak_bytes);
}
