#include "tests/sim/redis_lua.h"

#include <assert.h>
#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/pool.h"
#include "tests/sim/turns.h"

enum { GC_PAUSE_PERCENT = 400 }; /* what a call leaves behind is little beside what it used */

/* The call under way. */
static struct {
    struct redis_state *state;
    int32_t writes;
    bool wrote, cut;
} running;

/* ---- commands: arguments are on the stack from 2 on, results are pushed ---- */

static struct redis_text word(lua_State *l, int i)
{
    struct redis_text t;
    t.p = luaL_checklstring(l, i, &t.length);
    return t;
}

static int push_text(lua_State *l, const struct redis_field *f)
{
    if (f)
        lua_pushlstring(l, f->text, f->text_length);
    else
        lua_pushboolean(l, false);
    return 1;
}

static int push_count(lua_State *l, size_t count)
{
    lua_pushnumber(l, (lua_Number)count);
    return 1;
}

static int push_ok(lua_State *l)
{
    lua_createtable(l, 0, 1);
    lua_pushliteral(l, "OK");
    lua_setfield(l, -2, "ok");
    return 1;
}

static int hget(lua_State *l)
{
    return push_text(l, redis_state_get(running.state, word(l, 2), word(l, 3)));
}

static int hmget(lua_State *l)
{
    int count = lua_gettop(l);
    lua_createtable(l, count - 2, 0);
    for (int i = 3; i <= count; i++) {
        (void)push_text(l, redis_state_get(running.state, word(l, 2), word(l, i)));
        lua_rawseti(l, -2, i - 2);
    }
    return 1;
}

/* Fields [from, until) and their texts. */
static void push_fields(lua_State *l, const struct redis_key *k, size_t from, size_t until)
{
    int n = 0;
    lua_createtable(l, k ? 2 * (int)k->live : 0, 0);
    for (size_t i = from; k && i < k->count && i < until; i++) {
        if (!k->field[i].text) continue;
        lua_pushlstring(l, k->field[i].name, k->field[i].name_length);
        lua_rawseti(l, -2, ++n);
        (void)push_text(l, &k->field[i]);
        lua_rawseti(l, -2, ++n);
    }
}

static int hgetall(lua_State *l)
{
    push_fields(l, redis_state_find(running.state, word(l, 2)), 0, SIZE_MAX);
    return 1;
}

/* A portion, as a large hash is given: whatever COUNT says, so that small ones have several, too. */
static int hscan(lua_State *l)
{
    enum { PORTION = 48 };
    const struct redis_key *k = redis_state_find(running.state, word(l, 2));
    size_t from = strtoull(word(l, 3).p, NULL, 10), until = from + PORTION;
    lua_createtable(l, 2, 0);
    (void)lua_pushfstring(l, "%d", k && until < k->count ? (int)until : 0);
    lua_rawseti(l, -2, 1);
    push_fields(l, k, from, until);
    lua_rawseti(l, -2, 2);
    return 1;
}

static int hlen(lua_State *l)
{
    const struct redis_key *k = redis_state_find(running.state, word(l, 2));
    return push_count(l, k ? k->live : 0);
}

static int exists(lua_State *l)
{
    return hlen(l), push_count(l, lua_tonumber(l, -1) > 0);
}

static int hset(lua_State *l)
{
    int count = lua_gettop(l);
    size_t fresh = 0;
    if (count < 4 || count % 2) return luaL_error(l, "wrong number of arguments");
    for (int i = 3; i < count; i += 2)
        fresh += redis_state_set(running.state, word(l, 2), false, word(l, i), word(l, i + 1));
    return push_count(l, fresh);
}

static int hsetnx(lua_State *l)
{
    bool there = redis_state_get(running.state, word(l, 2), word(l, 3));
    if (!there) (void)redis_state_set(running.state, word(l, 2), false, word(l, 3), word(l, 4));
    return push_count(l, !there);
}

static int hincrby(lua_State *l)
{
    char text[24];
    const struct redis_field *f = redis_state_get(running.state, word(l, 2), word(l, 3));
    int64_t v = (f ? strtoll(f->text, NULL, 10) : 0) + strtoll(word(l, 4).p, NULL, 10);
    (void)snprintf(text, sizeof text, "%" PRId64, v);
    (void)redis_state_set(running.state, word(l, 2), false, word(l, 3), redis_text(text));
    lua_pushnumber(l, (lua_Number)v);
    return 1;
}

