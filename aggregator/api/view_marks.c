/* What the log says of runners: watermark, gaps, capacities, the runners' own sums. */
#include <stdio.h>
#include <string.h>

#include "aggregator/api/view.h"
#include "aggregator/api/view_reply.h"
#include "aggregator/api/view_text.h"
#include "aggregator/store/redis_store.h"
#include "proto/keys.h"

enum { ROW_NAME_BYTES = 2 * ID_BYTES_MAX };

static enum sg_error hash_read(struct view *v, uint32_t shard, const char *key, struct redisReply **out,
                               struct sg_fault *f)
{
    const char *const words[] = {"HGETALL", key};
    enum sg_error e = redis_store_command(v->store, shard, words, 2, out, f);
    if (e) return e;
    bool ok = reply_is_pairs(*out);
    for (size_t i = 0; ok && i < (*out)->elements; i++) ok = reply_is_text((*out)->element[i]);
    if (ok) return SG_OK;
    freeReplyObject(*out);
    *out = NULL;
    return sg_fail(f, SG_ERR_CORRUPT, "the view holds something else where a hash belongs");
}

/* The value of a field; NULL when the hash has none such. */
static const struct redisReply *hash_get(const struct redisReply *hash, const char *field)
{
    for (size_t i = 0; i < hash->elements; i += 2)
        if (strcmp(hash->element[i]->str, field) == 0) return hash->element[i + 1];
    return NULL;
}

static const struct redisReply *hash_get_number(const struct redisReply *hash, uint32_t field)
{
    char name[16];
    snprintf(name, sizeof name, "%u", field);
    return hash_get(hash, name);
}

enum sg_error view_refresh(struct view *v, uint32_t shard, struct sg_fault *f)
{
    char key[KEY_BYTES_MAX];
    struct redisReply *meta;
    int64_t partitions = 0, shards = 0;
    key_plain(key, shard, "meta");
    enum sg_error e = hash_read(v, shard, key, &meta, f);
    if (e) return e;
    const struct redisReply *state = hash_get(meta, "state"), *p = hash_get(meta, "partitions"),
                            *s = hash_get(meta, "shards");
    if (!state || strcmp(state->str, "ready") != 0)
        e = sg_fail(f, SG_ERR_STATE, "the view is being rebuilt");
    else if (!p || !s || !reply_i64(p, &partitions) || !reply_i64(s, &shards) || partitions < 1 ||
             partitions > PARTITIONS_MAX)
        e = sg_fail(f, SG_ERR_CORRUPT, "the view's meta cannot be read");
    else if (shards != v->shards)
        e = sg_fail(f, SG_ERR_MISMATCH, "the view has %lld shards, the configuration says %u", (long long)shards,
                    v->shards);
    else
        v->partitions = (uint32_t)partitions;
    freeReplyObject(meta);
    return e;
}

enum sg_error view_watermark(struct view *v, uint32_t shard, struct watermark *out, struct wall_ms *heard,
                             struct sg_fault *f)
{
    char key[KEY_BYTES_MAX];
    struct redisReply *vector;
    struct vector_entry entry = {0};
    key_plain(key, shard, "v");
    enum sg_error e = hash_read(v, shard, key, &vector, f);
    if (e) return e;
    *out = (struct watermark){.kind = v->partitions ? WATERMARK_UNBOUNDED : WATERMARK_UNKNOWN};
    heard->v = 0;
    for (uint32_t p = 0; !e && p < v->partitions; p++) {
        const struct redisReply *text = hash_get_number(vector, p);
        if (text) e = vector_entry_decode(text->str, text->len, &entry);
        if (!e) *out = watermark_min(*out, vector_entry_watermark(text ? &entry : NULL, v->grace_ms));
        if (!e && text && entry.heard.v > heard->v) *heard = entry.heard;
    }
    vector_entry_destroy(&entry);
    freeReplyObject(vector);
    return e ? sg_fail(f, SG_ERR_CORRUPT, "the view holds a vector entry that cannot be read") : SG_OK;
}

/* ---- gaps ---- */

