#include "aggregator/api/view_scripts.h"

/* KEYS: an index ux:<w>:<team>. ARGV: prefix of the rollups' keys up to and with ":<w>:", team, first start, last
 * start, offset, count. Gives, per member of the index: the member, its rollup's hash. A member whose key is gone has
 * an empty hash. */
const char view_script_rollups[] =
    "local out = {}\n"
    "for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[3], ARGV[4], 'LIMIT', ARGV[5], ARGV[6])) do\n"
    "  local start, rest = string.match(m, '^(%d+):(.*)$')\n"
    "  out[#out + 1] = m\n"
    "  out[#out + 1] = redis.call('HGETALL', ARGV[1] .. start .. ':' .. ARGV[2] .. ':' .. rest)\n"
    "end\n"
    "return out\n";

/* KEYS: ra:<team> or re:<team>. ARGV: prefix of the runs' keys, highest score, offset, count.
 * Gives, newest first: the sandbox, its score, its hash. */
const char view_script_runs[] =
    "local out = {}\n"
    "local found = redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[2], '-inf', 'WITHSCORES', 'LIMIT', ARGV[3], ARGV[4])\n"
    "for i = 1, #found, 2 do\n"
    "  out[#out + 1] = found[i]\n"
    "  out[#out + 1] = found[i + 1]\n"
    "  out[#out + 1] = redis.call('HGETALL', ARGV[1] .. found[i])\n"
    "end\n"
    "return out\n";

/* KEYS: led:<team>, ledr:<team>. ARGV: highest hour, offset, count. Gives, newest hour first: the member, its row. */
const char view_script_revisions[] =
    "local out = {}\n"
    "for _, m in ipairs(redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[1], '-inf', 'LIMIT', ARGV[2], ARGV[3])) do\n"
    "  out[#out + 1] = m\n"
    "  out[#out + 1] = redis.call('HGET', KEYS[2], m) or ''\n"
    "end\n"
    "return out\n";
