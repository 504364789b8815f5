#include "aggregator/billing/view.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"
#include "proto/text.h"

/* KEYS[1] is the vector; it stands for the shard, whose keys share its prefix. ARGV: prefix, then team and hour. */
static const char snapshot_script[] = VIEW_LUA_READ
    "local p = ARGV[1]\n"
    "local out = {redis.call('HMGET', p .. 'meta', 'state', 'partitions'), redis.call('HGET', p .. 'ledger', 'at'),\n"
    "             redis.call('HGETALL', KEYS[1])}\n"
    "for i = 2, #ARGV, 2 do\n"
    "  local team, hour, cells = ARGV[i], ARGV[i + 1], {}\n"
    "  local index = read('ZRANGEBYSCORE', p .. 'ux:h:' .. team, hour, hour)\n"
    "  for _, m in ipairs(index == '' and {} or index) do\n"
    "    cells[#cells + 1] = read('HGETALL', p .. 'u:h:' .. hour .. ':' .. team .. string.sub(m, #hour + 1))\n"
    "  end\n"
    "  out[#out + 1] = index == '' and index or cells\n"
    "end\n"
    "return out\n";

/* KEYS[1] the hash; ARGV: field and the value that it must still have. */
static const char done_script[] = "for i = 1, #ARGV, 2 do\n"
                                  "  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then\n"
                                  "    redis.call('HDEL', KEYS[1], ARGV[i])\n"
                                  "  end\n"
                                  "end\n"
                                  "return 'OK'\n";

/* KEYS[1] is `ledger`. ARGV: prefix, the `at` it must have at least, the new one, then team, bill field, bill
 * text, row member or '', row text, hour, offset. A value is replaced only by one from further on in the ledger: a late
 * zombie changes nothing. */
static const char rows_script[] =
    "local p = ARGV[1]\n"
    "local function put(key, field, text, offset)\n"
    "  local old = redis.call('HGET', key, field)\n"
    "  if old and tonumber(string.match(old, '^@(%d+)') or '0') >= tonumber(offset) then return end\n"
    "  redis.call('HSET', key, field, text)\n"
    "end\n"
    "local at = tonumber(redis.call('HGET', KEYS[1], 'at') or '0')\n"
    "if at < tonumber(ARGV[2]) then return 'BEHIND' end\n"
    "for i = 4, #ARGV, 7 do\n"
    "  local team, row = ARGV[i], ARGV[i + 3]\n"
    "  put(p .. 'bill:' .. team, ARGV[i + 1], ARGV[i + 2], ARGV[i + 6])\n"
    "  if row ~= '' then\n"
    "    put(p .. 'ledr:' .. team, row, ARGV[i + 4], ARGV[i + 6])\n"
    "    redis.call('ZADD', p .. 'led:' .. team, ARGV[i + 5], row)\n"
    "  end\n"
    "end\n"
    "if at < tonumber(ARGV[3]) then redis.call('HSET', KEYS[1], 'at', ARGV[3]) end\n"
    "return 'OK'\n";

static enum sg_error odd(struct sg_fault *f, uint32_t shard, const char *what)
{
    return sg_fail(f, SG_ERR_CORRUPT, "shard %u of the view: %s is not understood", shard, what);
}

static bool is_array(const redisReply *r, size_t elements)
{
    return r->type == REDIS_REPLY_ARRAY && r->elements >= elements;
}

/* Field, value, field, value, ..., all of them texts: what HGETALL and HSCAN give. */
static bool is_hash(const redisReply *r)
{
    if (!is_array(r, 0) || r->elements % 2) return false;
    for (size_t i = 0; i < r->elements; i++)
        if (r->element[i]->type != REDIS_REPLY_STRING) return false;
    return true;
}

static bool take_u64(const redisReply *r, uint64_t *out)
{
    *out = 0;
    if (r->type != REDIS_REPLY_STRING) return false;
    struct text t = text_over(r->str, r->len);
    *out = text_u64(&t);
    return text_done(&t);
}

/* 0 for what is not there. */
static bool take_u64_if(const redisReply *r, uint64_t *out)
{
    *out = 0;
    return r->type == REDIS_REPLY_NIL || take_u64(r, out);
}

/* ---- the head ---- */

