/* What chance does not bring about often enough, or not in a lifetime of schedules: staged, between a storm and its
 * quiet, with one aggregator and no other misfortune.
 *
 * TWINS      A shard fails over with writes lost; the new primary's aggregator reads the same messages again, until its
 *            vector is, to the byte, that of the old primary; and then the old one comes back. Whoever wrote to the new
 *            one cannot see that: the vector is what it was last told. The cells need not be: on its way one flush went
 *            further, and was cut.
 * TWO LOST   A shard was rolled back and reads again, when another one is found to be not what was last seen. What the
 *            first has read again and not written yet still holds its claim back: a runner in it was silent, and is not
 *            any more.
 * MEET       A flush was given up, and more was read; the late one arrives between two chunks of the next, and is cut
 *            or not: cells that the next has written go back to what they were, and its claim would be false.
 *
 * The first two need a partition of which more is known than its shard has: in twins its marks are in the shard, else
 * what is read again makes another entry; with two lost they are in a third one, else they went back as well. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"
#include "tests/sim/rollup_world.h"

enum { TURNS_MAX = 200, ROUNDS_OF_BATCHES = 3, WATCHED = 20, STALE_READS = 3, CHUNK_TO_MEET = 4 };

struct stage {
    struct rollup_world *w;
    struct rollup_process *process;
    uint32_t shard, partition;
};

static const char *entry_of(const struct stage *stage, const struct redis_state *s)
{
    char key[KEY_BYTES_MAX], field[16];
    key_plain(key, stage->shard, "v");
    (void)snprintf(field, sizeof field, "%u", stage->partition);
    const struct redis_field *f = redis_state_get(s, redis_text(key), redis_text(field));
    return f ? f->text : "0";
}

static uint64_t offset_of(const struct stage *stage)
{
    return strtoull(entry_of(stage, &stage->w->shard[stage->shard].now), NULL, 10);
}

static void turn(const struct stage *stage)
{
    stage->w->sim->now += (int64_t)sim_draw(stage->w->sim, 4 * SECOND_MS);
    rollup_process_turn(stage->w, stage->process);
}

/* Nothing is given at `end` or beyond. False: the shard does not come to stand there. */
static bool read_up_to(const struct stage *stage, uint64_t end)
{
    stage->w->topic[stage->partition].withheld = end;
    for (int i = 0; i < TURNS_MAX && offset_of(stage) != end && !stage->w->sim->failed; i++) turn(stage);
    stage->w->topic[stage->partition].withheld = 0;
    return offset_of(stage) == end && !stage->w->sim->failed;
}

static void only_one(struct stage *stage)
{
    struct rollup_world *w = stage->w;
    stage->process = &w->process[0];
    w->sim->quiet = true;
    for (size_t i = 0; i < PROCESSES; i++) rollup_process_end(w, &w->process[i]);
    rollup_runners_drain(w);
    rollup_calm(w);
    rollup_settle(w, false);
    stage->process->aggregator.rollup.chunk_cells = w->chunk_cells;
}

/* ---- twins ---- */

/* The next flush, of everything there is, is cut. */
static void flush_cut(const struct stage *stage)
{
    struct rollup_shard *h = &stage->w->shard[stage->shard];
    h->cut_next = true;
    for (int i = 0; i < TURNS_MAX && h->cut_next && !stage->w->sim->failed; i++) turn(stage);
    h->cut_next = false;
}

static bool fresh_batches(const struct stage *stage)
{
    struct rollup_world *w = stage->w;
    uint64_t before = w->topic[stage->partition].committed;
    for (int i = 0; i < ROUNDS_OF_BATCHES; i++)
        for (uint32_t q = 0; q < w->runners; q++)
            if (w->runner[q].partition == stage->partition) rollup_produce(w, &w->runner[q], false);
    rollup_runners_drain(w);
    return w->topic[stage->partition].committed > before + 1;
}

static void there_and_back(const struct stage *stage)
{
    struct rollup_world *w = stage->w;
    struct rollup_shard *h = &w->shard[stage->shard];
    uint64_t start = offset_of(stage), end = w->topic[stage->partition].committed;
    uint64_t meet = start + 1 + sim_draw(w->sim, end - start - 1), command = h->now.command;
    if (!read_up_to(stage, meet)) return;
    redis_state_copy(&h->old, &h->now);
    h->has_old = true;
    redis_state_back(&h->now, command);
    flush_cut(stage);
    if (!read_up_to(stage, meet) || strcmp(entry_of(stage, &h->old), entry_of(stage, &h->now)) != 0) return;
    sim_trace(w->sim, "shard %u: the old primary has the same vector, and comes back", stage->shard);
    rollup_old_gone(w, stage->shard, true);
    h->watched = WATCHED;
    (void)read_up_to(stage, end);
}

