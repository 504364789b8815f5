/* A shard fails over with writes lost; the new primary's aggregator reads the same messages again, until its vector is,
 * to the byte, that of the old primary; and then the old one comes back. Whoever wrote to the new one cannot see that:
 * the vector is what it was last told. The cells need not be: on its way one flush went further, and was cut.
 *
 * By random steps this is too rare to be seen, so it has steps of its own, between a storm and its quiet. Only a
 * partition whose marks are in the shard takes part: of any other, what is read again makes another vector entry. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"
#include "tests/sim/rollup_world.h"

enum { TURNS_MAX = 200, ROUNDS_OF_BATCHES = 3, WATCHED = 20 };

struct twins {
    struct rollup_world *w;
    struct rollup_process *process;
    uint32_t shard, partition;
};

static const char *entry_of(const struct twins *t, const struct redis_state *s)
{
    char key[KEY_BYTES_MAX], field[16];
    key_plain(key, t->shard, "v");
    (void)snprintf(field, sizeof field, "%u", t->partition);
    const struct redis_field *f = redis_state_get(s, redis_text(key), redis_text(field));
    return f ? f->text : "0";
}

static uint64_t offset_of(const struct twins *t)
{
    return strtoull(entry_of(t, &t->w->shard[t->shard].now), NULL, 10);
}

static void turn(const struct twins *t)
{
    t->w->sim->now += (int64_t)sim_draw(t->w->sim, 4 * SECOND_MS);
    rollup_process_turn(t->w, t->process);
}

/* Nothing is given at `end` or beyond. False: the shard does not come to stand there. */
static bool read_up_to(const struct twins *t, uint64_t end)
{
    t->w->topic[t->partition].withheld = end;
    for (int i = 0; i < TURNS_MAX && offset_of(t) != end && !t->w->sim->failed; i++) turn(t);
    t->w->topic[t->partition].withheld = 0;
    return offset_of(t) == end && !t->w->sim->failed;
}

/* The next flush, of everything there is, is cut. */
static void flush_cut(const struct twins *t)
{
    struct rollup_shard *h = &t->w->shard[t->shard];
    h->cut_next = true;
    for (int i = 0; i < TURNS_MAX && h->cut_next && !t->w->sim->failed; i++) turn(t);
    h->cut_next = false;
}

static bool fresh_batches(const struct twins *t)
{
    struct rollup_world *w = t->w;
    uint64_t before = w->topic[t->partition].committed;
    for (int i = 0; i < ROUNDS_OF_BATCHES; i++)
        for (uint32_t q = 0; q < w->runners; q++)
            if (w->runner[q].partition == t->partition) rollup_produce(w, &w->runner[q], false);
    rollup_runners_drain(w);
    return w->topic[t->partition].committed > before + 1;
}

static void there_and_back(const struct twins *t)
{
    struct rollup_world *w = t->w;
    struct rollup_shard *h = &w->shard[t->shard];
    uint64_t start = offset_of(t), end = w->topic[t->partition].committed;
    uint64_t meet = start + 1 + sim_draw(w->sim, end - start - 1), command = h->now.command;
    if (!read_up_to(t, meet)) return;
    redis_state_copy(&h->old, &h->now);
    h->has_old = true;
    redis_state_back(&h->now, command);
    flush_cut(t);
    if (!read_up_to(t, meet) || strcmp(entry_of(t, &h->old), entry_of(t, &h->now)) != 0) return;
    sim_trace(w->sim, "shard %u: the old primary has the same vector, and comes back", t->shard);
    rollup_old_gone(w, t->shard, true);
    h->watched = WATCHED;
    (void)read_up_to(t, end);
}

/* One aggregator, and no other misfortune. */
void rollup_twins(struct rollup_world *w)
{
    struct twins t = {.w = w, .process = &w->process[0]};
    w->sim->quiet = true;
    t.partition = w->runner[sim_draw(w->sim, w->runners)].partition;
    t.shard = shard_home(t.partition, w->shards);
    for (size_t i = 0; i < PROCESSES; i++) rollup_process_end(w, &w->process[i]);
    rollup_runners_drain(w);
    rollup_calm(w);
    rollup_settle(w, false);
    t.process->aggregator.rollup.chunk_cells = w->chunk_cells;
    if (!w->sim->failed && fresh_batches(&t)) there_and_back(&t);
    rollup_old_gone(w, t.shard, false);
}
