/* What must come out, by arithmetic of its own. Lines are gone through as ingest.md says: which is refused and why, who
 * runs from when to when; a span of running is cut at minutes of UTC once it has ended. Batches are folded as an
 * aggregator does: by (runner, epoch, seq), what was seen is dropped. Both go into one table of sums, one with a plus
 * and one with a minus: nothing may be left.
 *
 * One number is the meter's: which minute a batch was full at when a host ended before the line that comes next. It
 * counts only if it is a minute before that line, and what ends there is in a full batch of the topic (end_of_host).
 *
 * clock = system: offsets are slewed, so only the sums over all time agree; and where a line came too late for what was
 * billed, none. A runner that is gone for ever: its batches must be whole, what they should hold is not known. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/collector_world.h"

enum { SUMS = 1 << 18, EPOCHS_MAX = COLLECTOR_LIVES_MAX };
enum { LINE_ROWS_MAX = 8 }; /* rows of a line beside whole minutes: a batch with less room takes none */

struct sum {
    uint64_t key; /* 0: none */
    uint64_t value;
};

/* An epoch of a runner, as the topic tells it. */
struct epoch {
    uint64_t number, seq;
    uint8_t sha256[SHA256_BYTES];
    struct batch_totals totals;
    int64_t complete_through, sent_ms;
    uint64_t *hash; /* of the batch of each seq */
    size_t room;
};

struct check {
    struct collector_world *w;
    struct collector_runner *r;
    bool minutes, exact;
    struct epoch epoch[EPOCHS_MAX];
    size_t epochs;
    struct collector_gap expected[COLLECTOR_GAPS_MAX], seen[COLLECTOR_GAPS_MAX];
    size_t expected_gaps, seen_gaps;
    uint64_t events, refused; /* expected, over all epochs */
    collector_part *each;     /* gets what is expected, in place of the table */
    void *arg;
};

/* ---- sums ---- */

/* The table, and which of its places are taken: few. */
static struct {
    struct sum sum[SUMS];
    uint32_t taken[SUMS / 2];
    size_t count;
} table;

static void table_clear(void)
{
    for (size_t i = 0; i < table.count; i++) table.sum[table.taken[i]] = (struct sum){0};
    table.count = 0;
}

/* Team and project by their number; project COLLECTOR_PROJECTS is none. */
static void add(struct check *k, unsigned team, unsigned project, int64_t at, unsigned field, uint64_t value)
{
    if (k->each)
        return k->each(k->arg, k->r->region, team, project, at, (enum field)field, k->r->gone ? -value : value);
    uint64_t minute = k->minutes ? (uint64_t)(at / MINUTE_MS) : 0;
    uint64_t owner = (minute * 8 + team) * 8 + project, key = owner * 1024 + field + 1;
    size_t i =
        (((owner * UINT64_C(0x9E3779B97F4A7C15)) >> 46) + field) % SUMS; /* fields of one minute are neighbours */
    while (table.sum[i].key && table.sum[i].key != key) i = (i + 1) % SUMS;
    if (!table.sum[i].key) {
        if (table.count == SUMS / 2) abort();
        table.taken[table.count++] = (uint32_t)i;
    }
    table.sum[i].key = key;
    table.sum[i].value += value;
}

/* ---- what is expected ---- */

struct oracle_box {
    bool alive, running;
    const struct collector_line *born;
    uint64_t since, counter[METER_COUNTERS];
    uint8_t based;
};

struct oracle {
    struct check *k;
    struct collector_source *c;
    const struct collector_life *life;
    struct oracle_box box[COLLECTOR_BOXES];
    uint64_t newest;
};

static int64_t wall(const struct oracle *o, uint64_t boot_ms)
{
    return (int64_t)boot_ms + o->life->offset;
}

static void span(struct oracle *o, const struct oracle_box *b, uint64_t to)
{
    uint64_t from = b->since;
    while (from < to) {
        uint64_t left = (uint64_t)(MINUTE_MS - wall(o, from) % MINUTE_MS), length = to - from < left ? to - from : left;
        const uint64_t sizes[][2] = {{FIELD_VCPU_MS, b->born->vcpus},
                                     {FIELD_MEM_MIB_MS, b->born->mem_mib},
                                     {FIELD_DISK_MIB_MS, b->born->disk_mib},
                                     {FIELD_RUNNING_MS, 1}};
        for (size_t i = 0; i < 4; i++)
            add(o->k, b->born->team, b->born->project, wall(o, from), (unsigned)sizes[i][0], sizes[i][1] * length);
        from += length;
    }
}

