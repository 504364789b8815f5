/* The simulated Redis and a real one get the same calls of the scripts that ship, by seed, some of them without memory:
 * every answer and, at the end, every key must be the same. usage: redis_model REDIS-SERVER FOLDER */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "aggregator/store/scripts.h"
#include "tests/sim/redis_lua.h"

enum { CALLS = 25000, ROUND = 200, WITHOUT_MEMORY = 50, WORDS_MAX = 64, WAIT_MS = 10000 };

int sim_turn;

static struct redis_state model;
static redisContext *real;
static bool memory = true;
static uint64_t random_state = 88172645463325252;

/* The call that is made. */
static struct {
    char word[WORDS_MAX][96];
    size_t count, keys;
} call;

static uint64_t draw(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 11) % below;
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(call.word[call.count++], sizeof call.word[0], format, args);
    va_end(args);
}

static void key(const char *name)
{
    say("sg:{s0}:%s", name);
}

/* ---- what is called ---- */

static void cell(void)
{
    say("@%u cpu_us=1%s", (unsigned)draw(12), draw(2) ? " state=ended" : "");
}

static void command(void)
{
    unsigned n = (unsigned)draw(4);
    switch (draw(8)) {
    case 0: say("4"), say("HSET"), say("sg:{s0}:r:b%u", n), say("%u", (unsigned)draw(3)), cell(); break;
    case 1: say("3"), say("HDEL"), say("sg:{s0}:r:b%u", n), say("%u", (unsigned)draw(3)); break;
    case 2: say("4"), say("ZADD"), key("ux:m:t1"), say("%u", 60 * n), say("%u:-:eu", 60 * n); break;
    case 3: say("3"), say("EXPIREAT"), say("sg:{s0}:r:b%u", n), say("4000000000"); break;
    case 4: say("4"), say("TRIM"), key("ux:m:t1"), key("u:m:"), say("t1"); break;
    case 5: say("4"), say("HSET"), say("sg:{s0}:u:m:%u:t1:-:eu", 60 * n), say("0"), cell(); break;
    case 6: say("4"), say("HSET"), key("marks:0"), say("at"), say("%u", (unsigned)draw(3)); break;
    default:
        say("7"), say(draw(2) ? "ENDED" : "ALIVE"), key("ra:t1"), key("re:t1"), say("b%u", n);
        say("%u", (unsigned)draw(50)), key("r:"), say("sg:{s0}:r:b%u", n);
    }
}

static const char *flush_or_read(void)
{
    bool flush = draw(4);
    key("v"), key("meta");
    call.keys = 2;
    if (draw(2))
        say("0");
    else
        say("1"), say("0"), say("%s", draw(2) ? "" : "7 1 1@1");
    if (!flush) {
        for (uint64_t i = draw(4); i > 0; i--) say("sg:{s0}:r:b%u", (unsigned)draw(4)), say("%u", (unsigned)draw(3));
        return script_read;
    }
    if (draw(2))
        say("0");
    else
        say("1"), key("marks:0"), say("at"), say("%u", (unsigned)draw(3));
    for (uint64_t i = 1 + draw(4); i > 0; i--) command();
    if (draw(4) == 0) say("4"), say("HSET"), key("v"), say("0"), say("%s", draw(2) ? "7 1 1@1" : "8 1 1@1");
    return script_flush;
}

static const char *restore_part(void)
{
    key("meta");
    call.keys = 1;
    key(""), say("o%u", (unsigned)draw(2)), say("%u", (unsigned)draw(3));
    say("cell"), say("u:%c:%u:t1:-:eu", draw(2) ? 'h' : 'd', 3600 * (unsigned)draw(3)), say("0"), cell();
    if (draw(2)) say("gap"), say("gaps:0"), say("%u:0", (unsigned)draw(3)), say("kind=seq");
    if (draw(2))
        say("marks"), say("0"), say("%u", (unsigned)draw(12)), say("1"), say("r:r1:%u", (unsigned)draw(3)),
            say("seq=1");
    return script_restore;
}

static const char *next_call(void)
{
    call.count = call.keys = 0;
    switch (draw(12)) {
    case 0:
        key("v"), key("meta"), key("marks:0"), key("gaps:0"), say("0");
        call.keys = 4;
        return script_know;
    case 1:
        key("meta");
        call.keys = 1;
        say("1"), say("1"), say("%u", 1 + (unsigned)draw(8) / 7), say("o%u", (unsigned)draw(2));
        say("%s", draw(2) ? "" : "1");
        return script_claim;
    case 2:
        key("meta");
        call.keys = 1;
        say("o%u", (unsigned)draw(2)), say("%u", (unsigned)draw(3));
        return script_ready;
    case 3:
    case 4: return restore_part();
    case 5:
        if (draw(40)) return restore_part();
        say("DEL"), key("meta");
        return NULL;
    default: return flush_or_read();
    }
}

/* ---- both ---- */

static void put(const struct redisReply *r, FILE *out)
{
    switch (r->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS: fprintf(out, "\"%s\"", r->str); break;
    case REDIS_REPLY_INTEGER: fprintf(out, "%lld", r->integer); break;
    case REDIS_REPLY_NIL: fputs("nil", out); break;
    case REDIS_REPLY_ERROR: fprintf(out, "error %s", r->str); break;
    default:
        fputc('[', out);
        for (size_t i = 0; i < r->elements; i++) put(r->element[i], out), fputc(' ', out);
        fputc(']', out);
    }
}