static enum sg_error take_vector(const redisReply *r, uint32_t shard, int64_t grace_ms, struct view_head *out,
                                 struct sg_fault *f)
{
    size_t seen = 0;
    enum sg_error e = SG_OK;
    out->mark = (struct watermark){.kind = WATERMARK_UNBOUNDED};
    memset(out->vouched, 0, sizeof out->vouched);
    for (size_t i = 0; i < r->elements && e == SG_OK; i += 2) {
        struct vector_entry entry = {0};
        uint64_t partition;
        enum sg_error d = take_u64(r->element[i], &partition)
                              ? vector_entry_decode(r->element[i + 1]->str, r->element[i + 1]->len, &entry)
                              : SG_ERR_MALFORMED;
        if (d == SG_ERR_NOMEM)
            e = sg_fail(f, d, "shard %u of the view: no memory for its vector", shard);
        else if (d != SG_OK)
            e = odd(f, shard, "an entry of the vector");
        else if (partition < out->partitions) {
            seen++;
            out->vouched[partition] = entry.offset;
            out->mark = watermark_min(out->mark, vector_entry_watermark(&entry, grace_ms));
        }
        vector_entry_destroy(&entry);
    }
    if (seen < out->partitions || out->partitions == 0) out->mark.kind = WATERMARK_UNKNOWN;
    return e;
}

static enum sg_error take_head(const redisReply *r, uint32_t shard, int64_t grace_ms, struct view_head *out,
                               struct sg_fault *f)
{
    uint64_t partitions;
    if (!is_array(r, 3) || !is_array(r->element[0], 2) || !is_hash(r->element[2])) return odd(f, shard, "its head");
    out->ready = store_reply_is(r->element[0]->element[0], "ready");
    if (!take_u64_if(r->element[0]->element[1], &partitions) || partitions > PARTITIONS_MAX)
        return odd(f, shard, "its number of partitions");
    if (!take_u64_if(r->element[1], &out->ledger_at)) return odd(f, shard, "its ledger position");
    out->partitions = (uint32_t)partitions;
    enum sg_error e = take_vector(r->element[2], shard, grace_ms, out, f);
    if (!out->ready) out->mark.kind = WATERMARK_UNKNOWN;
    return e;
}

/* ---- snapshots ---- */

static enum sg_error take_cell(const redisReply *field, const redisReply *value, struct cycle_hour *h)
{
    struct sums sums = {0};
    uint64_t partition, offset;
    if (!take_u64(field, &partition) || partition >= PARTITIONS_MAX) return SG_ERR_CORRUPT;
    enum sg_error e = cell_decode(value->str, value->len, &offset, &sums);
    if (e == SG_OK) e = sums_add_all(&h->total, &sums);
    if (e == SG_OK && offset > h->reach[partition]) h->reach[partition] = offset;
    sums_destroy(&sums);
    return e;
}

/* An hour's rollups, by project and region. */
static enum sg_error take_hour(const redisReply *rollups, struct cycle_hour *h)
{
    enum sg_error e = is_array(rollups, 0) ? SG_OK : SG_ERR_CORRUPT;
    for (size_t k = 0; e == SG_OK && k < rollups->elements; k++) {
        const redisReply *r = rollups->element[k];
        if (!is_hash(r)) e = SG_ERR_CORRUPT;
        for (size_t i = 0; e == SG_OK && i < r->elements; i += 2) e = take_cell(r->element[i], r->element[i + 1], h);
    }
    h->unread = e != SG_OK;
    return e == SG_ERR_NOMEM ? e : SG_OK;
}

enum sg_error view_snapshot(struct redis_store *s, uint32_t shard, int64_t grace_ms, struct cycle_hour *hours,
                            size_t count, struct view_head *head, struct sg_fault *f)
{
    char vector[KEY_BYTES_MAX], prefix[KEY_BYTES_MAX], start[VIEW_HOURS_MAX][24];
    struct store_bytes arg[2 + 2 * VIEW_HOURS_MAX];
    redisReply *r = NULL;
    assert(count <= VIEW_HOURS_MAX);
    (void)key_plain(vector, shard, "v");
    (void)key_plain(prefix, shard, "");
    arg[0] = store_text(vector);
    arg[1] = store_text(prefix);
    for (size_t i = 0; i < count; i++) {
        snprintf(start[i], sizeof start[i], "%" PRId64, hours[i].hour.v / SECOND_MS);
        arg[2 + 2 * i] = store_text(hours[i].team);
        arg[3 + 2 * i] = store_text(start[i]);
    }
    enum sg_error e = redis_store_eval(s, shard, snapshot_script, arg, 1, 2 + 2 * count, &r, f);
    if (e != SG_OK) return e;
    e = is_array(r, 3 + count) ? take_head(r, shard, grace_ms, head, f) : odd(f, shard, "a snapshot");
    for (size_t i = 0; i < count && e == SG_OK; i++)
        if (take_hour(r->element[3 + i], &hours[i]) != SG_OK)
            e = sg_fail(f, SG_ERR_NOMEM, "shard %u of the view: no memory for its cells", shard);
    freeReplyObject(r);
    return e;
}

