/* Health is progress (design.md, law 9). Written by the program's main thread, read by the operations thread.
 *
 * A program is healthy if and only if
 *   1. health_set_lag was called within HEALTH_PROGRESS_MS: a main thread that hangs is not healthy;
 *   2. its lag is zero, or it advanced (health_progress) within HEALTH_PROGRESS_MS, or the lag itself is younger;
 *   3. no component's fault has stood for longer than that component's allowance.
 * The first rule broken, in the order 3, 1, 2, gives the reason. Reasons are our sentences; they quote no input. */
#ifndef COMMON_HEALTH_H
#define COMMON_HEALTH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/clock.h"

enum { HEALTH_PROGRESS_MS = 10 * 1000, HEALTH_COMPONENTS_MAX = 16, HEALTH_REASON_BYTES = 160 };

/* What can be at fault. Static. */
struct health_component {
    const char *name;      /* "kafka", "spool": stands before the reason */
    uint32_t allowance_ms; /* how long a fault may stand before the program is unhealthy; 0: not at all */
};

struct health {
    const struct clock *clock;
    const struct health_component *component;
    size_t component_count;
    _Atomic uint64_t progress_at, lag_at, lagging_since, lag; /* boot ms; lagging_since is 0 while lag is 0 */
    _Atomic bool ready;
    pthread_mutex_t mutex; /* guards the rest */
    struct {
        struct boot_ms since;
        char reason[HEALTH_REASON_BYTES]; /* "": none */
    } fault[HEALTH_COMPONENTS_MAX];
};

/* What is told. */
struct health_report {
    bool healthy;
    char reason[HEALTH_REASON_BYTES + 64]; /* "" when healthy */
    uint64_t position_age_ms;              /* since the last progress; 0 while lag is 0 */
    uint64_t lag;
};

/* Counts as progress made now and lag 0, not ready. component is kept as a pointer; clock NULL is clock_real. */
void health_init(struct health *h, const struct health_component *component, size_t count, const struct clock *clock);
/* Safe on a zeroed struct. */
void health_destroy(struct health *h);
/* The position has advanced. */
void health_progress(struct health *h);
/* What is still to be done, in the program's own unit (batches, records, hours). Call it at least every 2 s. */
void health_set_lag(struct health *h, uint64_t lag);
/* The component is at fault for this reason (copied, cut). It keeps its first time while it stands. */
void health_set_fault(struct health *h, size_t component, const char *reason);
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

#endif
