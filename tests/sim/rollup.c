/* One schedule of the roll-up's world: storms and the quiet after each, then a rebuild from nothing, which must come to
 * the same bytes as all that happened before (rollup_world.h). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"
#include "tests/sim/rollup_world.h"
#include "tests/sim/worlds.h"

/* A misfortune threatens in one step of so many; whether it comes about is by the schedule's rates. */
enum { STEPS = 100, MISFORTUNES = 3, ROUNDS_MAX = 400, MONTH_DAYS = 31, MONTH_CHANCES = 16, CHUNK_IN_QUIET = 150 };

bool rollup_fault(struct rollup_world *w, enum sim_fault kind)
{
    return !w->sim->quiet && sim_fault(w->sim, kind);
}

/* ---- storms ---- */

static void pass_time(struct rollup_world *w)
{
    struct sim *s = w->sim;
    uint64_t y = sim_draw(s, 1000);
    s->now += y < 200   ? 0
              : y < 900 ? (int64_t)sim_draw(s, SECOND_MS)
              : y < 998 ? (int64_t)sim_draw(s, 10 * SECOND_MS)
                        : (int64_t)sim_draw(s, 20 * MINUTE_MS);
}

static struct rollup_process *someone(struct rollup_world *w)
{
    size_t first = sim_draw(w->sim, PROCESSES);
    for (size_t i = 0; i < PROCESSES; i++) {
        struct rollup_process *p = &w->process[(first + i) % PROCESSES];
        if (rollup_awake(w, p) && !p->busy) return p;
    }
    return NULL;
}

static void process_added(struct rollup_world *w)
{
    for (size_t i = 0; i < PROCESSES; i++) {
        if (w->process[i].alive) continue;
        rollup_process_begin(w, &w->process[i]);
        rollup_act(w, NULL);
        rollup_rebalance(w);
        return;
    }
}

static size_t alive(const struct rollup_world *w)
{
    size_t count = 0;
    for (size_t i = 0; i < PROCESSES; i++) count += w->process[i].alive;
    return count;
}

static void misfortune_of_runners(struct rollup_world *w, struct rollup_runner *q)
{
    if (rollup_fault(w, SIM_COLLECTOR_RESTARTS)) rollup_runner_restarts(w, q);
    if (rollup_fault(w, SIM_SPOOL_LOST)) rollup_spool_lost(w, q);
    if (rollup_fault(w, SIM_RUNNER_VANISHES)) q->away_until = w->sim->now + (int64_t)sim_draw(w->sim, 3 * GRACE_MS);
    if (rollup_fault(w, SIM_LEADER_MOVES)) rollup_leader_moves(w, q->partition);
}

static void misfortune_of_shards(struct rollup_world *w, uint32_t shard)
{
    if (rollup_fault(w, SIM_REDIS_ROLLED_BACK)) rollup_roll_back(w, shard);
    if (sim_draw(w->sim, 3) == 0 && rollup_fault(w, SIM_REDIS_EMPTIED)) rollup_empty(w, shard);
    if (rollup_fault(w, SIM_REDIS_FAILS_OVER)) rollup_fail_over(w, shard);
    if (rollup_fault(w, SIM_REDIS_READ_STALE)) w->shard[shard].stale_reads = 1 + sim_draw(w->sim, 3);
    if (w->shard[shard].has_old && sim_draw(w->sim, 6) == 0) rollup_old_gone(w, shard, sim_draw(w->sim, 2));
    if (rollup_fault(w, SIM_REDIS_AWAY))
        w->shard[shard].away_until = w->sim->now + (int64_t)sim_draw(w->sim, MINUTE_MS);
}

static void misfortune_of_programs(struct rollup_world *w)
{
    struct rollup_process *p = someone(w);
    if (p && rollup_fault(w, SIM_AGGREGATOR_KILLED)) rollup_process_end(w, p);
    if (p && p->alive && rollup_fault(w, SIM_AGGREGATOR_REMOVED)) p->actor.stopping = true;
    if (p && p->alive && rollup_fault(w, SIM_AGGREGATOR_STOPPED)) {
        p->asleep_until = w->sim->now + (int64_t)sim_draw(w->sim, 10 * MINUTE_MS);
        p->member = sim_draw(w->sim, 4) == 0;
        rollup_rebalance(w);
    }
    if (rollup_fault(w, SIM_AGGREGATOR_ADDED)) process_added(w);
    if (rollup_fault(w, SIM_REBALANCE)) rollup_rebalance(w);
    if (alive(w) == 0) process_added(w);
}

