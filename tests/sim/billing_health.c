/* Health tells the truth (design.md, law 9). When nothing is left to be billed, an exporter is well, but for what
 * people must look at. When Stripe, Kafka or Redis falls silent, then or in the middle of its work, it is red within
 * ten seconds and names the silent one, for as long as that is silent. Then it is well again by itself. */
#include <string.h>

#include "tests/sim/billing_world.h"

enum {
    TOLD_MS = 10 * SECOND_MS,
    SILENCE_MS = 45 * SECOND_MS,
    WELL_MS = 40 * SECOND_MS,
    WORK_MS = 3 * SECOND_MS,
    TICK_MS = SECOND_MS / 2,
    YOUNG_MS = 4 * SECOND_MS,
    BRIEF_MS = 2 * SECOND_MS,
    REVOKED_MS = 90 * MINUTE_MS, /* longer than any question may wait */
    HEARD_MS = 8 * MINUTE_MS,    /* what was denied is asked again in less */
    PACE_MS = 20 * SECOND_MS,
    TURNS_MOST = 300
};

static const struct {
    enum billing_silent who;
    const char *name;
    enum exporter_component component;
} silent[] = {{BILLING_SILENT_STRIPE, "stripe", EXPORTER_STRIPE},
              {BILLING_SILENT_KAFKA, "kafka", EXPORTER_KAFKA},
              {BILLING_SILENT_REDIS, "redis", EXPORTER_REDIS}};
enum { SILENT = sizeof silent / sizeof *silent };

static void turn(struct billing_world *w)
{
    w->sim->now += (int64_t)sim_draw(w->sim, SECOND_MS / 2);
    billing_exporter_turn(w, &w->x[w->owner]);
}

/* Nothing but what is refused or held for people, and summaries that show why. */
static void check_well(struct billing_world *w)
{
    struct billing_exporter *x = &w->x[w->owner];
    const struct health *h = &x->exporter.health;
    struct health_report r;
    health_judge(&x->exporter.health, &r);
    w->sim->checks++;
    const char *held = h->fault[EXPORTER_HELD].reason, *summary = h->fault[EXPORTER_SUMMARY].reason;
    bool by_right = *r.reason && (*held || *summary);
    for (size_t i = 0; i < h->component_count; i++)
        if (i != EXPORTER_HELD && i != EXPORTER_SUMMARY && strstr(r.reason, h->component[i].name)) by_right = false;
    if (!r.healthy && !by_right) sim_fail(w->sim, "all is well, and %s says: %s", x->actor.name, r.reason);
    for (size_t i = 0; i < x->exporter.shard_count; i++)
        for (const struct book_open *o = x->exporter.shard[i].book.open_first; o; o = o->next)
            if (o->noted[LEDGER_HELD_SUM] && !*held)
                sim_fail(w->sim, "%s holds a revision, and says: %s", x->actor.name, r.reason);
}

static void go_on(struct billing_world *w, int64_t ms)
{
    for (int64_t end = w->sim->now + ms; w->sim->now < end && !w->sim->failed;) turn(w);
}

/* ---- a key that is not accepted ---- */

static bool has_work(const struct exporter *x)
{
    for (size_t i = 0; i < x->shard_count; i++)
        if (x->shard[i].book.open_first) return true;
    return !x->meters_known;
}

void billing_check_denied(struct billing_world *w, struct billing_exporter *x)
{
    struct health_report r;
    if (!has_work(&x->exporter)) x->denied_at = x->read_denied_at = 0; /* it asks for nothing: it need not know */
    const char *said = x->exporter.health.fault[EXPORTER_STRIPE].reason;
    if (x->untold && !x->actor.dead && !*said)
        sim_fail(w->sim, "%s was not told the meters, and is well", x->actor.name);
    int64_t since = x->denied_at ? x->denied_at : x->read_denied_at;
    if (since == 0 || x->actor.dead) return;
    health_judge(&x->exporter.health, &r);
    w->sim->checks++;
    bool late = w->sim->now - since > TOLD_MS;
    if (!*said || (late && !strstr(r.reason, "stripe")))
        sim_fail(w->sim, "its key is not accepted, and %s says: %s", x->actor.name, r.reason);
}

