/* Applying digests: each row once, wherever replay begins (rollup.h). */
#include <assert.h>

#include "aggregator/rollup/memory.h"
#include "aggregator/rollup/rollup.h"
#include "aggregator/rollup/rollup_cell.h"

/* What one batch brings to one partition. */
struct applying {
    struct rollup *r;
    struct cells *cells;
    const struct digest *d;
    const uint64_t *vouched; /* by shard */
};

/* True when the cell lacks this batch. Its shard does: digests leave out rows of shards that vouch for theirs, and no
 * vector moves beyond what is applied. */
static bool lacks(const struct applying *a, const struct cell *cell)
{
    assert(cell->read && a->d->offset >= a->vouched[cell->shard]);
    return a->d->offset >= cell->offset;
}

static void touch(const struct applying *a, struct cell *cell)
{
    cell->touched = a->r->flushes;
    cells_touch(a->cells, cell, a->d->offset + 1, a->d->message_time);
}

static void add_field(const struct applying *a, struct sums *s, enum field f, uint64_t v)
{
    enum sg_error e = sums_add(s, f, (struct amount){v});
    memory_sufficed(e);
    if (e == SG_ERR_OVERFLOW) a->cells->saturated++; /* it stays at the largest number */
}

static void apply_minute(const struct applying *a, const struct digest_minute *m, struct cell *cell)
{
    for (unsigned f = 0; f < PLAIN_FIELDS; f++) cells_add(a->cells, &cell->sums.plain[f].v, m->plain[f]);
    for (uint32_t i = m->counts; i != DIGEST_NONE; i = a->d->count[i].next)
        add_field(a, &cell->sums, (enum field)a->d->count[i].field, 1);
}

/* Several minutes of a digest share their hour and day: a cell's offset moves only when all of them are in. */
static void apply_window(const struct applying *a, enum window_kind w)
{
    for (size_t i = 0; i < a->d->minute_count; i++) {
        const struct digest_minute *m = &a->d->minute[i];
        if (lacks(a, m->cell[w])) apply_minute(a, m, m->cell[w]);
    }
    for (size_t i = 0; i < a->d->minute_count; i++) {
        struct cell *cell = a->d->minute[i].cell[w];
        if (lacks(a, cell)) touch(a, cell);
    }
}

/* ---- runs ---- */

static void run_attributes(const struct applying *a, const struct digest_sandbox *s, struct run *run)
{
    run->created = digest_created(a->d, s, run);
    run->team = s->group->team;
    run->project = s->group->project;
    run->region = a->d->region;
    run->runner = a->d->runner;
    run->vcpus = s->vcpus;
    run->mem_mib = s->mem_mib;
    run->disk_mib = s->disk_mib;
}

static void run_start(struct cell *cell, const struct digest_life *l)
{
    struct run *run = cell->run;
    cell->reborn = true;
    if (l->at.v == run->created.v && l->value != START_ADOPTED && !run->has_origin) {
        run->has_origin = run->has_create_ms = true;
        run->origin = (enum origin)(l->value - 1);
        run->create_ms = (uint32_t)l->amount;
    }
    if (l->at.v < run->started.v) return;
    run->started = l->at;
    if (run->state == RUN_ENDED && run->ended.v > l->at.v) return; /* the end of this life came before its start */
    run->state = RUN_RUNNING;
    run->ended.v = 0;
    run->has_reason = false;
}

static void run_state(struct cell *cell, const struct digest_life *l)
{
    struct run *run = cell->run;
    if (run->state != RUN_ENDED && l->at.v >= run->started.v)
        run->state = l->value == SANDBOX_HIBERNATED ? RUN_HIBERNATED : RUN_RUNNING;
}

static void run_end(struct cell *cell, const struct digest_life *l)
{
    struct run *run = cell->run;
    if (l->amount > run->mem_peak_bytes) run->mem_peak_bytes = l->amount;
    if (l->at.v < run->started.v || l->at.v < run->ended.v) return; /* of an earlier life */
    run->ended = l->at;
    run->state = RUN_ENDED;
    run->has_reason = true;
    run->reason = (enum reason)l->value;
}

static void (*const run_life[])(struct cell *, const struct digest_life *) = {
    [LIFE_START] = run_start,
    [LIFE_STATE] = run_state,
    [LIFE_END] = run_end,
};

