/* Names of keys in Redis: proto/redis.md. Pure. Each function writes a NUL-terminated key and returns its length; a key
 * always fits. */
#ifndef PROTO_KEYS_H
#define PROTO_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "sandglass/time.h"

/* Longest: prefix, window, start and three identifiers. */
enum { KEY_BYTES_MAX = 320 };

/* Shard of a team: XXH3_64bits(team) mod shards. */
uint32_t shard_of_team(const char *team, uint32_t shards);
/* Shard that keeps a partition's marks, gaps and capacities. */
static inline uint32_t shard_home(uint32_t partition, uint32_t shards)
{
    return partition % shards;
}
/* 'm', 'h' or 'd'. */
char window_letter(enum window_kind k);

/* sg:{s<shard>}:<name> for meta, v, due, arch. */
size_t key_plain(char out[static KEY_BYTES_MAX], uint32_t shard, const char *name);
/* sg:{s<shard>}:<name>:<partition> for marks, gaps, cap. */
size_t key_partition(char out[static KEY_BYTES_MAX], uint32_t shard, const char *name, uint32_t partition);
/* sg:{s<shard>}:<name>:<id> for ra, re, r, bill, led. */
size_t key_id(char out[static KEY_BYTES_MAX], uint32_t shard, const char *name, const char *id);
/* sg:{s<shard>}:ux:<w>:<team> */
size_t key_rollup_index(char out[static KEY_BYTES_MAX], uint32_t shard, enum window_kind w, const char *team);
/* <start>:<project>:<region>, the member of a rollup index. */
size_t key_rollup_member(char out[static KEY_BYTES_MAX], struct wall_ms start, const char *project, const char *region);
/* sg:{s<shard>}:u:<w>:<start>:<team>:<project>:<region> */
size_t key_rollup(char out[static KEY_BYTES_MAX], uint32_t shard, enum window_kind w, struct wall_ms start,
                  const char *team, const char *project, const char *region);

#endif
