#include "aggregator/billing/view_archive.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/keys.h"
#include "proto/text.h"

/* KEYS[1] is `arch`; ARGV: prefix, then key and field of each cell. */
static const char cells_script[] = VIEW_LUA_READ "local out = {}\n"
                                                 "for i = 2, #ARGV, 2 do\n"
                                                 "  out[#out + 1] = read('HGET', ARGV[1] .. ARGV[i], ARGV[i + 1])\n"
                                                 "end\n"
                                                 "return out\n";

/* KEYS: marks and gaps of a partition. */
static const char marks_script[] = "return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}\n";

/* `<w>:<start>:<team>:<project>:<region>:<p>`: what proto/archive.h can say again. */
static bool take_field(const char *field, size_t length, struct view_arch *out)
{
    enum { TEAM, PROJECT, REGION, IDS };
    struct text t = text_over(field, length);
    struct archive_cell *c = &out->cell;
    struct id *const ids[IDS] = {&c->team, &c->project, &c->region};
    memset(out, 0, sizeof *out);
    if (length >= sizeof out->field) return false;
    memcpy(out->field, field, length);
    c->window = text_take(&t, 'd') ? WINDOW_DAY : WINDOW_HOUR;
    if (c->window == WINDOW_HOUR) text_expect(&t, 'h');
    text_expect(&t, ':');
    uint64_t start = text_u64(&t);
    for (size_t i = 0; i < IDS; i++) {
        size_t n = 0;
        text_expect(&t, ':');
        const char *s = t.bad ? "" : text_until(&t, ':', &n);
        if (t.bad || !(i == PROJECT ? id_valid_or_none(s, n) : id_valid(s, n))) return false;
        memcpy(ids[i]->s, s, n);
    }
    text_expect(&t, ':');
    uint64_t partition = text_u64(&t);
    if (!text_done(&t) || partition >= PARTITIONS_MAX || start > (uint64_t)(WALL_MS_MAX / SECOND_MS) ||
        start % (uint64_t)(window_length_ms(c->window) / SECOND_MS))
        return false;
    c->start.v = (int64_t)(start * SECOND_MS);
    c->partition = (uint32_t)partition;
    return true;
}

static bool take_offset(const redisReply *r, uint64_t *out)
{
    *out = 0;
    if (r->type != REDIS_REPLY_STRING) return false;
    struct text t = text_over(r->str, r->len);
    *out = text_u64(&t);
    return text_done(&t);
}

enum sg_error view_arch_read(struct redis_store *s, uint32_t shard, struct view_cursor *cursor, struct view_arch *out,
                             size_t *count, uint64_t *unread, bool *wrapped, struct sg_fault *f)
{
    char key[KEY_BYTES_MAX];
    redisReply *r = NULL;
    (void)key_plain(key, shard, "arch");
    const char *words[] = {"HSCAN", key, cursor->text[0] ? cursor->text : "0", "COUNT", "1000"};
    *count = 0;
    enum sg_error e = redis_store_command(s, shard, words, 5, &r, f);
    if (e != SG_OK) return e;
    bool good = r->type == REDIS_REPLY_ARRAY && r->elements == 2 && r->element[0]->type == REDIS_REPLY_STRING &&
                r->element[1]->type == REDIS_REPLY_ARRAY && r->element[1]->elements % 2 == 0;
    for (size_t i = 0; good && i < r->element[1]->elements && *count < VIEW_ARCH_MAX; i += 2) {
        const redisReply *field = r->element[1]->element[i], *value = r->element[1]->element[i + 1];
        bool read = field->type == REDIS_REPLY_STRING && take_field(field->str, field->len, &out[*count]) &&
                    take_offset(value, &out[*count].offset);
        *count += read;
        *unread += !read;
    }
    if (good) {
        snprintf(cursor->text, sizeof cursor->text, "%s", r->element[0]->str);
        *wrapped = strcmp(cursor->text, "0") == 0;
    }
    freeReplyObject(r);
    return good ? SG_OK : sg_fail(f, SG_ERR_CORRUPT, "shard %u of the view: arch is not understood", shard);
}

/* Takes a cell's text over when it stands where its field says. CORRUPT, MALFORMED: it is no cell. */
static enum sg_error take_cell(const redisReply *r, struct view_arch *out, struct sums *scratch)
{
    uint64_t offset;
    if (r->type == REDIS_REPLY_NIL) return SG_OK;
    if (r->type != REDIS_REPLY_STRING) return SG_ERR_CORRUPT;
    enum sg_error e = cell_decode(r->str, r->len, &offset, scratch);
    if (e != SG_OK || offset < out->offset || offset == 0) return e;
    out->cell.text = r->str;
    out->cell.length = r->len;
    return SG_OK;
}

