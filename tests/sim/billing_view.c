/* What the exporters of this world look at: the log of two partitions with two runners each, and the view that a
 * roll-up made of it. Cells are pure functions of (log, offset), so the view is nothing but offsets: flushes are cut
 * between any two writes, and all of it is rolled back to an earlier state or emptied. The vector's entries and the
 * watermark are the real ones. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/billing_world.h"

enum { PARTITIONS = 2, RUNNERS = 2, PROJECTS = 2, MESSAGES_MAX = 2048, VIEWS_KEPT = 64 };
enum { GRACE_MS = 10 * MINUTE_MS, CLOSE_DELAY_MS = MINUTE_MS, ADVANCE_MS_MAX = 12 * MINUTE_MS };
enum { UNCUT_CHANCES = 4 };
#define FOREVER_MS (INT64_C(1) << 50)

/* A cell's sums below an offset. */
struct cell_state {
    uint64_t offset, total[BILLING_METERS];
};

/* The cells of one partition of one (team, hour, project), as the log makes them. */
struct cell_log {
    struct cell_state *state;
    size_t count, capacity;
};

/* What the runners of a partition have said when a message is in. */
struct said {
    struct vector_pair of[RUNNERS];
};

/* Redis: one past the last message that is in a cell, and so on. */
struct redis {
    uint64_t vector[PARTITIONS];
    int64_t heard[PARTITIONS];
    struct {
        uint64_t offset, total, revision;
        uint8_t state;
    } bill[BILLING_KEYS]; /* billing cells */
    uint64_t ledger_at;   /* and how far they go */
    uint64_t cell[PARTITIONS][BILLING_TEAMS][BILLING_HOURS][PROJECTS], due[PARTITIONS][BILLING_TEAMS][BILLING_HOURS];
};

struct billing_store {
    struct sim *s;
    struct billing_view view;
    int64_t start, grace_ms;
    uint64_t unit, truth[BILLING_KEYS];
    struct said log[PARTITIONS][MESSAGES_MAX];
    size_t messages[PARTITIONS];
    struct cell_log cells[PARTITIONS][BILLING_TEAMS][BILLING_HOURS][PROJECTS];
    struct redis redis, kept[VIEWS_KEPT], replaced; /* the last: an old primary, read by so many snapshots */
    uint64_t stale_reads;
    unsigned keeps;
};

/* ---- the log ---- */

static void add_to_cell(struct cell_log *c, uint64_t offset, int meter, uint64_t value)
{
    if (c->count == c->capacity) {
        c->capacity = c->capacity ? 2 * c->capacity : 16;
        c->state = realloc(c->state, c->capacity * sizeof *c->state);
        if (!c->state) abort();
    }
    if (c->count == 0 || c->state[c->count - 1].offset != offset) {
        c->state[c->count] = c->count ? c->state[c->count - 1] : (struct cell_state){0};
        c->state[c->count++].offset = offset;
    }
    c->state[c->count - 1].total[meter] += value;
}

/* A message of a runner that is complete through its old time and so much more. */
static void append(struct billing_store *t, int p, int runner, int64_t advance_ms, uint64_t rows)
{
    size_t n = t->messages[p];
    if (n == MESSAGES_MAX) return;
    struct said *now = &t->log[p][n];
    *now = n ? t->log[p][n - 1] : (struct said){0};
    struct vector_pair *said = &now->of[runner];
    int64_t hour = said->ct.v ? (said->ct.v - t->start) / HOUR_MS : BILLING_HOURS;
    for (uint64_t i = 0; i < rows && hour < BILLING_HOURS; i++) {
        struct billing_key k = {(int)sim_draw(t->s, BILLING_TEAMS), (int)hour, (int)sim_draw(t->s, BILLING_METERS)};
        uint64_t value = t->unit * (1 + sim_draw(t->s, 50));
        add_to_cell(&t->cells[p][k.team][k.hour][sim_draw(t->s, PROJECTS)], n + 1, k.meter, value);
        t->truth[billing_index(k)] += value;
    }
    said->ct.v = (said->ct.v ? said->ct.v : t->start) + advance_ms;
    said->last.v = t->s->now;
    t->messages[p]++;
    t->s->rows += rows;
}

