#include "aggregator/store/redis_store.h"

#include <assert.h>
#include <ctype.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/store/redis_node.h"
#include "proto/keys.h"
#include "proto/text.h"
#include "sandglass/limits.h"

enum { SLOTS = 16384, SHA1_HEX_BYTES = 2 * SHA_DIGEST_LENGTH, NO_NODE = -1 };
enum { WORDS_BEFORE_ARGS = 3 }; /* EVALSHA sha number-of-keys */

struct script {
    const char *text;
    char sha[SHA1_HEX_BYTES + 1];
};

struct redis_store {
    struct redis_login login;
    char *user, *password;
    bool cluster;
    bool mapped; /* node_of was read from the cluster */
    uint32_t shards;
    struct redis_node node[REDIS_STORE_NODES_MAX];
    int node_count, seed_count;
    int node_of[SHARDS_MAX];
    uint16_t slot_of[SHARDS_MAX];
    struct script script[REDIS_STORE_SCRIPTS_MAX];
    size_t script_count;
    const char **word; /* scratch of one command */
    size_t *word_length;
    size_t word_capacity;
};

/* CRC-16/XMODEM, by which a cluster places keys. */
static uint16_t slot_of_tag(const char *tag)
{
    uint16_t crc = 0;
    for (; *tag; tag++) {
        crc = (uint16_t)(crc ^ ((uint16_t)(unsigned char)*tag << 8));
        for (int bit = 0; bit < 8; bit++) crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    return crc % SLOTS;
}

/* ---- nodes ---- */

/* A name or a numeric address; faults name it, so it is nothing else. */
static bool host_valid(const char *host, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)host[i]) && (host[i] == '\0' || !strchr(".-_:%", host[i]))) return false;
    return length > 0;
}

static int node_find(struct redis_store *s, const char *host, size_t host_length, uint16_t port)
{
    char text[REDIS_HOST_BYTES];
    if (host_length >= sizeof text || !(port == 0 || host_valid(host, host_length))) return NO_NODE;
    memcpy(text, host, host_length);
    text[host_length] = '\0';
    for (int i = 0; i < s->node_count; i++)
        if (s->node[i].port == port && strcmp(s->node[i].host, text) == 0) return i;
    if (s->node_count == REDIS_STORE_NODES_MAX) return NO_NODE;
    redis_node_init(&s->node[s->node_count], text, port);
    return s->node_count++;
}

/* host:port; host may be an IPv6 address in brackets, and empty when there is one of its own (NULL: there is none).
 * NO_NODE when it is none. */
static int node_parse(struct redis_store *s, const char *text, size_t length, const char *own)
{
    const char *colon = memrchr(text, ':', length);
    if (!colon) return NO_NODE;
    struct text digits = text_over(colon + 1, (size_t)(text + length - colon - 1));
    uint64_t port = text_u64(&digits);
    if (!text_done(&digits) || port == 0 || port > UINT16_MAX) return NO_NODE;
    size_t host_length = (size_t)(colon - text);
    if (host_length == 0 && own) return node_find(s, own, strlen(own), (uint16_t)port);
    if (host_length > 2 && text[0] == '[' && text[host_length - 1] == ']')
        return node_find(s, text + 1, host_length - 2, (uint16_t)port);
    return node_find(s, text, host_length, (uint16_t)port);
}

static enum sg_error parse_address(struct redis_store *s, const char *address, struct sg_fault *f)
{
    for (const char *p = address; *p;) {
        size_t length = strcspn(p, ",");
        int node = *p == '/' ? node_find(s, p, length, 0) : node_parse(s, p, length, NULL);
        if (node == NO_NODE) return sg_fail(f, SG_ERR_CONFIG, "redis: not host:port or a path");
        p += length + (p[length] == ',');
    }
    s->seed_count = s->node_count;
    return s->node_count ? SG_OK : sg_fail(f, SG_ERR_CONFIG, "redis: no address");
}

enum sg_error redis_store_new(struct redis_store **out, const struct redis_store_config *config, struct sg_fault *f)
{
    assert(config->shards > 0 && config->shards <= SHARDS_MAX);
    struct redis_store *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return sg_fail(f, SG_ERR_NOMEM, "redis: no memory");
    s->user = strdup(config->user ? config->user : "");
    s->password = strdup(config->password ? config->password : "");
    s->cluster = config->cluster;
    s->shards = config->shards;
    enum sg_error e =
        s->user && s->password ? parse_address(s, config->address, f) : sg_fail(f, SG_ERR_NOMEM, "redis: no memory");
    if (e) {
        redis_store_free(s);
        return e;
    }
    s->login =
        (struct redis_login){s->user, s->password, config->timeout_ms ? config->timeout_ms : REDIS_STORE_TIMEOUT_MS};
    for (uint32_t i = 0; i < s->shards; i++) {
        char tag[16];
        (void)snprintf(tag, sizeof tag, "s%u", i);
        s->slot_of[i] = slot_of_tag(tag);
        s->node_of[i] = config->cluster ? NO_NODE : 0;
    }
    *out = s;
    return SG_OK;
}

