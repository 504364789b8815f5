/* GET /v1/capacity: what runners have and what is allocated, per runner and per region. No team, no sandbox (domain.md,
 * section 5). */
#include <stdlib.h>
#include <string.h>

#include "aggregator/api/answer.h"
#include "common/array.h"
#include "common/json_out.h"

enum { RUNNERS_MAX = 100 * 1000 };

struct capacities {
    const struct question *q;
    struct view_capacity *runner;
    size_t count, capacity;
};

static enum sg_error take_runner(void *arg, const struct view_capacity *c)
{
    struct capacities *l = arg;
    if (l->q->params.given & PARAM_BIT(PARAM_REGION) && strcmp(l->q->params.region.s, c->is.region.s) != 0)
        return SG_OK;
    if (l->count == RUNNERS_MAX) return SG_ERR_LIMIT;
    if (!array_reserve(&l->runner, &l->capacity, l->count, sizeof *l->runner)) return SG_ERR_NOMEM;
    l->runner[l->count++] = *c;
    return SG_OK;
}

static int compare(const void *a, const void *b)
{
    const struct view_capacity *x = a, *y = b;
    int by_region = strcmp(x->is.region.s, y->is.region.s);
    return by_region ? by_region : strcmp(x->runner.s, y->runner.s);
}

static void write_resource(struct json_out *j, const char *total_name, uint64_t total, const char *allocated_name,
                           uint64_t allocated, const char *free_name)
{
    json_out_u64(j, total_name, total);
    json_out_u64(j, allocated_name, allocated);
    json_out_u64(j, free_name, total > allocated ? total - allocated : 0);
}

static void write_one(struct json_out *j, const struct view_capacity *c)
{
    const struct batch_capacity *is = &c->is.is;
    json_out_object_begin(j, NULL);
    if (c->runner.s[0]) json_out_string(j, "runner", c->runner.s);
    json_out_string(j, "region", c->is.region.s);
    write_resource(j, "vcpus_total", is->vcpus_total, "vcpus_allocated", is->vcpus_allocated, "vcpus_free");
    write_resource(j, "mem_mib_total", is->mem_mib_total, "mem_mib_allocated", is->mem_mib_allocated, "mem_mib_free");
    write_resource(j, "disk_mib_total", is->disk_mib_total, "disk_mib_allocated", is->disk_mib_allocated,
                   "disk_mib_free");
    json_out_u64(j, "warm", is->warm);
    json_out_u64(j, "sandboxes_running", is->sandboxes_running);
    json_out_time(j, "as_of", c->is.at);
    json_out_object_begin(j, "peak_1h");
    json_out_u64(j, "vcpus_allocated", c->peak.vcpus_allocated);
    json_out_u64(j, "mem_mib_allocated", c->peak.mem_mib_allocated);
    json_out_u64(j, "disk_mib_allocated", c->peak.disk_mib_allocated);
    json_out_u64(j, "sandboxes_running", c->peak.sandboxes_running);
    json_out_object_end(j);
    json_out_object_end(j);
}

static void add(struct batch_capacity *sum, const struct batch_capacity *c)
{
    sum->vcpus_total += c->vcpus_total;
    sum->mem_mib_total += c->mem_mib_total;
    sum->disk_mib_total += c->disk_mib_total;
    sum->warm += c->warm;
    sum->vcpus_allocated += c->vcpus_allocated;
    sum->mem_mib_allocated += c->mem_mib_allocated;
    sum->disk_mib_allocated += c->disk_mib_allocated;
    sum->sandboxes_running += c->sandboxes_running;
}

/* A region is the sum of its runners, as old as the oldest of them; its peak is the sum of theirs, so never too low. */
static void region_add(struct view_capacity *sum, const struct view_capacity *c)
{
    if (sum->is.at.v == 0 || c->is.at.v < sum->is.at.v) sum->is.at = c->is.at;
    sum->is.region = c->is.region;
    add(&sum->is.is, &c->is.is);
    add(&sum->peak, &c->peak);
}

static void write_all(const struct capacities *l, struct json_out *j)
{
    json_out_array_begin(j, "runners");
    for (size_t i = 0; i < l->count; i++) write_one(j, &l->runner[i]);
    json_out_array_end(j);
    json_out_array_begin(j, "regions");
    for (size_t i = 0; i < l->count;) {
        struct view_capacity sum = {0};
        const char *region = l->runner[i].is.region.s;
        for (; i < l->count && strcmp(l->runner[i].is.region.s, region) == 0; i++) region_add(&sum, &l->runner[i]);
        write_one(j, &sum);
    }
    json_out_array_end(j);
}

enum sg_error answer_capacity(const struct question *q, struct answer *a, struct sg_fault *f)
{
    struct capacities l = {.q = q};
    struct json_out j;
    enum sg_error e = view_refresh(q->view, 0, f);
    if (!e) e = view_capacities(q->view, take_runner, &l, f);
    if (!e) {
        if (l.count) qsort(l.runner, l.count, sizeof *l.runner, compare);
        json_out_init(&j, &a->body);
        json_out_object_begin(&j, NULL);
        write_all(&l, &j);
        json_out_object_end(&j);
        e = json_out_finish(&j);
        if (e) (void)sg_fail(f, e, "the answer is too large");
    }
    free(l.runner);
    return e;
}
