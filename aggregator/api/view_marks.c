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
        words_copy(&w, "runner", g.runner.s, sizeof g.runner.s);
        words_copy(&w, "region", g.region.s, sizeof g.region.s);
        g.from = words_wall(&w, "from");
        g.to = words_wall(&w, "to");
        e = w.bad ? SG_ERR_CORRUPT : each(arg, &g);
    }
    return e;
}

/* A mark as the field `r:<runner>:<epoch>` and its text say it. */
struct mark {
    struct id runner, region;
    uint64_t epoch;
    struct wall_ms ct, last;
    struct words words;
};

/* False: not a mark of a runner. bad in words: it cannot be read. */
static bool mark_read(const struct redisReply *field, const struct redisReply *text, struct mark *m)
{
    if (strncmp(field->str, "r:", 2) != 0) return false;
    const char *colon = strchr(field->str + 2, ':');
    *m = (struct mark){.words = {text->str, text->len, false}};
    if (!colon || !id_valid(field->str + 2, (size_t)(colon - field->str - 2))) {
        m->words.bad = true;
        return true;
    }
    memcpy(m->runner.s, field->str + 2, (size_t)(colon - field->str - 2));
    struct text t = text_over(colon + 1, strlen(colon + 1));
    m->epoch = text_u64(&t);
    words_copy(&m->words, "region", m->region.s, sizeof m->region.s);
    m->ct = words_wall(&m->words, "ct");
    m->last = words_wall(&m->words, "last");
    if (!text_done(&t)) m->words.bad = true;
    return true;
}

static bool newer_epoch_exists(const struct redisReply *marks, const struct mark *m)
{
    struct mark other;
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
        struct mark m;
        if (!mark_read(marks->element[i], marks->element[i + 1], &m)) continue;
        if (m.words.bad) return SG_ERR_CORRUPT;
        if (m.ct.v == 0 || m.last.v >= heard.v - v->grace_ms || newer_epoch_exists(marks, &m)) continue;
        struct view_gap g = {.runner = m.runner, .region = m.region, .from = m.ct};
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

static enum sg_error accepted_add(struct view_accepted *out, struct words *w)
{
    bool ok = amount_add(&out->vcpu_ms, (struct amount){words_u64(w, "vcpu_ms")}) &&
              amount_add(&out->mem_mib_ms, (struct amount){words_u64(w, "mem_mib_ms")}) &&
              amount_add(&out->disk_mib_ms, (struct amount){words_u64(w, "disk_mib_ms")}) &&
              amount_add(&out->running_ms, (struct amount){words_u64(w, "running_ms")}) &&
              amount_add(&out->events, (struct amount){words_u64(w, "events")}) &&
              amount_add(&out->refused, (struct amount){words_u64(w, "refused")});
    if (w->bad) return SG_ERR_CORRUPT;
    return ok ? SG_OK : SG_ERR_OVERFLOW;
}

enum sg_error view_accepted(struct view *v, struct view_accepted *out, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    *out = (struct view_accepted){0};
    for (uint32_t p = 0; !e && p < v->partitions; p++) {
        struct redisReply *marks = NULL;
        struct mark m;
        e = partition_hash(v, "marks", p, &marks, f);
        if (e) return e;
        for (size_t i = 0; !e && i < marks->elements; i += 2)
            if (mark_read(marks->element[i], marks->element[i + 1], &m)) e = accepted_add(out, &m.words);
        if (e) (void)sg_fail(f, e, "the marks cannot be added up: %s", sg_error_text(e));
        freeReplyObject(marks);
    }
    return e;
}

/* ---- capacities ---- */

static void capacity_peaks(const struct redisReply *hash, struct view_capacity *c)
{
    struct wall_ms hour = wall_floor(c->at, HOUR_MS);
    c->peak_vcpus = c->vcpus_allocated;
    c->peak_mem_mib = c->mem_mib_allocated;
    c->peak_disk_mib = c->disk_mib_allocated;
    c->peak_sandboxes = c->sandboxes_running;
    for (int64_t start = hour.v - HOUR_MS; start <= hour.v; start += HOUR_MS) {
        char name[ROW_NAME_BYTES];
        snprintf(name, sizeof name, "%s:%lld", c->runner.s, (long long)(start / SECOND_MS));
        const struct redisReply *text = hash_get(hash, name);
        if (!text) continue;
        struct words w = {text->str, text->len, false};
        uint64_t vcpus = words_u64(&w, "vcpus_allocated"), mem = words_u64(&w, "mem_mib_allocated");
        uint64_t disk = words_u64(&w, "disk_mib_allocated"), sandboxes = words_u64(&w, "sandboxes_running");
        if (vcpus > c->peak_vcpus) c->peak_vcpus = vcpus;
        if (mem > c->peak_mem_mib) c->peak_mem_mib = mem;
        if (disk > c->peak_disk_mib) c->peak_disk_mib = disk;
        if (sandboxes > c->peak_sandboxes) c->peak_sandboxes = sandboxes;
    }
}

static enum sg_error capacity_read(const struct redisReply *field, const struct redisReply *text,
                                   struct view_capacity *c)
{
    struct words w = {text->str, text->len, false};
    *c = (struct view_capacity){0};
    if (!id_valid(field->str, field->len)) return SG_ERR_CORRUPT;
    memcpy(c->runner.s, field->str, field->len + 1);
    words_copy(&w, "region", c->region.s, sizeof c->region.s);
    c->at = words_wall(&w, "at");
    c->vcpus_total = words_u64(&w, "vcpus_total");
    c->mem_mib_total = words_u64(&w, "mem_mib_total");
    c->disk_mib_total = words_u64(&w, "disk_mib_total");
    c->warm = words_u64(&w, "warm");
    c->vcpus_allocated = words_u64(&w, "vcpus_allocated");
    c->mem_mib_allocated = words_u64(&w, "mem_mib_allocated");
    c->disk_mib_allocated = words_u64(&w, "disk_mib_allocated");
    c->sandboxes_running = words_u64(&w, "sandboxes_running");
    return w.bad ? SG_ERR_CORRUPT : SG_OK;
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
            if (!e) capacity_peaks(hash, &c);
            if (!e) e = each(arg, &c);
        }
        if (e) (void)sg_fail(f, e, "the capacities cannot be read: %s", sg_error_text(e));
        freeReplyObject(hash);
    }
    return e;
}
