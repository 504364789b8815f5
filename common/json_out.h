/* JSON, written as a stream into a bounded buffer.
 *
 * jansson, which reads JSON for us, can print a non-integer only from a double; costs are decimals that no double may
 * touch (design.md, law 5). So what goes out is written here, and only what comes in is parsed by jansson.
 *
 * Every value function takes the key it stands under: a NUL-terminated name inside an object, NULL inside an array and
 * for the outermost value. Using it wrongly (a key in an array, unbalanced ends, more than JSON_OUT_DEPTH_MAX levels)
 * is a programming error and aborts. Errors of the buffer are sticky and told by json_out_finish. */
#ifndef COMMON_JSON_OUT_H
#define COMMON_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "sandglass/error.h"
#include "sandglass/time.h"

enum { JSON_OUT_DEPTH_MAX = 16 };

struct json_out {
    struct buffer *out;
    unsigned depth;
    bool in_object[JSON_OUT_DEPTH_MAX + 1];
    bool has_items[JSON_OUT_DEPTH_MAX + 1];
};

/* Writes one value to out, behind what is there. out is not owned. */
void json_out_init(struct json_out *j, struct buffer *out);
/* { */
void json_out_object_begin(struct json_out *j, const char *key);
/* } */
void json_out_object_end(struct json_out *j);
/* [ */
void json_out_array_begin(struct json_out *j, const char *key);
/* ] */
void json_out_array_end(struct json_out *j);
/* A string of UTF-8; NULL is null. A byte that is not part of valid UTF-8 becomes U+FFFD. */
void json_out_string(struct json_out *j, const char *key, const char *text);
/* The same with a length; text may hold NUL bytes. */
void json_out_bytes(struct json_out *j, const char *key, const char *text, size_t length);
/* An unsigned integer, in full. */
void json_out_u64(struct json_out *j, const char *key, uint64_t v);
/* A signed integer, in full. */
void json_out_i64(struct json_out *j, const char *key, int64_t v);
/* An integer of 128 bits, in full. */
void json_out_u128(struct json_out *j, const char *key, unsigned __int128 v);
/* v / 10^6 as an exact decimal without trailing zeros: 100000 -> 0.1, 12345678 -> 12.345678, 2000000 -> 2. */
void json_out_micro(struct json_out *j, const char *key, __int128 v);
/* v / 1000, likewise. */
void json_out_milli(struct json_out *j, const char *key, __int128 v);
/* true or false. */
void json_out_bool(struct json_out *j, const char *key, bool v);
/* null. */
void json_out_null(struct json_out *j, const char *key);
/* An instant as RFC 3339 in UTC with milliseconds. */
void json_out_time(struct json_out *j, const char *key, struct wall_ms t);
/* Everything is closed (asserted): OK, or the buffer's LIMIT or NOMEM. */
SG_MUST_USE enum sg_error json_out_finish(struct json_out *j);

#endif
