/* What all answers share: errors, completeness, the price of a run. */
#include "aggregator/api/answer.h"

#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/json_out.h"
#include "proto/keys.h"

static const struct {
    enum sg_error error;
    unsigned status;
    const char *code;
} statuses[] = {
    {SG_ERR_USAGE, 400, "bad_parameter"},     {SG_ERR_DENIED, 403, "forbidden"},
    {SG_ERR_NOT_FOUND, 404, "not_found"},     {SG_ERR_STATE, 503, "rebuilding"},
    {SG_ERR_UNREACHABLE, 503, "unavailable"}, {SG_ERR_TIMEOUT, 503, "unavailable"},
    {SG_ERR_LIMIT, 400, "answer_too_large"},
};

void answer_error(struct answer *a, unsigned status, const char *code, const char *sentence)
{
    struct json_out j;
    a->status = status;
    a->content_type = "application/json";
    buffer_reset(&a->body);
    json_out_init(&j, &a->body);
    json_out_object_begin(&j, NULL);
    json_out_string(&j, "error", sentence);
    json_out_string(&j, "code", code);
    json_out_object_end(&j);
    (void)!json_out_finish(&j); /* without memory the body stays empty: the status says it */
}

void answer_fail(struct answer *a, enum sg_error e, const struct sg_fault *f)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        if (statuses[i].error == e) {
            answer_error(a, statuses[i].status, statuses[i].code, f->text);
            return;
        }
    }
    answer_error(a, 500, "internal", "the answer could not be made; the operator's log says why");
}

enum sg_error answer_standing(const struct question *q, struct standing *out, struct sg_fault *f)
{
    uint32_t shard = shard_of_team(q->team.s, q->view->shards);
    enum sg_error e = view_refresh(q->view, shard, f);
    return e ? e : view_watermark(q->view, shard, &out->watermark, &out->heard, f);
}

/* Gaps of one question: the same span of a region is told once, with the number of runners. */
struct gap_list {
    const struct question *q;
    struct listed {
        struct id region;
        struct wall_ms from, to;
        uint32_t runners;
    } * gap;
    size_t count, capacity;
};

enum { GAPS_TOLD_MAX = 1000 };

static enum sg_error gap_take(void *arg, const struct view_gap *gap)
{
    struct gap_list *l = arg;
    if (gap->from.v >= l->q->params.to.v || (gap->to.v && gap->to.v <= l->q->params.from.v)) return SG_OK;
    for (size_t i = 0; i < l->count; i++) {
        if (l->gap[i].from.v == gap->from.v && l->gap[i].to.v == gap->to.v &&
            strcmp(l->gap[i].region.s, gap->region.s) == 0) {
            l->gap[i].runners++;
            return SG_OK;
        }
    }
    if (l->count == GAPS_TOLD_MAX) return SG_OK;
    if (!array_reserve(&l->gap, &l->capacity, l->count, sizeof *l->gap)) return SG_ERR_NOMEM;
    l->gap[l->count++] = (struct listed){gap->region, gap->from, gap->to, 1};
    return SG_OK;
}

static void gaps_write(const struct gap_list *l, struct json_out *j)
{
    json_out_array_begin(j, "gaps");
    for (size_t i = 0; i < l->count; i++) {
        json_out_object_begin(j, NULL);
        json_out_string(j, "region", l->gap[i].region.s);
        json_out_u64(j, "runner_count", l->gap[i].runners);
        json_out_time(j, "from", l->gap[i].from);
        if (l->gap[i].to.v)
            json_out_time(j, "to", l->gap[i].to);
        else
            json_out_null(j, "to");
        json_out_object_end(j);
    }
    json_out_array_end(j);
}

enum sg_error answer_completeness(const struct question *q, const struct standing *s, struct json_out *j,
                                  struct sg_fault *f)
{
    struct gap_list gaps = {.q = q};
    enum sg_error e = view_gaps(q->view, gap_take, &gaps, f);
    if (s->watermark.kind == WATERMARK_UNKNOWN)
        json_out_null(j, "complete_through");
    else
        json_out_time(j, "complete_through", s->watermark.kind == WATERMARK_AT ? s->watermark.at : s->heard);
    gaps_write(&gaps, j);
    free(gaps.gap);
    return e;
}

enum sg_error answer_run_price(const struct price_book *book, const struct view_run *run, struct wall_ms from,
                               struct wall_ms to, struct price_sums *sums)
{
    for (size_t i = 0; i < run->hour_count; i++) {
        const struct view_run_hour *h = &run->hour[i];
        struct amount vcpu_ms, mem_mib_ms;
        if (h->start.v < from.v || h->start.v >= to.v) continue;
        if (!amount_mul(&vcpu_ms, h->usage.running_ms.v, run->run.vcpus) ||
            !amount_mul(&mem_mib_ms, h->usage.running_ms.v, run->run.mem_mib))
            return SG_ERR_OVERFLOW;
        price_add(book, sums, h->start, vcpu_ms, mem_mib_ms);
    }
    return SG_OK;
}
