/* What the exporter wrote into the view: revisions and accounts (proto/ledger.md); and which teams there are. */
#include <stdio.h>
#include <string.h>

#include "aggregator/api/view.h"
#include "aggregator/api/view_reply.h"
#include "aggregator/api/view_scripts.h"
#include "aggregator/api/view_text.h"
#include "aggregator/store/redis_store.h"
#include "proto/keys.h"

enum { CHUNK = 500, SCAN_COUNT = 1000 };

/* "<hour>:<meter>[:<revision>]" */
static bool take_name(const struct redisReply *name, struct wall_ms *hour, char meter[static FIELD_NAME_BYTES_MAX],
                      uint64_t *revision)
{
    if (!reply_is_text(name)) return false;
    struct text t = text_over(name->str, name->len);
    enum field field;
    size_t length;
    uint64_t seconds = text_u64(&t);
    text_expect(&t, ':');
    const char *m = text_until(&t, ':', &length);
    if (t.bad || !field_parse(m, length, &field) || seconds > (uint64_t)(WALL_MS_MAX / SECOND_MS)) return false;
    memcpy(meter, m, length);
    meter[length] = '\0';
    hour->v = (int64_t)seconds * SECOND_MS;
    if (!revision) return text_done(&t);
    text_expect(&t, ':');
    *revision = text_u64(&t);
    return text_done(&t) && *revision >= 1;
}

static enum sg_error give_revision(const struct redisReply *member, const struct redisReply *text, struct page *page,
                                   view_each_revision *each, void *arg)
{
    struct view_revision r = {0};
    if (!reply_is_text(text) || !take_name(member, &r.hour, r.meter, &r.revision)) return SG_ERR_CORRUPT;
    struct words w = {text->str, text->len, false};
    words_id(&w, "customer", &r.customer);
    words_copy(&w, "mode", r.kind, sizeof r.kind);
    words_copy(&w, "state", r.state, sizeof r.state);
    words_copy(&w, "identifier", r.identifier, sizeof r.identifier);
    r.value.v = words_u64(&w, "value");
    r.total.v = words_u64(&w, "total");
    if (w.bad) return SG_ERR_CORRUPT;
    if (r.hour.v == page->from_top.v)
        page->skip++;
    else
        *page = (struct page){r.hour, 1, true};
    return each(arg, &r, *page);
}

enum sg_error view_revisions(struct view *v, const char *team, struct wall_ms to, struct page page,
                             view_each_revision *each, void *arg, struct sg_fault *f)
{
    char index[KEY_BYTES_MAX], rows[KEY_BYTES_MAX], top[32], skip[32], count[32];
    uint32_t shard = shard_of_team(team, v->shards);
    size_t taken = CHUNK;
    enum sg_error e = SG_OK;
    if (!page.set) page = (struct page){{to.v - 1}, 0, true};
    key_id(index, shard, "led", team);
    key_id(rows, shard, "ledr", team);
    snprintf(count, sizeof count, "%d", CHUNK);
    while (!e && taken == CHUNK) {
        struct redisReply *reply = NULL;
        snprintf(top, sizeof top, "%lld", (long long)(page.from_top.v / SECOND_MS));
        snprintf(skip, sizeof skip, "%u", page.skip);
        const struct store_bytes args[] = {store_text(index), store_text(rows), store_text(top), store_text(skip),
                                           store_text(count)};
        e = redis_store_eval(v->store, shard, view_script_revisions, args, 2, sizeof args / sizeof *args, &reply, f);
        if (e) return e;
        taken = reply->elements / 2;
        if (!reply_is_pairs(reply)) e = SG_ERR_CORRUPT;
        for (size_t i = 0; !e && i < reply->elements; i += 2)
            e = give_revision(reply->element[i], reply->element[i + 1], &page, each, arg);
        freeReplyObject(reply);
        if (e && e != SG_ERR_LIMIT) (void)sg_fail(f, e, "the ledger's rows cannot be read: %s", sg_error_text(e));
    }
    return e == SG_ERR_LIMIT ? SG_OK : e;
}

enum sg_error view_accounts(struct view *v, const char *team, view_each_account *each, void *arg, struct sg_fault *f)
{
    char key[KEY_BYTES_MAX];
    uint32_t shard = shard_of_team(team, v->shards);
    struct redisReply *hash = NULL;
    key_id(key, shard, "bill", team);
    const char *const words[] = {"HGETALL", key};
    enum sg_error e = redis_store_command(v->store, shard, words, 2, &hash, f);
    if (e) return e;
    if (!reply_is_pairs(hash)) e = SG_ERR_CORRUPT;
    for (size_t i = 0; !e && i < hash->elements; i += 2) {
        struct view_account a = {0};
        const struct redisReply *text = hash->element[i + 1];
        struct words w = {text->str, text->len, !reply_is_text(text)};
        if (!w.bad && !take_name(hash->element[i], &a.hour, a.meter, NULL)) w.bad = true;
        if (!w.bad) a.total.v = words_u64(&w, "total");
        if (!w.bad) words_copy(&w, "state", a.state, sizeof a.state);
        e = w.bad ? SG_ERR_CORRUPT : each(arg, &a);
    }
    if (e) (void)sg_fail(f, e, "the accounts cannot be read: %s", sg_error_text(e));
    freeReplyObject(hash);
    return e;
}

/* Keys of one step of a scan: each that is an index of hour rollups names a team. */
static enum sg_error give_teams(const struct redisReply *keys, const char *prefix, view_each_team *each, void *arg)
{
    size_t length = strlen(prefix);
    enum sg_error e = SG_OK;
    for (size_t i = 0; !e && i < keys->elements; i++) {
        const struct redisReply *k = keys->element[i];
        if (!reply_is_text(k) || k->len <= length || strncmp(k->str, prefix, length) != 0 ||
            !id_valid(k->str + length, k->len - length))
            return SG_ERR_CORRUPT;
        e = each(arg, k->str + length);
    }
    return e;
}

enum sg_error view_teams(struct view *v, uint32_t shard, view_each_team *each, void *arg, struct sg_fault *f)
{
    char prefix[KEY_BYTES_MAX], pattern[KEY_BYTES_MAX + 2], cursor[32] = "0", count[16];
    enum sg_error e = SG_OK;
    key_rollup_index(prefix, shard, WINDOW_HOUR, "");
    snprintf(pattern, sizeof pattern, "%s*", prefix);
    snprintf(count, sizeof count, "%d", SCAN_COUNT);
    do {
        const char *const words[] = {"SCAN", cursor, "MATCH", pattern, "COUNT", count};
        struct redisReply *reply = NULL;
        e = redis_store_command(v->store, shard, words, sizeof words / sizeof *words, &reply, f);
        if (e) return e;
        bool ok = reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply_is_text(reply->element[0]) &&
                  reply->element[1]->type == REDIS_REPLY_ARRAY && reply->element[0]->len < sizeof cursor;
        e = ok ? give_teams(reply->element[1], prefix, each, arg) : SG_ERR_CORRUPT;
        if (!e) memcpy(cursor, reply->element[0]->str, reply->element[0]->len + 1);
        freeReplyObject(reply);
    } while (!e && strcmp(cursor, "0") != 0);
    return e ? sg_fail(f, e, "the teams cannot be read: %s", sg_error_text(e)) : SG_OK;
}
