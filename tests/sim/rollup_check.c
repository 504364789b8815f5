/* What must be true of a shard of the roll-up's world (rollup_world.h). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"
#include "proto/run_cell.h"
#include "proto/text.h"
#include "proto/vector.h"
#include "tests/sim/rollup_oracle.h"

/* One look at one state. */
struct look {
    struct rollup_world *w;
    uint32_t shard;
    const struct redis_state *s;
    struct oracle *o;
    uint64_t vouched[PARTS_MAX];
    bool sums_known; /* to be right; only where the cells stand is looked at */
};

static struct redis_text key_text(const struct redis_key *k)
{
    return (struct redis_text){k->name, k->name_length};
}

/* Behind `sg:{sN}:`. */
static const char *name_of(const struct redis_key *k)
{
    return strchr(k->name, '}') + 2;
}

static void wrong(struct look *l, const char *what, const struct redis_key *k, const char *field)
{
    sim_fail(l->w->sim, "%s: %s %s", what, k->name, field);
}

/* ---- what is stored ---- */

static void take_sums(struct look *l, const struct oracle_name *name, uint64_t offset, const struct sums *sums)
{
    struct oracle_cell *c = oracle_cell(l->o, name);
    c->stored = true;
    c->stored_offset = offset;
    for (int i = 0; i < PLAIN_FIELDS; i++) c->got.plain[i] = sums->plain[i].v;
    for (size_t i = 0; i < sums->extra_count; i++)
        oracle_add(l->o, &c->got, sums->extra[i].field, sums->extra[i].value);
}

/* `@<offset> ...`, of a cell or a run whose sums are known. */
static void take_offset(struct look *l, const struct redis_field *f, const struct oracle_name *name)
{
    struct oracle_cell *c = oracle_cell(l->o, name);
    c->stored = true;
    c->stored_offset = strtoull(f->text + 1, NULL, 10);
}

static void take_cell(struct look *l, const struct redis_key *k, const struct redis_field *f,
                      const struct oracle_name *name)
{
    if (l->sums_known) return take_offset(l, f, name);
    struct sums sums = {0};
    uint64_t offset;
    if (cell_decode(f->text, f->text_length, &offset, &sums))
        wrong(l, "a cell cannot be read", k, f->name);
    else
        take_sums(l, name, offset, &sums);
    sums_destroy(&sums);
}

/* u:<w>:<start>:t<n>:<project>:<region> */
static bool rollup_name(const struct redis_key *k, struct oracle_name *name)
{
    const char *text = name_of(k);
    char *end;
    name->kind = ORACLE_ROLLUP;
    name->window = text[2] == 'm' ? WINDOW_MINUTE : text[2] == 'h' ? WINDOW_HOUR : WINDOW_DAY;
    name->start = strtoll(text + 4, &end, 10) * SECOND_MS;
    name->team = (uint32_t)(end[2] - '0');
    name->project = end[4] == 'p';
    name->us = strcmp(k->name + k->name_length - 2, "us") == 0;
    return name->team < TEAMS;
}

static void take_rollups(struct look *l, const struct redis_key *k)
{
    struct oracle_name name = {0};
    if (!rollup_name(k, &name)) return wrong(l, "a rollup of nobody", k, "");
    if (name.window == WINDOW_MINUTE && name.start < l->w->era_start) return;
    for (size_t i = 0; i < k->count; i++) {
        if (!k->field[i].text) continue;
        name.partition = (uint32_t)strtoul(k->field[i].name, NULL, 10);
        take_cell(l, k, &k->field[i], &name);
    }
}

static uint32_t sandbox_of(const struct redis_key *k)
{
    return (uint32_t)strtoul(name_of(k) + strlen("r:run"), NULL, 16);
}

static void take_run(struct look *l, const struct redis_key *k, const struct redis_field *f,
                     const struct oracle_name *name)
{
    struct run run;
    uint64_t offset;
    if (l->sums_known) return take_offset(l, f, name);
    if (run_cell_decode(f->text, f->text_length, &offset, &run)) return wrong(l, "a run cannot be read", k, f->name);
    struct sums sums = {.plain = {[FIELD_RUNNING_MS] = run.running_ms,
                                  [FIELD_CPU_US] = run.cpu_us,
                                  [FIELD_NET_RX_BYTES] = run.net_rx_bytes,
                                  [FIELD_NET_TX_BYTES] = run.net_tx_bytes,
                                  [FIELD_IO_READ_BYTES] = run.io_read_bytes,
                                  [FIELD_IO_WRITE_BYTES] = run.io_write_bytes,
                                  [FIELD_EXECS] = run.execs}};
    take_sums(l, name, offset, &sums);
    if (run.created.v != l->w->sandbox[name->sandbox].created) wrong(l, "a run was not created then", k, f->name);
}

