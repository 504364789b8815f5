/* The lives of exporters: each is the program that ships, and may be interrupted wherever it calls. */
#include <stdio.h>
#include <string.h>

#include "tests/sim/billing_world.h"

enum {
    CALM = 24, /* of so many moments all but one pass without an interruption */
    FROZEN_STEPS = 40,
};

/* Until that time it is frozen, and the world goes on in leaps. */
static void others_go_on(struct billing_world *w, uint64_t steps, int64_t until)
{
    for (; steps > 0 && w->sim->steps < w->steps_end && sim_goes_on(w->sim); steps--) {
        w->others(w->others_arg);
        if (w->sim->now < until && sim_draw(w->sim, 8) == 0)
            w->sim->now += (int64_t)sim_draw(w->sim, (uint64_t)(until - w->sim->now));
    }
    if (w->sim->now < until) w->sim->now = until;
}

static void interrupted(void *arg)
{
    struct billing_exporter *x = arg;
    struct billing_world *w = x->world;
    struct sim *s = w->sim;
    if (s->quiet || s->failed || w->depth == BILLING_NESTED_MAX || sim_draw(s, CALM)) return;
    if (sim_draw(s, 2) && billing_fault(w, SIM_EXPORTER_KILLED)) {
        x->actor.dead = true;
        return;
    }
    bool frozen = s->steps < w->steps_end && billing_fault(w, SIM_EXPORTER_STOPPED);
    uint64_t steps = frozen ? 1 + sim_draw(s, FROZEN_STEPS) : sim_draw(s, 3);
    if (steps == 0) return;
    struct sim_actor *acting = ports_act(NULL);
    w->depth++;
    others_go_on(w, steps, frozen ? s->now + (int64_t)sim_draw(s, w->frozen_ms_most) : s->now);
    w->depth--;
    (void)ports_act(acting);
    billing_deliver(w);
}

static void configure(struct billing_world *w, struct exporter_config *c, char *name)
{
    static char cluster[] = "c", ledger[] = "ledger", control[] = LEDGERS_CONTROL, account[] = "main";
    static char meter[BILLING_METERS][FIELD_NAME_BYTES_MAX], *meters[BILLING_METERS];
    for (int i = 0; i < BILLING_METERS; i++) {
        (void)field_name(billing_meters[i].meter.field, meter[i]);
        meters[i] = meter[i];
    }
    *c = (struct exporter_config){.instance = name,
                                  .cluster = cluster,
                                  .ledger_topic = ledger,
                                  .control_topic = control,
                                  .stripe_account = account,
                                  .meters = {meters, BILLING_METERS},
                                  .shards = w->shards,
                                  .stripe_concurrency = 1 + (int64_t)sim_draw(w->sim, 6),
                                  .hour_close_delay_ms = (uint64_t)w->view->close_delay_ms,
                                  .poll_interval_ms = 5 * SECOND_MS,
                                  .archive_interval_ms = 15 * MINUTE_MS,
                                  .runner_grace_ms = 5 * MINUTE_MS};
}

/* Often so small that they are reached. What is held for people never takes all the room: they would look. */
static void limit(struct billing_world *w, struct billing_exporter *x)
{
    struct sim *s = w->sim;
    x->exporter.rows_most = sim_draw(s, 3) ? 1 + sim_draw(s, 4) : VIEW_ROWS_MAX;
    x->exporter.results_most =
        sim_draw(s, 2) ? (size_t)x->config.stripe_concurrency + 1 + sim_draw(s, 3) : EXPORTER_RESULTS_MAX;
    billing_make_room(w, x);
}

void billing_make_room(const struct billing_world *w, struct billing_exporter *x)
{
    x->exporter.open_most = w->open_most;
    for (int i = 0; i < BILLING_KEYS; i++) x->exporter.open_most += w->odd[i];
}

void billing_exporter_begin(struct billing_world *w, struct billing_exporter *x)
{
    struct sg_fault f = {0};
    x->world = w;
    x->alive = true;
    x->denied_at = x->read_denied_at = 0;
    x->actor = (struct sim_actor){.skew_ms = x->actor.skew_ms, .interrupted = interrupted, .arg = x};
    (void)snprintf(x->actor.name, sizeof x->actor.name, "x%u", ++w->incarnations);
    configure(w, &x->config, x->actor.name);
    struct sim_actor *acting = ports_act(&x->actor);
    x->busy = true;
    if (exporter_init(&x->exporter, &x->config, &f) != SG_OK) sim_fail(w->sim, "%s does not begin", x->actor.name);
    limit(w, x);
    x->busy = false;
    (void)ports_act(acting);
}

