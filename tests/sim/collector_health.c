/* Health tells the truth (design.md, law 9). Everything is at rest, when no broker answers any more, or the disk is
 * full, and supervisors go on talking. Within ten seconds a collector is red and names what it is, for as long as that
 * lasts. Then it is green again by itself. */
#include <string.h>

#include "tests/sim/collector_world.h"

enum { TOLD_MS = 10 * SECOND_MS, SILENCE_MS = 20 * SECOND_MS, WELL_MS = 30 * SECOND_MS, STEP_MS = 250 };
enum { LINES_A_STEP = 12 }; /* so that there is something to send, and to have room for */

static void step(struct collector_world *w, size_t lines)
{
    w->sim->now += STEP_MS;
    for (size_t k = 0; k < w->runners; k++) {
        struct collector_runner *r = &w->runner[k];
        if (r->gone) continue;
        for (size_t i = 0; i < r->sources; i++) {
            for (size_t n = lines; n > 0; n--) collector_source_event(&r->source[i]);
            collector_source_talk(&r->source[i], true);
        }
        collector_program_turn(r);
        if (!r->collector.commit.blocked) r->has_room_at = w->sim->now;
        if (!r->alive) return sim_fail(w->sim, "%s has ended: %s", r->name, r->fault.text);
    }
    collector_broker_turn(w);
}

/* Who still had room a moment ago has none to miss. */
static bool misses(const struct collector_runner *r, bool broker)
{
    return !r->gone && (broker || r->has_room_at + TOLD_MS < r->world->sim->now);
}

static void expect_red(struct collector_world *w, bool broker)
{
    const char *who = broker ? "kafka" : "spool";
    for (size_t k = 0; k < w->runners; k++) {
        struct health_report h;
        struct collector_runner *r = &w->runner[k];
        if (!misses(r, broker)) continue;
        collector_program_health(r, &h);
        w->sim->checks++;
        if (h.healthy || !strstr(h.reason, who)) sim_fail(w->sim, "it is %s, and %s says: %s", who, r->name, h.reason);
    }
}

/* With a clock of their own, hosts whose wall clocks have stepped may say so. */
static void expect_green(struct collector_world *w)
{
    for (size_t k = 0; k < w->runners; k++) {
        struct health_report h;
        struct collector_runner *r = &w->runner[k];
        if (r->gone || (w->system_clock && w->wall_stepped)) continue;
        collector_program_health(r, &h);
        w->sim->checks++;
        if (!h.healthy) sim_fail(w->sim, "all is well, and %s says: %s", r->name, h.reason);
    }
}

void collector_check_health(struct collector_world *w)
{
    collector_quiet_step(w, false); /* what the storm had still in store is over */
    bool broker = sim_draw(w->sim, 2);
    int64_t begun = w->sim->now;
    w->broker_silent = broker;
    for (size_t k = 0; k < w->runners; k++) w->runner[k].disk_full = !broker;
    while (w->sim->now < begun + SILENCE_MS && !w->sim->failed) {
        step(w, broker ? 1 : LINES_A_STEP);
        if (w->sim->now >= begun + TOLD_MS && !w->sim->failed) expect_red(w, broker);
    }
    w->broker_silent = false;
    for (size_t k = 0; k < w->runners; k++) w->runner[k].disk_full = false;
    for (int64_t end = w->sim->now + WELL_MS; w->sim->now < end && !w->sim->failed;) step(w, 0);
    if (!w->sim->failed) expect_green(w);
}