static void rises(struct oracle *o, struct oracle_box *b, const struct collector_line *l)
{
    for (unsigned i = 0; i < METER_COUNTERS; i++) {
        if (!(l->present >> i & 1)) continue;
        uint64_t rise = l->counter[i] >= b->counter[i] ? l->counter[i] - b->counter[i] : l->counter[i];
        if (b->based >> i & 1) add(o->k, b->born->team, b->born->project, wall(o, l->boot_ms), FIELD_CPU_US + i, rise);
        b->counter[i] = l->counter[i];
        b->based |= (uint8_t)(1U << i);
    }
}

static size_t alive(const struct oracle *o)
{
    size_t count = 0;
    for (unsigned i = 0; i < COLLECTOR_BOXES; i++) count += o->box[i].alive;
    return count;
}

static bool is_of_sandbox(const struct collector_line *l)
{
    return l->type != INGEST_TYPE_TICK && l->type != INGEST_TYPE_CAPACITY && l->type != INGEST_TYPE_API_CALLED;
}

static enum ingest_error refusal(const struct oracle *o, const struct collector_line *l)
{
    static const enum ingest_error bad[BAD_KINDS] = {
        [BAD_JSON] = INGEST_MALFORMED,        [BAD_JSON_WITHOUT_N] = INGEST_MALFORMED,
        [BAD_TOO_LONG] = INGEST_TOO_LONG,     [BAD_FIELD] = INGEST_UNKNOWN_FIELD,
        [BAD_RANGE] = INGEST_OUT_OF_RANGE,    [BAD_NAME] = INGEST_BAD_IDENTIFIER,
        [BAD_TYPE] = INGEST_UNKNOWN_TYPE,     [BAD_TWICE] = INGEST_DUPLICATE_FIELD,
        [BAD_MISSING] = INGEST_MISSING_FIELD, [BAD_WORD] = INGEST_BAD_TYPE};
    if (l->bad) return bad[l->bad];
    if (l->boot_ms < o->newest) return INGEST_TIME_WENT_BACK;
    if (wall(o, l->boot_ms) > WALL_MS_MAX) return INGEST_OUT_OF_RANGE;
    if (!is_of_sandbox(l)) return INGEST_OK;
    const struct oracle_box *b = &o->box[l->box];
    bool begins = l->type == INGEST_TYPE_CREATED || l->type == INGEST_TYPE_ADOPTED;
    if (l->owner != o->c->index) return INGEST_UNKNOWN_SANDBOX;
    if (begins && b->alive) return INGEST_DUPLICATE_SANDBOX;
    if (begins) return alive(o) < o->c->runner->sandboxes_max ? INGEST_OK : INGEST_TABLE_FULL;
    if (!b->alive) return INGEST_UNKNOWN_SANDBOX;
    if (l->type == INGEST_TYPE_HIBERNATED && !b->running) return INGEST_BAD_STATE;
    if (l->type == INGEST_TYPE_RESUMED && b->running) return INGEST_BAD_STATE;
    return INGEST_OK;
}

static void destroy(struct oracle *o, struct oracle_box *b, uint64_t at, enum reason reason)
{
    if (b->running) span(o, b, at);
    add(o->k, b->born->team, b->born->project, wall(o, at), FIELD_DESTROYS + reason, 1);
    b->alive = b->running = false;
}

static void accept(struct oracle *o, const struct collector_line *l)
{
    struct oracle_box *b = &o->box[l->box];
    int64_t at = wall(o, l->boot_ms);
    unsigned team = b->alive ? b->born->team : 0, project = b->alive ? b->born->project : 0;
    switch (l->type) {
    case INGEST_TYPE_CREATED:
    case INGEST_TYPE_ADOPTED:
        *b = (struct oracle_box){.alive = true, .running = true, .born = l, .since = l->boot_ms, .based = 0xff};
        if (l->type == INGEST_TYPE_CREATED) add(o->k, l->team, l->project, at, FIELD_CREATES + l->choice, 1);
        if (l->type == INGEST_TYPE_ADOPTED) b->running = l->choice, b->based = 0;
        break;
    case INGEST_TYPE_USAGE: rises(o, b, l); break;
    case INGEST_TYPE_HIBERNATED:
        span(o, b, l->boot_ms);
        b->running = false;
        break;
    case INGEST_TYPE_RESUMED:
        b->since = l->boot_ms;
        b->running = true;
        break;
    case INGEST_TYPE_DESTROYED:
        rises(o, b, l);
        destroy(o, b, l->boot_ms, (enum reason)l->choice);
        break;
    case INGEST_TYPE_EXEC_EXITED:
        add(o->k, team, project, at, FIELD_EXECS, 1);
        add(o->k, team, project, at, FIELD_EXIT + l->choice, 1);
        break;
    case INGEST_TYPE_API_CALLED:
        add(o->k, l->team, l->project, at, field_of_api_call((enum operation)l->choice, l->number), 1);
        break;
    default: break;
    }
}

