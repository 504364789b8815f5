/* Redis' replies as the aggregator reads the view: what a shard is asked, what a read brings, what a flush is answered,
 * with a real rollup behind. A shard that is not what was last seen is forgotten; nothing counts as written that was
 * not said to be. */
#include <assert.h>
#include <string.h>

#include "aggregator/rollup/sync.h"
#include "tests/fuzz/redis_replies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SHARDS = 2, PARTITIONS = 2 };

/* A batch of one run of one team: a start and a slice. */
static const struct batch *one_batch(void)
{
    static struct batch_decoder decoder;
    static struct batch batch;
    const struct batch_sandbox sandbox = {"s", "t", "p", 2, 1024, 0};
    const struct batch_rise rise = {.cpu_us = 5};
    const struct batch_head head = {
        .runner = "r", .region = "eu", .epoch = 7, .seq = 1, .complete_through = {HOUR_MS}, .totals = {.events = 1}};
    const uint8_t *bytes;
    size_t length;
    uint32_t index;
    if (batch.runner) return &batch;
    struct batch_builder *b = batch_builder_new();
    bool built = b && !batch_builder_sandbox(b, &sandbox, &index) &&
                 !batch_builder_start(b, index, (struct wall_ms){0}, 1, 5) &&
                 !batch_builder_slice(b, index, (struct wall_ms){0}, 1000, &rise) &&
                 !batch_builder_seal(b, &head, &bytes, &length) && !batch_decoder_init(&decoder) &&
                 !batch_decode(&decoder, bytes, length, &batch, NULL);
    assert(built);
    batch_builder_free(b);
    return &batch;
}

static enum sg_error know_all(struct sync *s, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    for (uint32_t shard = 0; shard < SHARDS && e == SG_OK; shard++) {
        bool restore;
        e = sync_know(s, shard, &restore, f);
        assert(!restore || e == SG_ERR_STATE);
        assert(e != SG_OK || !rollup_unknown(s->rollup, shard));
    }
    return e;
}

static enum sg_error drive(struct sync *s, struct sg_fault *f)
{
    static const uint8_t sha256[SHA256_BYTES];
    struct rollup *r = s->rollup;
    enum sg_error e = know_all(s, f);
    if (e != SG_OK) return e;
    assert(rollup_ready(r));
    uint64_t next = rollup_next(r, 0);
    rollup_enqueue(r, 0, next, (struct wall_ms){HOUR_MS}, one_batch(), sha256);
    e = sync_apply(s, f);
    if (e == SG_OK) assert(r->partition[0].position == next + 1 && r->batches == 1);
    if (e == SG_OK) e = sync_flush(s, f);
    if (e == SG_OK) assert(rollup_dirty(r) == 0);
    return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct redis_store_config config = {.address = "/redis", .shards = SHARDS};
    struct rollup r;
    struct sync s;
    struct redis_store *store;
    struct sg_fault f = {0};
    enum sg_error e = redis_store_new(&store, &config, NULL);
    assert(e == SG_OK);
    replies_begin(data, size);
    rollup_init(&r, SHARDS, PARTITIONS);
    sync_init(&s, &r, store);
    for (uint32_t p = 0; p < PARTITIONS; p++) rollup_take(&r, p);
    e = drive(&s, &f);
    if (e != SG_OK) assert(f.code == e && f.text[0] && !strstr(f.text, "(canary)"));
    if (e == SG_ERR_MISMATCH) assert(!rollup_ready(&r));
    sync_destroy(&s);
    rollup_destroy(&r);
    redis_store_free(store);
    replies_end();
    return 0;
}