void billing_store_usage(struct billing_store *t)
{
    int p = (int)sim_draw(t->s, PARTITIONS), runner = (int)sim_draw(t->s, RUNNERS);
    append(t, p, runner, (int64_t)sim_draw(t->s, ADVANCE_MS_MAX), sim_draw(t->s, 60));
}

/* ---- flushes ---- */

static const struct cell_state *cell_below(const struct cell_log *c, uint64_t offset)
{
    for (size_t i = c->count; i-- > 0;)
        if (c->state[i].offset <= offset) return &c->state[i];
    return NULL;
}

static bool fault(const struct billing_store *t, enum sim_fault kind)
{
    return !t->s->quiet && sim_fault(t->s, kind);
}

/* Every cell beyond the vector is written, each with its field of `due`, then the vector. False: it was cut. */
static bool write_cells(struct billing_store *t, int p, uint64_t until)
{
    for (int i = 0; i < BILLING_TEAMS * BILLING_HOURS * PROJECTS; i++) {
        int team = i / (BILLING_HOURS * PROJECTS), hour = i / PROJECTS % BILLING_HOURS, project = i % PROJECTS;
        const struct cell_state *c = cell_below(&t->cells[p][team][hour][project], until);
        uint64_t *stored = &t->redis.cell[p][team][hour][project], *due = &t->redis.due[p][team][hour];
        uint64_t at = c && c->offset > *stored ? c->offset : *stored;
        if (at <= t->redis.vector[p]) continue;
        if (fault(t, SIM_VIEW_CUT)) return false;
        *stored = at;
        if (fault(t, SIM_VIEW_CUT)) return false;
        if (at > *due) *due = at;
    }
    return true;
}

static void keep(struct billing_store *t)
{
    t->kept[t->keeps++ % VIEWS_KEPT] = t->redis;
}

static void flush(struct billing_store *t, int p, uint64_t until)
{
    if (write_cells(t, p, until)) {
        t->redis.vector[p] = until;
        t->redis.heard[p] = until == t->messages[p] ? t->s->now : 0;
        for (int r = 0; r < RUNNERS; r++) {
            int64_t last = t->log[p][until - 1].of[r].last.v;
            if (last > t->redis.heard[p]) t->redis.heard[p] = last;
        }
    }
    keep(t);
}

/* Often of just a little earlier. */
static const struct redis *earlier(const struct billing_store *t)
{
    unsigned most = t->keeps < VIEWS_KEPT ? t->keeps : VIEWS_KEPT;
    uint64_t back = sim_draw(t->s, most < 4 || sim_draw(t->s, 2) ? most : 4);
    return &t->kept[(t->keeps - 1 - back) % VIEWS_KEPT];
}

/* Of a state with today's vector: an hour that is due in it has other cells there than today. */
static bool lacks_of_a_due_hour(const struct billing_store *t, const struct redis *r)
{
    for (int i = 0; i < PARTITIONS * BILLING_TEAMS * BILLING_HOURS; i++) {
        int p = i / (BILLING_TEAMS * BILLING_HOURS), team = i / BILLING_HOURS % BILLING_TEAMS, hour = i % BILLING_HOURS;
        const uint64_t *then = r->cell[p][team][hour], *now = t->redis.cell[p][team][hour];
        bool due = r->due[0][team][hour] || r->due[PARTITIONS - 1][team][hour];
        if (due && memcmp(then, now, sizeof r->cell[p][team][hour]) != 0) return true;
    }
    return false;
}