static bool ends_slice(const struct batch *b, const char *id, int64_t end)
{
    const struct batch_slices *s = &b->slices;
    for (size_t i = 0; i < s->count; i++)
        if (b->base_ms + column_i64(s->start_ms, i) + column_u32(s->length_ms, i) == end &&
            strcmp(b->sandboxes.id[column_u32(s->sandbox, i)], id) == 0)
            return true;
    return false;
}

/* A full batch has a slice of the sandbox that ends there. */
static bool fills_batch(const struct oracle *o, unsigned box, int64_t end)
{
    struct batch_decoder d;
    struct batch b;
    const struct collector_runner *r = o->k->r;
    const struct events_partition *p = &o->k->w->log.partition[r->index];
    char id[ID_BYTES_MAX + 1];
    bool fills = false;
    snprintf(id, sizeof id, "x%u-%u-%u", r->index, o->c->index, box);
    if (batch_decoder_init(&d)) abort();
    for (uint64_t offset = p->start; offset < p->end && !fills; offset++) {
        const struct events_message *m = events_at(&o->k->w->log, r->index, offset);
        fills = batch_decode(&d, m->bytes, m->length, &b, NULL) == SG_OK &&
                batch_row_count(&b) + LINE_ROWS_MAX > METER_BATCH_ROWS_MAX && ends_slice(&b, id, end);
    }
    batch_decoder_destroy(&d);
    return fills;
}

/* Up to where a sandbox is billed when its host ends: the newest line that was taken. But a line that comes after a
 * leap of time has the whole minutes before it billed first; when they fill a batch it waits for the next, and may be
 * lost: what of them is durable stays billed, for the sandbox has lived to see the line. */
static uint64_t end_of_host(const struct oracle *o, unsigned box)
{
    const struct collector_boot *boot = &o->c->boot[o->life->boot];
    uint64_t to = o->life->billed_ms, n = o->life->last_n;
    if (to <= o->newest || n >= boot->count || boot->line[n].box != box) return o->newest;
    const struct collector_line *l = &boot->line[n];
    bool begun = is_of_sandbox(l) && refusal(o, l) == INGEST_OK && to <= l->boot_ms && wall(o, to) % MINUTE_MS == 0;
    return begun && fills_batch(o, box, wall(o, to)) ? to : o->newest;
}

static void expect_life(struct check *k, struct collector_source *c, const struct collector_life *life)
{
    struct oracle o = {.k = k, .c = c, .life = life};
    const struct collector_boot *boot = &c->boot[life->boot];
    uint64_t last = life->last_n < boot->count ? life->last_n : boot->count;
    if (life->first_n > 1 && last >= life->first_n && k->expected_gaps < COLLECTOR_GAPS_MAX)
        k->expected[k->expected_gaps++] = (struct collector_gap){1, life->first_n - 1};
    for (uint64_t n = life->first_n; n <= last; n++) {
        const struct collector_line *l = &boot->line[n - 1];
        enum ingest_error e = refusal(&o, l);
        if (l->told && l->told != e)
            sim_fail(k->w->sim, "%s %s boot %zu: line %" PRIu64 " was refused as %s, it is %s", k->r->name, c->name,
                     life->boot, n, ingest_error_text(l->told), e ? ingest_error_text(e) : "good");
        k->refused += e != INGEST_OK;
        k->events += e == INGEST_OK;
        if (e) continue;
        o.newest = l->boot_ms;
        accept(&o, l);
    }
    for (unsigned i = 0; i < COLLECTOR_BOXES; i++) {
        if (!o.box[i].alive) continue;
        if (life->rebooted)
            destroy(&o, &o.box[i], end_of_host(&o, i), REASON_HOST);
        else if (o.box[i].running)
            span(&o, &o.box[i], o.newest);
    }
}

