/* sandglass rebuild: fills an empty Redis from archive and log while the old one serves, and holds the two against each
 * other.
 *
 * FILL     the aggregator itself runs in this process, over the new Redis, as the only member of a consumer group of
 *          its own: what it writes is what any aggregator writes. It reads to the log's end as of now, again until that
 *          takes less than PASS_MS: then the new view is as near to now as it can be.
 *
 * COMPARE  every minute, hour and day that the old view calls closed, by its digest (view_digest.h), while the new one
 *          goes on being filled. What differs is looked at again, up to LOOKS_MAX times.
 *
 * FAILURES anything: the new Redis is emptied and the command given again. Nothing but the new Redis is ever written.
 *          With --alone the old view is lost: there is nothing to compare with, and it is not asked. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/ctl/ctl.h"
#include "aggregator/ctl/view_compare.h"
#include "aggregator/ctl/view_open.h"
#include "aggregator/rollup/aggregator.h"
#include "common/buffer.h"
#include "common/json_out.h"
#include "common/log.h"
#include "common/rfc3339.h"
#include "common/service.h"
#include "proto/keys.h"

enum { PASS_MS = 5000, TELL_MS = 2000, CATCH_UP_MS = 60 * 1000, LOOKS_MAX = 5, AGAIN_MS = 1000 };
enum { GROUP_BYTES = 256, LINE_BYTES_MAX = 64 << 20 };

static const char *const kind_names[WINDOW_KINDS] = {"minute", "hour", "day"};

struct rebuild {
    const struct ctl_call *call;
    struct aggregator_config config; /* of the aggregators that will serve the new view */
    struct aggregator_config ours;   /* the same, but for the group */
    char group[GROUP_BYTES];
    struct aggregator aggregator;
    uint64_t *ends; /* by partition: the log's end that this pass is to reach */
    struct view old, new;
    struct comparison comparison;
    struct watermark complete; /* of the old view, when it was first asked */
    struct boot_ms told_at;
    bool alone;
};

/* ---- before ---- */

/* The measures and topics of both views must be the same, and the places must not. */
static enum sg_error check_config(const struct rebuild *r, struct sg_fault *f)
{
    const struct ctl_config *old = r->call->config;
    const struct aggregator_config *new = &r->config;
    if (new->shards != old->shards || strcmp(new->events_topic, old->events_topic) != 0 ||
        strcmp(new->ledger_topic, old->ledger_topic) != 0)
        return sg_fail(f, SG_ERR_CONFIG, "--into: another number of shards, or other topics, than those of sandglass");
    if (!r->alone && strcmp(new->redis, old->redis) == 0)
        return sg_fail(f, SG_ERR_CONFIG, "--into: its redis is the one that serves; with --alone that is none");
    return SG_OK;
}

static enum sg_error load(struct rebuild *r, struct sg_fault *f)
{
    enum sg_error e = config_load(r->call->option[OPTION_INTO], &aggregator_config_table, &r->config, f);
    if (!e) e = check_config(r, f);
    if (e) return e;
    if (snprintf(r->group, sizeof r->group, "%s.rebuild", r->config.group) >= (int)sizeof r->group)
        return sg_fail(f, SG_ERR_CONFIG, "--into: the name of the group is too long");
    r->ours = r->config;
    r->ours.group = r->group;
    return SG_OK;
}

/* Also the old view's address may be meant by mistake: what holds a view is not touched. */
static enum sg_error check_empty(struct rebuild *r, struct sg_fault *f)
{
    char key[KEY_BYTES_MAX];
    for (uint32_t s = 0; s < r->new.shards; s++) {
        struct redisReply *reply = NULL;
        key_plain(key, s, "meta");
        const char *const words[] = {"HGETALL", key};
        enum sg_error e = redis_store_command(r->new.store, s, words, 2, &reply, f);
        if (e) return e;
        bool empty = reply->type == REDIS_REPLY_ARRAY && reply->elements == 0;
        freeReplyObject(reply);
        if (!empty) return sg_fail(f, SG_ERR_USAGE, "the new Redis holds a view already: empty it first");
    }
    return SG_OK;
}