/* HDEL and ZREM. */
static int remove_fields(lua_State *l)
{
    size_t gone = 0;
    for (int i = 3; i <= lua_gettop(l); i++) gone += redis_state_delete(running.state, word(l, 2), word(l, i));
    return push_count(l, gone);
}

static int del(lua_State *l)
{
    return push_count(l, redis_state_delete_key(running.state, word(l, 2)));
}

static int rename_key(lua_State *l)
{
    const struct redis_key *k = redis_state_find(running.state, word(l, 2));
    if (!k || k->live == 0) return luaL_error(l, "no such key");
    (void)redis_state_delete_key(running.state, word(l, 3));
    for (size_t i = 0; i < k->count; i++)
        if (k->field[i].text)
            (void)redis_state_set(running.state, word(l, 3), k->zset,
                                  (struct redis_text){k->field[i].name, k->field[i].name_length},
                                  (struct redis_text){k->field[i].text, k->field[i].text_length});
    if (k->expires_s) redis_state_set_expiry(running.state, word(l, 3), k->expires_s);
    (void)redis_state_delete_key(running.state, word(l, 2));
    return push_ok(l);
}

static int expireat(lua_State *l)
{
    const struct redis_key *k = redis_state_find(running.state, word(l, 2));
    redis_state_set_expiry(running.state, word(l, 2), strtoll(word(l, 3).p, NULL, 10));
    return push_count(l, k && k->live);
}

/* Scores of the view are times: whole numbers. */
static uint64_t score_in(const char *text)
{
    uint64_t v = 0;
    for (; *text >= '0' && *text <= '9'; text++) v = 10 * v + (uint64_t)(*text - '0');
    if (*text) abort();
    return v;
}

static uint64_t score_of(const struct redis_field *f)
{
    return score_in(f->text);
}

/* key [GT|LT] score member */
static int zadd(lua_State *l)
{
    int at = lua_gettop(l) - 1;
    const struct redis_field *f = redis_state_get(running.state, word(l, 2), word(l, at + 1));
    uint64_t score = score_in(word(l, at).p);
    bool greater = at == 4 && strcmp(word(l, 3).p, "GT") == 0, less = at == 4 && strcmp(word(l, 3).p, "LT") == 0;
    if (at < 3 || at > 4 || (at == 4 && !greater && !less)) return luaL_error(l, "not modelled");
    if (f && ((greater && score <= score_of(f)) || (less && score >= score_of(f)))) return push_count(l, 0);
    return push_count(l, redis_state_set(running.state, word(l, 2), true, word(l, at + 1), word(l, at)));
}

static bool before(const struct redis_field *a, const struct redis_field *b)
{
    uint64_t x = score_of(a), y = score_of(b);
    return x < y || (x == y && strcmp(a->name, b->name) < 0);
}

/* key 0 0 */
static int zrange(lua_State *l)
{
    const struct redis_key *k = redis_state_find(running.state, word(l, 2));
    const struct redis_field *first = NULL;
    for (size_t i = 0; k && i < k->count; i++)
        if (k->field[i].text && (!first || before(&k->field[i], first))) first = &k->field[i];
    lua_createtable(l, 1, 0);
    if (!first) return 1;
    lua_pushlstring(l, first->name, first->name_length);
    lua_rawseti(l, -2, 1);
    return 1;
}

/* key min max, both numbers; by score, then by name */
static int zrangebyscore(lua_State *l)
{
    const struct redis_key *k = redis_state_find(running.state, word(l, 2));
    uint64_t min = score_in(word(l, 3).p), max = score_in(word(l, 4).p);
    const struct redis_field *last = NULL;
    lua_createtable(l, 0, 0);
    for (int n = 1;; n++) {
        const struct redis_field *next = NULL;
        for (size_t i = 0; k && i < k->count; i++) {
            const struct redis_field *f = &k->field[i];
            bool in = f->text && score_of(f) >= min && score_of(f) <= max && (!last || before(last, f));
            if (in && (!next || before(f, next))) next = f;
        }
        if (!next) return 1;
        lua_pushlstring(l, next->name, next->name_length);
        lua_rawseti(l, -2, n);
        last = next;
    }
}