/* ---- what the topic holds ---- */

static unsigned number_of(const char *name)
{
    return strcmp(name, "-") == 0 ? COLLECTOR_PROJECTS : (unsigned)(name[1] - '0');
}

static void take(struct check *k, const struct batch *b, size_t sandbox, int64_t at, unsigned field, uint64_t value)
{
    const char *team = b->teams[column_u32(b->sandboxes.team, sandbox)];
    const char *project = b->projects[column_u32(b->sandboxes.project, sandbox)];
    if (value) add(k, number_of(team), number_of(project), at, field, -value);
}

static void fold_slices(struct check *k, const struct batch *b, struct batch_totals *sums)
{
    const struct batch_slices *s = &b->slices;
    for (size_t i = 0; i < s->count; i++) {
        size_t box = column_u32(s->sandbox, i);
        int64_t at = b->base_ms + column_i64(s->start_ms, i);
        uint64_t length = column_u32(s->length_ms, i), vcpu = length * column_u32(b->sandboxes.vcpus, box),
                 mem = length * column_u32(b->sandboxes.mem_mib, box),
                 disk = length * column_u32(b->sandboxes.disk_mib, box);
        take(k, b, box, at, FIELD_VCPU_MS, vcpu);
        take(k, b, box, at, FIELD_MEM_MIB_MS, mem);
        take(k, b, box, at, FIELD_DISK_MIB_MS, disk);
        take(k, b, box, at, FIELD_RUNNING_MS, length);
        take(k, b, box, at, FIELD_CPU_US, column_u64(s->cpu_us, i));
        take(k, b, box, at, FIELD_NET_RX_BYTES, column_u64(s->net_rx_bytes, i));
        take(k, b, box, at, FIELD_NET_TX_BYTES, column_u64(s->net_tx_bytes, i));
        take(k, b, box, at, FIELD_IO_READ_BYTES, column_u64(s->io_read_bytes, i));
        take(k, b, box, at, FIELD_IO_WRITE_BYTES, column_u64(s->io_write_bytes, i));
        sums->running_ms += length;
        sums->vcpu_ms += vcpu;
        sums->mem_mib_ms += mem;
        sums->disk_mib_ms += disk;
    }
}

static void fold_rows(struct check *k, const struct batch *b)
{
    for (size_t i = 0; i < b->starts.count; i++)
        if (column_u32(b->starts.origin, i) != START_ADOPTED)
            take(k, b, column_u32(b->starts.sandbox, i), b->base_ms + column_i64(b->starts.at_ms, i),
                 FIELD_CREATES + column_u32(b->starts.origin, i) - 1, 1);
    for (size_t i = 0; i < b->ends.count; i++)
        take(k, b, column_u32(b->ends.sandbox, i), b->base_ms + column_i64(b->ends.at_ms, i),
             FIELD_DESTROYS + column_u32(b->ends.reason, i), 1);
    for (size_t i = 0; i < b->execs.count; i++) {
        int64_t at = b->base_ms + column_i64(b->execs.at_ms, i);
        take(k, b, column_u32(b->execs.sandbox, i), at, FIELD_EXECS, 1);
        take(k, b, column_u32(b->execs.sandbox, i), at, FIELD_EXIT + column_u32(b->execs.exit_code, i), 1);
    }
    for (size_t i = 0; i < b->api_calls.count; i++)
        add(k, number_of(b->teams[column_u32(b->api_calls.team, i)]),
            number_of(b->projects[column_u32(b->api_calls.project, i)]), b->base_ms + column_i64(b->api_calls.at_ms, i),
            field_of_api_call((enum operation)column_u32(b->api_calls.operation, i),
                              column_u32(b->api_calls.status, i)),
            UINT64_MAX);
    for (size_t i = 0; i < b->gaps.count && k->seen_gaps < COLLECTOR_GAPS_MAX; i++)
        k->seen[k->seen_gaps++] = (struct collector_gap){column_u64(b->gaps.first_n, i), column_u64(b->gaps.last_n, i)};
}

static struct epoch *epoch_of(struct check *k, uint64_t number)
{
    for (size_t i = 0; i < k->epochs; i++)
        if (k->epoch[i].number == number) return &k->epoch[i];
    if (k->epochs == EPOCHS_MAX) abort();
    k->epoch[k->epochs] = (struct epoch){.number = number};
    return &k->epoch[k->epochs++];
}

