/* A seeded simulation of the roll-up: the real core between a log and a Redis that cut scripts short, lose replies,
 * roll back, are emptied and restored from an archive; producers that restart, duplicate and lose their disk;
 * aggregators that are killed, rebalanced, forgotten about (zombies) and that forget cells. After the model of
 * design.md, section 5.
 *
 * Every schedule ends in quiet; then every rollup window, run and hour of a run must be the sum of the accepted rows,
 * every cell must be in its index, and a rebuild from archive and log must give the same bytes. With a protection
 * switched off the simulation must find a seed that fails: it has teeth. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"
#include "rollup_world.h"

static const char *const team_names[TEAMS] = {"t0", "t1", "t2", "t3"};
static char *const sandbox_names[SANDBOXES] = {(char[]){"s0"}, (char[]){"s1"}, (char[]){"s2"}, (char[]){"s3"},
                                               (char[]){"s4"}, (char[]){"s5"}, (char[]){"s6"}, (char[]){"s7"}};

/* ---- aggregators ---- */

static void lost(struct aggregator *a, uint32_t s)
{
    rollup_lost(&a->r, s);
}
static void know(struct world *w, struct aggregator *a)
{
    for (uint32_t s = 0; s < w->shards; s++) {
        for (uint32_t p = 0; p < w->parts; p++) {
            char key[KEY_BYTES_MAX], field[16];
            struct wordlist marks = {0}, caps = {0};
            struct sg_fault f;
            if (!a->r.partition[p].taken || a->r.partition[p].seen[s].known) continue;
            key_plain(key, s, "v");
            (void)snprintf(field, sizeof field, "%u", p);
            const struct value *v = state_get(&w->shard[s], key, field);
            struct rollup_stored stored = {v ? v->text : "", v ? strlen(v->text) : 0, &marks, &caps};
            key_partition(key, s, "marks", p);
            for (size_t i = 0; i < w->shard[s].count; i++) {
                if (strcmp(w->shard[s].value[i].key, key) != 0) continue;
                wordlist_text(&marks, w->shard[s].value[i].field);
                wordlist_text(&marks, w->shard[s].value[i].text);
            }
            rollup_queue_drop(&a->r);
            if (rollup_know(&a->r, s, p, &stored, &f)) w->failed = true;
            wordlist_destroy(&marks);
            (void)rollup_log_start(&a->r, p, w->start[p]);
        }
    }
}

static void enqueue(struct world *w, struct aggregator *a, uint32_t p)
{
    uint64_t o = rollup_next(&a->r, p);
    if (o < w->start[p]) { /* the log has forgotten it meanwhile: start anew */
        rollup_drop(&a->r, p);
        rollup_take(&a->r, p);
        know(w, a);
        return;
    }
    if (o >= w->end[p] || rollup_queue_full(&a->r)) return;
    const struct message *m = &w->log[p][o];
    char runner[16];
    uint32_t sandbox[ROWS], team[ROWS], one[ROWS] = {1, 1, 1, 1}, length[ROWS] = {60000, 60000, 60000, 60000}, zero = 0,
                                        origin = 1;
    char *ids[ROWS], *teams[ROWS], *projects[] = {(char[]){"-"}};
    int64_t at[ROWS];
    uint64_t cpu[ROWS];
    uint8_t sha[SHA256_BYTES] = {0};
    (void)snprintf(runner, sizeof runner, "r%u", m->runner);
    for (size_t i = 0; i < m->count; i++) {
        sandbox[i] = team[i] = (uint32_t)i;
        ids[i] = sandbox_names[m->row[i].sandbox];
        teams[i] = (char *)(uintptr_t)team_names[world_team_of(m->row[i].sandbox)];
        at[i] = m->row[i].at - START;
        cpu[i] = m->row[i].cpu;
    }
    struct batch b = {.runner = runner,
                      .region = "eu",
                      .epoch = m->epoch,
                      .seq = m->seq,
                      .base_ms = START,
                      .complete_through_ms = START,
                      .team_count = m->count,
                      .teams = teams,
                      .project_count = 1,
                      .projects = projects};
    b.sandboxes = (struct batch_sandboxes){
        .count = m->count, .id = ids, .team = team, .vcpus = one, .mem_mib = one, .disk_mib = one};
    b.slices = (struct batch_slices){
        .count = m->count, .sandbox = sandbox, .start_ms = at, .length_ms = length, .cpu_us = cpu};
    if (m->start) b.starts = (struct batch_starts){.count = 1, .sandbox = &zero, .at_ms = at, .origin = &origin};
    rollup_enqueue(&a->r, p, o, (struct wall_ms){START + (int64_t)o}, &b, sha);
}

