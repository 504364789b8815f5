#include "aggregator/rollup/restore.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "aggregator/rollup/memory.h"
#include "aggregator/rollup/wordlist.h"
#include "aggregator/store/scripts.h"
#include "aggregator/store/txlog.h"
#include "common/clock.h"
#include "proto/archive.h"
#include "proto/keys.h"
#include "sandglass/limits.h"

enum {
    WORDS_PER_CALL = 4000,
    RECORDS_PER_POLL = 100,
    POLL_MS = 100,
    LAG_MS = 2000,
    OWNER_BYTES = 64,
    PAIRS_MAX = 256,
    HEAD_WORDS = 3
};

/* A partition's marks as far as their parts were read. */
struct parts {
    struct wordlist pairs, gaps;
    uint32_t next; /* part that must come next */
    char at[24];
};

struct restoring {
    const struct restore_config *config;
    struct redis_store *store;
    uint32_t shard;
    char meta[KEY_BYTES_MAX], prefix[KEY_BYTES_MAX], owner[OWNER_BYTES];
    struct wordlist words; /* of the next script call */
    struct store_bytes *arg;
    size_t arg_capacity;
    struct parts *parts; /* by partition */
    uint64_t calls;      /* of script_restore that went well */
    uint64_t cells;
};

/* ---- calls ---- */

static enum sg_error call(struct restoring *r, const char *script, struct redisReply **out, struct sg_fault *f)
{
    const struct wordlist *w = &r->words;
    r->arg = memory_grow(r->arg, &r->arg_capacity, w->count + 1, sizeof *r->arg);
    r->arg[0] = store_text(r->meta);
    for (size_t i = 0; i < w->count; i++) r->arg[i + 1].p = wordlist_at(w, i, &r->arg[i + 1].length);
    return redis_store_eval(r->store, r->shard, script, r->arg, 1, w->count + 1, out, f);
}

static enum sg_error call_ok(struct restoring *r, const char *script, struct sg_fault *f)
{
    struct redisReply *reply = NULL;
    enum sg_error e = call(r, script, &reply, f);
    if (!e && !store_reply_is(reply, "ok"))
        e = sg_fail(f, SG_ERR_STATE, "shard %u is restored by somebody else", r->shard);
    if (reply) freeReplyObject(reply);
    return e;
}

static void words_begin(struct restoring *r)
{
    wordlist_reset(&r->words);
    wordlist_text(&r->words, r->prefix);
    wordlist_text(&r->words, r->owner);
    wordlist_number(&r->words, r->calls);
}

static enum sg_error write_out(struct restoring *r, struct sg_fault *f)
{
    if (r->words.count == HEAD_WORDS) return SG_OK;
    enum sg_error e = call_ok(r, script_restore, f);
    r->calls++;
    words_begin(r);
    return e;
}

/* ---- records ---- */

static enum sg_error take_cell(void *arg, const struct archive_cell *cell)
{
    struct restoring *r = arg;
    char name[KEY_BYTES_MAX + 4];
    if (cell->partition >= r->config->partitions) return SG_ERR_MALFORMED;
    int length = snprintf(name, sizeof name, "u:%c:%lld:%s:%s:%s", window_letter(cell->window),
                          (long long)(cell->start.v / SECOND_MS), cell->team.s, cell->project.s, cell->region.s);
    wordlist_text(&r->words, "cell");
    wordlist_add(&r->words, name, (size_t)length);
    wordlist_number(&r->words, cell->partition);
    wordlist_add(&r->words, cell->text, cell->length);
    r->cells++;
    return SG_OK;
}