static const struct {
    const char *name;
    lua_CFunction run;
    bool writes, grows; /* grows: it may take memory (denyoom) */
} commands[] = {{"HGET", hget, false, false},
                {"HSET", hset, true, true},
                {"ZADD", zadd, true, true},
                {"EXPIREAT", expireat, true, false},
                {"ZRANGE", zrange, false, false},
                {"EXISTS", exists, false, false},
                {"HMGET", hmget, false, false},
                {"HGETALL", hgetall, false, false},
                {"HLEN", hlen, false, false},
                {"HDEL", remove_fields, true, false},
                {"ZREM", remove_fields, true, false},
                {"HSETNX", hsetnx, true, true},
                {"HINCRBY", hincrby, true, true},
                {"DEL", del, true, false},
                {"RENAME", rename_key, true, false},
                {"HSCAN", hscan, false, false},
                {"ZRANGEBYSCORE", zrangebyscore, false, false}};

enum { COMMANDS = sizeof commands / sizeof *commands };

/* The interpreter's own texts of the commands' names: of equal texts it has one. */
static const char *names[COMMANDS];

static int call(lua_State *l)
{
    const char *name = luaL_checkstring(l, 1);
    for (size_t i = 0; i < COMMANDS; i++) {
        if (names[i] != name) continue;
        if (commands[i].writes) {
            bool full = running.writes == REDIS_NO_MEMORY;
            running.cut = full ? commands[i].grows && !running.wrote : running.writes == 0;
            if (running.cut) return luaL_error(l, "cut");
            running.wrote = true;
            if (!full) running.writes--;
            redis_state_begin(running.state);
        }
        return commands[i].run(l);
    }
    return luaL_error(l, "%s is not modelled", name);
}

/* ---- scripts ---- */

static void *pooled(void *arg, void *p, size_t old_bytes, size_t bytes)
{
    (void)arg;
    if (bytes) return pool_resize(p, old_bytes, bytes);
    pool_give(p, old_bytes);
    return NULL;
}

/* Of the turn that is taken; and at the end of the program it is closed, for a leak checker does not understand its
 * pointers. */
static lua_State *kept;

static void interpreter_end(void)
{
    if (kept) lua_close(kept);
    kept = NULL;
}

static lua_State *interpreter(void)
{
    static int turn = -1;
    if (kept && turn == sim_turn) return kept;
    if (turn == -1 && atexit(interpreter_end)) abort();
    interpreter_end();
    turn = sim_turn;
    lua_State *l = kept = lua_newstate(pooled, NULL);
    if (!l) abort();
    (void)lua_gc(l, LUA_GCSETPAUSE, GC_PAUSE_PERCENT);
    luaL_openlibs(l);
    for (size_t i = 0; i < COMMANDS; i++) {
        lua_pushstring(l, commands[i].name);
        names[i] = lua_tostring(l, -1);
        (void)luaL_ref(l, LUA_REGISTRYINDEX);
    }
    lua_createtable(l, 0, 2);
    lua_pushcfunction(l, call);
    lua_setfield(l, -2, "call");
    lua_pushcfunction(l, call);
    lua_setfield(l, -2, "pcall"); /* what is read through it does not fail here */
    lua_setglobal(l, "redis");
    return l;
}

/* The text with the wrong turn that is taken, if it is one of its own; else NULL. */
static char *turned(const char *text)
{
    for (size_t i = 1; i < sizeof sim_lua_turns / sizeof *sim_lua_turns; i++) {
        const char *old = sim_lua_turns[i].old, *at = strstr(text, old);
        if (sim_lua_turns[i].turn != sim_turn || !at) continue;
        size_t bytes = strlen(text) + strlen(sim_lua_turns[i].taken) + 1;
        char *copy = malloc(bytes);
        if (!copy) abort();
        (void)snprintf(copy, bytes, "%.*s%s%s", (int)(at - text), text, sim_lua_turns[i].taken, at + strlen(old));
        return copy;
    }
    return NULL;
}