/* The answer as text; to be freed. */
static char *text_of(struct redisReply *r)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (!out || !r) abort();
    put(r, out);
    (void)fclose(out);
    freeReplyObject(r);
    return text;
}

static char *ask_model(const char *script)
{
    struct store_bytes arg[WORDS_MAX];
    struct redisReply *reply = NULL;
    const char *why = "";
    for (size_t i = 0; i < call.count; i++) arg[i] = (struct store_bytes){call.word[i], strlen(call.word[i])};
    struct store_request q = {.script = script, .key_count = call.keys, .arg = arg, .count = call.count};
    enum redis_end end = redis_lua_run(&model, &q, memory ? REDIS_WRITES_ALL : REDIS_NO_MEMORY, &reply, &why);
    if (end == REDIS_CUT) return strdup("no memory");
    if (end == REDIS_DONE) return text_of(reply);
    fprintf(stderr, "the model fails: %s\n", why);
    exit(1);
}

static char *ask_real(const char *script)
{
    const char *argv[WORDS_MAX + 3];
    char keys[8];
    int n = 0;
    (void)snprintf(keys, sizeof keys, "%zu", call.keys);
    if (script) argv[n++] = "EVAL", argv[n++] = script, argv[n++] = keys;
    for (size_t i = 0; i < call.count; i++) argv[n++] = call.word[i];
    struct redisReply *r = redisCommandArgv(real, n, argv, NULL);
    if (!r || r->type != REDIS_REPLY_ERROR || strncmp(r->str, "OOM ", 4) != 0) return text_of(r);
    freeReplyObject(r);
    return strdup("no memory");
}

/* True when the call was refused for want of memory. */
static bool compare(const char *script)
{
    char *ours = ask_model(script), *theirs = ask_real(script);
    bool refused = strcmp(ours, "no memory") == 0;
    if (strcmp(ours, theirs) != 0) {
        fprintf(stderr, "ours %s\ntheirs %s\n%.60s\n", ours, theirs, script ? script : "");
        for (size_t i = 0; i < call.count; i++) fprintf(stderr, " %s", call.word[i]);
        exit(1);
    }
    free(ours);
    free(theirs);
    return refused;
}

static void memory_set(bool there)
{
    memory = there;
    freeReplyObject(redisCommand(real, "CONFIG SET maxmemory-policy noeviction maxmemory %d", !there));
}

/* Every key, field by field; and the real one has no others. */
static void compare_keys(void)
{
    unsigned live = 0;
    for (size_t i = 0; i < model.count; i++) {
        const struct redis_key *k = model.key[i];
        live += k->live > 0;
        for (size_t j = 0; j < k->count; j++) {
            const struct redis_field *f = &k->field[j];
            const char *name = k->zset ? "ZSCORE" : "HGET";
            if (!k->live) continue;
            char *theirs = text_of(redisCommand(real, "%s %s %s", name, k->name, f->name)), ours[128] = "nil";
            if (f->text) (void)snprintf(ours, sizeof ours, "\"%s\"", f->text);
            if (strcmp(ours, theirs) != 0) {
                fprintf(stderr, "%s %s: ours %s, theirs %s\n", k->name, f->name, ours, theirs);
                exit(1);
            }
            free(theirs);
        }
    }
    char *size = text_of(redisCommand(real, "DBSIZE"));
    if (strtoul(size, NULL, 10) != live) {
        fprintf(stderr, "ours has %u keys, theirs %s\n", live, size);
        exit(1);
    }
    free(size);
}

static pid_t server;

static void server_end(void)
{
    if (server > 0) (void)kill(server, SIGKILL);
}

static void server_start(const char *path, const char *socket)
{
    server = fork();
    if (server == 0) {
        (void)execl(path, "redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no",
                    "--loglevel", "warning", (char *)NULL);
        _exit(127);
    }
    for (int waited = 0; waited < WAIT_MS; waited += 10) {
        const struct timespec moment = {.tv_nsec = 10000000};
        real = redisConnectUnix(socket);
        if (real && !real->err) return;
        if (real) redisFree(real);
        (void)nanosleep(&moment, NULL);
    }
    fprintf(stderr, "no redis-server\n");
    exit(1);
}

int main(int argc, char **argv)
{
    char socket[100];
    if (argc != 3) return 2;
    (void)snprintf(socket, sizeof socket, "%s/model-%d.sock", argv[2], (int)getpid());
    if (atexit(server_end)) return 1;
    server_start(argv[1], socket);
    int refused = 0;
    for (int i = 0; i < CALLS; i++) {
        if (i % ROUND == 0) memory_set(true);
        if (i % ROUND == ROUND - WITHOUT_MEMORY) memory_set(false);
        refused += compare(next_call());
    }
    compare_keys();
    redisFree(real);
    redis_state_destroy(&model);
    (void)unlink(socket);
    printf("%d calls alike, %d of them refused for want of memory\n", CALLS, refused);
    return refused == 0;
}
