#include "aggregator/ctl/view_open.h"

#include "aggregator/store/redis_store.h"

enum sg_error view_open(const struct ctl_config *k, struct view *v, struct sg_fault *f)
{
    struct redis_store_config config = {.address = k->redis,
                                        .cluster = k->redis_cluster,
                                        .shards = (uint32_t)k->shards,
                                        .user = k->redis_user,
                                        .password = k->redis_password};
    *v = (struct view){.shards = (uint32_t)k->shards, .grace_ms = (int64_t)k->runner_grace_ms};
    enum sg_error e = redis_store_new(&v->store, &config, f);
    return e ? e : view_refresh(v, 0, f);
}

void view_close(struct view *v)
{
    redis_store_free(v->store);
    v->store = NULL;
}
