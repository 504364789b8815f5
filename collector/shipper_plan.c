/* See shipper_plan.h. */
#include "collector/shipper_plan.h"

#include <assert.h>
#include <string.h>

enum { BACKOFF_BASE_MS = 100, BACKOFF_CAP_MS = 5000, MARK_INTERVAL_MS = 1000 };

void shipper_plan_init(struct shipper_plan *p, uint64_t delivered_seq, uint64_t seed)
{
    *p = (struct shipper_plan){.sent_seq = delivered_seq, .reported_seq = delivered_seq};
    backoff_init(&p->backoff, BACKOFF_BASE_MS, BACKOFF_CAP_MS, seed);
}

bool shipper_plan_may_start(const struct shipper_plan *p, struct boot_ms now)
{
    return now.v >= p->start_at.v;
}

void shipper_plan_not_started(struct shipper_plan *p, struct boot_ms now)
{
    p->start_at.v = now.v + backoff_next(&p->backoff);
}

uint64_t shipper_plan_next(const struct shipper_plan *p, uint64_t durable_seq)
{
    bool open = p->sent_seq - p->reported_seq < SHIPPER_WINDOW_MESSAGES && p->window_bytes < SHIPPER_WINDOW_BYTES;
    return !p->doubt && open && p->sent_seq < durable_seq ? p->sent_seq + 1 : 0;
}

void shipper_plan_sent(struct shipper_plan *p, size_t bytes)
{
    p->sent_seq++;
    p->window_bytes += bytes;
    p->sent++;
}

bool shipper_plan_report(struct shipper_plan *p, uint64_t seq, size_t bytes, bool delivered)
{
    if (!delivered || seq != p->reported_seq + 1) p->doubt = true;
    if (p->doubt) return false;
    assert(p->window_bytes >= bytes);
    p->reported_seq = seq;
    p->delivered++;
    p->delivered_bytes += bytes;
    p->window_bytes -= bytes;
    backoff_reset(&p->backoff);
    return true;
}

void shipper_plan_doubt(struct shipper_plan *p)
{
    p->doubt = true;
}

bool shipper_plan_retires(struct shipper_plan *p, uint64_t delivered_seq, struct boot_ms now)
{
    if (!p->doubt) return false;
    p->doubt = false;
    p->window_bytes = 0;
    p->sent_seq = p->reported_seq = delivered_seq;
    p->restarts++;
    p->start_at.v = now.v + backoff_next(&p->backoff);
    return true;
}

bool shipper_plan_saves_cursor(struct shipper_plan *p, struct boot_ms now, struct boot_ms *next)
{
    uint64_t due = p->cursor_at.v + SHIPPER_CURSOR_INTERVAL_MS;
    if (now.v < due) {
        if (due < next->v) next->v = due;
        return false;
    }
    p->cursor_at = now;
    return true;
}

void shipper_plan_mark(struct shipper_plan *p, uint64_t delivered_seq, uint64_t durable_seq, struct boot_ms now)
{
    size_t done = 0;
    while (done < p->mark_count && p->mark[done].seq <= delivered_seq) done++;
    p->mark_count -= done;
    memmove(p->mark, p->mark + done, p->mark_count * sizeof *p->mark);
    struct shipper_mark *last = p->mark_count ? &p->mark[p->mark_count - 1] : NULL;
    if (durable_seq == delivered_seq || (last && last->seq == durable_seq)) return;
    /* joined to the last one the new batches seem older than they are, never younger */
    if (last && (p->mark_count == SHIPPER_MARKS || now.v - last->at.v < MARK_INTERVAL_MS))
        last->seq = durable_seq;
    else
        p->mark[p->mark_count++] = (struct shipper_mark){.seq = durable_seq, .at = now};
}

uint64_t shipper_plan_lag_age_ms(const struct shipper_plan *p, struct boot_ms now)
{
    return p->mark_count ? now.v - p->mark[0].at.v : 0;
}