enum sg_error view_head(struct redis_store *s, uint32_t shard, int64_t grace_ms, struct view_head *out,
                        struct sg_fault *f)
{
    return view_snapshot(s, shard, grace_ms, NULL, 0, out, f);
}

/* ---- due ---- */

static bool take_due(const redisReply *field, const redisReply *value, struct cycle_due *out)
{
    size_t length;
    struct text t = text_over(field->str, field->len), v = text_over(value->str, value->len);
    const char *team = text_until(&t, ':', &length);
    if (t.bad || !id_valid(team, length)) return false;
    memcpy(out->team.s, team, length);
    out->team.s[length] = '\0';
    text_expect(&t, ':');
    uint64_t hour = text_u64(&t);
    text_expect(&t, ':');
    uint64_t partition = text_u64(&t);
    out->offset = text_u64(&v);
    if (!text_done(&t) || !text_done(&v) || hour > WALL_MS_MAX / SECOND_MS || hour % (HOUR_MS / SECOND_MS) ||
        partition >= PARTITIONS_MAX)
        return false;
    out->hour.v = (int64_t)hour * SECOND_MS;
    out->partition = (uint32_t)partition;
    return true;
}

enum sg_error view_due_read(struct redis_store *s, uint32_t shard, struct view_cursor *cursor, struct cycle_due *out,
                            size_t *count, uint64_t *unread, bool *wrapped, struct sg_fault *f)
{
    char key[KEY_BYTES_MAX];
    redisReply *r = NULL;
    (void)key_plain(key, shard, "due");
    const char *words[] = {"HSCAN", key, cursor->text[0] ? cursor->text : "0", "COUNT", "1000"};
    *count = 0;
    enum sg_error e = redis_store_command(s, shard, words, 5, &r, f);
    if (e != SG_OK) return e;
    if (!is_array(r, 2) || r->element[0]->type != REDIS_REPLY_STRING || !is_hash(r->element[1])) {
        e = odd(f, shard, "due");
    } else {
        const redisReply *fields = r->element[1];
        for (size_t i = 0; i < fields->elements && *count < VIEW_DUE_MAX; i += 2) {
            bool good = take_due(fields->element[i], fields->element[i + 1], &out[*count]);
            *count += good;
            *unread += !good;
        }
        snprintf(cursor->text, sizeof cursor->text, "%s", r->element[0]->str);
        *wrapped = strcmp(cursor->text, "0") == 0;
    }
    freeReplyObject(r);
    return e;
}

enum sg_error view_fields_done(struct redis_store *s, uint32_t shard, const char *hash, const char *const *fields,
                               const uint64_t *offsets, size_t count, struct sg_fault *f)
{
    enum { AT_ONCE = 256 };
    char key[KEY_BYTES_MAX], offset[AT_ONCE][24];
    struct store_bytes arg[1 + 2 * AT_ONCE];
    enum sg_error e = SG_OK;
    (void)key_plain(key, shard, hash);
    arg[0] = store_text(key);
    for (size_t done = 0, n; done < count && e == SG_OK; done += n) {
        redisReply *r = NULL;
        n = count - done < AT_ONCE ? count - done : AT_ONCE;
        for (size_t i = 0; i < n; i++) {
            snprintf(offset[i], sizeof offset[i], "%" PRIu64, offsets[done + i]);
            arg[1 + 2 * i] = store_text(fields[done + i]);
            arg[2 + 2 * i] = store_text(offset[i]);
        }
        e = redis_store_eval(s, shard, done_script, arg, 1, 1 + 2 * n, &r, f);
        if (e == SG_OK) freeReplyObject(r);
    }
    return e;
}