/* The newest such: what a flush that was cut has written is gone, and the vector does not tell. NULL: there is none. */
static const struct redis *uncut(const struct billing_store *t)
{
    unsigned most = t->keeps < VIEWS_KEPT ? t->keeps : VIEWS_KEPT;
    for (unsigned back = 1; back <= most; back++) {
        const struct redis *r = &t->kept[(t->keeps - back) % VIEWS_KEPT];
        if (memcmp(r->vector, t->redis.vector, sizeof r->vector) == 0 && lacks_of_a_due_hour(t, r)) return r;
    }
    return NULL;
}

void billing_store_flush(struct billing_store *t)
{
    int p = (int)sim_draw(t->s, PARTITIONS);
    uint64_t from = t->redis.vector[p], ahead = t->messages[p] - from;
    const struct redis *worst = uncut(t); /* it lasts until the next flush only */
    bool back = fault(t, SIM_VIEW_ROLLED_BACK);
    for (int i = 0; i < UNCUT_CHANCES && worst && !back; i++) back = fault(t, SIM_VIEW_ROLLED_BACK);
    if (back) {
        t->redis = worst && sim_draw(t->s, 4) ? *worst : *earlier(t);
        keep(t);
    } else if (sim_draw(t->s, 8) == 0 && fault(t, SIM_VIEW_EMPTIED)) {
        t->redis = (struct redis){0};
        keep(t);
    } else {
        flush(t, p, sim_draw(t->s, 2) ? t->messages[p] : from + (ahead ? 1 + sim_draw(t->s, ahead) : 0));
    }
}

void billing_store_roll_back(struct billing_store *t)
{
    t->redis = *earlier(t);
    keep(t);
}

void billing_store_settle(struct billing_store *t)
{
    for (int p = 0; p < PARTITIONS; p++) {
        for (int r = 0; r < RUNNERS; r++) {
            append(t, p, r, (BILLING_HOURS + 1) * HOUR_MS, 0);
        }
        flush(t, p, t->messages[p]);
    }
}

static void late_usage(void *arg, int key)
{
    struct billing_store *t = arg;
    struct billing_key k = billing_key_at(key);
    int p = (int)sim_draw(t->s, PARTITIONS);
    uint64_t value = t->unit * (1 + sim_draw(t->s, 50));
    if (t->messages[p] == MESSAGES_MAX) return;
    append(t, p, 0, 0, 0);
    add_to_cell(&t->cells[p][k.team][k.hour][sim_draw(t->s, PROJECTS)], t->messages[p], k.meter, value);
    t->truth[key] += value;
    flush(t, p, t->messages[p]);
}

/* ---- as the exporters see it ---- */

static struct watermark mark_at(const struct billing_store *t, const struct redis *r)
{
    struct watermark mark = {.kind = WATERMARK_UNBOUNDED};
    for (int p = 0; p < PARTITIONS; p++) {
        struct vector_entry e = {.offset = r->vector[p], .heard = {r->heard[p]}};
        if (e.offset == 0) return (struct watermark){.kind = WATERMARK_UNKNOWN};
        for (int i = 0; i < RUNNERS; i++)
            if (vector_entry_add(&e, t->log[p][e.offset - 1].of[i]) != SG_OK) abort();
        mark = watermark_min(mark, vector_entry_watermark(&e, t->grace_ms));
        vector_entry_destroy(&e);
    }
    return mark;
}

static void head_at(const struct billing_store *t, const struct redis *r, struct view_head *out)
{
    *out =
        (struct view_head){.ready = true, .partitions = PARTITIONS, .ledger_at = r->ledger_at, .mark = mark_at(t, r)};
    memcpy(out->vouched, r->vector, sizeof r->vector);
}

static void head_of(void *arg, struct view_head *out)
{
    const struct billing_store *t = arg;
    head_at(t, &t->redis, out);
}