static void act(struct rollup_world *w)
{
    struct sim *s = w->sim;
    struct rollup_runner *q = &w->runner[sim_draw(s, w->runners)];
    uint32_t partition = (uint32_t)sim_draw(s, w->parts);
    if (sim_draw(s, 3) == 0) rollup_produce(w, q, false);
    if (sim_draw(s, 3)) rollup_send(w, q);
    if (sim_draw(s, 3)) rollup_append(w, partition);
    if (sim_draw(s, 2)) rollup_commit(w, partition);
    if (sim_draw(s, 3)) rollup_acknowledge(w, q);
    if (sim_draw(s, 3)) rollup_programs_act(w);
}

static void look(struct rollup_world *w)
{
    uint32_t shard = (uint32_t)sim_draw(w->sim, w->shards);
    rollup_check_state(w, shard, &w->shard[shard].now, false);
    if (w->shard[shard].has_old && !w->sim->failed) rollup_check_state(w, shard, &w->shard[shard].old, false);
    if (!w->sim->failed) rollup_check_answers(w);
}

void rollup_misfortune(struct rollup_world *w)
{
    if (sim_draw(w->sim, 45) == 0) rollup_late_arrives(w);
    if (sim_draw(w->sim, MISFORTUNES) == 0) misfortune_of_shards(w, (uint32_t)sim_draw(w->sim, w->shards));
    if (sim_draw(w->sim, MISFORTUNES) == 0) misfortune_of_programs(w);
}

void rollup_programs_act(struct rollup_world *w)
{
    struct rollup_process *p = someone(w);
    if (w->archiver && sim_draw(w->sim, 25) == 0)
        (void)rollup_archive(w, (uint32_t)sim_draw(w->sim, w->shards));
    else if (p)
        rollup_process_turn(w, p);
}

void rollup_step(struct rollup_world *w)
{
    pass_time(w);
    act(w);
    if (sim_draw(w->sim, MISFORTUNES) == 0) misfortune_of_runners(w, &w->runner[sim_draw(w->sim, w->runners)]);
    rollup_misfortune(w);
    if (sim_draw(w->sim, 40) == 0) w->twins |= rollup_fault(w, SIM_REDIS_FAILS_BACK);
    if (sim_draw(w->sim, 50) == 0) w->two_lost |= rollup_fault(w, SIM_REDIS_TWO_LOST);
    if (sim_draw(w->sim, 40) == 0) w->meet |= rollup_fault(w, SIM_FLUSHES_MEET);
    if (sim_draw(w->sim, 10) == 0) w->leaves |= rollup_fault(w, SIM_RUNNER_VANISHES);
    if (!w->sim->failed && sim_draw(w->sim, 70) == 0) look(w);
}

/* ---- quiet ---- */

static bool all_in(const struct rollup_world *w)
{
    char key[KEY_BYTES_MAX], field[2] = {0};
    for (uint32_t s = 0; s < w->shards; s++) {
        for (uint32_t p = 0; p < w->parts; p++) {
            key_plain(key, s, "v");
            field[0] = (char)('0' + p);
            const struct redis_field *f = redis_state_get(&w->shard[s].now, redis_text(key), redis_text(field));
            if (!f || strtoull(f->text, NULL, 10) != w->topic[p].committed) return false;
        }
    }
    return true;
}

static bool all_archived(const struct rollup_world *w)
{
    char key[KEY_BYTES_MAX];
    for (uint32_t s = 0; s < w->shards; s++) {
        key_plain(key, s, "arch");
        const struct redis_key *k = redis_state_find(&w->shard[s].now, redis_text(key));
        if (k && k->live) return false;
        for (uint32_t p = s; p < w->parts; p += w->shards)
            if (w->archiver->shard[s].marks_at[p] != w->topic[p].committed) return false;
    }
    return true;
}

/* Everybody who is awake goes on until everything is in, within a bounded number of rounds. What can befall a flush
 * between its chunks is over: they are few. */