void rollup_twins(struct rollup_world *w)
{
    struct stage stage = {.w = w, .partition = w->runner[sim_draw(w->sim, w->runners)].partition};
    stage.shard = shard_home(stage.partition, w->shards);
    only_one(&stage);
    if (!w->sim->failed && fresh_batches(&stage)) there_and_back(&stage);
    rollup_old_gone(w, stage.shard, false);
}

/* ---- flushes meet ---- */

void rollup_flushes_meet(struct rollup_world *w)
{
    struct stage stage = {.w = w, .partition = w->runner[sim_draw(w->sim, w->runners)].partition};
    stage.shard = (uint32_t)sim_draw(w->sim, w->shards);
    struct rollup_shard *h = &w->shard[stage.shard];
    only_one(&stage);
    stage.process->aggregator.rollup.chunk_cells = CHUNK_TO_MEET;
    uint64_t start = offset_of(&stage);
    if (w->sim->failed || !fresh_batches(&stage)) return;
    uint64_t end = w->topic[stage.partition].committed;
    w->topic[stage.partition].withheld = start + 1 + sim_draw(w->sim, end - start - 1);
    h->late_next = true;
    for (int i = 0; i < TURNS_MAX && h->late_next && !w->sim->failed; i++) turn(&stage);
    (void)read_up_to(&stage, end);
    h->late_next = h->meets = false;
}

/* ---- two lost ---- */

/* Another runner of the partition, or NULL. */
static struct rollup_runner *other_runner(struct rollup_world *w, const struct rollup_runner *q)
{
    for (uint32_t i = 0; i < w->runners; i++)
        if (&w->runner[i] != q && w->runner[i].partition == q->partition) return &w->runner[i];
    return NULL;
}

/* What is sealed is in the view. */
static bool in(struct rollup_world *w)
{
    rollup_runners_drain(w);
    rollup_settle(w, false);
    return !w->sim->failed;
}

/* Turns in which no time passes, so that nothing is flushed, until the aggregator stands at the end of what is given.
 */
static bool apply_up_to(const struct stage *stage, uint64_t end)
{
    const struct rollup_partition *p = &stage->process->aggregator.rollup.partition[stage->partition];
    stage->w->topic[stage->partition].withheld = end;
    for (int i = 0; i < TURNS_MAX && p->position != end; i++) rollup_process_turn(stage->w, stage->process);
    return p->position == end && offset_of(stage) < end;
}

/* A new one, that stands where the shard does, and has just flushed. */
static void begin_anew(const struct stage *stage, uint64_t start)
{
    const struct aggregator *a = &stage->process->aggregator;
    rollup_process_end(stage->w, stage->process);
    rollup_process_begin(stage->w, stage->process);
    rollup_rebalance(stage->w);
    stage->w->topic[stage->partition].withheld = start;
    for (int i = 0; i < TURNS_MAX && (i == 0 || a->flush_at.v <= clock_boot().v); i++) turn(stage);
}

static void lose_another(const struct stage *stage, uint32_t another)
{
    struct rollup_shard *h = &stage->w->shard[another];
    stage->w->topic[stage->partition].withheld = 0;
    h->stale_reads = STALE_READS;
    for (int i = 0;
         i < STALE_READS && stage->process->aggregator.rollup.partition[stage->partition].seen[another].known; i++)
        rollup_process_turn(stage->w, stage->process);
    h->stale_reads = 0;
}

void rollup_two_lost(struct rollup_world *w)
{
    struct rollup_runner *heard = &w->runner[sim_draw(w->sim, w->runners)], *back = other_runner(w, heard);
    struct stage stage = {.w = w, .partition = heard->partition};
    if (w->shards < 3 || !back) return;
    uint32_t home = shard_home(stage.partition, w->shards), another = (home + 2) % 3;
    stage.shard = (home + 1) % 3;
    only_one(&stage);
    w->sim->now += 2 * GRACE_MS;
    rollup_produce(w, heard, true);
    if (!in(w)) return;
    uint64_t start = offset_of(&stage), first = w->shard[stage.shard].now.command;
    rollup_produce(w, back, false);
    if (!in(w)) return;
    uint64_t second = w->shard[another].now.command, meet = w->topic[stage.partition].committed;
    rollup_produce(w, heard, false);
    if (!in(w)) return;
    redis_state_back(&w->shard[stage.shard].now, first);
    redis_state_back(&w->shard[another].now, second);
    begin_anew(&stage, start);
    if (apply_up_to(&stage, meet)) {
        lose_another(&stage, another);
        (void)read_up_to(&stage, meet);
    }
    w->topic[stage.partition].withheld = 0;
}