/* At rest only old revisions are asked about, and seldom. That this is denied is told, and that it no longer is. */
static void revoke_key(struct billing_world *w)
{
    struct sim *s = w->sim;
    struct billing_exporter *x = &w->x[w->owner];
    if (!has_work(&x->exporter) || sim_draw(s, 3)) return;
    w->key_off_until = s->now + REVOKED_MS;
    for (int64_t end = w->key_off_until + HEARD_MS; s->now < end && !s->failed;) {
        s->now += (int64_t)sim_draw(s, PACE_MS);
        billing_exporter_turn(w, x);
    }
    go_on(w, WELL_MS);
    if (!s->failed) check_well(w);
}

/* ---- silence ---- */

/* Who is silent since when; SILENT: nobody, but commits are slow. */
struct silence {
    struct billing_world *world;
    size_t who;
    int64_t begun, ends;
    bool brief; /* a blip, which is no fault */
    bool well;  /* the exporter was */
};

/* A fault of that component has stood for longer than it may. */
static bool has_fault(struct billing_exporter *x, enum exporter_component c)
{
    const struct health *h = &x->exporter.health;
    return h->fault[c].reason[0] &&
           clock_since(loop_now(&x->exporter.loop), h->fault[c].since) > h->component[c].allowance_ms;
}

/* Nobody is named who is not silent, or not for long. What people must look at is another matter. */
static void check_not_told(const struct silence *s, struct billing_exporter *x, const char *reason)
{
    bool young = s->brief || s->world->sim->now < s->begun + YOUNG_MS;
    for (size_t i = 0; i < SILENT; i++)
        if ((i != s->who || young) && has_fault(x, silent[i].component))
            sim_fail(s->world->sim, "it is not %s that is silent for long, and %s says: %s", silent[i].name,
                     x->actor.name, reason);
    if ((s->who == SILENT || young) && strstr(reason, "main-thread"))
        sim_fail(s->world->sim, "nobody is silent for long, and %s says: %s", x->actor.name, reason);
}

static void check_told(const struct silence *s, struct billing_exporter *x)
{
    struct health_report r;
    int64_t ms = s->world->sim->now - s->begun;
    health_judge(&x->exporter.health, &r);
    if (s->well) check_not_told(s, x, r.reason);
    if (s->who == SILENT || s->brief || ms < TOLD_MS) return;
    if (r.healthy || (!strcasestr(r.reason, silent[s->who].name) && !strstr(r.reason, "main-thread")))
        sim_fail(s->world->sim, "%s is silent for %d ms, and %s says: %s", silent[s->who].name, (int)ms, x->actor.name,
                 r.reason);
}

static void speak(struct billing_world *w)
{
    w->silent = BILLING_SILENT_NOBODY;
    ledgers_speak();
}

/* Also in the middle of a turn, where it waits: then its main thread hangs. */
static bool look(void *arg)
{
    const struct silence *s = arg;
    bool over = s->world->sim->now >= s->ends;
    if (over) speak(s->world);
    if (!s->world->sim->failed && (s->brief || !over)) check_told(s, &s->world->x[s->world->owner]);
    return false;
}

void billing_wait(struct billing_world *w, int64_t ms)
{
    for (int64_t end = w->sim->now + ms; w->silent != BILLING_SILENT_NOBODY && w->sim->now < end;) {
        w->sim->now += end - w->sim->now < TICK_MS ? end - w->sim->now : TICK_MS;
        (void)w->onlooker.tick(w->onlooker.arg);
    }
}

/* What it knew is gone: it asks for it. */
static void start_anew(struct silence *s)
{
    struct billing_exporter *x = &s->world->x[s->world->owner];
    billing_exporter_end(x);
    billing_exporter_begin(s->world, x);
    s->ends += s->world->sim->now - s->begun;
    s->begun = s->world->sim->now;
    s->well = false;
}