void rollup_settle(struct rollup_world *w, bool archived)
{
    struct sim *s = w->sim;
    for (size_t i = 0; i < PROCESSES; i++) w->process[i].aggregator.rollup.chunk_cells = CHUNK_IN_QUIET;
    for (int round = 0; round < ROUNDS_MAX && !s->failed; round++) {
        for (size_t i = 0; i < PROCESSES; i++)
            if (rollup_awake(w, &w->process[i])) rollup_process_turn(w, &w->process[i]);
        for (uint32_t i = 0; archived && i < w->shards; i++) (void)rollup_archive(w, i);
        s->now += (int64_t)sim_draw(s, 4 * SECOND_MS);
        if (all_in(w) && (!archived || all_archived(w))) return;
    }
    sim_fail(s, "no progress in quiet");
}

static void idle_batches(struct rollup_world *w)
{
    for (uint32_t i = 0; i < w->runners; i++)
        if (i != w->gone) rollup_produce(w, &w->runner[i], true);
    rollup_runners_drain(w);
}

/* With all that it had to say said. */
static void one_leaves(struct rollup_world *w)
{
    w->leaves = false;
    w->gone = (uint32_t)sim_draw(w->sim, w->runners);
    w->sim->now += 2 * GRACE_MS;
}

/* Its silence is told within a bounded number of rounds, if it ever spoke. */
static void silence_is_told(struct rollup_world *w)
{
    const struct rollup_runner *q = &w->runner[w->gone];
    for (int round = 0; q->counted_seq && !rollup_tells_silence(w, w->gone) && !w->sim->failed; round++) {
        if (round == ROUNDS_MAX) return sim_fail(w->sim, "runner %u is silent, and that is not told", w->gone);
        rollup_settle(w, false);
    }
}

void rollup_calm(struct rollup_world *w)
{
    w->hurried = w->slow || sim_draw(w->sim, 4);
    while (w->lates) rollup_late_arrives(w);
    for (uint32_t s = 0; s < w->shards; s++) {
        rollup_old_gone(w, s, false);
        w->shard[s].away_until = 0;
        w->shard[s].stale_reads = 0;
    }
    for (size_t i = 0; i < PROCESSES; i++) {
        struct rollup_process *p = &w->process[i];
        p->actor.stopping = false;
        p->member = rollup_awake(w, p);
        if (!p->member)
            p->asleep_until = INT64_MAX; /* through the quiet: with what it knows it goes on in the next storm */
    }
    bool awake = false;
    for (size_t i = 0; i < PROCESSES; i++) awake |= w->process[i].alive && w->process[i].member;
    if (!awake) {
        rollup_process_end(w, &w->process[0]);
        rollup_process_begin(w, &w->process[0]);
    }
    rollup_rebalance(w);
}

static void quiet(struct rollup_world *w)
{
    w->sim->quiet = true;
    rollup_runners_drain(w);
    w->gone = w->runners;
    if (w->leaves) one_leaves(w);
    idle_batches(w);
    rollup_calm(w);
    rollup_settle(w, false);
    if (w->gone < w->runners) silence_is_told(w);
    if (!w->sim->failed) rollup_check_answers(w);
    for (uint32_t s = 0; s < w->shards && !w->sim->failed; s++) rollup_check_state(w, s, &w->shard[s].now, true);
}

/* Through the month: what it knows will be older than the log. */
static void one_sleeps(struct rollup_world *w)
{
    struct rollup_process *p = someone(w);
    if (p) p->asleep_until = w->sim->now + 1;
}

/* Closed windows are archived, then the log forgets some of what is older than a month. */
static void month_passes(struct rollup_world *w)
{
    struct sim *s = w->sim;
    s->now += MONTH_DAYS * (int64_t)DAY_MS;
    w->era++;
    w->era_start = s->now;
    for (uint32_t i = 0; i < w->shards; i++) redis_state_expire(&w->shard[i].now, s->now / SECOND_MS);
    uint64_t old[PARTS_MAX];
    for (uint32_t p = 0; p < w->parts; p++) old[p] = w->topic[p].committed;
    w->gone = w->runners;
    idle_batches(w);
    rollup_settle(w, true);
    for (uint32_t p = 0; p < w->parts && !s->failed; p++)
        events_forget(&w->log, p, sim_draw(s, 2) ? old[p] : sim_draw(s, old[p] + 1));
    for (uint32_t i = 0; i < w->shards; i++) redis_state_forget(&w->shard[i].now);
    for (uint32_t i = 0; i < w->runners; i++) w->runner[i].active_count = 0;
    for (size_t i = 0; i < PROCESSES; i++)
        if (w->process[i].asleep_until) w->process[i].asleep_until = s->now + 1;
    for (size_t i = 0; i < PROCESSES; i++) w->process[i].aggregator.rollup.chunk_cells = w->chunk_cells;
    s->quiet = w->hurried = false;
}

