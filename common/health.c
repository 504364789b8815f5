#include "common/health.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/json_out.h"

static uint64_t now_ms(const struct health *h)
{
    uint64_t now = h->clock->boot(h->clock->arg).v;
    return now ? now : 1; /* 0 means "never" here */
}

static uint64_t age(uint64_t now, uint64_t then)
{
    return now > then ? now - then : 0;
}

static int64_t wall_offset(const struct health *h, uint64_t now)
{
    return h->clock->wall(h->clock->arg).v - (int64_t)now;
}

/* With every sign of life: programs differ in what they need the wall clock for, none can do with a wrong one. */
static void look_at_clock(struct health *h, uint64_t now)
{
    int64_t offset = wall_offset(h, now), step = offset - h->wall_offset;
    h->wall_offset = offset;
    if (step >= -HEALTH_STEP_MS && step <= HEALTH_STEP_MS) return;
    atomic_store(&h->stepped_at, now);
    atomic_fetch_add(&h->steps, 1);
}

void health_init(struct health *h, const struct health_component *component, size_t count, const struct clock *clock)
{
    assert(count <= HEALTH_COMPONENTS_MAX);
    memset(h, 0, sizeof *h);
    h->clock = clock ? clock : &clock_real;
    h->component = component;
    h->component_count = count;
    h->started = h->clock->wall(h->clock->arg);
    h->wall_offset = wall_offset(h, now_ms(h));
    int status = pthread_mutex_init(&h->mutex, NULL);
    assert(status == 0);
    atomic_store(&h->progress_at, now_ms(h));
    atomic_store(&h->alive_at, now_ms(h));
}

void health_destroy(struct health *h)
{
    if (h->clock) pthread_mutex_destroy(&h->mutex);
    h->clock = NULL;
}

void health_progress(struct health *h)
{
    atomic_store(&h->progress_at, now_ms(h));
}

void health_alive(struct health *h)
{
    uint64_t now = now_ms(h);
    look_at_clock(h, now);
    atomic_store(&h->alive_at, now);
}

void health_doing(struct health *h, const char *what)
{
    atomic_store(&h->doing, what);
    health_alive(h);
}

void health_set_lag(struct health *h, uint64_t lag)
{
    uint64_t now = now_ms(h);
    look_at_clock(h, now);
    /* the start first: a reader that sees the new lag sees since when */
    if (lag == 0)
        atomic_store(&h->lagging_since, 0);
    else if (atomic_load(&h->lagging_since) == 0)
        atomic_store(&h->lagging_since, now);
    atomic_store(&h->lag, lag);
    atomic_store(&h->alive_at, now);
}

/* Under the mutex. */
static bool stands(const struct health *h, size_t i, uint64_t now)
{
    uint32_t hold_ms = h->component[i].hold_ms;
    return h->fault[i].reason[0] && (hold_ms == 0 || age(now, h->fault[i].set_at.v) < hold_ms);
}

void health_set_fault_since(struct health *h, size_t component, const char *reason, struct boot_ms since)
{
    assert(component < h->component_count && reason[0]);
    pthread_mutex_lock(&h->mutex);
    uint64_t now = now_ms(h);
    if (!stands(h, component, now)) {
        h->fault[component].since = since;
        h->fault[component].begun++;
    }
    if (since.v < h->fault[component].since.v) h->fault[component].since = since;
    h->fault[component].set_at.v = now;
    snprintf(h->fault[component].reason, HEALTH_REASON_BYTES, "%s", reason);
    pthread_mutex_unlock(&h->mutex);
}

void health_set_fault(struct health *h, size_t component, const char *reason)
{
    health_set_fault_since(h, component, reason, (struct boot_ms){now_ms(h)});
}

void health_take_fault(struct health *h, size_t component, const struct sg_fault *f)
{
    health_set_fault(h, component, f->text[0] ? f->text : sg_error_text(f->code));
}

void health_clear(struct health *h, size_t component)
{
    assert(component < h->component_count);
    pthread_mutex_lock(&h->mutex);
    h->fault[component].reason[0] = '\0';
    pthread_mutex_unlock(&h->mutex);
}

void health_set_ready(struct health *h, bool ready)
{
    atomic_store(&h->ready, ready);
}

bool health_ready(const struct health *h)
{
    return atomic_load(&h->ready);
}

static void add_reason(struct health_report *out, const char *word, const char *reason)
{
    size_t used = strlen(out->reason);
    snprintf(out->reason + used, sizeof out->reason - used, "%s%s: %s", used ? "; " : "", word, reason);
}

/* Rule 3; every fault is named, whether it has used its allowance up or not. */
static void judge_components(struct health *h, uint64_t now, struct health_report *out)
{
    pthread_mutex_lock(&h->mutex);
    for (size_t i = 0; i < h->component_count; i++) {
        if (!stands(h, i, now)) continue;
        if (age(now, h->fault[i].since.v) >= h->component[i].allowance_ms) out->healthy = false;
        add_reason(out, h->component[i].name, h->fault[i].reason);
    }
    pthread_mutex_unlock(&h->mutex);
}