static enum sg_error open_views(struct rebuild *r, struct sg_fault *f)
{
    const struct ctl_config *k = r->call->config;
    struct redis_store_config config = {.address = r->config.redis,
                                        .cluster = r->config.redis_cluster,
                                        .shards = (uint32_t)r->config.shards,
                                        .user = r->config.redis_user,
                                        .password = r->config.redis_password};
    enum sg_error e = r->alone ? SG_OK : view_open(k, &r->old, f);
    r->new = (struct view){.shards = (uint32_t)k->shards, .grace_ms = (int64_t)k->runner_grace_ms};
    if (!e) e = redis_store_new(&r->new.store, &config, f);
    return e ? e : check_empty(r, f);
}

/* ---- filling ---- */

static void tell(struct rebuild *r)
{
    const struct rollup *rollup = &r->aggregator.rollup;
    struct boot_ms now = clock_boot();
    struct health_report health;
    uint64_t end = 0;
    if (now.v < r->told_at.v + TELL_MS) return;
    r->told_at = now;
    for (uint32_t p = 0; p < rollup->partitions; p++) end += r->aggregator.ends[p];
    health_judge(&r->aggregator.health, &health);
    fprintf(stderr, "sandglass: rebuild: %" PRIu64 " of %" PRIu64 " batches to go%s%s\n", health.lag, end,
            health.reason[0] ? ": " : "", health.reason);
}

static enum sg_error step(struct rebuild *r, struct sg_fault *f)
{
    enum sg_error e = loop_turn(&r->aggregator.loop, 0, f);
    if (!e) e = aggregator_turn(&r->aggregator, f);
    if (!e && loop_stopping(&r->aggregator.loop)) e = sg_fail(f, SG_ERR_STATE, "asked to stop");
    tell(r);
    return e;
}

/* The first pass ends when the aggregator knows where the log ends. */
static enum sg_error fill(struct rebuild *r, struct sg_fault *f)
{
    enum sg_error e = aggregator_init(&r->aggregator, &r->ours, f);
    if (!e) e = aggregator_begin(&r->aggregator, f);
    if (e) return e;
    size_t ends_bytes = r->aggregator.rollup.partitions * sizeof *r->ends;
    r->ends = calloc(1, ends_bytes);
    if (!r->ends) return sg_fail(f, SG_ERR_NOMEM, "no memory for the log's ends");
    uint64_t took = 0;
    for (int pass = 0; !e && (pass < 2 || took >= PASS_MS); pass++) {
        struct boot_ms began = clock_boot();
        while (!e && !aggregator_reached(&r->aggregator, r->ends)) e = step(r, f);
        took = clock_boot().v - began.v;
        memcpy(r->ends, r->aggregator.ends, ends_bytes);
    }
    return e;
}

/* ---- comparing ---- */

static bool covers(struct watermark a, struct watermark b)
{
    struct watermark least = watermark_min(a, b);
    return b.kind != WATERMARK_UNKNOWN && least.kind == b.kind && least.at.v == b.at.v;
}

static enum sg_error go_on(struct rebuild *r, uint64_t ms, struct sg_fault *f)
{
    struct boot_ms until = {clock_boot().v + ms};
    enum sg_error e = SG_OK;
    while (!e && clock_boot().v < until.v) e = step(r, f);
    return e;
}

/* Until the new view is complete through what the old one was when this began. */
static enum sg_error catch_up(struct rebuild *r, struct sg_fault *f)
{
    struct boot_ms until = {clock_boot().v + CATCH_UP_MS};
    struct watermark reached = {.kind = WATERMARK_UNKNOWN};
    for (;;) {
        enum sg_error e = SG_OK;
        if (r->complete.kind == WATERMARK_UNKNOWN) e = view_complete_through(&r->old, &r->complete, f);
        if (!e) e = view_complete_through(&r->new, &reached, f);
        if (e || covers(reached, r->complete)) return e;
        if (clock_boot().v >= until.v)
            return sg_fail(f, SG_ERR_STATE, "the new view does not get as far as the one that serves");
        e = go_on(r, AGAIN_MS, f);
        if (e) return e;
    }
}

