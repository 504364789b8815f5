/* Requests and replies of redis_store.h, as far as they need no connection. */
#include <assert.h>
#include <string.h>

#include "aggregator/store/redis_store.h"

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
