/* What no program can put right: a log that ends below what the view has of it, marks that stand behind their vector,
 * something in the view that cannot be read. Whoever meets it says what it is, and changes nothing: it waits when it
 * may pass by itself, else it stops. Once it is over everything goes on. At the end of a schedule, in quiet. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"
#include "tests/sim/rollup_world.h"

enum { TOLD_MS = 10 * SECOND_MS, WAIT_MS = 20 * SECOND_MS, STEP_MS = 250, TURNS_MOST = 200, NAME_BYTES = 128 };

/* A field of the view, and what it said. */
struct place {
    uint32_t shard;
    char key[KEY_BYTES_MAX], field[NAME_BYTES], text[512];
};

static const struct redis_field *field_of(const struct rollup_world *w, const struct place *at)
{
    return redis_state_get(&w->shard[at->shard].now, redis_text(at->key), redis_text(at->field));
}

static void set(struct rollup_world *w, const struct place *at, const char *text)
{
    struct redis_state *s = &w->shard[at->shard].now;
    redis_state_begin(s);
    (void)redis_state_set(s, redis_text(at->key), false, redis_text(at->field), redis_text(text));
}

/* False: there is no such field. */
static bool remember(const struct rollup_world *w, struct place *at)
{
    const struct redis_field *f = field_of(w, at);
    if (!f || f->text_length >= sizeof at->text) return false;
    memcpy(at->text, f->text, f->text_length);
    at->text[f->text_length] = '\0';
    return true;
}

static struct rollup_process *begin_alone(struct rollup_world *w)
{
    for (size_t i = 0; i < PROCESSES; i++) rollup_process_end(w, &w->process[i]);
    rollup_process_begin(w, &w->process[0]);
    rollup_act(w, NULL);
    rollup_rebalance(w);
    return &w->process[0];
}

/* ---- the log ends early ---- */

static bool says(struct rollup_process *p, const char *what)
{
    struct health_report r;
    health_judge(&p->aggregator.health, &r);
    return !r.healthy && strstr(r.reason, what);
}

static struct rollup_process *owner_of(struct rollup_world *w, uint32_t partition)
{
    for (size_t i = 0; i < PROCESSES; i++) {
        size_t count = 0;
        const uint32_t *list = NULL;
        if (rollup_awake(w, &w->process[i])) list = consumer_partitions(w->process[i].aggregator.consumer, &count);
        for (size_t k = 0; k < count; k++)
            if (list[k] == partition) return &w->process[i];
    }
    return NULL;
}

static void all_turn(struct rollup_world *w)
{
    for (size_t i = 0; i < PROCESSES; i++)
        if (rollup_awake(w, &w->process[i])) rollup_process_turn(w, &w->process[i]);
    w->sim->now += STEP_MS;
}

static void wait_for_the_tail(struct rollup_world *w, const struct place *entry, uint32_t partition)
{
    for (int64_t begun = w->sim->now; w->sim->now < begun + WAIT_MS && !w->sim->failed;) {
        all_turn(w);
        struct rollup_process *p = owner_of(w, partition);
        if (w->sim->now >= begun + TOLD_MS && !(p && says(p, "lost its tail")))
            sim_fail(w->sim, "the log has lost its tail, and nobody says so");
        if (strcmp(field_of(w, entry)->text, entry->text) != 0)
            sim_fail(w->sim, "an entry moves though the log ends below it");
    }
}

/* Told by whoever runs, or by one that starts. */
static void log_ends_early(struct rollup_world *w)
{
    uint32_t p = (uint32_t)sim_draw(w->sim, w->parts);
    struct place entry = {.shard = (uint32_t)sim_draw(w->sim, w->shards)};
    uint64_t end = w->topic[p].committed, start = w->log.partition[p].start;
    key_plain(entry.key, entry.shard, "v");
    (void)snprintf(entry.field, sizeof entry.field, "%" PRIu32, p);
    if (start == end || !remember(w, &entry)) return;
    w->topic[p].lost = 1 + sim_draw(w->sim, end - start);
    if (sim_draw(w->sim, 2)) (void)begin_alone(w);
    wait_for_the_tail(w, &entry, p);
    w->topic[p].lost = 0;
    rollup_settle(w, false);
}

/* ---- the view is damaged ---- */

/* OK: it goes on. */
static enum sg_error until_it_stops(struct rollup_world *w, struct rollup_process *p, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    rollup_act(w, p);
    for (int i = 0; i < TURNS_MOST && !e; i++) {
        e = aggregator_turn(&p->aggregator, f);
        w->sim->now += STEP_MS;
    }
    rollup_act(w, NULL);
    w->sim->checks++;
    return e;
}

/* A process that starts ends with this reason, and the damage is as it was. */
static void must_stop(struct rollup_world *w, const struct place *at, const char *damaged, const char *why)
{
    struct sg_fault f = {0};
    set(w, at, damaged);
    struct rollup_process *p = begin_alone(w);
    enum sg_error e = until_it_stops(w, p, &f);
    if (!e || !strstr(f.text, why))
        sim_fail(w->sim, "%s %s is '%s', and who starts %s: %s", at->key, at->field, damaged,
                 e ? "stops by something else" : "goes on", f.text);
    if (strcmp(field_of(w, at)->text, damaged) != 0)
        sim_fail(w->sim, "%s %s was damaged, and is written over", at->key, at->field);
    set(w, at, at->text);
}

static void marks_behind(struct rollup_world *w)
{
    char text[24];
    uint32_t p = (uint32_t)sim_draw(w->sim, w->parts);
    struct place at = {.shard = shard_home(p, w->shards), .field = "at"};
    key_partition(at.key, at.shard, "marks", p);
    if (!remember(w, &at) || strcmp(at.text, "0") == 0) return;
    (void)snprintf(text, sizeof text, "%" PRIu64, sim_draw(w->sim, strtoull(at.text, NULL, 10)));
    must_stop(w, &at, text, "a damaged store");
}