static bool read_round(struct world *w, struct aggregator *a)
{
    for (uint32_t s = 0; s < w->shards; s++) {
        struct rollup_read *q = &a->reads[s];
        size_t at = q->count ? world_checked(w, s, &q->words, w->bug == READ_UNCHECKED) : 1;
        if (at == 0) {
            lost(a, s);
            return false;
        }
        for (size_t i = 0; i < q->count; i++) {
            char *key = world_word(&q->words, at + 2 * i), *field = world_word(&q->words, at + 2 * i + 1);
            const struct value *v = state_get(&w->shard[s], key, field);
            struct cell *cell = q->cell[i];
            if (rollup_loaded(&a->r, q, i, v ? v->text : NULL, v ? strlen(v->text) : 0)) w->failed = true;
            if (w->bug == NO_CELL_OFFSET && v) cell->offset = 0;
            if (w->bug == TRUST_LOADED && cell->dirty) {
                a->r.cells.dirty[s].count--; /* the newest */
                cell->dirty = false;
            }
            free(key);
            free(field);
        }
    }
    return true;
}

static void step(struct world *w, struct aggregator *a)
{
    know(w, a);
    if (w->failed) return;
    for (uint64_t n = 1 + world_below(w, 3); n > 0; n--) {
        uint32_t p = (uint32_t)world_below(w, w->parts);
        if (a->r.partition[p].taken) enqueue(w, a, p);
    }
    do {
        while (rollup_needs(&a->r, a->reads))
            if (!read_round(w, a)) return;
        for (uint32_t p = 0; w->bug == NO_DUPLICATES && p < w->parts; p++) a->r.partition[p].marks.duplicate_count = 0;
    } while (!rollup_apply(&a->r));
}

static void flush(struct world *w, struct aggregator *a, uint32_t s)
{
    know(w, a);
    if (w->failed) return;
    a->r.flushes++;
    if (!rollup_flush_begin(&a->r, s, &a->flush)) return;
    for (bool more = true; more;) {
        rollup_flush_chunk(&a->r, &a->flush);
        enum answer answer = world_run_script(w, s, &a->flush.words);
        if (answer == ANSWER_ERROR && world_chance(w, 450)) answer = world_run_script(w, s, &a->flush.words);
        if (answer != ANSWER_OK) {
            lost(a, s);
            return;
        }
        more = rollup_flush_ok(&a->r, &a->flush);
    }
    struct cell_list *dirty = &a->r.cells.dirty[s];
    for (size_t i = 0; w->bug == CLEAN_AHEAD && i < dirty->count; i++) dirty->cell[i]->dirty = false;
    if (w->bug == CLEAN_AHEAD) dirty->count = 0;
}