static void take_runs(struct look *l, const struct redis_key *k)
{
    struct oracle_name name = {.kind = ORACLE_RUN, .sandbox = sandbox_of(k)};
    if (name.sandbox >= l->w->sandboxes) return wrong(l, "a run of nobody", k, "");
    if (l->w->sandbox[name.sandbox].era != l->w->era) return;
    for (size_t i = 0; i < k->count; i++) {
        if (!k->field[i].text) continue;
        const char *hour = strchr(k->field[i].name, ':');
        name.partition = (uint32_t)strtoul(k->field[i].name, NULL, 10);
        name.kind = hour ? ORACLE_RUN_HOUR : ORACLE_RUN;
        name.start = hour ? strtoll(hour + 1, NULL, 10) * SECOND_MS : 0;
        if (hour)
            take_cell(l, k, &k->field[i], &name);
        else
            take_run(l, k, &k->field[i], &name);
    }
}

/* ---- the watermark ---- */

/* What all runners that live have told below the entry's offset; INT64_MAX: none lives. */
static int64_t complete_through(const struct oracle_heard heard[static RUNNERS_MAX], const struct vector_entry *e)
{
    int64_t least = INT64_MAX;
    for (uint32_t i = 0; i < RUNNERS_MAX; i++)
        if (heard[i].seq && heard[i].time >= e->heard.v - GRACE_MS && heard[i].ct < least) least = heard[i].ct;
    return least;
}

/* The entry claims no more than that; so all usage before its claim stands below its offset. */
static void check_claim(struct look *l, uint32_t p, const struct vector_entry *e)
{
    struct rollup_world *w = l->w;
    struct oracle_heard heard[RUNNERS_MAX];
    struct watermark mark = vector_entry_watermark(e, GRACE_MS);
    if (e->heard.v > w->sim->now) sim_fail(w->sim, "shard %u, partition %u: heard of in the future", l->shard, p);
    oracle_listen(w, p, e->offset, heard);
    int64_t told = complete_through(heard, e);
    if (told < INT64_MAX && watermark_passed(mark, (struct wall_ms){told + 1}))
        sim_fail(w->sim, "shard %u, partition %u: complete through %" PRId64 ", and its runners say %" PRId64, l->shard,
                 p, mark.at.v, told);
    for (size_t i = 0; i < w->batches; i++) {
        const struct rollup_batch *m = &w->batch[i];
        const struct oracle_heard *h = &heard[m->runner];
        if (h->seq == 0 || h->time < e->heard.v - GRACE_MS || m->epoch != h->epoch || m->seq <= h->seq) continue;
        if (m->least < INT64_MAX && watermark_passed(mark, (struct wall_ms){m->least + 1}))
            sim_fail(w->sim, "shard %u, partition %u: complete through %" PRId64 ", and there is more of %" PRId64,
                     l->shard, p, mark.at.v, m->least);
    }
}

static void check_vector(struct look *l, bool whole)
{
    char key[KEY_BYTES_MAX], field[12];
    struct oracle_heard heard[RUNNERS_MAX];
    key_plain(key, l->shard, "v");
    for (uint32_t p = 0; p < l->w->parts; p++) {
        struct vector_entry e = {0};
        (void)snprintf(field, sizeof field, "%u", p);
        const struct redis_field *f = redis_state_get(l->s, redis_text(key), redis_text(field));
        if (f && vector_entry_decode(f->text, f->text_length, &e)) sim_fail(l->w->sim, "an entry cannot be read");
        l->vouched[p] = e.offset;
        if (e.offset > l->w->topic[p].committed) sim_fail(l->w->sim, "the vector is beyond the log");
        if (f && !l->w->sim->failed) check_claim(l, p, &e);
        if (whole && !l->w->sim->failed) {
            struct watermark mark = vector_entry_watermark(&e, GRACE_MS);
            oracle_listen(l->w, p, l->w->topic[p].committed, heard);
            int64_t told = complete_through(heard, &e);
            if (e.offset != l->w->topic[p].committed) sim_fail(l->w->sim, "shard %u stands behind in quiet", l->shard);
            if (!watermark_passed(mark, (struct wall_ms){told == INT64_MAX ? 0 : told}))
                sim_fail(l->w->sim, "shard %u, partition %u: the watermark is held back", l->shard, p);
        }
        vector_entry_destroy(&e);
    }
}

