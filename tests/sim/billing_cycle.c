/* A cycle of an exporter as shard.c has it, around the real rules, with a pause possible between any two steps: `due`
 * is read, a snapshot is taken and planned, what follows is committed, what is done leaves `due`. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/billing_world.h"

static uint32_t position(const char *text, const char *partition)
{
    const char *at = strstr(text, partition);
    return at ? (uint32_t)strtoul(at + 2, NULL, 10) & 0xffff : 0;
}

uint32_t billing_positions(const char *text)
{
    return position(text, "0@") << 16 | position(text, "1@");
}

static struct cycle cycle_at(const struct billing_world *w, const struct billing_exporter *x, struct watermark mark)
{
    return (struct cycle){.book = &x->book,
                          .facts = &x->facts,
                          .meter = billing_meters,
                          .meter_count = BILLING_METERS,
                          .account = "main",
                          .close_delay_ms = w->view->close_delay_ms,
                          .mark = mark};
}

/* A fact that it has not seen yet, now and then. */
static void follow_control(struct billing_world *w, struct billing_exporter *x)
{
    while (x->facts.chain.seq < w->controls && (w->sim->quiet || sim_draw(w->sim, 4))) {
        size_t i = (size_t)x->facts.chain.seq;
        if (control_view_fold(&x->facts, w->control[i].text, w->control[i].length, NULL) != SG_OK)
            sim_fail(w->sim, "a fact of control cannot be folded");
    }
}

static void look(struct billing_world *w, struct billing_exporter *x)
{
    struct billing_cycle *y = &x->cycle;
    struct cycle_tally ignored = {0};
    follow_control(w, x);
    const struct cycle c = cycle_at(w, x, w->view->mark(w->view->arg));
    size_t count = w->view->due(w->view->arg, y->due);
    y->groups = cycle_groups(&c, y->due, count, y->group, &ignored);
    if (y->groups && billing_now(w, x, &y->now)) y->phase = CYCLE_GROUPED;
}

static void plan(struct billing_world *w, struct billing_exporter *x)
{
    struct billing_cycle *y = &x->cycle;
    struct cycle_hour hour[BILLING_TEAMS * BILLING_HOURS];
    uint64_t vouched[PARTITIONS_MAX] = {0};
    struct cycle_tally ignored = {0};
    y->records = 0;
    if (!y->positions) y->positions = malloc(BILLING_TEAMS * BILLING_HOURS * sizeof *y->positions);
    if (!y->positions) abort();
    for (size_t i = 0; i < y->groups; i++)
        hour[i] = (struct cycle_hour){.team = y->group[i].first->team.s, .hour = y->group[i].first->hour};
    struct watermark mark = w->view->snapshot(w->view->arg, hour, y->groups, vouched);
    struct cycle c = cycle_at(w, x, mark);
    c.vouched = vouched;
    for (size_t i = 0; i < y->groups; i++) {
        y->done[i] = cycle_plan(&c, &y->group[i], &hour[i], y->now, y->positions[i], y->record, &y->records, &ignored);
        sums_destroy(&hour[i].total);
    }
    y->phase = CYCLE_PLANNED;
}

static void finish(struct billing_world *w, struct billing_exporter *x)
{
    struct billing_cycle *y = &x->cycle;
    for (size_t i = 0; i < y->groups; i++)
        if (y->done[i]) w->view->done(w->view->arg, y->group[i].first, y->group[i].count);
    y->phase = CYCLE_NONE;
}

void billing_cycle_step(struct billing_world *w, struct billing_exporter *x)
{
    struct billing_cycle *y = &x->cycle;
    switch (y->phase) {
    case CYCLE_NONE: look(w, x); break;
    case CYCLE_GROUPED: plan(w, x); break;
    case CYCLE_PLANNED:
        if (billing_commit(w, x, y->record, y->records)) y->phase = CYCLE_COMMITTED;
        break;
    case CYCLE_COMMITTED: finish(w, x); break;
    }
}