static size_t due_of(void *arg, struct cycle_due *out)
{
    struct billing_store *t = arg;
    size_t count = 0;
    for (int i = 0; i < PARTITIONS * BILLING_TEAMS * BILLING_HOURS; i++) {
        int p = i / (BILLING_TEAMS * BILLING_HOURS), team = i / BILLING_HOURS % BILLING_TEAMS, hour = i % BILLING_HOURS;
        if (!t->redis.due[p][team][hour]) continue;
        struct cycle_due *d = &out[count++];
        *d = (struct cycle_due){.hour = {t->start + hour * (int64_t)HOUR_MS},
                                .partition = (uint32_t)p,
                                .offset = t->redis.due[p][team][hour]};
        memcpy(d->team.s, billing_teams[team], strlen(billing_teams[team]) + 1);
    }
    return count;
}

static int team_named(const char *name)
{
    return strcmp(name, billing_teams[0]) == 0 ? 0 : 1;
}

/* What is behind the cell that is not understood is missing. */
static void sum_hour(const struct billing_store *t, const struct redis *r, struct cycle_hour *h)
{
    int team = team_named(h->team), hour = (int)((h->hour.v - t->start) / HOUR_MS);
    for (int i = 0; i < PARTITIONS * PROJECTS; i++) {
        int p = i / PROJECTS;
        uint64_t at = r->cell[p][team][hour][i % PROJECTS];
        const struct cell_state *c = cell_below(&t->cells[p][team][hour][i % PROJECTS], at);
        if (!at || !c) continue;
        h->unread = fault(t, SIM_VIEW_UNREAD);
        if (h->unread) return;
        for (int m = 0; m < BILLING_METERS; m++)
            if (sums_add(&h->total, billing_meters[m].meter.field, (struct amount){c->total[m]}) != SG_OK) abort();
        if (at > h->reach[p]) h->reach[p] = at;
    }
}

/* Of a state, one hour: what is due of the first partition is in, and of the last it is not. */
static bool is_half(const struct billing_store *t, const struct redis *r, const struct cycle_hour *h)
{
    int team = team_named(h->team), hour = (int)((h->hour.v - t->start) / HOUR_MS);
    uint64_t first = t->redis.due[0][team][hour], last = t->redis.due[PARTITIONS - 1][team][hour];
    return first && last && r->vector[0] >= first && r->vector[PARTITIONS - 1] < last;
}

/* The newest one that has half of an hour that is asked for; NULL: none has. */
static const struct redis *half(const struct billing_store *t, const struct cycle_hour *hours, size_t count)
{
    unsigned most = t->keeps < VIEWS_KEPT ? t->keeps : VIEWS_KEPT;
    for (unsigned back = 1; back <= most; back++)
        for (size_t i = 0; i < count; i++)
            if (is_half(t, &t->kept[(t->keeps - back) % VIEWS_KEPT], &hours[i]))
                return &t->kept[(t->keeps - back) % VIEWS_KEPT];
    return NULL;
}

static void snapshot_of(void *arg, struct cycle_hour *hours, size_t count, struct view_head *head)
{
    struct billing_store *t = arg;
    const struct redis *worst = half(t, hours, count); /* half of an hour is what nobody may bill */
    if (fault(t, SIM_VIEW_STALE) || (worst && fault(t, SIM_VIEW_STALE))) {
        t->replaced = worst ? *worst : *earlier(t);
        t->stale_reads = 1 + sim_draw(t->s, 20);
    }
    const struct redis *r = t->stale_reads && !t->s->quiet ? &t->replaced : &t->redis;
    t->stale_reads -= t->stale_reads > 0;
    for (size_t i = 0; i < count; i++) sum_hour(t, r, &hours[i]);
    head_at(t, r, head);
}

static void due_done(void *arg, const struct cycle_due *due, size_t count)
{
    struct billing_store *t = arg;
    for (size_t i = 0; i < count; i++) {
        uint64_t *stored =
            &t->redis.due[due[i].partition][team_named(due[i].team.s)][(due[i].hour.v - t->start) / HOUR_MS];
        if (*stored == due[i].offset) *stored = 0;
    }
    keep(t);
}