static enum sg_error gap_rows(const struct redisReply *hash, view_each_gap *each, void *arg)
{
    enum sg_error e = SG_OK;
    for (size_t i = 1; !e && i < hash->elements; i += 2) {
        struct words w = {hash->element[i]->str, hash->element[i]->len, false};
        struct view_gap g = {0};
        words_id(&w, "runner", &g.runner);
        words_id(&w, "region", &g.region);
        g.from = words_wall(&w, "from");
        g.to = words_wall(&w, "to");
        e = w.bad ? SG_ERR_CORRUPT : each(arg, &g);
    }
    return e;
}

/* A runner's mark, with what its field says. */
struct runner_mark {
    struct id runner;
    uint64_t epoch;
    struct mark mark;
    bool bad; /* its text cannot be read */
};

/* False: the field is not a mark's. */
static bool mark_read(const struct redisReply *field, const struct redisReply *text, struct runner_mark *m)
{
    *m = (struct runner_mark){0};
    if (!mark_field_decode(field->str, field->len, &m->runner, &m->epoch)) return false;
    m->bad = mark_decode(text->str, text->len, &m->mark) != SG_OK;
    return true;
}

static bool newer_epoch_exists(const struct redisReply *marks, const struct runner_mark *m)
{
    struct runner_mark other;
    for (size_t i = 0; i < marks->elements; i += 2)
        if (mark_read(marks->element[i], marks->element[i + 1], &other) && strcmp(other.runner.s, m->runner.s) == 0 &&
            other.epoch > m->epoch)
            return true;
    return false;
}

/* Runners of a partition that were last heard before heard - grace: silent since what they last completed. */
static enum sg_error silent_rows(const struct view *v, const struct redisReply *marks, struct wall_ms heard,
                                 view_each_gap *each, void *arg)
{
    enum sg_error e = SG_OK;
    for (size_t i = 0; !e && i < marks->elements; i += 2) {
        struct runner_mark m;
        if (!mark_read(marks->element[i], marks->element[i + 1], &m)) continue;
        if (m.bad) return SG_ERR_CORRUPT;
        if (m.mark.ct.v == 0 || m.mark.last.v >= heard.v - v->grace_ms || newer_epoch_exists(marks, &m)) continue;
        struct view_gap g = {.runner = m.runner, .region = m.mark.region, .from = m.mark.ct};
        e = each(arg, &g);
    }
    return e;
}

/* When the partition was last heard of, by its home shard's vector; 0 when it never was. */
static enum sg_error partition_heard(struct view *v, uint32_t p, struct wall_ms *out, struct sg_fault *f)
{
    char key[KEY_BYTES_MAX];
    struct redisReply *vector;
    struct vector_entry entry = {0};
    uint32_t shard = shard_home(p, v->shards);
    key_plain(key, shard, "v");
    enum sg_error e = hash_read(v, shard, key, &vector, f);
    if (e) return e;
    const struct redisReply *text = hash_get_number(vector, p);
    if (text && vector_entry_decode(text->str, text->len, &entry))
        e = sg_fail(f, SG_ERR_CORRUPT, "the view holds a vector entry that cannot be read");
    *out = entry.heard;
    vector_entry_destroy(&entry);
    freeReplyObject(vector);
    return e;
}

static enum sg_error partition_hash(struct view *v, const char *name, uint32_t p, struct redisReply **out,
                                    struct sg_fault *f)
{
    char key[KEY_BYTES_MAX];
    uint32_t shard = shard_home(p, v->shards);
    key_partition(key, shard, name, p);
    return hash_read(v, shard, key, out, f);
}

static enum sg_error partition_gaps(struct view *v, uint32_t p, view_each_gap *each, void *arg, struct sg_fault *f)
{
    struct redisReply *gaps = NULL, *marks = NULL;
    struct wall_ms heard;
    enum sg_error e = partition_hash(v, "gaps", p, &gaps, f);
    if (!e) e = partition_heard(v, p, &heard, f);
    if (!e) e = partition_hash(v, "marks", p, &marks, f);
    if (!e) {
        e = gap_rows(gaps, each, arg);
        if (!e) e = silent_rows(v, marks, heard, each, arg);
        if (e) (void)sg_fail(f, e, "the gaps cannot be read: %s", sg_error_text(e));
    }
    freeReplyObject(gaps);
    freeReplyObject(marks);
    return e;
}

