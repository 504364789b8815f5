#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proto/archive.h"
#include "proto/ledger.h"

#define CELL "@88123 vcpu_ms=3600000"

static struct archive_cell cell(enum window_kind w, const char *project)
{
    struct archive_cell c = {.window = w,
                             .start = {w == WINDOW_DAY ? INT64_C(1763856000000) : INT64_C(1763884800000)},
                             .team = {"t1"},
                             .region = {"eu"},
                             .partition = 3,
                             .text = CELL,
                             .length = sizeof CELL - 1};
    snprintf(c.project.s, sizeof c.project.s, "%s", project);
    return c;
}

static size_t seen;

static enum sg_error see_cell(void *arg, const struct archive_cell *c)
{
    const struct archive_cell *expected = arg;
    cr_assert_str_eq(c->team.s, expected[seen].team.s);
    cr_assert_str_eq(c->project.s, expected[seen].project.s);
    cr_assert_str_eq(c->region.s, expected[seen].region.s);
    cr_assert(c->window == expected[seen].window && c->start.v == expected[seen].start.v && c->partition == 3);
    cr_assert_eq(memcmp(c->text, CELL, c->length), 0);
    seen++;
    return SG_OK;
}

static enum sg_error see_mark(void *arg, const struct archive_head *h, const struct archive_mark *m)
{
    (void)arg;
    cr_assert_eq(h->partition, 5);
    cr_assert(seen == 0 ? m->field_length == 2 && m->length == 5 : m->field_length == 7 && m->length == 0);
    seen++;
    return SG_OK;
}

Test(archive, cells_come_back_as_they_were)
{
    struct buffer b;
    struct archive_head head;
    struct archive_cell cells[2] = {cell(WINDOW_HOUR, "p1"), cell(WINDOW_DAY, "-")};
    struct archive_each each = {.cell = see_cell, .arg = cells};
    seen = 0;
    buffer_init(&b, ARCHIVE_BYTES_MAX);
    archive_begin_cells(&b, (struct wall_ms){7});
    for (int i = 0; i < 2; i++) cr_assert(archive_add_cell(&b, &cells[i]));
    cr_assert(archive_is(b.data, b.length) && !ledger_is_billing(b.data, b.length));
    cr_assert_eq(archive_decode(b.data, b.length, &head, &each, NULL), SG_OK);
    cr_assert(head.kind == ARCHIVE_CELLS && head.at.v == 7 && seen == 2);
    buffer_destroy(&b);
}

Test(archive, marks_say_which_part_is_the_last)
{
    struct buffer b;
    struct archive_head head;
    struct archive_mark at = {"at", "90001", 2, 5}, duplicate = {"d:88001", "", 7, 0};
    struct archive_each each = {.mark = see_mark};
    seen = 0;
    buffer_init(&b, ARCHIVE_BYTES_MAX);
    archive_begin_marks(&b, (struct wall_ms){7}, 5, 2);
    cr_assert(archive_add_mark(&b, &at) && archive_add_mark(&b, &duplicate));
    cr_assert_eq(archive_decode(b.data, b.length, &head, NULL, NULL), SG_OK);
    cr_assert(!head.last && head.part == 2);
    archive_end_marks(&b);
    cr_assert_eq(archive_decode(b.data, b.length, &head, &each, NULL), SG_OK);
    cr_assert(head.last && seen == 2);
    buffer_destroy(&b);
}

Test(archive, a_full_record_takes_no_more_and_still_ends)
{
    struct buffer b;
    struct archive_head head;
    struct archive_mark m = {"r:r1:7", CELL, 6, sizeof CELL - 1};
    buffer_init(&b, ARCHIVE_BYTES_MAX);
    archive_begin_marks(&b, (struct wall_ms){7}, 5, 0);
    while (archive_add_mark(&b, &m)) continue;
    archive_end_marks(&b);
    cr_assert_eq(b.error, SG_OK);
    cr_assert_gt(b.length, ARCHIVE_BYTES_MAX - 200);
    cr_assert_eq(archive_decode(b.data, b.length, &head, NULL, NULL), SG_OK);
    buffer_destroy(&b);
}