void billing_exporter_end(struct billing_exporter *x)
{
    struct sim_actor *acting = ports_act(NULL);
    if (x->alive) exporter_destroy(&x->exporter);
    x->alive = false;
    (void)ports_act(acting);
}

/* What can be wrong with a shard is in the network, or another owner (CORRUPT: one was met in two openings in a row;
 * in quiet health would tell of it): whatever happened, the ledger is understood. */
static void check_shards(struct billing_world *w, const struct billing_exporter *x)
{
    for (size_t i = 0; i < x->exporter.shard_count; i++) {
        const struct sg_fault *why = &x->exporter.shard[i].closed_by;
        bool known = why->code == SG_OK || why->code == SG_ERR_FENCED || why->code == SG_ERR_CORRUPT ||
                     why->code == SG_ERR_UNKNOWN || why->code == SG_ERR_UNREACHABLE || why->code == SG_ERR_TIMEOUT ||
                     why->code == SG_ERR_STATE;
        if (!known) sim_fail(w->sim, "%s gives up its ledger: %s", x->actor.name, why->text);
        size_t results = x->exporter.shard[i].result_count;
        if (results >= x->exporter.results_most)
            sim_fail(w->sim, "%zu results wait for a commit, of fewer than %zu", results, x->exporter.results_most);
    }
}

/* Closed ones, all of whose usage is in; of this world's own view. */
static size_t hours_due(const struct billing_world *w)
{
    struct cycle_due due[BILLING_DUE_MAX];
    struct view_head head;
    bool is_due[BILLING_KEYS] = {false}, is_short[BILLING_KEYS] = {false};
    size_t count = w->view->due(w->view->arg, due), hours = 0;
    w->view->head(w->view->arg, &head);
    for (size_t i = 0; i < count; i++) {
        int key = billing_index_of(w, due[i].team.s, billing_meters[0].meter.field, due[i].hour);
        struct wall_ms closed_at = {due[i].hour.v + HOUR_MS + w->view->close_delay_ms};
        is_due[key] = watermark_passed(head.mark, closed_at);
        is_short[key] |= head.vouched[due[i].partition] < due[i].offset;
    }
    for (int i = 0; i < BILLING_KEYS; i++) hours += is_due[i] && !is_short[i];
    return hours;
}

/* Behind a cycle in quiet each hour that is still due is told of, also one that there was no room to plan. */
static void check_waiting(struct billing_world *w, const struct billing_exporter *x, uint64_t incarnation,
                          struct boot_ms cycle)
{
    const struct shard *s = &x->exporter.shard[0];
    bool whole = s->log && s->incarnation == incarnation && s->next_cycle.v != cycle.v && !s->cycle_fault.code;
    if (!w->sim->quiet || !w->view->head || !whole) return;
    w->sim->checks++;
    size_t due = hours_due(w), told = s->tally.waiting + s->tally.pending + s->tally.held + s->tally.unread;
    if (told < due) sim_fail(w->sim, "%zu hours are due, and %s tells of %zu", due, x->actor.name, told);
}

void billing_exporter_turn(struct billing_world *w, struct billing_exporter *x)
{
    struct sg_fault f = {0};
    uint64_t incarnation = x->exporter.shard[0].incarnation;
    struct boot_ms cycle = x->exporter.shard[0].next_cycle;
    struct sim_actor *acting = ports_act(&x->actor);
    x->busy = true;
    x->untold = false;
    enum sg_error e = exporter_turn(&x->exporter, &f);
    if (e == SG_OK && x->actor.stopping && !x->actor.dead) exporter_end(&x->exporter);
    if (e != SG_OK && !x->actor.dead) sim_fail(w->sim, "%s stops: %s", x->actor.name, f.text);
    check_shards(w, x);
    billing_check_denied(w, x);
    check_waiting(w, x, incarnation, cycle);
    x->busy = false;
    (void)ports_act(acting);
    if (x->actor.dead || x->actor.stopping) {
        sim_trace(w->sim, "%s has ended", x->actor.name);
        billing_exporter_end(x);
    }
}