void health_judge(struct health *h, struct health_report *out)
{
    /* the times before the lag, and now last: a lag is never held against an older time than its own */
    uint64_t alive_at = atomic_load(&h->alive_at), lag = atomic_load(&h->lag);
    uint64_t since = atomic_load(&h->lagging_since), progress_at = atomic_load(&h->progress_at);
    uint64_t stepped_at = atomic_load(&h->stepped_at);
    const char *doing = atomic_load(&h->doing);
    uint64_t now = now_ms(h), advanced_at = since > progress_at ? since : progress_at;
    *out = (struct health_report){.healthy = true, .lag = lag, .alive_age_ms = age(now, alive_at)};
    if (lag) out->position_age_ms = age(now, advanced_at);
    judge_components(h, now, out);
    if (stepped_at && age(now, stepped_at) < HEALTH_STEP_HOLD_MS) {
        add_reason(out, "clock", "the wall clock was stepped by more than a minute");
        out->healthy = false;
    }
    if (out->alive_age_ms > HEALTH_PROGRESS_MS) {
        char reason[HEALTH_REASON_BYTES];
        snprintf(reason, sizeof reason, "it does not respond%s%s", doing ? ", being in " : "", doing ? doing : "");
        add_reason(out, "main-thread", reason);
        out->healthy = false;
    }
    if (out->position_age_ms > HEALTH_PROGRESS_MS) {
        add_reason(out, "progress", "there is work and the position does not advance");
        out->healthy = false;
    }
    if (out->healthy) out->reason[0] = '\0';
}

bool health_render(struct health *h, struct buffer *out)
{
    struct health_report report;
    struct json_out j;
    health_judge(h, &report);
    json_out_init(&j, out);
    json_out_object_begin(&j, NULL);
    json_out_bool(&j, "healthy", report.healthy);
    json_out_string(&j, "reason", report.healthy ? NULL : report.reason);
    json_out_u64(&j, "position_age_ms", report.position_age_ms);
    json_out_u64(&j, "lag", report.lag);
    json_out_object_end(&j);
    return json_out_finish(&j) == SG_OK && report.healthy;
}

static void render_faults(struct health *h, struct buffer *out)
{
    pthread_mutex_lock(&h->mutex);
    uint64_t now = now_ms(h);
    for (size_t i = 0; i < h->component_count; i++)
        buffer_printf(out, "sandglass_fault_age_ms{component=\"%s\"} %" PRIu64 "\n", h->component[i].name,
                      stands(h, i, now) ? age(now, h->fault[i].since.v) + 1 : 0);
    buffer_printf(out, "# HELP sandglass_faults_total times a component's fault began\n"
                       "# TYPE sandglass_faults_total counter\n");
    for (size_t i = 0; i < h->component_count; i++)
        buffer_printf(out, "sandglass_faults_total{component=\"%s\"} %" PRIu64 "\n", h->component[i].name,
                      h->fault[i].begun);
    pthread_mutex_unlock(&h->mutex);
}

void health_metrics(struct health *h, struct buffer *out)
{
    struct health_report report;
    health_judge(h, &report);
    buffer_printf(out,
                  "# HELP sandglass_start_time_ms Unix time in ms at which the process began\n"
                  "# TYPE sandglass_start_time_ms gauge\nsandglass_start_time_ms %" PRId64 "\n"
                  "# HELP sandglass_clock_steps_total times the wall clock was stepped by more than a minute\n"
                  "# TYPE sandglass_clock_steps_total counter\nsandglass_clock_steps_total %" PRIu64 "\n",
                  h->started.v, atomic_load(&h->steps));
    buffer_printf(out,
                  "# HELP sandglass_healthy 1 while the program is healthy\n# TYPE sandglass_healthy gauge\n"
                  "sandglass_healthy %d\n"
                  "# HELP sandglass_lag what is still to be done, in the program's own unit\n"
                  "# TYPE sandglass_lag gauge\nsandglass_lag %" PRIu64 "\n"
                  "# HELP sandglass_position_age_ms time since the position advanced while there was work\n"
                  "# TYPE sandglass_position_age_ms gauge\nsandglass_position_age_ms %" PRIu64 "\n"
                  "# HELP sandglass_main_thread_age_ms time since the main thread's last sign of life\n"
                  "# TYPE sandglass_main_thread_age_ms gauge\nsandglass_main_thread_age_ms %" PRIu64 "\n"
                  "# HELP sandglass_fault_age_ms how long a component's fault has stood; 0: it works\n"
                  "# TYPE sandglass_fault_age_ms gauge\n",
                  report.healthy, report.lag, report.position_age_ms, report.alive_age_ms);
    render_faults(h, out);
}