static void aggregator_begin(struct world *w, struct aggregator *a)
{
    rollup_init(&a->r, w->shards, w->parts);
    a->r.chunk_cells = 2;
    a->alive = true;
}
static void aggregator_end(struct aggregator *a)
{
    if (!a->alive) return;
    for (uint32_t s = 0; s < SHARDS; s++) rollup_read_destroy(&a->reads[s]);
    rollup_flush_destroy(&a->flush);
    rollup_destroy(&a->r);
    *a = (struct aggregator){0};
}
static void rebalance(struct world *w)
{
    for (uint32_t p = 0; p < w->parts; p++) {
        size_t new = world_below(w, AGGREGATORS);
        for (size_t i = 0; i < AGGREGATORS; i++) {
            struct aggregator *a = &w->aggregator[i];
            if (i == new || !a->r.partition[p].taken || world_chance(w, 300)) continue; /* or stays, as a zombie */
            if (world_chance(w, 600))
                for (uint32_t s = 0; s < w->shards; s++) flush(w, a, s);
            rollup_drop(&a->r, p);
        }
        rollup_take(&w->aggregator[new].r, p);
    }
}

/* ---- the end ---- */

static void drain(struct world *w, struct aggregator *a)
{
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 40; i++) step(w, a);
        for (uint32_t s = 0; s < w->shards; s++) flush(w, a, s);
        bool done = rollup_dirty(&a->r) == 0;
        for (uint32_t p = 0; p < w->parts; p++) done &= a->r.partition[p].position == w->end[p];
        if (done) return;
    }
    w->failed = true;
}

static uint64_t cpu_of(struct world *w, const char *text)
{
    struct sums s = {0};
    uint64_t offset, v = 0;
    if (cell_decode(text, strlen(text), &offset, &s))
        w->failed = true;
    else
        v = s.plain[FIELD_CPU_US].v;
    sums_destroy(&s);
    return v;
}

static void check_rollups(struct world *w)
{
    uint64_t got[TEAMS][WINDOW_KINDS][HOURS][60] = {0}, want[TEAMS][WINDOW_KINDS][HOURS][60] = {0};
    for (uint32_t s = 0; s < w->shards; s++) {
        for (size_t i = 0; i < w->shard[s].count; i++) {
            const struct value *v = &w->shard[s].value[i];
            char letter, team[8], index[KEY_BYTES_MAX], member[KEY_BYTES_MAX];
            long long start;
            if (sscanf(world_name_of(v->key), "u:%c:%lld:%7[^:]", &letter, &start, team) != 3) continue;
            int kind = letter == 'm' ? 0 : letter == 'h' ? 1 : 2;
            int64_t at = start * SECOND_MS - (kind == 2 ? START - START % DAY_MS : START);
            got[team[1] - '0'][kind][at / HOUR_MS % HOURS][at % HOUR_MS / MINUTE_MS] += cpu_of(w, v->text);
            key_rollup_index(index, s, (enum window_kind)kind, team);
            key_rollup_member(member, (struct wall_ms){start * SECOND_MS}, "-", "eu");
            if (!state_get(&w->shard[s], index, member)) w->failed = true;
        }
    }
    for (uint32_t b = 0; b < SANDBOXES; b++) {
        for (int h = 0; h < HOURS; h++) {
            for (int m = 0; m < 60; m++) {
                want[world_team_of(b)][0][h][m] += w->truth[b][h][m];
                want[world_team_of(b)][1][h][0] += w->truth[b][h][m];
                want[world_team_of(b)][2][0][0] += w->truth[b][h][m];
            }
        }
    }
    if (memcmp(got, want, sizeof got) != 0) w->failed = true;
}