static enum sg_error take_mark(void *arg, const struct archive_head *head, const struct archive_mark *mark)
{
    struct restoring *r = arg;
    if (head->partition >= r->config->partitions || shard_home(head->partition, r->config->shards) != r->shard)
        return SG_ERR_MALFORMED;
    struct parts *p = &r->parts[head->partition];
    if (head->part != p->next) return SG_OK; /* an incomplete set counts for nothing */
    if (mark->field_length == 2 && memcmp(mark->field, "at", 2) == 0) {
        (void)snprintf(p->at, sizeof p->at, "%.*s", (int)mark->length, mark->text);
        return SG_OK;
    }
    size_t prefix = strlen(ARCHIVE_GAP);
    bool gap = mark->field_length > prefix && memcmp(mark->field, ARCHIVE_GAP, prefix) == 0;
    if (!gap) prefix = 0;
    wordlist_add(gap ? &p->gaps : &p->pairs, mark->field + prefix, mark->field_length - prefix);
    wordlist_add(gap ? &p->gaps : &p->pairs, mark->text, mark->length);
    return SG_OK;
}

static void word_copy(struct restoring *r, const struct wordlist *from, size_t i)
{
    size_t length;
    const char *word = wordlist_at(from, i, &length);
    wordlist_add(&r->words, word, length);
}

static void marks_write(struct restoring *r, uint32_t partition)
{
    struct parts *p = &r->parts[partition];
    char gaps[24];
    (void)snprintf(gaps, sizeof gaps, "gaps:%u", partition);
    wordlist_text(&r->words, "marks");
    wordlist_number(&r->words, partition);
    wordlist_text(&r->words, p->at);
    wordlist_number(&r->words, p->pairs.count / 2);
    for (size_t i = 0; i < p->pairs.count; i++) word_copy(r, &p->pairs, i);
    for (size_t i = 0; i + 1 < p->gaps.count; i += 2) {
        wordlist_text(&r->words, "gap");
        wordlist_text(&r->words, gaps);
        word_copy(r, &p->gaps, i);
        word_copy(r, &p->gaps, i + 1);
    }
}

static void parts_reset(struct parts *p)
{
    wordlist_reset(&p->pairs);
    wordlist_reset(&p->gaps);
    p->next = 0;
    p->at[0] = '\0';
}

static void parts_destroy(struct parts *p)
{
    wordlist_destroy(&p->pairs);
    wordlist_destroy(&p->gaps);
}

static enum sg_error take_record(void *arg, const struct txlog_record *record, struct sg_fault *f)
{
    struct restoring *r = arg;
    struct archive_head head;
    const struct archive_each each = {take_cell, take_mark, r};
    const struct archive_each nothing = {NULL, NULL, NULL};
    if (!archive_is(record->bytes, record->length)) return SG_OK;
    enum sg_error e = archive_decode(record->bytes, record->length, &head, &nothing, f);
    if (!e && head.kind == ARCHIVE_MARKS && head.part == 0 && head.partition < r->config->partitions)
        parts_reset(&r->parts[head.partition]);
    if (!e) e = archive_decode(record->bytes, record->length, &head, &each, f);
    if (e) return e;
    if (head.kind == ARCHIVE_MARKS && head.partition < r->config->partitions) {
        struct parts *p = &r->parts[head.partition];
        bool whole = head.part == p->next && head.last && p->at[0];
        p->next++;
        if (whole) marks_write(r, head.partition);
    }
    return r->words.count >= WORDS_PER_CALL ? write_out(r, f) : SG_OK;
}

/* ---- whole ---- */

static enum sg_error read_all(struct restoring *r, struct txlog_reader *reader, struct sg_fault *f)
{
    for (;;) {
        uint64_t before = txlog_reader_position(reader), lag = 1;
        enum sg_error e = txlog_reader_poll(reader, POLL_MS, RECORDS_PER_POLL, take_record, r, f);
        if (e == SG_OK) e = write_out(r, f);
        if (e != SG_OK) return e;
        if (r->config->pulse(r->config->arg)) return sg_fail(f, SG_ERR_STATE, "asked to stop");
        if (txlog_reader_position(reader) != before) continue;
        e = txlog_reader_lag(reader, LAG_MS, &lag, f);
        if (e != SG_OK) return e;
        if (lag == 0) return SG_OK;
    }
}

