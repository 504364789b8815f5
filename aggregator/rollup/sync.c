#include "aggregator/rollup/sync.h"

#include <assert.h>
#include <stdio.h>

#include "aggregator/rollup/memory.h"
#include "aggregator/store/scripts.h"
#include "proto/keys.h"
#include "sandglass/limits.h"

enum { KEYS_OF_VIEW = 2, VIEW_FORMAT = 1 };

void sync_init(struct sync *s, struct rollup *rollup, struct redis_store *store)
{
    uint32_t n = rollup->shards;
    *s = (struct sync){.rollup = rollup, .store = store};
    s->reads = memory_checked(calloc(n, sizeof *s->reads));
    s->flushes = memory_checked(calloc(n, sizeof *s->flushes));
    s->request = memory_checked(calloc(n, sizeof *s->request));
    s->arg = memory_checked(calloc(n, sizeof *s->arg));
    s->arg_capacity = memory_checked(calloc(n, sizeof *s->arg_capacity));
    s->shard_of = memory_checked(calloc(n, sizeof *s->shard_of));
    s->key_v = memory_checked(calloc(n, sizeof *s->key_v));
    s->key_meta = memory_checked(calloc(n, sizeof *s->key_meta));
    for (uint32_t i = 0; i < n; i++) {
        (void)snprintf(s->key_v[i], sizeof s->key_v[i], "sg:{s%u}:v", i);
        (void)snprintf(s->key_meta[i], sizeof s->key_meta[i], "sg:{s%u}:meta", i);
    }
}

void sync_destroy(struct sync *s)
{
    for (uint32_t i = 0; s->rollup && i < s->rollup->shards; i++) {
        rollup_read_destroy(&s->reads[i]);
        rollup_flush_destroy(&s->flushes[i]);
        free(s->arg[i]);
    }
    free(s->reads);
    free(s->flushes);
    free(s->request);
    free(s->arg);
    free(s->arg_capacity);
    free(s->shard_of);
    free(s->key_v);
    free(s->key_meta);
    *s = (struct sync){0};
}

/* The i-th request of a call: a script over v and meta of a shard, with the words. */
static void request_make(struct sync *s, size_t i, uint32_t shard, const char *script, const struct wordlist *w)
{
    size_t count = KEYS_OF_VIEW + w->count;
    s->arg[i] = memory_grow(s->arg[i], &s->arg_capacity[i], count, sizeof *s->arg[i]);
    s->arg[i][0] = store_text(s->key_v[shard]);
    s->arg[i][1] = store_text(s->key_meta[shard]);
    for (size_t k = 0; k < w->count; k++)
        s->arg[i][KEYS_OF_VIEW + k].p = wordlist_at(w, k, &s->arg[i][KEYS_OF_VIEW + k].length);
    s->request[i] = (struct store_request){
        .shard = shard, .script = script, .key_count = KEYS_OF_VIEW, .arg = s->arg[i], .count = count};
    s->shard_of[i] = shard;
}

/* Runs requests [0, count). After a failure it is not known which of them ran: all of their shards are in doubt. */
static enum sg_error requests_run(struct sync *s, size_t count, struct sg_fault *f)
{
    enum sg_error e = redis_store_run(s->store, s->request, count, f);
    for (size_t i = 0; e && i < count; i++) rollup_lost(s->rollup, s->shard_of[i]);
    return e;
}

static enum sg_error refused(struct sync *s, size_t i, struct sg_fault *f)
{
    bool notready = store_reply_is(s->request[i].reply, "notready");
    s->mismatches++;
    rollup_lost(s->rollup, s->shard_of[i]);
    return sg_fail(f, SG_ERR_MISMATCH, "shard %u %s", s->shard_of[i],
                   notready ? "is not ready" : "is not what was last seen");
}

/* ---- asking ---- */

static bool is_text(const struct redisReply *r)
{
    return r->type == REDIS_REPLY_STRING;
}

static bool meta_is(const struct redisReply *r, size_t i, uint64_t number)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return store_reply_is(r->element[i], text);
}