static uint64_t hash_of(const uint8_t sha256[static SHA256_BYTES])
{
    uint64_t h;
    memcpy(&h, sha256, sizeof h);
    return h;
}

static void remember(struct epoch *e, uint64_t seq, uint64_t hash)
{
    if (seq >= e->room) {
        e->room = e->room ? 2 * e->room : 256;
        e->hash = reallocarray(e->hash, e->room, sizeof *e->hash);
        if (!e->hash) abort();
    }
    e->hash[seq] = hash;
}

static void expect_totals(struct check *k, const struct batch *b, struct epoch *e)
{
    struct batch_totals sums = e->totals;
    fold_slices(k, b, &sums);
    const struct batch_totals *t = &b->totals;
    if (t->running_ms != sums.running_ms || t->vcpu_ms != sums.vcpu_ms || t->mem_mib_ms != sums.mem_mib_ms ||
        t->disk_mib_ms != sums.disk_mib_ms)
        sim_fail(k->w->sim, "%s batch %" PRIu64 ": the runner's own sums are not those of its rows", k->r->name,
                 b->seq);
    if (t->events < e->totals.events || t->refused < e->totals.refused)
        sim_fail(k->w->sim, "%s batch %" PRIu64 ": the runner's own sums fall", k->r->name, b->seq);
    e->totals = *t;
}

static void fold_batch(struct check *k, const struct batch *b, const struct events_message *m)
{
    struct sim *s = k->w->sim;
    struct epoch *e = epoch_of(k, b->epoch);
    uint8_t sha256[SHA256_BYTES];
    batch_sha256(m->bytes, m->length, sha256);
    s->checks++;
    if (!k->each) s->rows += batch_row_count(b); /* once */
    if (batch_row_count(b) > METER_BATCH_ROWS_MAX || m->length > BATCH_BYTES_MAX)
        sim_fail(s, "%s batch %" PRIu64 ": %zu rows in %zu bytes", k->r->name, b->seq, batch_row_count(b), m->length);
    if (strcmp(b->runner, k->r->name) != 0) sim_fail(s, "a batch of %s in the partition of %s", b->runner, k->r->name);
    if (b->seq <= e->seq) { /* a duplicate: dropped, and the same bytes */
        if (e->hash[b->seq] != hash_of(sha256))
            sim_fail(s, "%s batch %" PRIu64 ": sent again with other bytes", k->r->name, b->seq);
        return;
    }
    if (b->seq != e->seq + 1) sim_fail(s, "%s: batch %" PRIu64 " follows %" PRIu64, k->r->name, b->seq, e->seq);
    if (b->seq > 1 && memcmp(b->previous_sha256, e->sha256, sizeof sha256) != 0)
        sim_fail(s, "%s batch %" PRIu64 ": the chain is broken", k->r->name, b->seq);
    if (b->complete_through_ms < e->complete_through)
        sim_fail(s, "%s batch %" PRIu64 ": complete_through falls", k->r->name, b->seq);
    e->seq = b->seq;
    e->complete_through = b->complete_through_ms;
    e->sent_ms = m->time.v;
    memcpy(e->sha256, sha256, sizeof sha256);
    remember(e, b->seq, hash_of(sha256));
    expect_totals(k, b, e);
    fold_rows(k, b);
}

static void fold_topic(struct check *k)
{
    struct batch_decoder d;
    struct batch b;
    struct sg_fault f = {0};
    const struct events_partition *p = &k->w->log.partition[k->r->index];
    if (batch_decoder_init(&d)) abort();
    for (uint64_t offset = p->start; offset < p->end && !k->w->sim->failed; offset++) {
        const struct events_message *m = events_at(&k->w->log, k->r->index, offset);
        if (batch_decode(&d, m->bytes, m->length, &b, &f))
            sim_fail(k->w->sim, "%s offset %" PRIu64 ": %s", k->r->name, offset, f.text);
        else
            fold_batch(k, &b, m);
    }
    batch_decoder_destroy(&d);
}

/* ---- the comparison ---- */

static int by_last_n(const void *a, const void *b)
{
    uint64_t x = ((const struct collector_gap *)a)->last_n, y = ((const struct collector_gap *)b)->last_n;
    return x < y ? -1 : x > y;
}

