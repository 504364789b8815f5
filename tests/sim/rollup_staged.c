/* What chance does not bring about in a lifetime of schedules: staged, between a storm and its quiet, with one
 * aggregator and no other misfortune.
 *
 * TWINS      A shard fails over with writes lost; the new primary's aggregator reads the same messages again, until its
 *            vector is, to the byte, that of the old primary; and then the old one comes back. Whoever wrote to the new
 *            one cannot see that: the vector is what it was last told. The cells need not be: on its way one flush went
 *            further, and was cut.
 * TWO LOST   A shard was rolled back and reads again, when another one is found to be not what was last seen. What the
 *            first has read again and not written yet still holds its claim back: a runner in it was silent, and is not
 *            any more.
 *
 * Both need a partition of which more is known than its shard has: in twins its marks are in the shard, else what is
 * read again makes another entry; with two lost they are in a third one, else they went back as well. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"
#include "tests/sim/rollup_world.h"

enum { TURNS_MAX = 200, ROUNDS_OF_BATCHES = 3, WATCHED = 20, STALE_READS = 3 };

struct stage {
    struct rollup_world *w;
    struct rollup_process *process;
    uint32_t shard, partition;
};

static const char *entry_of(const struct stage *g, const struct redis_state *s)
{
    char key[KEY_BYTES_MAX], field[16];
    key_plain(key, g->shard, "v");
    (void)snprintf(field, sizeof field, "%u", g->partition);
    const struct redis_field *f = redis_state_get(s, redis_text(key), redis_text(field));
    return f ? f->text : "0";
}

static uint64_t offset_of(const struct stage *g)
{
    return strtoull(entry_of(g, &g->w->shard[g->shard].now), NULL, 10);
}

static void turn(const struct stage *g)
{
    g->w->sim->now += (int64_t)sim_draw(g->w->sim, 4 * SECOND_MS);
    rollup_process_turn(g->w, g->process);
}

/* Nothing is given at `end` or beyond. False: the shard does not come to stand there. */
static bool read_up_to(const struct stage *g, uint64_t end)
{
    g->w->topic[g->partition].withheld = end;
    for (int i = 0; i < TURNS_MAX && offset_of(g) != end && !g->w->sim->failed; i++) turn(g);
    g->w->topic[g->partition].withheld = 0;
    return offset_of(g) == end && !g->w->sim->failed;
}

static void only_one(struct stage *g)
{
    struct rollup_world *w = g->w;
    g->process = &w->process[0];
    w->sim->quiet = true;
    for (size_t i = 0; i < PROCESSES; i++) rollup_process_end(w, &w->process[i]);
    rollup_runners_drain(w);
    rollup_calm(w);
    rollup_settle(w, false);
    g->process->aggregator.rollup.chunk_cells = w->chunk_cells;
}

/* ---- twins ---- */

/* The next flush, of everything there is, is cut. */
static void flush_cut(const struct stage *g)
{
    struct rollup_shard *h = &g->w->shard[g->shard];
    h->cut_next = true;
    for (int i = 0; i < TURNS_MAX && h->cut_next && !g->w->sim->failed; i++) turn(g);
    h->cut_next = false;
}

static bool fresh_batches(const struct stage *g)
{
    struct rollup_world *w = g->w;
    uint64_t before = w->topic[g->partition].committed;
    for (int i = 0; i < ROUNDS_OF_BATCHES; i++)
        for (uint32_t q = 0; q < w->runners; q++)
            if (w->runner[q].partition == g->partition) rollup_produce(w, &w->runner[q], false);
    rollup_runners_drain(w);
    return w->topic[g->partition].committed > before + 1;
}

static void there_and_back(const struct stage *g)
{
    struct rollup_world *w = g->w;
    struct rollup_shard *h = &w->shard[g->shard];
    uint64_t start = offset_of(g), end = w->topic[g->partition].committed;
    uint64_t meet = start + 1 + sim_draw(w->sim, end - start - 1), command = h->now.command;
    if (!read_up_to(g, meet)) return;
    redis_state_copy(&h->old, &h->now);
    h->has_old = true;
    redis_state_back(&h->now, command);
    flush_cut(g);
    if (!read_up_to(g, meet) || strcmp(entry_of(g, &h->old), entry_of(g, &h->now)) != 0) return;
    sim_trace(w->sim, "shard %u: the old primary has the same vector, and comes back", g->shard);
    rollup_old_gone(w, g->shard, true);
    h->watched = WATCHED;
    (void)read_up_to(g, end);
}

void rollup_twins(struct rollup_world *w)
{
    struct stage g = {.w = w, .partition = w->runner[sim_draw(w->sim, w->runners)].partition};
    g.shard = shard_home(g.partition, w->shards);
    only_one(&g);
    if (!w->sim->failed && fresh_batches(&g)) there_and_back(&g);
    rollup_old_gone(w, g.shard, false);
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
static bool apply_up_to(const struct stage *g, uint64_t end)
{
    const struct rollup_partition *p = &g->process->aggregator.rollup.partition[g->partition];
    g->w->topic[g->partition].withheld = end;
    for (int i = 0; i < TURNS_MAX && p->position != end; i++) rollup_process_turn(g->w, g->process);
    return p->position == end && offset_of(g) < end;
}

/* A new one, that stands where the shard does, and has just flushed. */
static void begin_anew(const struct stage *g, uint64_t start)
{
    const struct aggregator *a = &g->process->aggregator;
    rollup_process_end(g->w, g->process);
    rollup_process_begin(g->w, g->process);
    rollup_rebalance(g->w);
    g->w->topic[g->partition].withheld = start;
    for (int i = 0; i < TURNS_MAX && (i == 0 || a->flush_at.v <= clock_boot().v); i++) turn(g);
}

static void lose_another(const struct stage *g, uint32_t another)
{
    struct rollup_shard *h = &g->w->shard[another];
    g->w->topic[g->partition].withheld = 0;
    h->stale_reads = STALE_READS;
    g->w->stale_in_quiet = true;
    for (int i = 0; i < STALE_READS && g->process->aggregator.rollup.partition[g->partition].seen[another].known; i++)
        rollup_process_turn(g->w, g->process);
    g->w->stale_in_quiet = false;
    h->stale_reads = 0;
}

void rollup_two_lost(struct rollup_world *w)
{
    struct rollup_runner *heard = &w->runner[sim_draw(w->sim, w->runners)], *back = other_runner(w, heard);
    struct stage g = {.w = w, .partition = heard->partition};
    if (w->shards < 3 || !back) return;
    uint32_t home = shard_home(g.partition, w->shards), another = (home + 2) % 3;
    g.shard = (home + 1) % 3;
    only_one(&g);
    w->sim->now += 2 * GRACE_MS;
    rollup_produce(w, heard, true);
    if (!in(w)) return;
    uint64_t start = offset_of(&g), first = w->shard[g.shard].now.command;
    rollup_produce(w, back, false);
    if (!in(w)) return;
    uint64_t second = w->shard[another].now.command, meet = w->topic[g.partition].committed;
    rollup_produce(w, heard, false);
    if (!in(w)) return;
    redis_state_back(&w->shard[g.shard].now, first);
    redis_state_back(&w->shard[another].now, second);
    begin_anew(&g, start);
    if (apply_up_to(&g, meet)) {
        lose_another(&g, another);
        (void)read_up_to(&g, meet);
    }
    w->topic[g.partition].withheld = 0;
}