void redis_store_free(struct redis_store *s)
{
    if (!s) return;
    for (int i = 0; i < s->node_count; i++) redis_node_close(&s->node[i]);
    if (s->password) explicit_bzero(s->password, strlen(s->password));
    free(s->user);
    free(s->password);
    free(s->word);
    free(s->word_length);
    free(s);
}

uint32_t redis_store_shards(const struct redis_store *s)
{
    return s->shards;
}

/* ---- the slot map ---- */

/* One element of CLUSTER SLOTS: first, last, [host, port, ...], replicas... What is not that is left out. */
static void map_range(struct redis_store *s, const redisReply *r, const struct redis_node *asked)
{
    if (r->type != REDIS_REPLY_ARRAY || r->elements < 3 || r->element[2]->type != REDIS_REPLY_ARRAY ||
        r->element[2]->elements < 2)
        return;
    const redisReply *first = r->element[0], *last = r->element[1], *host = r->element[2]->element[0],
                     *port = r->element[2]->element[1];
    if (first->type != REDIS_REPLY_INTEGER || last->type != REDIS_REPLY_INTEGER || port->type != REDIS_REPLY_INTEGER ||
        port->integer < 1 || port->integer > UINT16_MAX)
        return;
    bool named = host->type == REDIS_REPLY_STRING && host->len > 0;
    int node = node_find(s, named ? host->str : asked->host, named ? (size_t)host->len : strlen(asked->host),
                         (uint16_t)port->integer);
    for (uint32_t i = 0; i < s->shards; i++)
        if (s->slot_of[i] >= first->integer && s->slot_of[i] <= last->integer) s->node_of[i] = node;
}

static enum sg_error map_read(struct redis_store *s, struct redis_node *n, struct sg_fault *f)
{
    enum sg_error e = redis_node_connect(n, &s->login, f);
    if (e) return e;
    redisReply *r = redisCommand(n->context, "CLUSTER SLOTS");
    if (!r) {
        redis_node_failed(n);
        return sg_fail(f, SG_ERR_UNREACHABLE, "redis %s:%u: could not be reached", n->host, n->port);
    }
    if (r->type != REDIS_REPLY_ARRAY) {
        freeReplyObject(r);
        return sg_fail(f, SG_ERR_STATE, "redis %s:%u: no cluster", n->host, n->port);
    }
    for (size_t i = 0; i < r->elements; i++) map_range(s, r->element[i], n);
    freeReplyObject(r);
    backoff_reset(&n->backoff);
    s->mapped = true;
    return SG_OK;
}

/* Any node knows the map. */
static enum sg_error map_refresh(struct redis_store *s, struct sg_fault *f)
{
    enum sg_error e = SG_ERR_UNREACHABLE;
    for (int i = 0; i < s->node_count; i++) {
        e = map_read(s, &s->node[i], f);
        if (!e) return SG_OK;
    }
    return e;
}

static enum sg_error node_of_shard(struct redis_store *s, uint32_t shard, struct redis_node **out, struct sg_fault *f)
{
    assert(shard < s->shards);
    enum sg_error e = SG_OK;
    if (s->cluster && (!s->mapped || s->node_of[shard] == NO_NODE)) e = map_refresh(s, f);
    if (e) return e;
    if (s->node_of[shard] == NO_NODE) return sg_fail(f, SG_ERR_STATE, "redis: no node has shard %u", shard);
    *out = &s->node[s->node_of[shard]];
    e = redis_node_connect(*out, &s->login, f);
    if (e == SG_ERR_UNREACHABLE && s->cluster) s->mapped = false; /* its slots may have moved to a replica */
    if (e == SG_ERR_UNREACHABLE && !s->cluster && s->seed_count > 1) {
        int next = (s->node_of[shard] + 1) % s->seed_count;
        for (uint32_t i = 0; i < s->shards; i++) s->node_of[i] = next;
    }
    return e;
}

/* ---- sending ---- */