/* As the batches say. */
static void add_totals(const struct check *k, uint64_t *events, uint64_t *refused)
{
    *events = *refused = 0;
    for (size_t i = 0; i < k->epochs; i++) {
        *events += k->epoch[i].totals.events;
        *refused += k->epoch[i].totals.refused;
    }
}

static void compare(struct check *k)
{
    struct sim *s = k->w->sim;
    uint64_t events, refused;
    add_totals(k, &events, &refused);
    if (events != k->events)
        sim_fail(s, "%s: %" PRIu64 " lines were accepted, the batches say %" PRIu64, k->r->name, k->events, events);
    if (refused != k->refused)
        sim_fail(s, "%s: %" PRIu64 " lines were refused, the batches say %" PRIu64, k->r->name, k->refused, refused);
    qsort(k->expected, k->expected_gaps, sizeof *k->expected, by_last_n);
    qsort(k->seen, k->seen_gaps, sizeof *k->seen, by_last_n);
    if (k->expected_gaps != k->seen_gaps || memcmp(k->expected, k->seen, k->seen_gaps * sizeof *k->seen) != 0)
        sim_fail(s, "%s: %zu gaps are said, there are %zu", k->r->name, k->seen_gaps, k->expected_gaps);
    for (size_t i = 0; i < table.count && k->exact; i++) {
        const struct sum *sum = &table.sum[table.taken[i]];
        s->checks++;
        if (!sum->value) continue;
        char name[FIELD_NAME_BYTES_MAX];
        uint64_t key = sum->key;
        field_name((enum field)((key - 1) % 1024), name);
        sim_fail(s, "%s minute %" PRIu64 " t%" PRIu64 " p%" PRIu64 " %s: off by %" PRId64, k->r->name, key / 65536,
                 key / 8192 % 8, key / 1024 % 8, name, -(int64_t)sum->value);
    }
}

static void expect_lives(struct check *k)
{
    for (size_t s = 0; s < k->r->sources && !k->r->gone; s++)
        for (size_t l = 0; l < k->r->source[s].lives; l++) expect_life(k, &k->r->source[s], &k->r->source[s].life[l]);
}

static void free_hashes(struct check *k)
{
    for (size_t i = 0; i < k->epochs; i++) free(k->epoch[i].hash);
}

void collector_check(struct collector_world *w)
{
    static struct check check;
    for (unsigned i = 0; i < w->runners && !w->sim->failed; i++) {
        memset(&check, 0, sizeof check);
        table_clear();
        check.w = w;
        check.r = &w->runner[i];
        check.minutes = !w->system_clock || !w->wall_stepped;
        check.exact = !w->late;
        fold_topic(&check);
        expect_lives(&check);
        if (!check.r->gone && !w->sim->failed) compare(&check);
        free_hashes(&check);
    }
}

void collector_accepted(struct collector_world *w, collector_part *each, void *arg)
{
    static struct check check;
    for (unsigned i = 0; i < w->runners; i++) {
        memset(&check, 0, sizeof check);
        check.w = w;
        check.r = &w->runner[i];
        check.each = each;
        check.arg = arg;
        if (check.r->gone) fold_topic(&check); /* each row has a minus */
        expect_lives(&check);
        free_hashes(&check);
    }
}

static void ignore(void *arg, unsigned region, unsigned team, unsigned project, int64_t at, enum field field,
                   uint64_t value)
{
    (void)arg, (void)region, (void)team, (void)project, (void)at, (void)field, (void)value;
}

void collector_tell(struct collector_world *w, unsigned runner, struct collector_told *out)
{
    static struct check check;
    const struct epoch *newest = NULL;
    memset(&check, 0, sizeof check);
    check.w = w;
    check.r = &w->runner[runner];
    check.each = ignore;
    fold_topic(&check);
    expect_lives(&check);
    *out = (struct collector_told){.events = check.events, .refused = check.refused};
    if (check.r->gone) add_totals(&check, &out->events, &out->refused);
    out->gaps = check.r->gone ? check.seen_gaps : check.expected_gaps;
    memcpy(out->gap, check.r->gone ? check.seen : check.expected, sizeof out->gap);
    for (size_t i = 0; i < check.epochs; i++)
        if (!newest || check.epoch[i].number > newest->number) newest = &check.epoch[i];
    if (newest) {
        out->sent_ms = newest->sent_ms;
        out->complete_through = newest->complete_through;
    }
    free_hashes(&check);
}
