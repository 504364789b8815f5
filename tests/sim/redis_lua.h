/* A simulated Redis runs the scripts that ship: their texts, in LuaJIT, whose language is Redis' Lua 5.1 and which
 * takes two thirds of the time, over a state of ours. What is modelled are the commands that they call; redis_model.c
 * holds both against a real server. One thread. */
#ifndef SIM_REDIS_LUA_H
#define SIM_REDIS_LUA_H

#include <hiredis/hiredis.h>

#include "aggregator/store/redis_store.h"
#include "tests/sim/redis_state.h"

enum { REDIS_WRITES_ALL = INT32_MAX, REDIS_NO_MEMORY = -1 };

/* What became of a call. CUT: the commands that write came to an end before the script did. */
enum redis_end { REDIS_DONE, REDIS_CUT, REDIS_FAILED };

/* Runs a script (its text must outlive the program, as the address is its name) or, script NULL, a command. At most
 * `writes` of its commands write; REDIS_NO_MEMORY: it is cut, as Redis does it, at its first command that may take
 * memory, unless another one has written before. *out, when done, is the caller's: freeReplyObject. FAILED: why says
 * how. */
enum redis_end redis_lua_run(struct redis_state *s, const struct store_request *q, int32_t writes,
                             struct redisReply **out, const char **why);

#endif
