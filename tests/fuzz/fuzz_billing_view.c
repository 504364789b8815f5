/* Redis' replies as the exporter reads the view: hours that changed, snapshots, what is to be archived. What is taken
 * is what the aggregator could have written, and what is archived can be read again.
 *
 * The first byte chooses what is asked. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/billing/view_archive.h"
#include "tests/fuzz/redis_replies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum sg_error ask_snapshot(struct redis_store *s, struct sg_fault *f)
{
    static struct cycle_hour hours[2] = {{.team = "a", .hour = {0}}, {.team = "b", .hour = {HOUR_MS}}};
    struct view_head head;
    enum sg_error e = view_snapshot(s, 0, HOUR_MS, hours, 2, &head, f);
    if (e == SG_OK) assert(head.partitions <= PARTITIONS_MAX);
    if (e == SG_OK && head.partitions == 0) assert(head.mark.kind == WATERMARK_UNKNOWN);
    for (size_t i = 0; i < 2; i++) {
        sums_destroy(&hours[i].total);
        hours[i].unread = false;
        memset(hours[i].reach, 0, sizeof hours[i].reach);
    }
    return e;
}

static enum sg_error ask_due(struct redis_store *s, struct sg_fault *f)
{
    static struct cycle_due due[VIEW_DUE_MAX];
    struct view_cursor cursor = {""};
    size_t count;
    uint64_t unread = 0;
    bool wrapped = false;
    enum sg_error e = view_due_read(s, 0, &cursor, due, &count, &unread, &wrapped, f);
    for (size_t i = 0; e == SG_OK && i < count; i++) {
        assert(id_valid(due[i].team.s, strlen(due[i].team.s)) && due[i].hour.v % HOUR_MS == 0);
        assert(due[i].partition < PARTITIONS_MAX);
    }
    if (e == SG_OK && count) e = view_due_done(s, 0, due, count, f);
    return e;
}

/* One archive record of what was read; its reader must take it. */
static void expect_readable(struct buffer *record)
{
    struct archive_head head;
    struct sg_fault f = {0};
    enum sg_error e = archive_decode(record->data, record->length, &head, NULL, &f);
    assert(record->error == SG_OK && e == SG_OK);
    buffer_destroy(record);
}

static enum sg_error ask_archive(struct redis_store *s, struct sg_fault *f)
{
    static struct view_arch arch[VIEW_ARCH_MAX];
    struct view_cursor cursor = {""};
    struct redisReply *reply = NULL;
    struct buffer record;
    size_t count;
    uint64_t unread = 0;
    bool wrapped = false;
    enum sg_error e = view_arch_read(s, 0, &cursor, arch, &count, &unread, &wrapped, f);
    if (e == SG_OK && count) e = view_arch_cells(s, 0, arch, count, &reply, f);
    if (e == SG_OK) {
        buffer_init(&record, ARCHIVE_BYTES_MAX);
        archive_begin_cells(&record, (struct wall_ms){1});
        for (size_t i = 0; i < count; i++) {
            bool fits = !arch[i].cell.text || archive_add_cell(&record, &arch[i].cell);
            assert(fits);
        }
        expect_readable(&record);
    }
    if (e == SG_OK && count) e = view_arch_done(s, 0, arch, count, f);
    if (reply) freeReplyObject(reply);
    return e;
}

static enum sg_error ask_marks(struct redis_store *s, struct sg_fault *f)
{
    struct redisReply *reply = NULL;
    struct buffer record;
    uint64_t at;
    enum sg_error e = view_marks_read(s, 0, 1, &reply, &at, f);
    if (e != SG_OK) return e;
    const struct redisReply *marks = reply->element[0], *gaps = reply->element[1];
    assert((at == 0) == (marks->elements == 0) && gaps->elements % 2 == 0);
    buffer_init(&record, ARCHIVE_BYTES_MAX);
    archive_begin_marks(&record, (struct wall_ms){1}, 1, 0);
    for (size_t i = 0; i < marks->elements; i += 2) {
        const struct redisReply *field = marks->element[i], *value = marks->element[i + 1];
        bool fits = archive_add_mark(&record, &(struct archive_mark){field->str, value->str, field->len, value->len});
        assert(fits);
    }
    archive_end_marks(&record);
    expect_readable(&record);
    freeReplyObject(reply);
    return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static enum sg_error (*const questions[])(struct redis_store *, struct sg_fault *) = {ask_snapshot, ask_due,
                                                                                          ask_archive, ask_marks};
    static const struct redis_store_config config = {.address = "/redis", .shards = 2};
    struct redis_store *s;
    struct sg_fault f = {0};
    if (size == 0) return 0;
    enum sg_error e = redis_store_new(&s, &config, NULL);
    assert(e == SG_OK);
    replies_begin(data + 1, size - 1);
    e = questions[data[0] % (sizeof questions / sizeof *questions)](s, &f);
    if (e != SG_OK) assert(f.code == e && f.text[0] && !strstr(f.text, "(canary)"));
    redis_store_free(s);
    replies_end();
    return 0;
}
