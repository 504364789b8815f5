#include "tests/fuzz/redis_replies.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { ARRAY_DIGITS_MAX = 5 };

static redisReader *stream;

/* Bytes up to the first array that is too long. */
static size_t sane_length(const uint8_t *bytes, size_t length)
{
    size_t digits = 0;
    bool array = false;
    for (size_t i = 0; i < length; i++) {
        array = bytes[i] == '*' || (array && bytes[i] >= '0' && bytes[i] <= '9');
        digits = array && bytes[i] != '*' ? digits + 1 : 0;
        if (digits > ARRAY_DIGITS_MAX) return i - digits;
    }
    return length;
}

void replies_begin(const uint8_t *bytes, size_t length)
{
    assert(!stream);
    stream = redisReaderCreate();
    assert(stream);
    (void)redisReaderFeed(stream, (const char *)bytes, sane_length(bytes, length));
}

void replies_end(void)
{
    redisReaderFree(stream);
    stream = NULL;
}

static redisContext *context(void)
{
    redisContext *c = calloc(1, sizeof *c);
    assert(c && stream);
    c->reader = stream;
    return c;
}

redisContext *redisConnectWithTimeout(const char *ip, int port, const struct timeval timeout)
{
    (void)timeout;
    assert(ip[0] && port > 0 && port <= UINT16_MAX);
    return context();
}

redisContext *redisConnectUnixWithTimeout(const char *path, const struct timeval timeout)
{
    (void)timeout;
    assert(path[0] == '/');
    return context();
}

int redisSetTimeout(redisContext *c, const struct timeval timeout)
{
    (void)c, (void)timeout;
    return REDIS_OK;
}

int redisEnableKeepAlive(redisContext *c)
{
    (void)c;
    return REDIS_OK;
}

void redisFree(redisContext *c)
{
    free(c);
}

int redisGetReply(redisContext *c, void **reply)
{
    *reply = NULL;
    return redisReaderGetReply(c->reader, reply);
}

static void *reply_of(redisContext *c)
{
    void *reply;
    return redisGetReply(c, &reply) == REDIS_OK ? reply : NULL;
}

void *redisCommand(redisContext *c, const char *format, ...)
{
    (void)format;
    return reply_of(c);
}

void *redisCommandArgv(redisContext *c, int argc, const char **argv, const size_t *argvlen)
{
    (void)argc, (void)argv, (void)argvlen;
    return reply_of(c);
}

int redisAppendCommand(redisContext *c, const char *format, ...)
{
    (void)c, (void)format;
    return REDIS_OK;
}

int redisAppendCommandArgv(redisContext *c, int argc, const char **argv, const size_t *argvlen)
{
    (void)c, (void)argv, (void)argvlen;
    assert(argc > 0);
    return REDIS_OK;
}
