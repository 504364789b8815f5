/* GET /v1/usage: what the public client reads (domain.md, section 3), and our own additions.
 *
 * Totals are the team's hour rollups, over all of history; what is active is read from the runs; history is the
 * difference, so the two never count a millisecond twice. Each cost is computed once from integer sums. */
#include "aggregator/api/answer.h"

#include <string.h>

#include "common/json_out.h"

struct usage {
    const struct question *q;
    struct price_sums total, active;
    unsigned __int128 vcpu_ms, mem_mib_ms;
    uint64_t destroyed, active_count;
};

static bool project_wanted(const struct question *q, const char *project)
{
    return !(q->params.given & PARAM_BIT(PARAM_PROJECT)) || strcmp(q->params.project.s, project) == 0;
}

static enum sg_error add_rollup(void *arg, const struct view_rollup *r)
{
    struct usage *u = arg;
    struct amount vcpu_ms = sums_get(r->sums, FIELD_VCPU_MS), mem_mib_ms = sums_get(r->sums, FIELD_MEM_MIB_MS);
    if (!project_wanted(u->q, r->project)) return SG_OK;
    price_add(u->q->book, &u->total, r->start, vcpu_ms, mem_mib_ms);
    u->vcpu_ms += vcpu_ms.v;
    u->mem_mib_ms += mem_mib_ms.v;
    for (int i = 0; i < (int)REASONS; i++) u->destroyed += sums_get(r->sums, (enum field)(FIELD_DESTROYS + i)).v;
    return SG_OK;
}

static enum sg_error add_active(void *arg, const struct view_run *run, struct page behind)
{
    struct usage *u = arg;
    (void)behind;
    if (!project_wanted(u->q, run->run.project.s)) return SG_OK;
    u->active_count++;
    return answer_run_price(u->q->book, run, u->q->params.from, u->q->params.to, &u->active);
}

/* total - active; a run may have been read a moment later than the rollups: never below zero. */
static struct price_sums history_of(const struct usage *u)
{
    struct price_sums h = u->total;
    for (size_t i = 0; i < u->q->book->count; i++) {
        h.vcpu_ms[i] = h.vcpu_ms[i] > u->active.vcpu_ms[i] ? h.vcpu_ms[i] - u->active.vcpu_ms[i] : 0;
        h.mem_mib_ms[i] = h.mem_mib_ms[i] > u->active.mem_mib_ms[i] ? h.mem_mib_ms[i] - u->active.mem_mib_ms[i] : 0;
    }
    return h;
}

/* MiB-milliseconds as 10^-6 GiB-seconds, half to even: x * 1000 / 1024. */
static unsigned __int128 micro_gib_seconds(unsigned __int128 mem_mib_ms)
{
    unsigned __int128 n = mem_mib_ms * 1000, whole = n / 1024;
    unsigned rest = (unsigned)(n % 1024);
    return whole + (rest > 512 || (rest == 512 && whole % 2));
}

static enum sg_error write_usage(const struct usage *u, const struct standing *s, struct json_out *j,
                                 struct sg_fault *f)
{
    const struct question *q = u->q;
    struct price_sums history = history_of(u);
    struct micro_cents total, active, past;
    if (price_cost(q->book, &u->total, &total) || price_cost(q->book, &u->active, &active) ||
        price_cost(q->book, &history, &past))
        return sg_fail(f, SG_ERR_OVERFLOW, "a cost does not fit");
    json_out_u64(j, "active_sandboxes", u->active_count);
    json_out_u64(j, "history_sandboxes", u->destroyed);
    json_out_micro(j, "active_cost_cents", active.v);
    json_out_micro(j, "history_cost_cents", past.v);
    json_out_micro(j, "total_cost_cents", total.v);
    json_out_milli(j, "cpu_seconds", (__int128)u->vcpu_ms);
    json_out_micro(j, "mem_seconds", (__int128)micro_gib_seconds(u->mem_mib_ms));
    json_out_time(j, "as_of", s->heard.v ? s->heard : q->now);
    enum sg_error e = answer_completeness(q, s, j, f);
    json_out_string(j, "price_version", price_version_name(q->book, &u->total, q->now));
    return e;
}

enum sg_error answer_usage(const struct question *q, struct answer *a, struct sg_fault *f)
{
    struct usage u = {.q = q};
    struct standing s;
    struct json_out j;
    enum sg_error e = answer_standing(q, &s, f);
    if (!e) e = view_rollups(q->view, q->team.s, WINDOW_HOUR, q->params.from, q->params.to, add_rollup, &u, f);
    if (!e) e = view_runs(q->view, q->team.s, VIEW_RUNS_ACTIVE, (struct page){0}, add_active, &u, f);
    if (e) return e;
    json_out_init(&j, &a->body);
    json_out_object_begin(&j, NULL);
    e = write_usage(&u, &s, &j, f);
    json_out_object_end(&j);
    enum sg_error written = json_out_finish(&j);
    if (!e && written) e = sg_fail(f, written, "the answer is too large");
    return e;
}