static void check_runs(struct world *w)
{
    for (uint32_t b = 0; b < SANDBOXES; b++) {
        uint64_t total = 0, got = 0, hour_total[HOURS] = {0}, hour_got[HOURS] = {0};
        char key[KEY_BYTES_MAX];
        int64_t created = 0;
        uint32_t s = shard_of_team(team_names[world_team_of(b)], w->shards);
        for (int h = 0; h < HOURS; h++)
            for (int m = 0; m < 60; m++) hour_total[h] += w->truth[b][h][m];
        for (int h = 0; h < HOURS; h++) total += hour_total[h];
        key_id(key, s, "r", sandbox_names[b]);
        for (size_t i = 0; i < w->shard[s].count; i++) {
            const struct value *v = &w->shard[s].value[i];
            struct run run;
            uint64_t offset;
            if (strcmp(v->key, key) != 0) continue;
            const char *hour = strchr(v->field, ':');
            if (hour) {
                hour_got[(strtoll(hour + 1, NULL, 10) * SECOND_MS - START) / HOUR_MS] += cpu_of(w, v->text);
                continue;
            }
            if (run_cell_decode(v->text, strlen(v->text), &offset, &run)) w->failed = true;
            got += run.cpu_us.v;
            created = run.created.v;
        }
        if (got != total) w->failed = true;
        for (int h = 0; h < HOURS; h++)
            if ((created == 0 || (created - START) / HOUR_MS != h) && hour_got[h] != hour_total[h]) w->failed = true;
    }
}

static bool same_cells(const struct state *a, const struct state *b)
{
    for (size_t i = 0; i < a->count; i++) {
        const char *name = world_name_of(a->value[i].key);
        if (!world_starts_with(name, "u:") && !world_starts_with(name, "r:")) continue;
        const struct value *v = state_get(b, a->value[i].key, a->value[i].field);
        if (!v || strcmp(v->text, a->value[i].text) != 0) return false;
    }
    return true;
}

static void check_rebuild(struct world *w)
{
    struct state before[SHARDS] = {0};
    struct aggregator *a = &w->aggregator[AGGREGATORS];
    world_archive(w, true);
    for (uint32_t s = 0; s < w->shards; s++) {
        state_copy(&before[s], &w->shard[s]);
        world_restore(w, s);
    }
    aggregator_end(a);
    aggregator_begin(w, a);
    for (uint32_t p = 0; p < w->parts; p++) rollup_take(&a->r, p);
    drain(w, a);
    for (uint32_t s = 0; s < w->shards; s++) {
        if (!same_cells(&before[s], &w->shard[s]) || !same_cells(&w->shard[s], &before[s])) w->failed = true;
        state_clear(&before[s]);
    }
}

static void quiet_end(struct world *w)
{
    struct aggregator *a = &w->aggregator[AGGREGATORS];
    w->quiet = true;
    for (uint32_t i = 0; i < w->runners; i++) {
        struct runner *q = &w->runner[i];
        while ((q->cursor < q->count || q->flights) && w->end[q->partition] < LOG) {
            world_send_one(q);
            world_land(w, q);
            if (q->flights == 0 && q->cursor < q->count) world_producer_restarts(q);
        }
    }
    aggregator_begin(w, a);
    for (uint32_t p = 0; p < w->parts; p++) rollup_take(&a->r, p);
    drain(w, a);
    check_rollups(w);
    check_runs(w);
    if (!w->failed) check_rebuild(w);
}

static void one_step(struct world *w)
{
    uint64_t x = world_below(w, 1000);
    uint32_t number = (uint32_t)world_below(w, w->runners);
    struct runner *q = &w->runner[number];
    struct aggregator *a = &w->aggregator[world_below(w, AGGREGATORS)];
    if (x < 180)
        world_produce(w, q, number);
    else if (x < 340)
        world_send_one(q);
    else if (x < 500)
        world_land(w, q);
    else if (x < 515)
        world_producer_restarts(q);
    else if (x < 520)
        world_disk_is_lost(w, q);
    else if (x < 740)
        step(w, a);
    else if (x < 880)
        flush(w, a, (uint32_t)world_below(w, w->shards));
    else if (x < 910) {
        rollup_queue_drop(&a->r);
        cells_sweep(&a->r.cells, UINT32_MAX, a->r.cells.slot_count / 4);
    } else if (x < 930)
        world_rollback(w);
    else if (x < 945)
        rebalance(w);
    else if (x < 955) { /* kill -9; another begins with its partitions */
        bool taken[PARTS];
        for (uint32_t p = 0; p < w->parts; p++) taken[p] = a->r.partition[p].taken;
        aggregator_end(a);
        aggregator_begin(w, a);
        for (uint32_t p = 0; p < w->parts; p++)
            if (taken[p]) rollup_take(&a->r, p);
    } else if (x < 975)
        world_archive(w, world_below(w, 2) == 0);
}