/* ---- indexes ---- */

static bool has(const struct look *l, const char *key, const char *member)
{
    return redis_state_get(l->s, redis_text(key), redis_text(member));
}

/* Whether a hash of the shard says this offset for the field. */
static bool says(const struct look *l, const char *hash, const char *field, uint64_t offset)
{
    char key[KEY_BYTES_MAX];
    key_plain(key, l->shard, hash);
    const struct redis_field *f = redis_state_get(l->s, redis_text(key), redis_text(field));
    return f && strtoull(f->text, NULL, 10) == offset;
}

/* These names are made by the million, and printf showed in the profile.
 *   when   <window>:<start>    whose  t<team>:<project>:<region> */
static char *put_when(char *end, const struct oracle_name *n)
{
    end = text_put(end, &"mhd"[n->window], 1);
    return text_put_u64(text_put_str(end, ":"), (uint64_t)n->start / SECOND_MS);
}

static char *put_group(char *end, const struct oracle_name *n)
{
    return text_put_str(text_put_str(end, n->project ? ":p1" : ":-"), n->us ? ":us" : ":eu");
}

static char *put_whose(char *end, const struct oracle_name *n)
{
    return put_group(text_put_u64(text_put_str(end, "t"), n->team), n);
}

/* Whether the ledger has the cell as of its offset. */
static bool archived(const struct look *l, const struct oracle_cell *c)
{
    char line[KEY_BYTES_MAX], *end = put_when(text_put_str(line, "u:"), &c->name);
    end = put_whose(text_put_str(end, ":"), &c->name);
    end = text_put_u64(text_put_str(end, "\t"), c->name.partition);
    end = text_put_u64(text_put_str(end, "\t@"), c->stored_offset);
    return ledgers_hold(l->shard, line, (size_t)(end - line));
}

static void check_rollup_index(struct look *l, const struct oracle_cell *c)
{
    const struct oracle_name *n = &c->name;
    char key[KEY_BYTES_MAX], name[KEY_BYTES_MAX], *end;
    end = text_put_str(text_put_u64(text_put_str(key, "sg:{s"), l->shard), "}:ux:");
    end = text_put_u64(text_put_str(text_put(end, &"mhd"[n->window], 1), ":t"), n->team);
    *end = '\0';
    end = put_group(text_put_u64(name, (uint64_t)n->start / SECOND_MS), n);
    *end = '\0';
    if (!has(l, key, name)) sim_fail(l->w->sim, "not in its index: %s %s", key, name);
    if (n->window == WINDOW_MINUTE) return;
    end = put_whose(text_put_str(put_when(name, n), ":"), n);
    end = text_put_u64(text_put_str(end, ":"), n->partition);
    *end = '\0';
    if (!says(l, "arch", name, c->stored_offset) && !archived(l, c))
        sim_fail(l->w->sim, "neither archived nor to be: %s", name);
    end =
        text_put_u64(text_put_str(text_put_u64(text_put_str(name, "t"), n->team), ":"), (uint64_t)n->start / SECOND_MS);
    end = text_put_u64(text_put_str(end, ":"), n->partition);
    *end = '\0';
    key_plain(key, l->shard, "due");
    if (n->window == WINDOW_HOUR && !has(l, key, name)) sim_fail(l->w->sim, "not due: %s", name);
}

