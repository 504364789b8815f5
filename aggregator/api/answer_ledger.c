/* GET /v1/ledger: the revisions that were pushed for the key's team, newest hour first. */
#include "aggregator/api/answer.h"
#include "common/json_out.h"

struct rows {
    const struct question *q;
    struct json_out j;
    struct page behind;
    uint32_t count;
    bool more;
};

static enum sg_error take_row(void *arg, const struct view_revision *r, struct page behind)
{
    struct rows *l = arg;
    if (r->hour.v < l->q->params.from.v) return SG_ERR_LIMIT; /* newest first: all that follow are older still */
    if (l->count == l->q->params.limit) {
        l->more = true;
        return SG_ERR_LIMIT;
    }
    json_out_object_begin(&l->j, NULL);
    json_out_string(&l->j, "customer", r->customer.s);
    json_out_string(&l->j, "meter", r->meter);
    json_out_time(&l->j, "hour", r->hour);
    json_out_u64(&l->j, "revision", r->revision);
    json_out_string(&l->j, "kind", r->kind);
    json_out_u64(&l->j, "value", r->value.v);
    json_out_u64(&l->j, "total", r->total.v);
    json_out_string(&l->j, "state", r->state);
    json_out_string(&l->j, "identifier", r->identifier);
    json_out_object_end(&l->j);
    l->behind = behind;
    l->count++;
    return SG_OK;
}

enum sg_error answer_ledger(const struct question *q, struct answer *a, struct sg_fault *f)
{
    struct rows l = {.q = q};
    struct standing s;
    char cursor[CURSOR_BYTES_MAX];
    enum sg_error e = answer_standing(q, &s, f);
    if (e) return e;
    json_out_init(&l.j, &a->body);
    json_out_object_begin(&l.j, NULL);
    json_out_array_begin(&l.j, "rows");
    e = view_revisions(q->view, q->team.s, q->params.to, q->params.cursor, take_row, &l, f);
    json_out_array_end(&l.j);
    if (l.more) cursor_format(l.behind, cursor);
    json_out_string(&l.j, "next_cursor", l.more ? cursor : NULL);
    json_out_object_end(&l.j);
    enum sg_error written = json_out_finish(&l.j);
    return !e && written ? sg_fail(f, written, "the answer is too large") : e;
}