void rollup_rebuild(struct rollup_world *w, struct redis_state before[static SHARDS_MOST])
{
    for (size_t i = 0; i < PROCESSES; i++) rollup_process_end(w, &w->process[i]);
    for (uint32_t s = 0; s < w->shards; s++) {
        before[s] = w->shard[s].now;
        w->shard[s].now = (struct redis_state){0};
    }
    for (uint64_t i = 1 + sim_draw(w->sim, 2); i > 0; i--) process_added(w);
    w->hurried = true;
    rollup_settle(w, false);
}

static void rebuild(struct rollup_world *w)
{
    struct redis_state before[SHARDS_MOST] = {0};
    rollup_rebuild(w, before);
    if (!w->sim->failed) rollup_check_answers(w);
    for (uint32_t s = 0; s < w->shards; s++) {
        if (!w->sim->failed) rollup_check_rebuilt(w, s, &before[s], &w->shard[s].now);
        redis_state_destroy(&before[s]);
    }
}

/* ---- whole ---- */

static bool month_comes(struct rollup_world *w)
{
    bool comes = false;
    for (int i = 0; i < MONTH_CHANCES; i++) comes |= rollup_fault(w, SIM_LOG_FORGETS);
    return comes;
}

static void draw(struct rollup_world *w)
{
    struct sim *s = w->sim;
    s->now = ROLLUP_START + (int64_t)sim_draw(s, 100 * MINUTE_MS);
    w->era_start = s->now - 5 * MINUTE_MS;
    w->parts = 1 + (uint32_t)sim_draw(s, PARTS_MAX);
    w->shards = 1 + (uint32_t)sim_draw(s, SHARDS_MOST);
    w->runners = (uint32_t[]){1, 2, 4}[sim_draw(s, 3)];
    w->rows_most = (size_t[]){8, 50, 280}[sim_draw(s, 3)];
}

void rollup_begin(struct rollup_world *w)
{
    struct sim *s = w->sim;
    w->chunk_cells = (size_t[]){2, 5, 50}[sim_draw(s, 3)];
    w->slow = sim_draw(s, 4) == 0;
    w->process = calloc(PROCESSES, sizeof *w->process);
    if (!w->process) abort();
    ports_begin(s);
    ledgers_begin(s);
    rollup_consumers_begin(w);
    rollup_redis_begin(w);
    rollup_runners_begin(w);
    if (!w->others) rollup_archiver_begin(w);
    for (uint64_t i = 1 + sim_draw(s, 3); i > 0; i--) process_added(w);
}

void rollup_end(struct rollup_world *w)
{
    for (size_t i = 0; i < PROCESSES; i++) rollup_process_end(w, &w->process[i]);
    rollup_late_drop(w);
    if (w->archiver) rollup_archiver_end(w);
    rollup_redis_begin(NULL);
    ledgers_end();
    rollup_runners_end(w);
    for (uint32_t s = 0; s < SHARDS_MOST; s++) {
        redis_state_destroy(&w->shard[s].now);
        redis_state_destroy(&w->shard[s].old);
    }
    free(w->process);
}

bool rollup_schedule(struct sim *s)
{
    struct rollup_world *w = calloc(1, sizeof *w);
    if (!w) abort();
    w->sim = s;
    draw(w);
    rollup_begin(w);
    uint64_t eras = month_comes(w) ? 2 : 1;
    for (uint64_t era = 0; era < eras && !s->failed; era++) {
        if (era > 0) month_passes(w);
        w->steps_end = STEPS * (era + 1) / eras;
        while (s->steps < w->steps_end && sim_goes_on(s)) rollup_step(w);
        if (!s->failed && w->twins) rollup_twins(w);
        if (!s->failed && w->two_lost) rollup_two_lost(w);
        if (!s->failed && w->meet) rollup_flushes_meet(w);
        w->twins = w->two_lost = w->meet = false;
        if (era + 1 < eras && sim_draw(s, 2)) one_sleeps(w);
        if (!s->failed) quiet(w);
    }
    if (!s->failed && sim_draw(s, 3) == 0) rollup_check_health(w);
    if (!s->failed) rebuild(w);
    if (!s->failed && sim_draw(s, 8) == 0) rebuild(w); /* as any other does */
    if (!s->failed) rollup_check_damage(w);
    rollup_end(w);
    free(w);
    return !s->failed;
}