static enum sg_error compare(struct rebuild *r, struct sg_fault *f)
{
    enum sg_error e = catch_up(r, f);
    for (int i = 0; !e && i < LOOKS_MAX; i++) {
        if (i) e = go_on(r, AGAIN_MS, f);
        if (!e) e = comparison_look(&r->comparison, &r->old, &r->new, r->complete, f);
        if (!e && comparison_equal(&r->comparison)) return SG_OK;
    }
    return e;
}

/* ---- telling ---- */

static void json_differences(struct json_out *j, const struct comparison *c)
{
    json_out_array_begin(j, "differences");
    for (int k = 0; k < WINDOW_KINDS; k++) {
        for (size_t i = 0; i < c->kind[k].count; i++) {
            const struct compared_window *w = &c->kind[k].window[i];
            if (w->equal) continue;
            json_out_object_begin(j, NULL);
            json_out_string(j, "window", kind_names[k]);
            json_out_time(j, "start", w->side[COMPARE_OLD].start);
            json_out_u64(j, "old_cells", w->side[COMPARE_OLD].cells);
            json_out_u64(j, "new_cells", w->side[COMPARE_NEW].cells);
            json_out_object_end(j);
        }
    }
    json_out_array_end(j);
}

static void print_json(const struct rebuild *r)
{
    const struct comparison *c = &r->comparison;
    struct buffer line;
    struct json_out j;
    buffer_init(&line, LINE_BYTES_MAX);
    json_out_init(&j, &line);
    json_out_object_begin(&j, NULL);
    json_out_bool(&j, "compared", !r->alone);
    json_out_bool(&j, "equal", comparison_equal(c));
    json_out_u64(&j, "minutes", c->kind[WINDOW_MINUTE].count);
    json_out_u64(&j, "hours", c->kind[WINDOW_HOUR].count);
    json_out_u64(&j, "days", c->kind[WINDOW_DAY].count);
    json_differences(&j, c);
    json_out_object_end(&j);
    if (json_out_finish(&j) == SG_OK) puts(line.data);
    buffer_destroy(&line);
}

static void print_text(const struct rebuild *r)
{
    const struct comparison *c = &r->comparison;
    if (r->alone) printf("rebuilt; not compared\n");
    for (int k = 0; !r->alone && k < WINDOW_KINDS; k++) {
        const struct compared_windows *windows = &c->kind[k];
        printf("%zu closed %ss compared, %zu equal\n", windows->count, kind_names[k], windows->equal);
        for (size_t i = 0; i < windows->count; i++) {
            const struct compared_window *w = &windows->window[i];
            char start[RFC3339_BYTES];
            rfc3339_format(w->side[COMPARE_OLD].start, start);
            if (!w->equal)
                printf("%s %s differs: %" PRIu64 " cells in the old view, %" PRIu64 " in the new one\n", kind_names[k],
                       start, w->side[COMPARE_OLD].cells, w->side[COMPARE_NEW].cells);
        }
    }
}

static void destroy(struct rebuild *r)
{
    aggregator_destroy(&r->aggregator);
    view_close(&r->old);
    view_close(&r->new);
    comparison_destroy(&r->comparison);
    free(r->ends);
    config_destroy(&aggregator_config_table, &r->config);
}

int ctl_rebuild(const struct ctl_call *c)
{
    static struct rebuild r;
    struct sg_fault f = {0};
    if (!c->option[OPTION_INTO]) return ctl_misuse("--into must name the configuration of the new view's aggregators");
    r = (struct rebuild){.call = c, .alone = c->option[OPTION_ALONE] != NULL};
    log_init("sandglass", LOG_WARN); /* what the aggregator waits for is the operator's business */
    service_setup(4096);
    enum sg_error e = load(&r, &f);
    if (!e) e = open_views(&r, &f);
    if (!e) e = fill(&r, &f);
    if (!e && !r.alone) e = compare(&r, &f);
    if (!e) aggregator_end(&r.aggregator);
    bool equal = comparison_equal(&r.comparison);
    if (!e && c->option[OPTION_JSON])
        print_json(&r);
    else if (!e)
        print_text(&r);
    destroy(&r);
    if (e) return ctl_fail(&f);
    return equal ? CTL_DONE : CTL_NO;
}
