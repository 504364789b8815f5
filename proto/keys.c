#include "proto/keys.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

#include "proto/text.h"
#include "sandglass/limits.h"

_Static_assert(KEY_BYTES_MAX > 64 + 3 * (ID_BYTES_MAX + 1) + TEXT_U64_BYTES_MAX, "every key fits");

uint32_t shard_of_team(const char *team, uint32_t shards)
{
    assert(shards > 0);
    return (uint32_t)(XXH3_64bits(team, strlen(team)) % shards);
}

char window_letter(enum window_kind k)
{
    assert((unsigned)k < WINDOW_KINDS);
    return "mhd"[k];
}

static char *put_prefix(char *out, uint32_t shard, const char *name)
{
    out = text_put_u64(text_put_str(out, "sg:{s"), shard);
    return text_put_str(text_put_str(out, "}:"), name);
}

static size_t finish(const char *start, char *end)
{
    assert(end - start < KEY_BYTES_MAX);
    *end = '\0';
    return (size_t)(end - start);
}

static char *put_id(char *out, const char *id)
{
    assert(strlen(id) <= ID_BYTES_MAX);
    return text_put_str(out, id);
}

static char *put_seconds(char *out, struct wall_ms t)
{
    assert(t.v >= 0 && t.v % SECOND_MS == 0);
    return text_put_u64(out, (uint64_t)(t.v / SECOND_MS));
}

size_t key_plain(char out[static KEY_BYTES_MAX], uint32_t shard, const char *name)
{
    return finish(out, put_prefix(out, shard, name));
}

size_t key_partition(char out[static KEY_BYTES_MAX], uint32_t shard, const char *name, uint32_t partition)
{
    return finish(out, text_put_u64(text_put_str(put_prefix(out, shard, name), ":"), partition));
}

size_t key_id(char out[static KEY_BYTES_MAX], uint32_t shard, const char *name, const char *id)
{
    return finish(out, put_id(text_put_str(put_prefix(out, shard, name), ":"), id));
}

static char *put_window(char *out, enum window_kind w)
{
    const char text[] = {':', window_letter(w), ':'};
    return text_put(out, text, sizeof text);
}

size_t key_rollup_index(char out[static KEY_BYTES_MAX], uint32_t shard, enum window_kind w, const char *team)
{
    return finish(out, put_id(put_window(put_prefix(out, shard, "ux"), w), team));
}

size_t key_rollup_member(char out[static KEY_BYTES_MAX], struct wall_ms start, const char *project, const char *region)
{
    char *end = text_put_str(put_seconds(out, start), ":");
    end = text_put_str(put_id(end, project), ":");
    return finish(out, put_id(end, region));
}

size_t key_rollup(char out[static KEY_BYTES_MAX], uint32_t shard, enum window_kind w, struct wall_ms start,
                  const char *team, const char *project, const char *region)
{
    char *end = put_seconds(put_window(put_prefix(out, shard, "u"), w), start);
    end = text_put_str(put_id(text_put_str(end, ":"), team), ":");
    end = text_put_str(put_id(end, project), ":");
    return finish(out, put_id(end, region));
}
