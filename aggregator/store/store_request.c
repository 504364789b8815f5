/* Requests and replies of redis_store.h, as far as they need no connection. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/store/redis_store.h"
#include "proto/keys.h"

struct store_bytes store_text(const char *s)
{
    return (struct store_bytes){s, strlen(s)};
}

bool store_reply_is(const struct redisReply *r, const char *text)
{
    return r && (r->type == REDIS_REPLY_STATUS || r->type == REDIS_REPLY_STRING) && strlen(text) == (size_t)r->len &&
           memcmp(r->str, text, strlen(text)) == 0;
}

void store_requests_done(struct store_request *requests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (requests[i].reply) freeReplyObject(requests[i].reply);
        requests[i].reply = NULL;
    }
}

enum sg_error redis_store_eval(struct redis_store *s, uint32_t shard, const char *script, const struct store_bytes *arg,
                               size_t key_count, size_t count, struct redisReply **out, struct sg_fault *f)
{
    struct store_request q = {.shard = shard, .script = script, .key_count = key_count, .arg = arg, .count = count};
    enum sg_error e = redis_store_run(s, &q, 1, f);
    *out = q.reply;
    return e;
}

enum sg_error redis_store_command(struct redis_store *s, uint32_t shard, const char *const *words, size_t count,
                                  struct redisReply **out, struct sg_fault *f)
{
    enum { WORDS_MAX = 16 };
    struct store_bytes arg[WORDS_MAX];
    assert(count > 0 && count <= WORDS_MAX);
    for (size_t i = 0; i < count; i++) arg[i] = store_text(words[i]);
    struct store_request q = {.shard = shard, .arg = arg, .count = count};
    enum sg_error e = redis_store_run(s, &q, 1, f);
    *out = q.reply;
    return e;
}

enum sg_error redis_store_probe(struct redis_store *s, uint32_t shards, struct sg_fault *f)
{
    struct question {
        char key[KEY_BYTES_MAX];
        struct store_bytes arg[2];
    } *question = calloc(shards, sizeof *question);
    struct store_request *request = calloc(shards, sizeof *request);
    enum sg_error e = question && request ? SG_OK : sg_fail(f, SG_ERR_NOMEM, "no memory for a question to Redis");
    for (uint32_t i = 0; i < shards && e == SG_OK; i++) {
        struct question *q = &question[i];
        (void)key_plain(q->key, i, "meta");
        q->arg[0] = store_text("EXISTS");
        q->arg[1] = store_text(q->key);
        request[i] = (struct store_request){.shard = i, .arg = q->arg, .count = 2};
    }
    if (e == SG_OK) {
        e = redis_store_run(s, request, shards, f);
        store_requests_done(request, shards);
    }
    free(request);
    free(question);
    return e;
}