/* When silence begins, beside any time: a cycle is about to ask Redis, before a probe does; Stripe was just probed, and
 * what the next cycle finds is sent shortly before the next probe would be. */
enum moment { BEFORE_A_CYCLE, BEHIND_A_PROBE, AT_ANY_TIME };

static int64_t until_cycle_ms(const struct exporter *x)
{
    const struct shard *s = &x->shard[0];
    return s->log ? s->next_cycle.v - loop_now(&x->loop).v : 0;
}

static bool has_come(const struct exporter *x, enum moment moment)
{
    int64_t until_redis_probe_ms = x->redis_probe_at.v - loop_now(&x->loop).v;
    int64_t until_probe_ms = x->probe_at.v - loop_now(&x->loop).v;
    switch (moment) {
    case BEFORE_A_CYCLE: return until_cycle_ms(x) < SECOND_MS / 2 && until_cycle_ms(x) < until_redis_probe_ms;
    case BEHIND_A_PROBE:
        return until_probe_ms > 2 * SECOND_MS && until_cycle_ms(x) > 3 * SECOND_MS / 2 &&
               until_cycle_ms(x) < until_probe_ms;
    case AT_ANY_TIME: break;
    }
    return true;
}

static void wait_for(struct billing_world *w, enum moment moment)
{
    struct exporter *x = &w->x[w->owner].exporter;
    for (int turns = 0; !has_come(x, moment) && !w->sim->failed; turns++) {
        if (turns == TURNS_MOST) sim_fail(w->sim, "a moment that is waited for does not come");
        turn(w);
    }
    if (moment == BEFORE_A_CYCLE && until_cycle_ms(x) > 0) w->sim->now += until_cycle_ms(x);
}

/* In its first seconds there comes something to do; work NULL: there does not. */
static void fall_silent(struct billing_world *w, void (*work)(void *arg), void *arg)
{
    struct health_report r;
    enum moment moment = (enum moment)sim_draw(w->sim, AT_ANY_TIME + 1);
    wait_for(w, moment);
    struct silence s = {.world = w, .who = sim_draw(w->sim, SILENT + 1), .begun = w->sim->now};
    int64_t work_at = s.begun + (moment == AT_ANY_TIME ? (int64_t)sim_draw(w->sim, WORK_MS) : 0);
    health_judge(&w->x[w->owner].exporter.health, &r);
    s.well = r.healthy;
    s.brief = sim_draw(w->sim, 2) == 0;
    s.ends = s.begun + (s.brief ? (int64_t)sim_draw(w->sim, BRIEF_MS) : SILENCE_MS);
    w->silent = s.who < SILENT ? silent[s.who].who : BILLING_SILENT_NOBODY;
    w->onlooker = (struct txlog_waiter){look, &s};
    if (w->silent == BILLING_SILENT_KAFKA) ledgers_silence(w->onlooker);
    if (s.who == SILENT) ledgers_slow_down(w->onlooker);
    while (w->sim->now < s.ends + (s.brief ? TOLD_MS : 0) && !w->sim->failed) {
        if (work && w->sim->now >= work_at) {
            work(arg);
            work = NULL;
            if (!s.brief && sim_draw(w->sim, 3) == 0) start_anew(&s);
        }
        turn(w);
        (void)look(&s);
    }
    speak(w);
}

void billing_check_told(struct billing_world *w, void (*work)(void *arg), void *arg)
{
    for (int64_t end = w->sim->now + WELL_MS; w->sim->now < end && !w->sim->failed;) {
        w->sim->now += (int64_t)sim_draw(w->sim, SECOND_MS);
        billing_quiet_step(w, false);
    }
    fall_silent(w, work, arg);
}

void billing_check_health(struct billing_world *w)
{
    go_on(w, WELL_MS);
    if (!w->sim->failed) check_well(w);
    fall_silent(w, NULL, NULL);
    go_on(w, WELL_MS);
    if (!w->sim->failed) check_well(w);
    if (!w->sim->failed) revoke_key(w);
    for (int turns = 0; turns < TURNS_MOST && !billing_at_rest(w) && !w->sim->failed; turns++) turn(w);
}