/* Pushes the compiled script. */
static void push_script(lua_State *l, const char *text)
{
    char *copy;
    lua_pushlightuserdata(l, (void *)(uintptr_t)text);
    lua_rawget(l, LUA_REGISTRYINDEX);
    if (lua_isfunction(l, -1)) return;
    lua_pop(l, 1);
    copy = turned(text);
    if (luaL_loadstring(l, copy ? copy : text)) abort();
    free(copy);
    lua_pushlightuserdata(l, (void *)(uintptr_t)text);
    lua_pushvalue(l, -2);
    lua_rawset(l, LUA_REGISTRYINDEX);
}

static void set_list(lua_State *l, const struct store_bytes *words, size_t count, const char *name)
{
    lua_createtable(l, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        lua_pushlstring(l, words[i].p, words[i].length);
        lua_rawseti(l, -2, (int)i + 1);
    }
    lua_setglobal(l, name);
}

static struct redisReply *reply_new(int type)
{
    struct redisReply *r = calloc(1, sizeof *r);
    if (!r) abort();
    r->type = type;
    return r;
}

static struct redisReply *reply_text(int type, const char *text, size_t length)
{
    struct redisReply *r = reply_new(type);
    r->str = malloc(length + 1);
    if (!r->str) abort();
    memcpy(r->str, text, length);
    r->str[length] = '\0';
    r->len = length;
    return r;
}

static struct redisReply *reply_of(lua_State *l, int index);

/* A list ends at its first nil. */
static struct redisReply *reply_list(lua_State *l, int index)
{
    struct redisReply *r = reply_new(REDIS_REPLY_ARRAY);
    size_t count = 0;
    for (bool more = true; more; count += more) {
        lua_rawgeti(l, index, (int)count + 1);
        more = !lua_isnil(l, -1);
        lua_pop(l, 1);
    }
    r->elements = count;
    r->element = calloc(count + 1, sizeof(struct redisReply *));
    if (!r->element) abort();
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(l, index, (int)i + 1);
        r->element[i] = reply_of(l, lua_gettop(l));
        lua_pop(l, 1);
    }
    return r;
}

static struct redisReply *reply_of(lua_State *l, int index)
{
    size_t length;
    switch (lua_type(l, index)) {
    case LUA_TSTRING: {
        const char *text = lua_tolstring(l, index, &length);
        return reply_text(REDIS_REPLY_STRING, text, length);
    }
    case LUA_TNUMBER: {
        struct redisReply *r = reply_new(REDIS_REPLY_INTEGER);
        r->integer = (long long)lua_tonumber(l, index);
        return r;
    }
    case LUA_TTABLE: {
        lua_getfield(l, index, "ok");
        bool status = lua_isstring(l, -1);
        struct redisReply *r =
            status ? reply_text(REDIS_REPLY_STATUS, lua_tostring(l, -1), lua_objlen(l, -1)) : reply_list(l, index);
        lua_pop(l, 1);
        return r;
    }
    default: return reply_new(REDIS_REPLY_NIL);
    }
}

static int script(lua_State *l, const struct store_request *q)
{
    push_script(l, q->script);
    set_list(l, q->arg, q->key_count, "KEYS");
    set_list(l, q->arg + q->key_count, q->count - q->key_count, "ARGV");
    return lua_pcall(l, 0, 1, 0);
}

static int command(lua_State *l, const struct store_request *q)
{
    lua_pushcfunction(l, call);
    luaL_checkstack(l, (int)q->count, "words");
    for (size_t i = 0; i < q->count; i++) lua_pushlstring(l, q->arg[i].p, q->arg[i].length);
    return lua_pcall(l, (int)q->count, 1, 0);
}

enum redis_end redis_lua_run(struct redis_state *s, const struct store_request *q, int32_t writes,
                             struct redisReply **out, const char **why)
{
    lua_State *l = interpreter();
    running.state = s;
    running.writes = writes;
    running.wrote = running.cut = false;
    *out = NULL;
    lua_settop(l, 0);
    int status = q->script ? script(l, q) : command(l, q);
    if (running.cut) return REDIS_CUT;
    if (status) {
        static char text[200];
        (void)snprintf(text, sizeof text, "%s", lua_tostring(l, -1));
        *why = text;
        return REDIS_FAILED;
    }
    *out = reply_of(l, 1);
    return REDIS_DONE;
}