static enum sg_error meta_check(const struct sync *s, const struct redisReply *meta, uint32_t shard, bool *restore,
                                struct sg_fault *f)
{
    if (!store_reply_is(meta->element[3], "ready")) {
        *restore = true;
        return sg_fail(f, SG_ERR_STATE, "shard %u is not ready: it must be restored", shard);
    }
    if (!meta_is(meta, 0, VIEW_FORMAT)) return sg_fail(f, SG_ERR_VERSION, "shard %u has another format", shard);
    if (!meta_is(meta, 1, s->rollup->shards) || !meta_is(meta, 2, s->rollup->partitions))
        return sg_fail(f, SG_ERR_CONFIG, "shard %u was made for another number of shards or partitions", shard);
    return SG_OK;
}

static bool hash_words(const struct redisReply *r, struct wordlist *w)
{
    wordlist_reset(w);
    if (r->type != REDIS_REPLY_ARRAY || r->elements % 2) return false;
    for (size_t i = 0; i < r->elements; i++) {
        if (!is_text(r->element[i])) return false;
        wordlist_add(w, r->element[i]->str, (size_t)r->element[i]->len);
    }
    return true;
}

/* What was asked: partitions, and which of them have their marks here. */
struct asked {
    uint32_t partition[PARTITIONS_MAX];
    size_t count, homes;
};

static enum sg_error know_all(struct sync *s, uint32_t shard, const struct asked *asked, const struct redisReply *reply,
                              struct sg_fault *f)
{
    struct wordlist marks = {0}, caps = {0};
    const struct redisReply *entries = reply->element[1], *hashes = reply->element[2];
    enum sg_error e = SG_OK;
    size_t hash = 0;
    if (entries->elements != asked->count || hashes->elements != 2 * asked->homes)
        return sg_fail(f, SG_ERR_CORRUPT, "shard %u answers nonsense", shard);
    for (size_t i = 0; !e && i < asked->count; i++) {
        uint32_t p = asked->partition[i];
        struct rollup_stored stored = {.entry = ""};
        if (is_text(entries->element[i])) {
            stored.entry = entries->element[i]->str;
            stored.entry_length = (size_t)entries->element[i]->len;
        }
        if (shard_home(p, s->rollup->shards) == shard) {
            if (!hash_words(hashes->element[hash], &marks) || !hash_words(hashes->element[hash + 1], &caps))
                e = sg_fail(f, SG_ERR_CORRUPT, "the marks of partition %u cannot be read", p);
            hash += 2;
            stored.marks = &marks;
            stored.caps = &caps;
        }
        if (!e) e = rollup_know(s->rollup, shard, p, &stored, f);
    }
    wordlist_destroy(&marks);
    wordlist_destroy(&caps);
    return e;
}

static bool know_shape(const struct redisReply *r)
{
    return r->type == REDIS_REPLY_ARRAY && r->elements == 3 && r->element[0]->type == REDIS_REPLY_ARRAY &&
           r->element[0]->elements == 4 && r->element[1]->type == REDIS_REPLY_ARRAY &&
           r->element[2]->type == REDIS_REPLY_ARRAY;
}

enum sg_error sync_know(struct sync *s, uint32_t shard, bool *restore, struct sg_fault *f)
{
    const struct rollup *r = s->rollup;
    struct asked asked = {.count = 0};
    struct wordlist w = {0};
    char key[KEY_BYTES_MAX];
    *restore = false;
    wordlist_text(&w, s->key_v[shard]);
    wordlist_text(&w, s->key_meta[shard]);
    for (uint32_t p = 0; p < r->partitions; p++) {
        if (!r->partition[p].taken || r->partition[p].seen[shard].known) continue;
        asked.partition[asked.count++] = p;
        if (shard_home(p, r->shards) != shard) continue;
        asked.homes++;
        key_partition(key, shard, "marks", p);
        wordlist_text(&w, key);
        key_partition(key, shard, "cap", p);
        wordlist_text(&w, key);
    }
    for (size_t i = 0; i < asked.count; i++) wordlist_number(&w, asked.partition[i]);
    struct store_bytes *arg = memory_checked(calloc(w.count, sizeof *arg));
    for (size_t i = 0; i < w.count; i++) arg[i].p = wordlist_at(&w, i, &arg[i].length);
    struct redisReply *reply = NULL;
    enum sg_error e = redis_store_eval(s->store, shard, script_know, arg, w.count - asked.count, w.count, &reply, f);
    if (!e && !know_shape(reply)) e = sg_fail(f, SG_ERR_CORRUPT, "shard %u answers nonsense", shard);
    if (!e) e = meta_check(s, reply->element[0], shard, restore, f);
    if (!e) e = know_all(s, shard, &asked, reply, f);
    if (reply) freeReplyObject(reply);
    free(arg);
    wordlist_destroy(&w);
    return e;
}