static void check_run_index(struct look *l, const struct oracle_cell *c)
{
    char active[KEY_BYTES_MAX], ended[KEY_BYTES_MAX], key[KEY_BYTES_MAX], field[12], team[] = {'t', 0, 0};
    const struct rollup_sandbox *b = &l->w->sandbox[c->name.sandbox];
    struct run run;
    uint64_t offset;
    team[1] = (char)('0' + b->team);
    key_id(active, l->shard, "ra", team);
    key_id(ended, l->shard, "re", team);
    key_id(key, l->shard, "r", b->id);
    (void)snprintf(field, sizeof field, "%u", c->name.partition);
    const struct redis_field *f = redis_state_get(l->s, redis_text(key), redis_text(field));
    if (!f || run_cell_decode(f->text, f->text_length, &offset, &run)) return;
    bool over = run.state == RUN_ENDED;
    if (has(l, active, b->id) == over || has(l, ended, b->id) != over)
        sim_fail(l->w->sim, "a run that has %s is not where it is looked for: %s", over ? "ended" : "not ended", b->id);
}

/* ---- marks and gaps ---- */

static size_t live_of(const struct look *l, const char *key)
{
    const struct redis_key *k = redis_state_find(l->s, redis_text(key));
    return k ? k->live : 0;
}

static void check_gap(struct look *l, uint32_t p, uint64_t offset, uint32_t index, const char *text)
{
    char key[KEY_BYTES_MAX], field[48];
    key_partition(key, l->shard, "gaps", p);
    (void)snprintf(field, sizeof field, "%" PRIu64 ":%u", offset, index);
    const struct redis_field *f = redis_state_get(l->s, redis_text(key), redis_text(field));
    if (!f || !strstr(f->text, text)) sim_fail(l->w->sim, "a gap is not reported: %s %s %s", key, field, text);
}

static void check_marks(struct look *l, uint32_t p)
{
    char key[KEY_BYTES_MAX], text[64];
    const struct rollup_world *w = l->w;
    size_t gaps = 0;
    key_partition(key, l->shard, "marks", p);
    const struct redis_field *at = redis_state_get(l->s, redis_text(key), redis_text("at"));
    if (w->topic[p].committed && (!at || strtoull(at->text, NULL, 10) != w->topic[p].committed))
        sim_fail(w->sim, "the marks of partition %u do not stand at the end", p);
    for (uint64_t o = 0; o < w->topic[p].committed; o++) {
        const struct rollup_place *place = &w->topic[p].place[o];
        uint32_t index = 0;
        (void)snprintf(text, sizeof text, "d:%" PRIu64, o);
        bool known = has(l, key, text);
        if (known != (place->verdict == DUPLICATE) && (known || o >= w->log.partition[p].start))
            sim_fail(w->sim, "partition %u, offset %" PRIu64 ": is it a duplicate?", p, o);
        if (place->verdict == UNREADABLE) check_gap(l, p, o, index++, "kind=quarantined");
        if (place->verdict == COUNTS && place->gap_first) {
            (void)snprintf(text, sizeof text, "first=%" PRIu64 " last=%" PRIu64, place->gap_first, place->gap_last);
            check_gap(l, p, o, index++, text);
        }
        if (place->verdict == COUNTS && w->batch[place->batch].source_gap)
            check_gap(l, p, o, index++, "first=5 last=7");
        gaps += index;
    }
    key_partition(key, l->shard, "gaps", p);
    if (live_of(l, key) != gaps) sim_fail(w->sim, "partition %u has gaps that do not exist", p);
}

/* ---- whole ---- */

static void check_sums(struct look *l, const struct oracle_cell *c, bool whole)
{
    static const char *const kinds[] = {"rollup", "run", "hour of a run"};
    const struct oracle_name *n = &c->name;
    const char *kind = kinds[n->kind];
    if (c->stored && !oracle_same(&c->want, &c->got))
        sim_fail(l->w->sim, "shard %u: a %s at %" PRIu64 " is not the sum of its rows: team %u sandbox %u at %" PRId64,
                 l->shard, kind, c->stored_offset, n->team, (unsigned)n->sandbox, n->start);
    if (c->last > c->stored_offset)
        sim_fail(l->w->sim,
                 "shard %u: the vector claims %" PRIu64 ", a %s holds what is below %" PRIu64 ": team %u at %" PRId64,
                 l->shard, c->last, kind, c->stored_offset, n->team, n->start);
    if (whole && c->last != c->stored_offset)
        sim_fail(l->w->sim, "shard %u: a %s stands at %" PRIu64 ", its rows end at %" PRIu64, l->shard, kind,
                 c->stored_offset, c->last);
}