/* A mark of the partition, whosever. */
static bool find_mark(const struct rollup_world *w, struct place *at)
{
    const struct redis_key *k = redis_state_find(&w->shard[at->shard].now, redis_text(at->key));
    for (size_t i = 0; k && i < k->count; i++) {
        if (!k->field[i].text || strncmp(k->field[i].name, "r:", 2) != 0) continue;
        (void)snprintf(at->field, sizeof at->field, "%s", k->field[i].name);
        return true;
    }
    return false;
}

static void cannot_be_read(struct rollup_world *w)
{
    static const struct {
        const char *key, *field, *damaged, *why; /* field NULL: the partition's; key NULL: its marks */
    } ways[] = {{"v", NULL, "nonsense", "cannot be read"},
                {NULL, NULL, "nonsense", "cannot be read"},
                {"meta", "format", "99", "has another format"},
                {"meta", "shards", "99", "another number of shards"}};
    size_t i = sim_draw(w->sim, sizeof ways / sizeof *ways);
    uint32_t p = (uint32_t)sim_draw(w->sim, w->parts);
    struct place at = {.shard = shard_home(p, w->shards)};
    (void)snprintf(at.field, sizeof at.field, "%" PRIu32, p);
    if (ways[i].field) (void)snprintf(at.field, sizeof at.field, "%s", ways[i].field);
    if (ways[i].key)
        key_plain(at.key, at.shard, ways[i].key);
    else
        key_partition(at.key, at.shard, "marks", p);
    if (!ways[i].key && !find_mark(w, &at)) return;
    if (remember(w, &at)) must_stop(w, &at, ways[i].damaged, ways[i].why);
}

/* The day's cell of some team, of the partition. */
static bool find_cell(struct rollup_world *w, struct place *at, uint32_t partition)
{
    const struct redis_state *s = &w->shard[at->shard].now;
    size_t first = sim_draw(w->sim, s->count);
    (void)snprintf(at->field, sizeof at->field, "%" PRIu32, partition);
    for (size_t i = 0; i < s->count; i++) {
        const struct redis_key *k = s->key[(first + i) % s->count];
        if (!k->live || k->name_length >= sizeof at->key || !strstr(k->name, "}:u:d:")) continue;
        memcpy(at->key, k->name, k->name_length + 1);
        if (remember(w, at)) return true;
    }
    return false;
}

/* Whether a batch of these has a row of the day's cell. */
static bool is_needed(const struct rollup_world *w, size_t first, const struct place *at)
{
    int64_t start;
    uint32_t team;
    char project[8], region[8];
    const char *name = strchr(at->key, '}');
    if (sscanf(name, "}:u:d:%" SCNd64 ":t%" SCNu32 ":%7[^:]:%7s", &start, &team, project, region) != 4) abort();
    for (size_t i = first; i < w->batches; i++) {
        const struct rollup_batch *m = &w->batch[i];
        if ((m->runner % 2 == 1) != (strcmp(region, "us") == 0)) continue;
        for (size_t k = m->row; k < m->row + m->row_count; k++) {
            const struct rollup_row *r = &w->row[k];
            bool call = r->kind == ROW_CALL;
            uint32_t of_team = call ? r->sandbox % TEAMS : w->sandbox[r->sandbox].team;
            uint32_t of_project = call ? r->sandbox / TEAMS : w->sandbox[r->sandbox].project;
            if (r->kind != ROW_SLICE && r->kind != ROW_EXEC && !call) continue;
            if (of_team == team && (of_project == 1) == (strcmp(project, "p1") == 0) &&
                r->at - r->at % DAY_MS == start * SECOND_MS)
                return true;
        }
    }
    return false;
}

/* Who needs it stops; it is not begun anew. Who does not need it goes on. */
static void cell_cannot_be_read(struct rollup_world *w)
{
    struct sg_fault f = {0};
    uint32_t partition = w->runner[sim_draw(w->sim, w->runners)].partition;
    struct place at = {.shard = (uint32_t)sim_draw(w->sim, w->shards)};
    if (!find_cell(w, &at, partition)) return;
    set(w, &at, "nonsense");
    struct rollup_process *p = begin_alone(w);
    size_t first = w->batches;
    for (uint32_t i = 0; i < w->runners; i++)
        if (w->runner[i].partition == partition) rollup_produce(w, &w->runner[i], false);
    rollup_runners_drain(w);
    enum sg_error e = until_it_stops(w, p, &f);
    if (e ? !strstr(f.text, "cannot be read") : is_needed(w, first, &at))
        sim_fail(w->sim, "%s %s is damaged, and who needs it says: %s", at.key, at.field, e ? f.text : "nothing");
    if (strcmp(field_of(w, &at)->text, "nonsense") != 0)
        sim_fail(w->sim, "%s %s was damaged, and is written over", at.key, at.field);
    set(w, &at, at.text);
    (void)begin_alone(w);
    rollup_settle(w, false);
}

void rollup_check_damage(struct rollup_world *w)
{
    for (uint32_t s = 0; s < w->shards; s++) w->shard[s].watched = 0; /* it would not be found right */
    if (sim_fault(w->sim, SIM_LOG_ENDS_EARLY)) log_ends_early(w);
    if (!w->sim->failed && sim_fault(w->sim, SIM_MARKS_BEHIND)) marks_behind(w);
    if (!w->sim->failed && sim_fault(w->sim, SIM_VIEW_DAMAGED)) cannot_be_read(w);
    if (!w->sim->failed && sim_fault(w->sim, SIM_CELL_DAMAGED)) cell_cannot_be_read(w);
}