static int key_of(const struct billing_store *t, const char *team, enum field meter, struct wall_ms hour)
{
    struct billing_key k = {team_named(team), (int)((hour.v - t->start) / HOUR_MS), 0};
    while (billing_meters[k.meter].meter.field != meter) k.meter++;
    return billing_index(k);
}

/* By the script's rules: nothing if cells were lost since, else what is newer; and whatever is written is kept whole.
 */
static bool rows_of(void *arg, const struct view_rows *rows, uint64_t from, uint64_t at)
{
    struct billing_store *t = arg;
    if (fault(t, SIM_VIEW_ROLLED_BACK)) t->redis = *earlier(t);
    if (t->redis.ledger_at < from) return false;
    for (size_t i = 0; i < rows->count; i++) {
        const struct book_entry *e = &rows->entry[i];
        int key = key_of(t, rows->team[i].s, (enum field)e->meter, e->hour);
        if (e->offset < t->redis.bill[key].offset) continue;
        t->redis.bill[key].offset = e->offset;
        t->redis.bill[key].total = e->total.v;
        t->redis.bill[key].revision = e->revision;
        t->redis.bill[key].state = e->state;
    }
    if (at > t->redis.ledger_at) t->redis.ledger_at = at;
    return true;
}

static uint64_t row_at(void *arg, int key)
{
    const struct billing_store *t = arg;
    return t->redis.bill[key].offset;
}

static void check_rows(void *arg, uint32_t shard, const struct book *b)
{
    struct billing_store *t = arg;
    (void)shard;
    if (t->redis.ledger_at != b->end) sim_fail(t->s, "billing cells do not go to the ledger's end");
    for (size_t i = 0; i < b->entry_count; i++) {
        const struct book_entry *e = &b->entry[i];
        int key = key_of(t, book_name(b, e->team), (enum field)e->meter, e->hour);
        t->s->checks++;
        if (t->redis.bill[key].offset != e->offset || t->redis.bill[key].total != e->total.v ||
            t->redis.bill[key].revision != e->revision || t->redis.bill[key].state != e->state)
            sim_fail(t->s, "a billing cell is not that of the book, key %d", key);
    }
}

static uint64_t truth_of(void *arg, int key)
{
    const struct billing_store *t = arg;
    return t->truth[key];
}

/* ---- making ---- */

struct billing_store *billing_store_new(struct sim *s, int64_t start, uint64_t unit, bool punctual)
{
    struct billing_store *t = calloc(1, sizeof *t);
    if (!t) abort();
    t->s = s;
    t->start = start;
    t->unit = unit;
    t->grace_ms = punctual ? FOREVER_MS : GRACE_MS;
    t->view = (struct billing_view){.arg = t,
                                    .close_delay_ms = CLOSE_DELAY_MS,
                                    .truth = truth_of,
                                    .head = head_of,
                                    .due = due_of,
                                    .snapshot = snapshot_of,
                                    .done = due_done,
                                    .rows = rows_of,
                                    .row_at = row_at,
                                    .late = late_usage,
                                    .check_rows = check_rows};
    for (int i = 0; i < PARTITIONS * RUNNERS; i++) append(t, i / RUNNERS, i % RUNNERS, 0, 0);
    keep(t);
    return t;
}

void billing_store_free(struct billing_store *t)
{
    for (int i = 0; i < PARTITIONS * BILLING_TEAMS * BILLING_HOURS * PROJECTS; i++)
        free(t->cells[i / (BILLING_TEAMS * BILLING_HOURS * PROJECTS)][i / (BILLING_HOURS * PROJECTS) % BILLING_TEAMS]
                     [i / PROJECTS % BILLING_HOURS][i % PROJECTS]
                         .state);
    free(t);
}

const struct billing_view *billing_store_view(struct billing_store *t)
{
    return &t->view;
}