static enum sg_error take_cells(const redisReply *r, uint32_t shard, struct view_arch *arch, size_t count,
                                struct sg_fault *f)
{
    struct sums scratch = {0};
    enum sg_error e = SG_OK;
    if (r->type != REDIS_REPLY_ARRAY || r->elements != count)
        return sg_fail(f, SG_ERR_CORRUPT, "shard %u of the view: cells to be archived are not understood", shard);
    for (size_t i = 0; e != SG_ERR_NOMEM && i < count; i++) {
        e = take_cell(r->element[i], &arch[i], &scratch);
        arch[i].unread = e != SG_OK;
    }
    sums_destroy(&scratch);
    return e == SG_ERR_NOMEM ? sg_fail(f, e, "shard %u of the view: no memory for its cells", shard) : SG_OK;
}

enum sg_error view_arch_cells(struct redis_store *s, uint32_t shard, struct view_arch *arch, size_t count,
                              struct redisReply **reply, struct sg_fault *f)
{
    char key[KEY_BYTES_MAX], prefix[KEY_BYTES_MAX];
    struct names {
        char key[KEY_BYTES_MAX], field[16];
    } *names = calloc(count + 1, sizeof *names);
    struct store_bytes *arg = calloc(2 + 2 * count, sizeof *arg);
    enum sg_error e = names && arg ? SG_OK : sg_fail(f, SG_ERR_NOMEM, "no memory for the archive");
    if (e == SG_OK) {
        (void)key_plain(key, shard, "arch");
        (void)key_plain(prefix, shard, "");
        arg[0] = store_text(key);
        arg[1] = store_text(prefix);
        for (size_t i = 0; i < count; i++) {
            const struct archive_cell *c = &arch[i].cell;
            snprintf(names[i].key, sizeof names[i].key, "u:%c:%" PRId64 ":%s:%s:%s", window_letter(c->window),
                     c->start.v / SECOND_MS, c->team.s, c->project.s, c->region.s);
            snprintf(names[i].field, sizeof names[i].field, "%u", c->partition);
            arg[2 + 2 * i] = store_text(names[i].key);
            arg[3 + 2 * i] = store_text(names[i].field);
        }
        e = redis_store_eval(s, shard, cells_script, arg, 1, 2 + 2 * count, reply, f);
    }
    if (e == SG_OK) e = take_cells(*reply, shard, arch, count, f);
    free(arg);
    free(names);
    return e;
}

enum sg_error view_arch_done(struct redis_store *s, uint32_t shard, const struct view_arch *arch, size_t count,
                             struct sg_fault *f)
{
    const char **fields = calloc(count + 1, sizeof *fields);
    uint64_t *offsets = calloc(count + 1, sizeof *offsets);
    enum sg_error e = fields && offsets ? SG_OK : sg_fail(f, SG_ERR_NOMEM, "no memory for the archive");
    size_t n = 0;
    for (size_t i = 0; e == SG_OK && i < count; i++) {
        if (!arch[i].cell.text) continue;
        fields[n] = arch[i].field;
        offsets[n++] = arch[i].offset;
    }
    if (e == SG_OK) e = view_fields_done(s, shard, "arch", fields, offsets, n, f);
    free(fields);
    free(offsets);
    return e;
}

/* A text that an archive record can hold (proto/archive.md). */
static bool is_line(const redisReply *r)
{
    return r->type == REDIS_REPLY_STRING && !memchr(r->str, '\n', r->len) && !memchr(r->str, '\t', r->len);
}

/* Nothing but such texts, in pairs. */
static bool is_lines(const redisReply *r)
{
    bool good = r->type == REDIS_REPLY_ARRAY && r->elements % 2 == 0;
    for (size_t i = 0; good && i < r->elements; i++) good = is_line(r->element[i]) && (i % 2 || r->element[i]->len > 0);
    return good;
}

enum sg_error view_marks_read(struct redis_store *s, uint32_t shard, uint32_t partition, struct redisReply **reply,
                              uint64_t *at, struct sg_fault *f)
{
    char marks_key[KEY_BYTES_MAX], gaps_key[KEY_BYTES_MAX];
    (void)key_partition(marks_key, shard, "marks", partition);
    (void)key_partition(gaps_key, shard, "gaps", partition);
    const struct store_bytes keys[] = {store_text(marks_key), store_text(gaps_key)};
    *at = 0;
    enum sg_error e = redis_store_eval(s, shard, marks_script, keys, 2, 2, reply, f);
    if (e != SG_OK) return e;
    const redisReply *r = *reply;
    bool good = r->type == REDIS_REPLY_ARRAY && r->elements == 2 && is_lines(r->element[0]) && is_lines(r->element[1]);
    const redisReply *marks = good ? r->element[0] : NULL;
    for (size_t i = 0; good && i < marks->elements; i += 2)
        if (store_reply_is(marks->element[i], "at")) good = take_offset(marks->element[i + 1], at);
    if (good && marks->elements > 0 && *at == 0) good = false;
    if (good) return SG_OK;
    freeReplyObject(*reply);
    *reply = NULL;
    return sg_fail(f, SG_ERR_CORRUPT, "shard %u of the view: marks are not understood", shard);
}