static enum sg_error read_ledger(struct restoring *r, struct sg_fault *f)
{
    const char *kafka[2 * PAIRS_MAX + 1] = {NULL};
    char *copies[PAIRS_MAX] = {NULL};
    size_t n = 0;
    const struct config_list *list = r->config->properties;
    for (size_t i = 0; list && i < list->count && i < PAIRS_MAX; i++) {
        copies[i] = memory_text(list->item[i], strlen(list->item[i]));
        char *space = strchr(copies[i], ' ');
        if (!space) continue;
        *space = '\0';
        kafka[n++] = copies[i];
        kafka[n++] = space + 1;
    }
    struct txlog_config config = {.brokers = r->config->brokers,
                                  .topic = r->config->ledger_topic,
                                  .partition = r->shard,
                                  .client_id = r->config->client_id,
                                  .kafka = kafka,
                                  .at_once = true};
    struct txlog_reader *reader = NULL;
    enum sg_error e = txlog_reader_open(&reader, &config, 0, f);
    words_begin(r);
    if (!e) e = read_all(r, reader, f);
    txlog_reader_destroy(reader);
    for (size_t i = 0; i < PAIRS_MAX; i++) free(copies[i]);
    return e;
}

static enum sg_error claim(struct restoring *r, struct restore_wait *wait, bool *ours, struct sg_fault *f)
{
    struct redisReply *reply = NULL;
    bool patient = clock_boot().v < wait->until.v;
    wordlist_reset(&r->words);
    wordlist_text(&r->words, "1");
    wordlist_number(&r->words, r->config->shards);
    wordlist_number(&r->words, r->config->partitions);
    wordlist_text(&r->words, r->owner);
    wordlist_text(&r->words, patient ? "" : wait->progress);
    enum sg_error e = call(r, script_claim, &reply, f);
    if (e) return e;
    bool pair =
        reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[1]->type == REDIS_REPLY_STRING;
    *ours = pair && store_reply_is(reply->element[0], "restoring");
    if (!pair || store_reply_is(reply->element[0], "mismatch")) {
        e = sg_fail(f, SG_ERR_CONFIG, "shard %u was made for another number of shards or partitions", r->shard);
    } else if (store_reply_is(reply->element[0], "busy")) {
        if (strcmp(wait->progress, reply->element[1]->str) != 0) {
            (void)snprintf(wait->progress, sizeof wait->progress, "%s", reply->element[1]->str);
            wait->until.v = clock_boot().v + RESTORE_PATIENCE_MS;
        }
        e = sg_fail(f, SG_ERR_STATE, "shard %u is restored by somebody else", r->shard);
    }
    freeReplyObject(reply);
    return e;
}

enum sg_error restore_shard(const struct restore_config *config, struct redis_store *store, uint32_t shard,
                            struct restore_wait *wait, uint64_t *cells, struct sg_fault *f)
{
    struct restoring r = {.config = config, .store = store, .shard = shard};
    bool ours = false;
    key_plain(r.meta, shard, "meta");
    key_plain(r.prefix, shard, "");
    (void)snprintf(r.owner, sizeof r.owner, "%.24s-%ld-%llu", config->client_id, (long)getpid(),
                   (unsigned long long)clock_boot().v);
    r.parts = memory_checked(calloc(config->partitions, sizeof *r.parts));
    enum sg_error e = claim(&r, wait, &ours, f);
    if (!e && ours) {
        *wait = (struct restore_wait){.progress = ""};
        e = read_ledger(&r, f);
        wordlist_reset(&r.words);
        wordlist_text(&r.words, r.owner);
        wordlist_number(&r.words, r.calls);
        if (!e) e = call_ok(&r, script_ready, f);
    }
    *cells = r.cells;
    for (uint32_t p = 0; p < config->partitions; p++) parts_destroy(&r.parts[p]);
    free(r.parts);
    free(r.arg);
    wordlist_destroy(&r.words);
    return e;
}
