#include "common/health.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/json_out.h"

static uint64_t now_ms(const struct health *h)
{
    uint64_t now = h->clock->boot(h->clock->arg).v;
    return now ? now : 1; /* 0 means "never" here */
}

void health_init(struct health *h, const struct health_component *component, size_t count, const struct clock *clock)
{
    assert(count <= HEALTH_COMPONENTS_MAX);
    memset(h, 0, sizeof *h);
    h->clock = clock ? clock : &clock_real;
    h->component = component;
    h->component_count = count;
    int status = pthread_mutex_init(&h->mutex, NULL);
    assert(status == 0);
    atomic_store(&h->progress_at, now_ms(h));
    atomic_store(&h->lag_at, now_ms(h));
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

void health_set_lag(struct health *h, uint64_t lag)
{
    uint64_t now = now_ms(h);
    /* the start first: a reader that sees the new lag sees since when */
    if (lag == 0)
        atomic_store(&h->lagging_since, 0);
    else if (atomic_load(&h->lagging_since) == 0)
        atomic_store(&h->lagging_since, now);
    atomic_store(&h->lag, lag);
    atomic_store(&h->lag_at, now);
}

void health_set_fault(struct health *h, size_t component, const char *reason)
{
    assert(component < h->component_count && reason[0]);
    pthread_mutex_lock(&h->mutex);
    if (!h->fault[component].reason[0]) h->fault[component].since.v = now_ms(h);
    snprintf(h->fault[component].reason, HEALTH_REASON_BYTES, "%s", reason);
    pthread_mutex_unlock(&h->mutex);
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

static uint64_t age(uint64_t now, uint64_t then)
{
    return now > then ? now - then : 0;
}

/* Rule 3. */
static void judge_components(struct health *h, uint64_t now, struct health_report *out)
{
    pthread_mutex_lock(&h->mutex);
    for (size_t i = 0; i < h->component_count && out->healthy; i++) {
        if (!h->fault[i].reason[0] || age(now, h->fault[i].since.v) < h->component[i].allowance_ms) continue;
        out->healthy = false;
        snprintf(out->reason, sizeof out->reason, "%.60s: %s", h->component[i].name, h->fault[i].reason);
    }
    pthread_mutex_unlock(&h->mutex);
}

void health_judge(struct health *h, struct health_report *out)
{
    /* the times before the lag, and now last: a lag is never held against an older time than its own */
    uint64_t lag_at = atomic_load(&h->lag_at), lag = atomic_load(&h->lag);
    uint64_t since = atomic_load(&h->lagging_since), progress_at = atomic_load(&h->progress_at);
    uint64_t now = now_ms(h), advanced_at = since > progress_at ? since : progress_at;
    *out = (struct health_report){.healthy = true, .lag = lag};
    if (lag) out->position_age_ms = age(now, advanced_at);
    judge_components(h, now, out);
    if (!out->healthy) return;
    const char *reason = NULL;
    if (age(now, lag_at) > HEALTH_PROGRESS_MS)
        reason = "the main thread does not respond";
    else if (out->position_age_ms > HEALTH_PROGRESS_MS)
        reason = "there is work and the position does not advance";
    if (!reason) return;
    out->healthy = false;
    snprintf(out->reason, sizeof out->reason, "%s", reason);
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