Test(archive, what_encoding_would_not_write_is_refused)
{
    static const char *const bad[] = {
        "",
        "CANARY",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":7}",
        "{\"v\":1,\"kind\":\"archive_CANARY\",\"at\":7}\n",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":07}\n",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":7}\nu:m:60:t:p:r\t0\t@1 x=1\n",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":7}\nu:h:3601:t:p:r\t0\t@1 x=1\n",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":7}\nu:d:3600:t:p:r\t0\t@1 x=1\n",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":7}\nu:h:3600:-:p:r\t0\t@1 x=1\n",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":7}\nu:h:3600:t:p.p:r\t0\t@1 x=1\n",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":7}\nu:h:3600:t:p:r\t0\t\n",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":7}\nu:h:3600:t:p:r\t0\t@1 x=1",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":7}\nu:h:3600:t:p:r\t9999\t@1 x=1\n",
        "{\"v\":1,\"kind\":\"archive_marks\",\"at\":7,\"partition\":3}\n",
        "{\"v\":1,\"kind\":\"archive_marks\",\"at\":7,\"partition\":3,\"part\":0}\nend\nat\t1\n",
        "{\"v\":1,\"kind\":\"archive_marks\",\"at\":7,\"partition\":3,\"part\":0}\nat\t1\t2\n",
        "{\"v\":1,\"kind\":\"archive_marks\",\"at\":7,\"partition\":3,\"part\":0}\nat\n\t1\n",
        "{\"v\":1,\"kind\":\"archive_marks\",\"at\":7,\"partition\":3,\"part\":0}\nat",
        "{\"v\":1,\"kind\":\"archive_marks\",\"at\":7,\"partition\":3,\"part\":0}\nabc\n",
        "{\"v\":1,\"kind\":\"archive_marks\",\"at\":7,\"partition\":3,\"part\":0}\n\t1\n",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":184467440737095516150}\n",
        "{\"v\":1,\"kind\":\"archive_marks\",\"at\":7,\"partition\":1024,\"part\":0}\nat\t1\n",
        "{\"v\":1,\"kind\":\"archive_marks\",\"at\":7,\"partition\":3,\"part\":4294967296}\nat\t1\n",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":9999999999999999}\n",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":7}\nu:h:9999999999999999:t:p:r\t0\t@1 x=1\n",
        "{\"v\":1,\"kind\":\"archive_cells\",\"at\":7}\nu:h:3600:t",
    };
    struct archive_head head;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sg_fault f = {0};
        cr_assert_eq(archive_decode(bad[i], strlen(bad[i]), &head, NULL, &f), SG_ERR_MALFORMED, "accepted %zu", i);
        cr_assert_null(strstr(f.text, "CANARY"));
    }
    static const char newer[] = "{\"v\":23,\"kind\":\"archive_cells\",\"at\":7}\n";
    struct sg_fault f = {0};
    cr_assert_eq(archive_decode(newer, sizeof newer - 1, &head, NULL, &f), SG_ERR_VERSION);
    cr_assert_not_null(strstr(f.text, "23"));
    static char longer[ARCHIVE_BYTES_MAX + 1];
    memset(longer, '\n', sizeof longer);
    memcpy(longer, bad[2], strlen(bad[2]));
    cr_assert_eq(archive_decode(longer, sizeof longer, &head, NULL, &f), SG_ERR_LIMIT);
}

static enum sg_error refuse_cell(void *arg, const struct archive_cell *c)
{
    (void)c;
    ++*(int *)arg;
    return SG_ERR_STATE;
}

static enum sg_error refuse_mark(void *arg, const struct archive_head *h, const struct archive_mark *m)
{
    (void)h;
    (void)m;
    ++*(int *)arg;
    return SG_ERR_STATE;
}

Test(archive, a_reader_ends_the_reading_or_takes_only_its_kind)
{
    static const char cells[] = "{\"v\":1,\"kind\":\"archive_cells\",\"at\":7}\nu:h:3600:t:p:r\t0\t@1 x=1\n"
                                "u:h:7200:t:p:r\t0\t@1 x=1\n";
    static const char marks[] = "{\"v\":1,\"kind\":\"archive_marks\",\"at\":7,\"partition\":3,\"part\":0}\n"
                                "at\t1\nr:x:1\tseq=1\n";
    int calls = 0;
    const struct archive_each each = {refuse_cell, refuse_mark, &calls}, none = {NULL, NULL, NULL};
    struct archive_head head;
    cr_assert_eq(archive_decode(cells, sizeof cells - 1, &head, &each, NULL), SG_ERR_STATE);
    cr_assert_eq(archive_decode(marks, sizeof marks - 1, &head, &each, NULL), SG_ERR_STATE);
    cr_assert_eq(calls, 2);
    cr_assert_eq(archive_decode(cells, sizeof cells - 1, &head, &none, NULL), SG_OK);
    cr_assert_eq(archive_decode(marks, sizeof marks - 1, &head, &none, NULL), SG_OK);
}

Test(archive, a_full_record_takes_no_cell_more)
{
    struct buffer b;
    struct archive_head head;
    struct archive_cell c = cell(WINDOW_HOUR, "p1");
    buffer_init(&b, ARCHIVE_BYTES_MAX);
    archive_begin_cells(&b, (struct wall_ms){7});
    while (archive_add_cell(&b, &c)) continue;
    cr_assert_gt(b.length, ARCHIVE_BYTES_MAX - 1000);
    cr_assert_eq(archive_decode(b.data, b.length, &head, NULL, NULL), SG_OK);
    buffer_destroy(&b);
}

Test(archive, files_of_the_first_version_are_read)
{
    static const char *const names[] = {"archive_cells.v1", "archive_marks.v1"};
    for (int i = 0; i < 2; i++) {
        char path[512], text[4096];
        struct archive_head head;
        snprintf(path, sizeof path, "%s/%s", TEST_DATA_DIR, names[i]);
        FILE *file = fopen(path, "r");
        cr_assert_not_null(file);
        size_t n = fread(text, 1, sizeof text, file);
        fclose(file);
        cr_assert_eq(archive_decode(text, n, &head, NULL, NULL), SG_OK);
        cr_assert(head.at.v == 1763884800123 &&
                  (i ? head.kind == ARCHIVE_MARKS && head.last : head.kind == ARCHIVE_CELLS));
    }
}