static const char *script_sha(struct redis_store *s, const char *text)
{
    unsigned char digest[SHA_DIGEST_LENGTH];
    for (size_t i = 0; i < s->script_count; i++)
        if (s->script[i].text == text) return s->script[i].sha;
    assert(s->script_count < REDIS_STORE_SCRIPTS_MAX);
    struct script *new = &s->script[s->script_count++];
    SHA1((const unsigned char *)text, strlen(text), digest);
    for (size_t i = 0; i < sizeof digest; i++) (void)snprintf(new->sha + 2 * i, 3, "%02x", digest[i]);
    new->text = text;
    return new->sha;
}

static bool words_reserve(struct redis_store *s, size_t count)
{
    if (count <= s->word_capacity) return true;
    const char **word = realloc(s->word, 2 * count * sizeof *word);
    if (!word) return false;
    s->word = word;
    size_t *length = realloc(s->word_length, 2 * count * sizeof *length);
    if (!length) return false;
    s->word_length = length;
    s->word_capacity = 2 * count;
    return true;
}

static void word_set(struct redis_store *s, size_t i, const char *p, size_t length)
{
    s->word[i] = p;
    s->word_length[i] = length;
}

static enum sg_error request_append(struct redis_store *s, struct redis_node *n, const struct store_request *q,
                                    struct sg_fault *f)
{
    char keys[24];
    size_t before = q->script ? WORDS_BEFORE_ARGS : 0;
    if (!words_reserve(s, q->count + before)) return sg_fail(f, SG_ERR_NOMEM, "redis: no memory");
    if (q->script) {
        assert(q->key_count <= q->count);
        word_set(s, 0, "EVALSHA", 7);
        word_set(s, 1, script_sha(s, q->script), SHA1_HEX_BYTES);
        word_set(s, 2, keys, (size_t)snprintf(keys, sizeof keys, "%zu", q->key_count));
    }
    for (size_t i = 0; i < q->count; i++) word_set(s, before + i, q->arg[i].p, q->arg[i].length);
    if (redisAppendCommandArgv(n->context, (int)(before + q->count), s->word, s->word_length) != REDIS_OK)
        return sg_fail(f, SG_ERR_NOMEM, "redis: no memory");
    return SG_OK;
}

static enum sg_error reply_take(struct redis_node *n, redisReply **out, struct sg_fault *f)
{
    void *reply = NULL;
    if (redisGetReply(n->context, &reply) != REDIS_OK || !reply) {
        redis_node_failed(n);
        return sg_fail(f, SG_ERR_UNKNOWN, "redis %s:%u: no reply", n->host, n->port);
    }
    backoff_reset(&n->backoff);
    *out = reply;
    return SG_OK;
}

/* ---- replies ---- */

static bool starts_with(const char *text, const char *word)
{
    return strncmp(text, word, strlen(word)) == 0;
}

static const struct {
    const char *word;
    enum sg_error code;
} error_words[] = {
    {"LOADING", SG_ERR_STATE},  {"CLUSTERDOWN", SG_ERR_STATE}, {"MASTERDOWN", SG_ERR_STATE},
    {"TRYAGAIN", SG_ERR_STATE}, {"READONLY", SG_ERR_STATE},    {"OOM", SG_ERR_STATE},
    {"BUSY", SG_ERR_STATE},     {"MISCONF", SG_ERR_STATE},     {"NOREPLICAS", SG_ERR_STATE},
    {"NOAUTH", SG_ERR_DENIED},  {"NOPERM", SG_ERR_DENIED},     {"WRONGPASS", SG_ERR_DENIED},
};

/* The words above are Redis's own; of another error not even its first word is quoted, it may be ours with data. */
static enum sg_error reply_error(const struct redis_node *n, const redisReply *r, struct sg_fault *f)
{
    for (size_t i = 0; i < sizeof error_words / sizeof *error_words; i++)
        if (starts_with(r->str, error_words[i].word))
            return sg_fail(f, error_words[i].code, "redis %s:%u: %s", n->host, n->port, error_words[i].word);
    return sg_fail(f, SG_ERR_IO, "redis %s:%u: %s", n->host, n->port,
                   starts_with(r->str, "WRONGTYPE") ? "WRONGTYPE"
                   : starts_with(r->str, "ERR")     ? "ERR"
                                                    : "an error");
}

static enum sg_error reply_check(const struct redis_node *n, const redisReply *r, struct sg_fault *f)
{
    if (r->type == REDIS_REPLY_ERROR) return reply_error(n, r, f);
    enum sg_error e = SG_OK;
    for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && !e && i < r->elements; i++) e = reply_check(n, r->element[i], f);
    return e;
}

