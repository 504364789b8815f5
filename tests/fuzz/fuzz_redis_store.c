/* Redis' replies as the store takes them: errors, redirections, the map of a cluster. A call that succeeds gives every
 * request a reply without an error in it; one that fails gives none; and what is connected to is an address.
 *
 * The first byte: bit 0 a cluster, bit 1 scripts (else commands), bits 2 and 3 how many shards are asked at once. */
#include <assert.h>
#include <string.h>

#include "aggregator/store/redis_store.h"
#include "tests/fuzz/redis_replies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SHARDS = 4, ROUNDS = 3 };

static void expect_no_error(const struct redisReply *r)
{
    assert(r && r->type != REDIS_REPLY_ERROR);
    for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i < r->elements; i++) expect_no_error(r->element[i]);
}

static void ask(struct redis_store *s, bool scripts, size_t count)
{
    static const char script[] = "return 1";
    const struct store_bytes words[] = {{"HGETALL", 7}, {"key", 3}};
    struct store_request requests[SHARDS];
    struct sg_fault f = {0};
    for (size_t i = 0; i < count; i++)
        requests[i] = (struct store_request){
            .shard = (uint32_t)i, .script = scripts ? script : NULL, .key_count = 1, .arg = words, .count = 2};
    enum sg_error e = redis_store_run(s, requests, count, &f);
    for (size_t i = 0; i < count; i++) {
        if (e == SG_OK)
            expect_no_error(requests[i].reply);
        else
            assert(!requests[i].reply && !strstr(f.text, "(canary)"));
    }
    store_requests_done(requests, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct redis_store_config config = {.address = "h:1,h:2", .cluster = data[0] & 1, .shards = SHARDS};
    struct redis_store *s;
    enum sg_error e = redis_store_new(&s, &config, NULL);
    assert(e == SG_OK);
    replies_begin(data + 1, size - 1);
    for (int i = 0; i < ROUNDS; i++) ask(s, data[0] & 2, 1 + (data[0] >> 2 & 3));
    redis_store_free(s);
    replies_end();
    return 0;
}