/* ---- reading ---- */

static enum sg_error read_take(struct sync *s, size_t i, struct sg_fault *f)
{
    uint32_t shard = s->shard_of[i];
    struct rollup_read *q = &s->reads[shard];
    const struct redisReply *reply = s->request[i].reply;
    if (reply->type != REDIS_REPLY_ARRAY) return refused(s, i, f);
    if (reply->elements != q->count) return sg_fail(f, SG_ERR_CORRUPT, "shard %u answers nonsense", shard);
    enum sg_error e = SG_OK;
    for (size_t k = 0; !e && k < q->count; k++) {
        const struct redisReply *v = reply->element[k];
        if (is_text(v))
            e = rollup_loaded(s->rollup, q, k, v->str, (size_t)v->len);
        else
            e = rollup_loaded(s->rollup, q, k, NULL, 0);
    }
    return e ? sg_fail(f, e, "a cell of shard %u cannot be read", shard) : SG_OK;
}

static enum sg_error read_round(struct sync *s, struct sg_fault *f)
{
    size_t count = 0;
    for (uint32_t shard = 0; shard < s->rollup->shards; shard++) {
        if (s->reads[shard].count == 0) continue;
        s->read_cells += s->reads[shard].count;
        request_make(s, count++, shard, script_read, &s->reads[shard].words);
    }
    s->read_calls += count;
    enum sg_error e = requests_run(s, count, f);
    for (size_t i = 0; !e && i < count; i++) e = read_take(s, i, f);
    store_requests_done(s->request, count);
    return e;
}

enum sg_error sync_apply(struct sync *s, struct sg_fault *f)
{
    do {
        while (rollup_needs(s->rollup, s->reads)) {
            enum sg_error e = read_round(s, f);
            if (e) return e;
        }
    } while (!rollup_apply(s->rollup));
    return SG_OK;
}

/* ---- writing ---- */

/* A shard that refuses is lost, the others are not: their flushes go on. */
static enum sg_error flush_round(struct sync *s, size_t count, struct sg_fault *f)
{
    enum sg_error e = requests_run(s, count, f), first = e;
    for (size_t i = 0; !e && i < count; i++) {
        struct rollup_flush *flush = &s->flushes[s->shard_of[i]];
        if (store_reply_is(s->request[i].reply, "ok")) {
            (void)rollup_flush_ok(s->rollup, flush);
            continue;
        }
        flush->active = false;
        s->fenced_flushes++;
        first = refused(s, i, f);
    }
    for (size_t i = 0; e && i < count; i++) s->flushes[s->shard_of[i]].active = false;
    s->flush_calls += count;
    store_requests_done(s->request, count);
    return first;
}

enum sg_error sync_flush(struct sync *s, struct sg_fault *f)
{
    enum sg_error first = SG_OK;
    s->rollup->flushes++;
    s->written_cells += rollup_dirty(s->rollup);
    for (uint32_t shard = 0; shard < s->rollup->shards; shard++)
        (void)rollup_flush_begin(s->rollup, shard, &s->flushes[shard]);
    for (;;) {
        size_t count = 0;
        for (uint32_t shard = 0; shard < s->rollup->shards; shard++) {
            if (!s->flushes[shard].active) continue;
            rollup_flush_chunk(s->rollup, &s->flushes[shard]);
            request_make(s, count++, shard, script_flush, &s->flushes[shard].words);
        }
        if (count == 0) return first;
        enum sg_error e = flush_round(s, count, f);
        if (e && !first) first = e;
    }
}