/* Sends q alone, once, to n. */
static enum sg_error send_alone(struct redis_store *s, struct redis_node *n, struct store_request *q, bool asking,
                                struct sg_fault *f)
{
    redisReply *answer = NULL;
    enum sg_error e = redis_node_connect(n, &s->login, f);
    if (e) return e;
    if (asking && redisAppendCommand(n->context, "ASKING") != REDIS_OK)
        return sg_fail(f, SG_ERR_NOMEM, "redis: no memory");
    e = request_append(s, n, q, f);
    if (!e && asking) {
        e = reply_take(n, &answer, f);
        if (!e) freeReplyObject(answer);
    }
    if (!e) e = reply_take(n, &q->reply, f);
    return e;
}

static enum sg_error script_load(struct redis_store *s, struct redis_node *n, const char *text, struct sg_fault *f)
{
    redisReply *r;
    enum sg_error e = redis_node_connect(n, &s->login, f);
    if (e) return e;
    if (redisAppendCommand(n->context, "SCRIPT LOAD %s", text) != REDIS_OK)
        return sg_fail(f, SG_ERR_NOMEM, "redis: no memory");
    e = reply_take(n, &r, f);
    if (e) return e;
    e = reply_check(n, r, f);
    freeReplyObject(r);
    return e;
}

/* MOVED <slot> <host>:<port>, ASK likewise: the node meant; an empty host is the one that answered. */
static struct redis_node *redirect(struct redis_store *s, const struct redis_node *from, const char *text)
{
    const char *space = strchr(text, ' ');
    space = space ? strchr(space + 1, ' ') : NULL;
    if (!space) return NULL;
    int node = node_parse(s, space + 1, strlen(space + 1), from->host);
    return node == NO_NODE ? NULL : &s->node[node];
}

/* Follows what a refusal asks for until the request has a real answer. A refused request has had no effect. */
static enum sg_error settle(struct redis_store *s, struct redis_node *n, struct store_request *q, struct sg_fault *f)
{
    for (int i = 0; i < REDIS_STORE_REDIRECTS_MAX && q->reply->type == REDIS_REPLY_ERROR; i++) {
        const char *text = q->reply->str;
        bool moved = starts_with(text, "MOVED "), asking = starts_with(text, "ASK ");
        bool unknown = q->script && starts_with(text, "NOSCRIPT");
        if (!moved && !asking && !unknown) break;
        struct redis_node *to = unknown ? n : redirect(s, n, text);
        freeReplyObject(q->reply);
        q->reply = NULL;
        if (!to) return sg_fail(f, SG_ERR_STATE, "redis: sent to a node that cannot be");
        if (moved) s->node_of[q->shard] = (int)(to - s->node);
        enum sg_error e = unknown ? script_load(s, to, q->script, f) : SG_OK;
        if (!e) e = send_alone(s, to, q, asking, f);
        if (e) return e;
        n = to;
    }
    return reply_check(n, q->reply, f);
}

/* ---- calls ---- */

/* Replies of requests that went out must be read even when others failed: a connection with unread replies is out of
 * step. So on failure every node that was written to is closed. */
static enum sg_error run_all(struct redis_store *s, struct store_request *requests, struct redis_node **nodes,
                             size_t count, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    size_t sent = 0;
    for (; sent < count && !e; sent++) {
        e = node_of_shard(s, requests[sent].shard, &nodes[sent], f);
        if (!e) e = request_append(s, nodes[sent], &requests[sent], f);
        if (e) break;
    }
    for (size_t i = 0; i < sent && !e; i++)
        e = nodes[i]->context ? reply_take(nodes[i], &requests[i].reply, f) : SG_ERR_UNKNOWN;
    if (e) {
        for (size_t i = 0; i < sent; i++) redis_node_close(nodes[i]);
        return e;
    }
    for (size_t i = 0; i < count && !e; i++) e = settle(s, nodes[i], &requests[i], f);
    return e;
}

enum sg_error redis_store_run(struct redis_store *s, struct store_request *requests, size_t count, struct sg_fault *f)
{
    struct redis_node **nodes = calloc(count ? count : 1, sizeof(struct redis_node *));
    if (!nodes) return sg_fail(f, SG_ERR_NOMEM, "redis: no memory");
    for (size_t i = 0; i < count; i++) requests[i].reply = NULL;
    enum sg_error e = run_all(s, requests, nodes, count, f);
    if (e) store_requests_done(requests, count);
    free(nodes);
    return e;
}
