#include "aggregator/store/scripts.h"

/* `or ''` turns an absent field (false) into what the caller says for it. */
#define CHECK                                                                                                          \
    "if redis.call('HGET', KEYS[2], 'state') ~= 'ready' then return 'notready' end\n"                                  \
    "local n = tonumber(ARGV[1])\n"                                                                                    \
    "for i = 2, 2 * n, 2 do\n"                                                                                         \
    "  if (redis.call('HGET', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 'mismatch' end\n"                    \
    "end\n"                                                                                                            \
    "local i = 2 * n + 2\n"

/* What a call does, and in which order, follows from its words alone.
 * ENDED: a run of two partitions (its sandbox has moved) has ended when both say so. An index that grew by n loses up
 * to 2 n of its oldest members, as far as their keys have expired: so it is never much longer than what lives. */
const char script_flush[] = CHECK
    "local k = tonumber(ARGV[i])\n"
    "for m = i + 1, i + 3 * k, 3 do\n"
    "  if (redis.call('HGET', ARGV[m], ARGV[m + 1]) or '') ~= ARGV[m + 2] then return 'mismatch' end\n"
    "end\n"
    "i = i + 3 * k + 1\n"
    "local own, indexes, added, key_of = {}, {}, {}, {}\n"
    "local function grown(index, key)\n"
    "  if not added[index] then indexes[#indexes + 1] = index end\n"
    "  added[index] = (added[index] or 0) + 1\n"
    "  key_of[index] = key\n"
    "end\n"
    "function own.ENDED(ra, re, sandbox, ms, prefix, run)\n"
    "  if redis.call('HLEN', run) > 1 then\n"
    "    local all = redis.call('HGETALL', run)\n"
    "    for f = 1, #all, 2 do\n"
    "      if not string.find(all[f], ':', 1, true) and not string.find(all[f + 1], ' state=ended', 1, true) then "
    "return end\n"
    "    end\n"
    "  end\n"
    "  redis.call('ZREM', ra, sandbox)\n"
    "  redis.call('ZADD', re, 'GT', ms, sandbox)\n"
    "  grown(re, function(m) return prefix .. m end)\n"
    "end\n"
    "function own.ALIVE(ra, re, sandbox, ms, prefix)\n"
    "  redis.call('ZREM', re, sandbox)\n"
    "  redis.call('ZADD', ra, 'LT', ms, sandbox)\n"
    "  grown(ra, function(m) return prefix .. m end)\n"
    "end\n"
    "function own.TRIM(index, prefix, team)\n"
    "  grown(index, function(m)\n"
    "    local start, rest = string.match(m, '^(%d+)(:.*)$')\n"
    "    return prefix .. start .. ':' .. team .. rest\n"
    "  end)\n"
    "end\n"
    "while ARGV[i] do\n"
    "  local count = tonumber(ARGV[i])\n"
    "  local f = own[ARGV[i + 1]]\n"
    "  if f then f(unpack(ARGV, i + 2, i + count)) else redis.call(unpack(ARGV, i + 1, i + count)) end\n"
    "  i = i + count + 1\n"
    "end\n"
    "for _, index in ipairs(indexes) do\n"
    "  for _ = 1, 2 * added[index] do\n"
    "    local oldest = redis.call('ZRANGE', index, 0, 0)[1]\n"
    "    if not oldest or redis.call('EXISTS', key_of[index](oldest)) == 1 then break end\n"
    "    redis.call('ZREM', index, oldest)\n"
    "  end\n"
    "end\n"
    "return 'ok'\n";

const char script_read[] = CHECK "local out = {}\n"
                                 "while ARGV[i] do\n"
                                 "  out[#out + 1] = redis.call('HGET', ARGV[i], ARGV[i + 1])\n"
                                 "  i = i + 2\n"
                                 "end\n"
                                 "return out\n";