enum sg_error view_gaps(struct view *v, view_each_gap *each, void *arg, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    for (uint32_t p = 0; !e && p < v->partitions; p++) e = partition_gaps(v, p, each, arg, f);
    return e;
}

/* ---- the runners' own sums ---- */

static enum sg_error accepted_add(struct view_accepted *out, const struct runner_mark *m)
{
    const struct batch_totals *t = &m->mark.totals;
    if (m->bad) return SG_ERR_CORRUPT;
    bool ok = amount_add(&out->vcpu_ms, (struct amount){t->vcpu_ms}) &&
              amount_add(&out->mem_mib_ms, (struct amount){t->mem_mib_ms}) &&
              amount_add(&out->disk_mib_ms, (struct amount){t->disk_mib_ms}) &&
              amount_add(&out->running_ms, (struct amount){t->running_ms}) &&
              amount_add(&out->events, (struct amount){t->events}) &&
              amount_add(&out->refused, (struct amount){t->refused});
    return ok ? SG_OK : SG_ERR_OVERFLOW;
}

enum sg_error view_accepted(struct view *v, struct view_accepted *out, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    *out = (struct view_accepted){0};
    for (uint32_t p = 0; !e && p < v->partitions; p++) {
        struct redisReply *marks = NULL;
        struct runner_mark m;
        e = partition_hash(v, "marks", p, &marks, f);
        if (e) return e;
        for (size_t i = 0; !e && i < marks->elements; i += 2)
            if (mark_read(marks->element[i], marks->element[i + 1], &m)) e = accepted_add(out, &m);
        if (e) (void)sg_fail(f, e, "the marks cannot be added up: %s", sg_error_text(e));
        freeReplyObject(marks);
    }
    return e;
}

/* ---- capacities ---- */

static uint64_t higher(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The peaks of the hour of `at` and of the one before: the last hour lies in these two. */
static enum sg_error capacity_peaks(const struct redisReply *hash, struct view_capacity *c)
{
    int64_t hour = wall_floor(c->is.at, HOUR_MS).v;
    c->peak = c->is.is;
    for (int64_t start = hour - HOUR_MS; start <= hour; start += HOUR_MS) {
        char name[ROW_NAME_BYTES];
        struct capacity peak;
        snprintf(name, sizeof name, "%s:%lld", c->runner.s, (long long)(start / SECOND_MS));
        const struct redisReply *text = hash_get(hash, name);
        if (!text) continue;
        if (capacity_decode(text->str, text->len, &peak)) return SG_ERR_CORRUPT;
        c->peak.vcpus_allocated = higher(c->peak.vcpus_allocated, peak.is.vcpus_allocated);
        c->peak.mem_mib_allocated = higher(c->peak.mem_mib_allocated, peak.is.mem_mib_allocated);
        c->peak.disk_mib_allocated = higher(c->peak.disk_mib_allocated, peak.is.disk_mib_allocated);
        c->peak.sandboxes_running = higher(c->peak.sandboxes_running, peak.is.sandboxes_running);
    }
    return SG_OK;
}

static enum sg_error capacity_read(const struct redisReply *field, const struct redisReply *text,
                                   struct view_capacity *c)
{
    *c = (struct view_capacity){0};
    if (!id_valid(field->str, field->len) || capacity_decode(text->str, text->len, &c->is)) return SG_ERR_CORRUPT;
    memcpy(c->runner.s, field->str, field->len + 1);
    return SG_OK;
}

enum sg_error view_capacities(struct view *v, view_each_capacity *each, void *arg, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    for (uint32_t p = 0; !e && p < v->partitions; p++) {
        struct redisReply *hash = NULL;
        e = partition_hash(v, "cap", p, &hash, f);
        if (e) return e;
        for (size_t i = 0; !e && i < hash->elements; i += 2) {
            struct view_capacity c;
            if (strchr(hash->element[i]->str, ':')) continue; /* an hour's peaks */
            e = capacity_read(hash->element[i], hash->element[i + 1], &c);
            if (!e) e = capacity_peaks(hash, &c);
            if (!e) e = each(arg, &c);
        }
        if (e) (void)sg_fail(f, e, "the capacities cannot be read: %s", sg_error_text(e));
        freeReplyObject(hash);
    }
    return e;
}