static void run_usage(const struct applying *a, const struct digest_sandbox *s, struct run *run)
{
    struct cells *c = a->cells;
    for (uint32_t i = s->hours; i != DIGEST_NONE; i = a->d->hour[i].next) {
        const struct digest_hour *h = &a->d->hour[i];
        cells_add(c, &run->running_ms.v, h->running_ms);
        cells_add(c, &run->cpu_us.v, h->cpu_us);
        cells_add(c, &run->net_rx_bytes.v, h->net_rx_bytes);
        cells_add(c, &run->net_tx_bytes.v, h->net_tx_bytes);
        cells_add(c, &run->io_read_bytes.v, h->io_read_bytes);
        cells_add(c, &run->io_write_bytes.v, h->io_write_bytes);
        cells_add(c, &run->execs.v, h->execs);
    }
    if (s->seen.v > run->seen.v) run->seen = s->seen;
    if (s->mem_peak_bytes > run->mem_peak_bytes) run->mem_peak_bytes = s->mem_peak_bytes;
    if (s->has_exit && (!run->has_exit || s->exit_at.v >= run->exit_at.v)) {
        run->has_exit = true;
        run->exit_code = s->exit_code;
        run->exit_at = s->exit_at;
    }
}

static void apply_hour(const struct applying *a, const struct digest_hour *h)
{
    struct sums *s = &h->cell->sums;
    cells_add(a->cells, &s->plain[FIELD_RUNNING_MS].v, h->running_ms);
    cells_add(a->cells, &s->plain[FIELD_CPU_US].v, h->cpu_us);
    cells_add(a->cells, &s->plain[FIELD_NET_RX_BYTES].v, h->net_rx_bytes);
    cells_add(a->cells, &s->plain[FIELD_NET_TX_BYTES].v, h->net_tx_bytes);
    cells_add(a->cells, &s->plain[FIELD_IO_READ_BYTES].v, h->io_read_bytes);
    cells_add(a->cells, &s->plain[FIELD_IO_WRITE_BYTES].v, h->io_write_bytes);
    cells_add(a->cells, &s->plain[FIELD_EXECS].v, h->execs);
}

/* Every hour but that of the start. */
static void apply_hours(const struct applying *a, const struct digest_sandbox *s, bool move)
{
    for (uint32_t i = s->hours; i != DIGEST_NONE; i = a->d->hour[i].next) {
        const struct digest_hour *h = &a->d->hour[i];
        if (!rollup_own_hour(a->d, s, h) || !lacks(a, h->cell)) continue;
        if (move)
            touch(a, h->cell);
        else
            apply_hour(a, h);
    }
}

/* Two dictionary entries of one batch may be two lives of one sandbox: the second finds the run's offset moved already,
 * so offsets move in a pass of their own. */
static void apply_runs(const struct applying *a)
{
    for (size_t i = 0; i < a->d->sandbox_count; i++) {
        const struct digest_sandbox *s = &a->d->sandbox[i];
        apply_hours(a, s, false);
        if (!lacks(a, s->run)) continue;
        run_attributes(a, s, s->run->run);
        for (uint32_t l = s->life_first; l != DIGEST_NONE; l = a->d->life[l].next)
            run_life[a->d->life[l].kind](s->run, &a->d->life[l]);
        run_usage(a, s, s->run->run);
    }
    for (size_t i = 0; i < a->d->sandbox_count; i++) {
        apply_hours(a, &a->d->sandbox[i], true);
        if (lacks(a, a->d->sandbox[i].run)) touch(a, a->d->sandbox[i].run);
    }
}

/* ---- whole ---- */

/* What its runner waits for: it may be new since a shard's entry, or have come back to life. Of each shard by itself:
 * when another one is lost the position goes back, and what this one has not stored is not applied again. */
static void hold_back(const struct rollup *r, struct rollup_partition *p, const struct digest *d)
{
    for (uint32_t s = 0; s < r->shards; s++) {
        struct wall_ms *held = &p->seen[s].held;
        if (d->offset >= p->vouched[s] && (held->v == 0 || d->complete_through.v < held->v))
            *held = d->complete_through;
    }
}

static void apply_one(struct rollup *r, struct rollup_partition *p, struct digest *d)
{
    struct applying a = {.r = r, .cells = &r->cells, .d = d, .vouched = p->vouched};
    assert(d->offset == p->position);
    if (!d->unreadable && d->complete_through.v) hold_back(r, p, d);
    if (marks_decide(&p->marks, d)) {
        for (int w = 0; w < WINDOW_KINDS; w++) apply_window(&a, (enum window_kind)w);
        apply_runs(&a);
        r->batches++;
        r->rows += d->rows;
    }
    if (d->message_time.v > p->heard.v) p->heard = d->message_time;
    p->position = d->offset + 1;
}

bool rollup_apply(struct rollup *r)
{
    for (; r->queue_first < r->queue_count; r->queue_first++) {
        struct digest *d = &r->queue[r->queue_first];
        if (!rollup_digest_ready(d)) return false;
        apply_one(r, &r->partition[r->queue_partition[r->queue_first]], d);
    }
    r->queue_first = r->queue_count = r->queue_rows = 0;
    return true;
}
