/* Health is progress (design.md, law 9). Written by the program's main thread, read by the operations thread.
 *
 * A program is healthy if and only if
 *   1. its main thread gave a sign of life (health_alive, health_set_lag) within HEALTH_PROGRESS_MS: one that hangs is
 *      not healthy;
 *   2. its lag is zero, or it advanced (health_progress) within HEALTH_PROGRESS_MS, or the lag itself is younger;
 *   3. no component's fault has stood for longer than that component's allowance;
 *   4. the wall clock was not stepped, against boot time, within HEALTH_STEP_HOLD_MS: what it was used for may be
 *      wrong.
 *
 * HEALTH_PROGRESS_MS leaves two seconds for what is told late: red within ten seconds of the last progress. An
 * unhealthy program names everything that is wrong, joined by "; ": each component at fault, also a younger one, which
 * may be the cause; then rules 4, 1 and 2. What is wrong begins with a word and a colon: the name of its page in
 * deploy/runbook/. Reasons are our sentences; they quote no input.
 *
 * A fault stands until it is cleared. One that is an event and no state (a gap was found) has a component with a hold:
 * it stands for so long after it was last set, and clears itself. How often a component's fault began is counted: one
 * that healed before it was red, or between two looks, shows there. */
#ifndef COMMON_HEALTH_H
#define COMMON_HEALTH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/clock.h"
#include "sandglass/error.h"

enum {
    HEALTH_PROGRESS_MS = 8 * 1000,
    HEALTH_STEP_MS = 60 * 1000, /* far beyond what slewing moves between two looks, or NTP leaves */
    HEALTH_STEP_HOLD_MS = 10 * 1000,
    HEALTH_COMPONENTS_MAX = 16,
    HEALTH_REASON_BYTES = 160,
    HEALTH_REPORT_BYTES = 512
};

/* What can be at fault. Static. */
struct health_component {
    const char *name;      /* "kafka", "spool": stands before the reason; its page in deploy/runbook/ */
    uint32_t allowance_ms; /* how long a fault may stand before the program is unhealthy; 0: not at all */
    uint32_t hold_ms;      /* how long it stands after it was last set; 0: until it is cleared */
};

struct health {
    const struct clock *clock;
    const struct health_component *component;
    size_t component_count;
    struct wall_ms started;
    int64_t wall_offset;                /* of the wall clock to boot time when the main thread last looked */
    _Atomic uint64_t stepped_at, steps; /* boot ms, 0: never; how often */
    _Atomic uint64_t progress_at, alive_at, lagging_since, lag; /* boot ms; lagging_since is 0 while lag is 0 */
    const char *_Atomic doing;                                  /* what the main thread may hang in; NULL: nothing */
    _Atomic bool ready;
    pthread_mutex_t mutex; /* guards the rest */
    struct {
        struct boot_ms since, set_at;
        uint64_t begun;                   /* how often */
        char reason[HEALTH_REASON_BYTES]; /* "": none */
    } fault[HEALTH_COMPONENTS_MAX];
};

/* What is told. */
struct health_report {
    bool healthy;
    char reason[HEALTH_REPORT_BYTES]; /* "" when healthy; cut when there is too much of it */
    uint64_t position_age_ms;         /* since the last progress; 0 while lag is 0 */
    uint64_t alive_age_ms;            /* since the main thread's last sign of life */
    uint64_t lag;
};

/* Counts as progress made now and lag 0, not ready. component is kept as a pointer; clock NULL is clock_real. */
void health_init(struct health *h, const struct health_component *component, size_t count, const struct clock *clock);
/* Safe on a zeroed struct. */
void health_destroy(struct health *h);
/* The position has advanced. */
void health_progress(struct health *h);
/* The main thread lives. */
void health_alive(struct health *h);
/* The main thread begins something that may take long: a static text with an article ("a write to the spool") that is
 * told should it not come back. NULL: it came back. */
void health_doing(struct health *h, const char *what);
/* What is still to be done, in the program's own unit (batches, records, hours); a sign of life. At least every 2 s. */
void health_set_lag(struct health *h, uint64_t lag);
/* The component is at fault for this reason (copied, cut). While it stands it keeps its first time. */
void health_set_fault(struct health *h, size_t component, const char *reason);
/* Likewise; it has stood since then, when the call that has shown it began and waited: so nobody is well for a moment
 * between hanging in that call and what came of it. */
void health_set_fault_since(struct health *h, size_t component, const char *reason, struct boot_ms since);
/* Likewise, since now; the reason is the fault's text. */
void health_take_fault(struct health *h, size_t component, const struct sg_fault *f);
/* The component works. */
void health_clear(struct health *h, size_t component);
/* Start-up is over: /readyz says 200 while ready and healthy. */
void health_set_ready(struct health *h, bool ready);
/* True once ready. */
bool health_ready(const struct health *h);
/* Judges now. Any thread. */
void health_judge(struct health *h, struct health_report *out);
/* Appends {"healthy":bool,"reason":text or null,"position_age_ms":n,"lag":n}. Returns healthy. Any thread. */
bool health_render(struct health *h, struct buffer *out);
/* Appends what every program tells in /metrics: Prometheus text. Any thread. */
void health_metrics(struct health *h, struct buffer *out);

#endif
