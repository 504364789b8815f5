#include "aggregator/store/redis_node.h"

#include <assert.h>
#include <string.h>
#include <sys/time.h>

#include "common/clock.h"

void redis_node_init(struct redis_node *n, const char *host, uint16_t port)
{
    *n = (struct redis_node){.port = port};
    assert(strlen(host) < sizeof n->host);
    memcpy(n->host, host, strlen(host) + 1);
    backoff_init(&n->backoff, REDIS_BACKOFF_BASE_MS, REDIS_BACKOFF_CAP_MS, clock_boot().v ^ port);
}

void redis_node_close(struct redis_node *n)
{
    if (n->context) redisFree(n->context);
    n->context = NULL;
}

void redis_node_failed(struct redis_node *n)
{
    redis_node_close(n);
    n->retry_at.v = clock_boot().v + backoff_next(&n->backoff);
}

static enum sg_error login_to(struct redis_node *n, const struct redis_login *login, struct sg_fault *f)
{
    const char *words[] = {"AUTH", login->user, login->password};
    if (login->password[0] == '\0') return SG_OK;
    if (login->user[0] == '\0') words[1] = login->password;
    redisReply *r = redisCommandArgv(n->context, login->user[0] ? 3 : 2, words, NULL);
    if (!r) return sg_fail(f, SG_ERR_UNREACHABLE, "redis %s:%u: no answer to AUTH", n->host, n->port);
    bool denied = r->type == REDIS_REPLY_ERROR;
    freeReplyObject(r);
    return denied ? sg_fail(f, SG_ERR_DENIED, "redis %s:%u: login refused", n->host, n->port) : SG_OK;
}

enum sg_error redis_node_connect(struct redis_node *n, const struct redis_login *login, struct sg_fault *f)
{
    struct timeval timeout = {login->timeout_ms / 1000, (suseconds_t)(login->timeout_ms % 1000) * 1000};
    if (n->context) return SG_OK;
    if (clock_boot().v < n->retry_at.v)
        return sg_fail(f, SG_ERR_UNREACHABLE, "redis %s:%u: could not be reached", n->host, n->port);
    n->context =
        n->port ? redisConnectWithTimeout(n->host, n->port, timeout) : redisConnectUnixWithTimeout(n->host, timeout);
    if (!n->context || n->context->err || redisSetTimeout(n->context, timeout) != REDIS_OK) {
        redis_node_failed(n);
        return sg_fail(f, SG_ERR_UNREACHABLE, "redis %s:%u: could not be reached", n->host, n->port);
    }
    if (n->port) (void)redisEnableKeepAlive(n->context);
    n->context->reader->maxbuf = 0;
    enum sg_error e = login_to(n, login, f);
    if (e) redis_node_failed(n);
    return e;
}