/* True: all is well. */
static bool schedule(uint64_t seed, enum bug bug)
{
    struct world *w = calloc(1, sizeof *w);
    w->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (int i = 0; i < 8; i++) (void)world_random(w);
    w->bug = bug;
    w->parts = 1 + (uint32_t)world_below(w, PARTS);
    w->shards = 1 + (uint32_t)world_below(w, SHARDS);
    w->runners = (uint32_t[]){1, 2, 4}[world_below(w, 3)];
    w->runner = calloc(RUNNERS, sizeof *w->runner);
    w->aggregator = calloc(AGGREGATORS + 1, sizeof *w->aggregator);
    for (uint32_t i = 0; i < w->runners; i++) {
        w->runner[i].partition = i % w->parts;
        w->runner[i].epoch = 1;
    }
    for (size_t i = 0; i < AGGREGATORS; i++) aggregator_begin(w, &w->aggregator[i]);
    rebalance(w);
    for (int i = 0; i < STEPS && !w->failed; i++) one_step(w);
    if (!w->failed) quiet_end(w);
    bool well = !w->failed;
    for (size_t i = 0; i <= AGGREGATORS; i++) aggregator_end(&w->aggregator[i]);
    for (uint32_t s = 0; s < SHARDS; s++) {
        state_clear(&w->shard[s]);
        state_clear(&w->archive[s]);
        for (size_t i = 0; i < HISTORY; i++) state_clear(&w->history[s][i]);
    }
    free(w->runner);
    free(w->aggregator);
    free(w);
    return well;
}

static uint64_t seeds(uint64_t otherwise)
{
    const char *text = getenv("SANDGLASS_SIM_SEEDS");
    return text ? strtoull(text, NULL, 10) : otherwise;
}

Test(rollup_sim, every_schedule_ends_in_the_accepted_rows, .timeout = 600)
{
    for (uint64_t seed = 1; seed <= seeds(2000); seed++)
        cr_assert(schedule(seed, NO_BUG), "seed %llu", (unsigned long long)seed);
}

static void finds(enum bug bug)
{
    for (uint64_t seed = 1; seed <= 3000; seed++)
        if (!schedule(seed, bug)) return;
    cr_assert_fail("no schedule shows bug %d", (int)bug);
}
Test(rollup_sim, a_flush_that_does_not_compare_is_found, .timeout = 600)
{
    finds(NO_CAS);
}
Test(rollup_sim, a_vector_written_before_its_cells_is_found, .timeout = 600)
{
    finds(VECTOR_FIRST);
}
Test(rollup_sim, a_read_without_the_vector_is_found, .timeout = 600)
{
    finds(READ_UNCHECKED);
}
Test(rollup_sim, a_cell_that_forgets_its_offset_is_found, .timeout = 600)
{
    finds(NO_CELL_OFFSET);
}
Test(rollup_sim, forgotten_duplicates_are_found, .timeout = 600)
{
    finds(NO_DUPLICATES);
}
Test(rollup_sim, cells_that_are_clean_ahead_of_the_vector_are_found, .timeout = 600)
{
    finds(CLEAN_AHEAD);
}
Test(rollup_sim, cells_trusted_because_they_were_read_are_found, .timeout = 600)
{
    finds(TRUST_LOADED);
}
Test(rollup_sim, an_archive_without_marks_is_found, .timeout = 600)
{
    finds(ARCHIVE_NO_MARKS);
}
Test(rollup_sim, marks_written_onto_others_are_found, .timeout = 600)
{
    finds(MARKS_UNCHECKED);
}