static void check_cell(struct look *l, const struct oracle_cell *c, bool whole)
{
    l->w->sim->checks++;
    if (!l->sums_known) check_sums(l, c, whole);
    if (!whole || l->w->sim->failed) return;
    if (c->name.kind == ORACLE_ROLLUP) check_rollup_index(l, c);
    if (c->name.kind == ORACLE_RUN) check_run_index(l, c);
}

void rollup_check_claims(struct rollup_world *w, uint32_t shard, const struct redis_state *s)
{
    struct look l = {.w = w, .shard = shard, .s = s};
    check_vector(&l, false);
}

static void look_at(struct look *l, bool whole)
{
    static struct oracle o;
    struct rollup_world *w = l->w;
    l->o = &o;
    oracle_reset(&o);
    for (size_t i = 0; i < l->s->count; i++) {
        struct redis_key *k = l->s->key[i];
        if (k->live == 0) continue;
        if (strncmp(name_of(k), "u:", 2) == 0) take_rollups(l, k);
        if (strncmp(name_of(k), "r:", 2) == 0) take_runs(l, k);
    }
    check_vector(l, whole);
    if (!l->sums_known) oracle_add_rows(&o, w, l->shard, l->vouched);
    for (size_t i = 0; i < o.count && !w->sim->failed; i++) check_cell(l, &o.cell[i], whole);
    for (uint32_t p = 0; whole && p < w->parts && !w->sim->failed; p++)
        if (shard_home(p, w->shards) == l->shard) check_marks(l, p);
}

void rollup_check_state(struct rollup_world *w, uint32_t shard, const struct redis_state *s, bool whole)
{
    struct look l = {.w = w, .shard = shard, .s = s};
    look_at(&l, whole);
}

static bool rebuilt(const struct rollup_world *w, const struct redis_key *k)
{
    struct oracle_name name = {0};
    const char *text = name_of(k);
    if (strncmp(text, "marks:", 6) == 0 || strncmp(text, "gaps:", 5) == 0) return true;
    if (w->others) return strncmp(text, "u:", 2) == 0 || strncmp(text, "r:", 2) == 0; /* no month passes */
    if (strncmp(text, "u:", 2) == 0)
        return rollup_name(k, &name) && (name.window != WINDOW_MINUTE || name.start >= w->era_start);
    if (strncmp(text, "r:", 2) == 0) return w->sandbox[sandbox_of(k)].era == w->era;
    return false;
}

/* A duplicate at an offset that the log does not have any more: the next flush deletes it. */
static bool forgotten(const struct rollup_world *w, const struct redis_key *k, const struct redis_field *f)
{
    uint32_t p;
    uint64_t offset;
    const char *name = strchr(k->name, '}');
    return name && sscanf(name, "}:marks:%" SCNu32, &p) == 1 && sscanf(f->name, "d:%" SCNu64, &offset) == 1 &&
           offset < w->log.partition[p].start;
}

static void check_held(struct rollup_world *w, const struct redis_state *a, const struct redis_state *b)
{
    for (size_t i = 0; i < a->count; i++) {
        const struct redis_key *k = a->key[i];
        if (k->live == 0 || !rebuilt(w, k)) continue;
        for (size_t j = 0; j < k->count && !w->sim->failed; j++) {
            const struct redis_field *f = &k->field[j];
            if (!f->text || forgotten(w, k, f)) continue;
            const struct redis_field *g = redis_state_get(b, key_text(k), (struct redis_text){f->name, f->name_length});
            if (!g || g->text_length != f->text_length || memcmp(f->text, g->text, f->text_length) != 0)
                sim_fail(w->sim, "a rebuild differs: %s %s: %s, %s", k->name, f->name, f->text,
                         g ? g->text : "nothing");
        }
    }
}

void rollup_check_same(struct rollup_world *w, const struct redis_state *before, const struct redis_state *now)
{
    check_held(w, before, now);
    check_held(w, now, before);
}

void rollup_check_rebuilt(struct rollup_world *w, uint32_t shard, const struct redis_state *before,
                          const struct redis_state *now)
{
    struct look l = {.w = w, .shard = shard, .s = now, .sums_known = true};
    rollup_check_same(w, before, now);
    if (!w->sim->failed) look_at(&l, true);
}
