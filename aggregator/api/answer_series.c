/* GET /v1/usage/series: one meter over time, by project or region, as JSON or CSV.
 *
 * The rollups of the asked windows are gathered as (group, start, value), sorted, and written with equal ones added: a
 * window is told once per group. Bounded by SERIES_POINTS_MAX gathered rollups; a question that needs more is refused,
 * not cut. */
#include "aggregator/api/answer.h"

#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/json_out.h"
#include "common/rfc3339.h"

enum { SERIES_POINTS_MAX = 500 * 1000 };

struct point {
    struct id group;
    struct wall_ms start;
    unsigned __int128 value;
};

struct series {
    const struct question *q;
    struct point *point;
    size_t count, capacity;
};

static bool wanted(const struct params *p, const struct view_rollup *r)
{
    if (p->given & PARAM_BIT(PARAM_PROJECT) && strcmp(p->project.s, r->project) != 0) return false;
    return !(p->given & PARAM_BIT(PARAM_REGION)) || strcmp(p->region.s, r->region) == 0;
}

static enum sg_error gather(void *arg, const struct view_rollup *r)
{
    struct series *s = arg;
    const struct params *p = &s->q->params;
    struct amount value = sums_get(r->sums, p->meter);
    if (!wanted(p, r) || value.v == 0) return SG_OK;
    if (s->count == SERIES_POINTS_MAX) return SG_ERR_OVERFLOW;
    if (!array_reserve(&s->point, &s->capacity, s->count, sizeof *s->point)) return SG_ERR_NOMEM;
    struct point *new = &s->point[s->count++];
    *new = (struct point){.start = r->start, .value = value.v};
    const char *group = p->group_by == GROUP_PROJECT ? r->project : p->group_by == GROUP_REGION ? r->region : "";
    memcpy(new->group.s, group, strlen(group) + 1);
    return SG_OK;
}

static int compare(const void *a, const void *b)
{
    const struct point *x = a, *y = b;
    int by_group = strcmp(x->group.s, y->group.s);
    return by_group ? by_group : (x->start.v > y->start.v) - (x->start.v < y->start.v);
}

/* Sorts, and adds up what is of one group and window. */
static void merge(struct series *s)
{
    size_t kept = 0;
    if (s->count) qsort(s->point, s->count, sizeof *s->point, compare);
    for (size_t i = 0; i < s->count; i++) {
        if (kept && compare(&s->point[kept - 1], &s->point[i]) == 0)
            s->point[kept - 1].value += s->point[i].value;
        else
            s->point[kept++] = s->point[i];
    }
    s->count = kept;
}

static void write_group(const struct series *s, size_t first, size_t end, struct json_out *j)
{
    static const char *const names[] = {NULL, "project", "region"};
    json_out_object_begin(j, NULL);
    json_out_object_begin(j, "group");
    if (s->q->params.group_by != GROUP_NONE) json_out_string(j, names[s->q->params.group_by], s->point[first].group.s);
    json_out_object_end(j);
    json_out_array_begin(j, "points");
    for (size_t i = first; i < end; i++) {
        json_out_object_begin(j, NULL);
        json_out_time(j, "start", s->point[i].start);
        json_out_u128(j, "value", s->point[i].value);
        json_out_object_end(j);
    }
    json_out_array_end(j);
    json_out_object_end(j);
}

static enum sg_error write_json(const struct series *s, const struct standing *standing, struct buffer *out,
                                struct sg_fault *f)
{
    static const char *const steps[] = {"minute", "hour", "day"};
    const struct params *p = &s->q->params;
    char meter[FIELD_NAME_BYTES_MAX];
    struct json_out j;
    field_name(p->meter, meter);
    json_out_init(&j, out);
    json_out_object_begin(&j, NULL);
    json_out_string(&j, "meter", meter);
    json_out_string(&j, "step", steps[p->step]);
    json_out_time(&j, "from", p->from);
    json_out_time(&j, "to", p->to);
    enum sg_error e = answer_completeness(s->q, standing, &j, f);
    json_out_array_begin(&j, "series");
    for (size_t first = 0, end; first < s->count; first = end) {
        for (end = first; end < s->count && strcmp(s->point[end].group.s, s->point[first].group.s) == 0;) end++;
        write_group(s, first, end, &j);
    }
    json_out_array_end(&j);
    json_out_object_end(&j);
    enum sg_error written = json_out_finish(&j);
    return !e && written ? sg_fail(f, written, "the answer is too large") : e;
}

static enum sg_error write_csv(const struct series *s, struct buffer *out, struct sg_fault *f)
{
    buffer_text(out, "start,group,value\n");
    for (size_t i = 0; i < s->count; i++) {
        struct json_out j;
        char start[RFC3339_BYTES];
        rfc3339_format(s->point[i].start, start);
        buffer_printf(out, "%s,%s,", start, s->point[i].group.s);
        json_out_init(&j, out);
        json_out_u128(&j, NULL, s->point[i].value);
        (void)!json_out_finish(&j); /* the buffer's error is sticky and told below */
        buffer_text(out, "\n");
    }
    return out->error ? sg_fail(f, out->error, "the answer is too large") : SG_OK;
}

enum sg_error answer_series(const struct question *q, struct answer *a, struct sg_fault *f)
{
    struct series s = {.q = q};
    struct standing standing;
    enum sg_error e = answer_standing(q, &standing, f);
    if (!e) e = view_rollups(q->view, q->team.s, q->params.step, q->params.from, q->params.to, gather, &s, f);
    if (e == SG_ERR_OVERFLOW)
        e = sg_fail(f, SG_ERR_LIMIT, "more than %d windows: ask for less time or a longer step", SERIES_POINTS_MAX);
    if (!e) {
        merge(&s);
        if (q->params.format == FORMAT_CSV) a->content_type = "text/csv; charset=utf-8";
        e = q->params.format == FORMAT_CSV ? write_csv(&s, &a->body, f) : write_json(&s, &standing, &a->body, f);
    }
    free(s.point);
    return e;
}