const char script_know[] =
    "local entries, hashes = {}, {}\n"
    "for i, p in ipairs(ARGV) do entries[i] = redis.call('HGET', KEYS[1], p) end\n"
    "for i = 3, #KEYS do hashes[i - 2] = redis.call('HGETALL', KEYS[i]) end\n"
    "return {redis.call('HMGET', KEYS[2], 'format', 'shards', 'partitions', 'state'), entries, hashes}\n";

const char script_claim[] =
    "local meta = redis.call('HMGET', KEYS[1], 'format', 'shards', 'partitions', 'state', 'progress')\n"
    "if meta[4] and (meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] or meta[3] ~= ARGV[3]) then return {'mismatch', ''} end\n"
    "if meta[4] == 'ready' then return {'ready', ''} end\n"
    "if meta[4] and (meta[5] or '') ~= ARGV[5] then return {'busy', meta[5] or ''} end\n"
    "redis.call('HSET', KEYS[1], 'format', ARGV[1], 'shards', ARGV[2], 'partitions', ARGV[3], 'state', 'restoring',\n"
    "           'owner', ARGV[4], 'progress', 0)\n"
    "return {'restoring', ''}\n";

/* The progress rises last: where it stands, everything before it was written. A cell is written last, too: one that is
 * there is not looked at again.
 * Offsets have at most 20 digits and no leading zeros: longer is greater, else compare as text; a Lua number is a
 * double. */
const char script_restore[] =
    "local mine = redis.call('HMGET', KEYS[1], 'owner', 'progress')\n"
    "if mine[1] ~= ARGV[2] or mine[2] ~= ARGV[3] then return 'taken' end\n"
    "local function newer(a, b) return #a > #b or (#a == #b and a > b) end\n"
    "local function offset(cell) return string.match(cell, '^@(%d+)') or '' end\n"
    "local prefix, i = ARGV[1], 4\n"
    "while ARGV[i] do\n"
    "  local kind = ARGV[i]\n"
    "  if kind == 'cell' then\n"
    "    local name, field, value = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]\n"
    "    local stored = redis.call('HGET', prefix .. name, field)\n"
    "    if not stored or newer(offset(value), offset(stored)) then\n"
    "      local w, start, team, rest = string.match(name, '^u:([hd]):(%d+):([^:]+):(.*)$')\n"
    "      redis.call('ZADD', prefix .. 'ux:' .. w .. ':' .. team, start, start .. ':' .. rest)\n"
    "      if w == 'h' then redis.call('HSET', prefix .. 'due', team .. ':' .. start .. ':' .. field, offset(value)) "
    "end\n"
    "      redis.call('HSET', prefix .. name, field, value)\n"
    "    end\n"
    "    i = i + 4\n"
    "  elseif kind == 'gap' then\n"
    "    redis.call('HSETNX', prefix .. ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])\n"
    "    i = i + 4\n"
    "  else\n"
    "    local key, at, n = prefix .. 'marks:' .. ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])\n"
    "    local stored = redis.call('HGET', key, 'at')\n"
    "    if not stored or newer(at, stored) then\n"
    "      local new = prefix .. 'marks-new:' .. ARGV[i + 1]\n"
    "      redis.call('DEL', new)\n"
    "      redis.call('HSET', new, 'at', at)\n"
    "      for k = i + 4, i + 3 + 2 * n, 2 do redis.call('HSET', new, ARGV[k], ARGV[k + 1]) end\n"
    "      redis.call('RENAME', new, key)\n"
    "    end\n"
    "    i = i + 4 + 2 * n\n"
    "  end\n"
    "end\n"
    "redis.call('HINCRBY', KEYS[1], 'progress', 1)\n"
    "return 'ok'\n";

/* In this order: a shard that has nothing but lost its owner would be waited for. */
const char script_ready[] = "local mine = redis.call('HMGET', KEYS[1], 'owner', 'progress')\n"
                            "if mine[1] ~= ARGV[1] or mine[2] ~= ARGV[2] then return 'taken' end\n"
                            "redis.call('HSET', KEYS[1], 'state', 'ready')\n"
                            "redis.call('HDEL', KEYS[1], 'owner', 'progress')\n"
                            "return 'ok'\n";