enum sg_error view_due_done(struct redis_store *s, uint32_t shard, const struct cycle_due *due, size_t count,
                            struct sg_fault *f)
{
    enum { AT_ONCE = 64 };
    char text[AT_ONCE][ID_BYTES_MAX + 48];
    const char *fields[AT_ONCE];
    uint64_t offsets[AT_ONCE];
    enum sg_error e = SG_OK;
    for (size_t done = 0, n; done < count && e == SG_OK; done += n) {
        n = count - done < AT_ONCE ? count - done : AT_ONCE;
        for (size_t i = 0; i < n; i++) {
            const struct cycle_due *d = &due[done + i];
            snprintf(text[i], sizeof text[i], "%s:%" PRId64 ":%u", d->team.s, d->hour.v / SECOND_MS, d->partition);
            fields[i] = text[i];
            offsets[i] = d->offset;
        }
        e = view_fields_done(s, shard, "due", fields, offsets, n, f);
    }
    return e;
}

/* ---- billing cells ---- */

enum { ROW_ARGS = 7 };

/* The texts of one row. */
struct row_text {
    char field[64], bill[192], member[96], row[384], hour[24], offset[24];
};

void view_rows_add(struct view_rows *rows, const struct book_change *change)
{
    size_t i = rows->count++;
    assert(i < VIEW_ROWS_MAX);
    rows->row[i] = *change;
    rows->entry[i] = *change->entry;
    snprintf(rows->team[i].s, sizeof rows->team[i].s, "%s", change->team);
    snprintf(rows->customer[i].s, sizeof rows->customer[i].s, "%s", change->customer);
}

static void write_row(const struct view_rows *rows, size_t i, struct row_text *t, struct store_bytes *arg)
{
    const struct book_change *c = &rows->row[i];
    const struct book_entry *e = &rows->entry[i];
    char meter[FIELD_NAME_BYTES_MAX];
    (void)field_name((enum field)e->meter, meter);
    snprintf(t->hour, sizeof t->hour, "%" PRId64, e->hour.v / SECOND_MS);
    snprintf(t->offset, sizeof t->offset, "%" PRIu64, e->offset);
    snprintf(t->field, sizeof t->field, "%s:%s", t->hour, meter);
    snprintf(t->bill, sizeof t->bill, "@%s customer=%s revision=%" PRIu64 " total=%" PRIu64 " state=%s", t->offset,
             rows->customer[i].s, e->revision, e->total.v, book_state_text((enum book_state)e->state));
    t->member[0] = t->row[0] = '\0';
    if (c->has_row) {
        snprintf(t->member, sizeof t->member, "%s:%" PRIu64, t->field, c->revision);
        snprintf(t->row, sizeof t->row,
                 "@%s customer=%s mode=%s value=%" PRIu64 " total=%" PRIu64 " state=%s identifier=%s at=%" PRId64,
                 t->offset, rows->customer[i].s, bill_mode_text(c->mode), c->value.v, c->total.v,
                 book_state_text(c->state), c->identifier, c->at.v);
    }
    const char *texts[ROW_ARGS] = {rows->team[i].s, t->field, t->bill, t->member, t->row, t->hour, t->offset};
    for (size_t k = 0; k < ROW_ARGS; k++) arg[k] = store_text(texts[k]);
}

enum sg_error view_rows_write(struct redis_store *s, uint32_t shard, struct view_rows *rows, uint64_t from, uint64_t at,
                              struct sg_fault *f)
{
    char key[KEY_BYTES_MAX], prefix[KEY_BYTES_MAX], least[24], until[24];
    struct row_text *texts = calloc(rows->count + 1, sizeof *texts);
    struct store_bytes *arg = calloc(4 + ROW_ARGS * rows->count, sizeof *arg);
    redisReply *r = NULL;
    enum sg_error e = texts && arg ? SG_OK : sg_fail(f, SG_ERR_NOMEM, "no memory for what is written to the view");
    if (e == SG_OK) {
        (void)key_plain(key, shard, "ledger");
        (void)key_plain(prefix, shard, "");
        snprintf(until, sizeof until, "%" PRIu64, at);
        arg[0] = store_text(key);
        arg[1] = store_text(prefix);
        snprintf(least, sizeof least, "%" PRIu64, from);
        arg[2] = store_text(least);
        arg[3] = store_text(until);
        for (size_t i = 0; i < rows->count; i++) write_row(rows, i, &texts[i], &arg[4 + ROW_ARGS * i]);
        e = redis_store_eval(s, shard, rows_script, arg, 1, 4 + ROW_ARGS * rows->count, &r, f);
    }
    if (e == SG_OK && !store_reply_is(r, "OK"))
        e = sg_fail(f, SG_ERR_MISMATCH, "shard %u of the view: its billing cells were lost", shard);
    if (r) freeReplyObject(r);
    rows->count = 0;
    free(arg);
    free(texts);
    return e;
}
