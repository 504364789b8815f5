/* What replies of Redis must look like before they are used. */
#ifndef API_VIEW_REPLY_H
#define API_VIEW_REPLY_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdlib.h>

#include "proto/text.h"

/* A string. */
static inline bool reply_is_text(const struct redisReply *r)
{
    return r->type == REDIS_REPLY_STRING;
}

/* An array of pairs, as HGETALL gives. */
static inline bool reply_is_pairs(const struct redisReply *r)
{
    return r->type == REDIS_REPLY_ARRAY && r->elements % 2 == 0;
}

/* A decimal in a string. */
static inline bool reply_i64(const struct redisReply *r, int64_t *out)
{
    if (!reply_is_text(r)) return false;
    struct text t = text_over(r->str, r->len);
    uint64_t v = text_u64(&t);
    if (!text_done(&t) || v > INT64_MAX) return false;
    *out = (int64_t)v;
    return true;
}

#endif
