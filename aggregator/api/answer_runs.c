/* GET /v1/runs/history and GET /v1/runs/{id}: the records of sandboxes. */
#include "aggregator/api/answer.h"

#include <string.h>

#include "common/json_out.h"

struct runs {
    const struct question *q;
    struct json_out j;
    struct page behind; /* the last one that was written */
    uint32_t count;
    bool more;
    struct sg_fault *f;
};

static void write_time_if(struct json_out *j, const char *name, struct wall_ms t)
{
    if (t.v)
        json_out_time(j, name, t);
    else
        json_out_null(j, name);
}

static void write_u64_if(struct json_out *j, const char *name, bool known, uint64_t v)
{
    if (known)
        json_out_u64(j, name, v);
    else
        json_out_null(j, name);
}

static enum sg_error write_cost(const struct question *q, const struct price_sums *sums, struct json_out *j,
                                struct sg_fault *f)
{
    struct micro_cents cost;
    if (price_cost(q->book, sums, &cost)) return sg_fail(f, SG_ERR_OVERFLOW, "a cost does not fit");
    json_out_micro(j, "cost_cents", cost.v);
    json_out_string(j, "price_version", price_version_name(q->book, sums, q->now));
    return SG_OK;
}

static enum sg_error write_run(const struct question *q, const struct view_run *run, struct json_out *j,
                               struct sg_fault *f)
{
    static const char *const states[] = {"running", "hibernated", "destroyed"};
    const struct run *r = &run->run;
    struct price_sums sums = {0};
    if (answer_run_price(q->book, run, (struct wall_ms){0}, (struct wall_ms){WALL_MS_MAX}, &sums))
        return sg_fail(f, SG_ERR_OVERFLOW, "a cost does not fit");
    json_out_string(j, "id", run->sandbox.s);
    json_out_string(j, "state", states[r->state]);
    json_out_u64(j, "vcpus", r->vcpus);
    json_out_u64(j, "mem_mib", r->mem_mib);
    json_out_u64(j, "disk_mib", r->disk_mib);
    write_u64_if(j, "create_ms", r->has_create_ms, r->create_ms);
    write_time_if(j, "created_at", r->created);
    write_time_if(j, "destroyed_at", r->state == RUN_ENDED ? r->ended : (struct wall_ms){0});
    json_out_u64(j, "uptime_ms", r->running_ms.v);
    json_out_u64(j, "cpu_ms", r->cpu_us.v / 1000);
    write_u64_if(j, "mem_peak_bytes", r->mem_peak_bytes != 0, r->mem_peak_bytes);
    enum sg_error e = write_cost(q, &sums, j, f);
    json_out_string(j, "project", r->project.s);
    json_out_string(j, "region", r->region.s);
    json_out_string(j, "reason", r->state == RUN_ENDED && r->has_reason ? reason_text(r->reason) : NULL);
    write_u64_if(j, "last_exit_code", r->has_exit, r->exit_code);
    return e;
}

static enum sg_error take_run(void *arg, const struct view_run *run, struct page behind)
{
    struct runs *l = arg;
    const struct params *p = &l->q->params;
    if (run->run.ended.v < p->from.v) return SG_ERR_LIMIT; /* newest first: all that follow ended earlier still */
    if (run->run.ended.v >= p->to.v) return SG_OK;
    if (p->given & PARAM_BIT(PARAM_PROJECT) && strcmp(p->project.s, run->run.project.s) != 0) return SG_OK;
    if (l->count == p->limit) {
        l->more = true;
        return SG_ERR_LIMIT;
    }
    json_out_object_begin(&l->j, NULL);
    enum sg_error e = write_run(l->q, run, &l->j, l->f);
    json_out_object_end(&l->j);
    l->behind = behind;
    l->count++;
    return e;
}

static enum sg_error finish(struct runs *l, enum sg_error e, struct sg_fault *f)
{
    json_out_object_end(&l->j);
    enum sg_error written = json_out_finish(&l->j);
    return !e && written ? sg_fail(f, written, "the answer is too large") : e;
}

enum sg_error answer_runs(const struct question *q, struct answer *a, struct sg_fault *f)
{
    struct runs l = {.q = q, .f = f};
    struct standing s;
    char cursor[CURSOR_BYTES_MAX];
    enum sg_error e = answer_standing(q, &s, f);
    if (e) return e;
    json_out_init(&l.j, &a->body);
    json_out_object_begin(&l.j, NULL);
    json_out_array_begin(&l.j, "sandboxes");
    e = view_runs(q->view, q->team.s, VIEW_RUNS_ENDED, q->params.cursor, take_run, &l, f);
    json_out_array_end(&l.j);
    if (l.more) cursor_format(l.behind, cursor);
    json_out_string(&l.j, "next_cursor", l.more ? cursor : NULL);
    return finish(&l, e, f);
}

static enum sg_error write_hours(const struct question *q, const struct view_run *run, struct json_out *j,
                                 struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    json_out_array_begin(j, "slices");
    for (size_t i = 0; !e && i < run->hour_count; i++) {
        const struct view_run_hour *h = &run->hour[i];
        struct price_sums sums = {0};
        json_out_object_begin(j, NULL);
        json_out_time(j, "start", h->start);
        json_out_u64(j, "running_ms", h->usage.running_ms.v);
        json_out_u64(j, "cpu_us", h->usage.cpu_us.v);
        json_out_u64(j, "net_rx_bytes", h->usage.net_rx_bytes.v);
        json_out_u64(j, "net_tx_bytes", h->usage.net_tx_bytes.v);
        json_out_u64(j, "io_read_bytes", h->usage.io_read_bytes.v);
        json_out_u64(j, "io_write_bytes", h->usage.io_write_bytes.v);
        e = answer_run_price(q->book, run, h->start, (struct wall_ms){h->start.v + 1}, &sums);
        if (!e) e = write_cost(q, &sums, j, f);
        json_out_object_end(j);
    }
    json_out_array_end(j);
    return e;
}

enum sg_error answer_run(const struct question *q, struct answer *a, struct sg_fault *f)
{
    struct runs l = {.q = q, .f = f};
    struct standing s;
    struct view_run run = {0};
    enum sg_error e = answer_standing(q, &s, f);
    if (!e) e = view_run(q->view, q->team.s, q->subject.s, &run, f);
    if (e) return e;
    json_out_init(&l.j, &a->body);
    json_out_object_begin(&l.j, NULL);
    e = write_run(q, &run, &l.j, f);
    if (!e) e = write_hours(q, &run, &l.j, f);
    if (!e) e = answer_completeness(q, &s, &l.j, f);
    view_run_destroy(&run);
    return finish(&l, e, f);
}
