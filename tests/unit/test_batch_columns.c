/* Every column of every kind of row, by the message's own description: one entry short, and out of its range. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "batch.pb-c.h"
#include "proto/batch.h"

static const struct wall_ms noon = {INT64_C(1763884800000)};

/* Two rows of each kind, no column of zeros alone: those are not written. */
static Sandglass__V1__Batch *example(void)
{
    static const uint8_t sha256[SHA256_BYTES] = {1};
    const struct batch_head head = {.runner = "r", .region = "eu", .epoch = 7, .seq = 2, .previous_sha256 = sha256};
    struct batch_builder *b = batch_builder_new();
    const struct batch_rise rise = {1, 2, 3, 4, 5, 6};
    const struct batch_capacity capacity = {9, 8, 7, 6, 5, 4, 3, 2};
    const uint8_t *bytes;
    size_t length;
    for (int i = 0; i < 2; i++) {
        const struct wall_ms at = {noon.v + 10 + i};
        const struct batch_sandbox s = {i ? "b" : "a", i ? "t2" : "t1", i ? "p2" : "p1", 1, 2, 3};
        uint32_t n;
        cr_assert_eq(batch_builder_sandbox(b, &s, &n), SG_OK);
        cr_assert_eq(batch_builder_slice(b, n, at, 5, &rise), SG_OK);
        cr_assert_eq(batch_builder_start(b, n, at, 2, 3), SG_OK);
        cr_assert_eq(batch_builder_state(b, n, at, SANDBOX_HIBERNATED), SG_OK);
        cr_assert_eq(batch_builder_end(b, n, at, REASON_OOM, 5), SG_OK);
        cr_assert_eq(batch_builder_exec(b, n, at, 3, 4), SG_OK);
        cr_assert_eq(batch_builder_api_call(b, s.team, s.project, at, OPERATION_FILE_READ, 404), SG_OK);
        cr_assert_eq(batch_builder_capacity(b, at, &capacity), SG_OK);
        cr_assert_eq(batch_builder_gap(b, at, at, 1, 2), SG_OK);
    }
    cr_assert_eq(batch_builder_seal(b, &head, &bytes, &length), SG_OK);
    Sandglass__V1__Batch *m = sandglass__v1__batch__unpack(NULL, length, bytes);
    cr_assert_not_null(m);
    batch_builder_free(b);
    return m;
}

static enum sg_error decode(const Sandglass__V1__Batch *m, struct sg_fault *f)
{
    struct batch_decoder d;
    struct batch out;
    uint8_t *bytes = malloc(sandglass__v1__batch__get_packed_size(m));
    size_t length = sandglass__v1__batch__pack(m, bytes);
    cr_assert_eq(batch_decoder_init(&d), SG_OK);
    enum sg_error e = batch_decode(&d, bytes, length, &out, f);
    batch_decoder_destroy(&d);
    free(bytes);
    return e;
}

static void *member(const ProtobufCFieldDescriptor *f, ProtobufCMessage *rows, size_t **count)
{
    void *at;
    *count = (size_t *)(void *)((char *)rows + f->quantifier_offset);
    memcpy(&at, (char *)rows + f->offset, sizeof at);
    return at;
}

/* Whether every number of the column's type is allowed. */
static bool unlimited(const ProtobufCMessageDescriptor *rows, const ProtobufCFieldDescriptor *f)
{
    return f->type == PROTOBUF_C_TYPE_UINT64 &&
           (strcmp(rows->short_name, "Capacities") == 0 || strcmp(rows->short_name, "Gaps") == 0);
}

static void put(const ProtobufCFieldDescriptor *f, void *column, size_t i, int64_t value)
{
    if (f->type == PROTOBUF_C_TYPE_UINT32)
        ((uint32_t *)column)[i] = (uint32_t)value;
    else
        ((int64_t *)column)[i] = value;
}

/* Whether a column that is not written means zeros that are allowed. The first one says how many rows there are. */
static bool may_be_absent(const ProtobufCMessageDescriptor *rows, const ProtobufCFieldDescriptor *f)
{
    return f != &rows->fields[0] && strcmp(f->name, "vcpus") != 0 && strcmp(f->name, "mem_mib") != 0 &&
           strcmp(f->name, "status") != 0;
}

static void check_column(Sandglass__V1__Batch *m, ProtobufCMessage *rows, const ProtobufCFieldDescriptor *f)
{
    size_t *count;
    void *column = member(f, rows, &count);
    cr_assert_eq(*count, 2, "%s.%s", rows->descriptor->short_name, f->name);
    --*count;
    cr_assert_eq(decode(m, NULL), SG_ERR_MALFORMED, "%s.%s: one short", rows->descriptor->short_name, f->name);
    --*count;
    cr_assert_eq(decode(m, NULL), may_be_absent(rows->descriptor, f) ? SG_OK : SG_ERR_MALFORMED, "%s.%s: absent",
                 rows->descriptor->short_name, f->name);
    *count = 2;
    if (f->type == PROTOBUF_C_TYPE_STRING) return;
    int64_t was = f->type == PROTOBUF_C_TYPE_UINT32 ? ((uint32_t *)column)[1] : ((int64_t *)column)[1];
    const enum sg_error expected = unlimited(rows->descriptor, f) ? SG_OK : SG_ERR_MALFORMED;
    put(f, column, 1, f->type == PROTOBUF_C_TYPE_SINT64 ? INT64_MAX : -1);
    cr_assert_eq(decode(m, NULL), expected, "%s.%s: too high", rows->descriptor->short_name, f->name);
    if (f->type == PROTOBUF_C_TYPE_SINT64) {
        put(f, column, 1, INT64_MIN);
        cr_assert_eq(decode(m, NULL), expected, "%s.%s: too low", rows->descriptor->short_name, f->name);
    }
    put(f, column, 1, was);
}

Test(batch_columns, each_is_as_long_as_the_others_and_within_its_range)
{
    Sandglass__V1__Batch *m = example();
    size_t columns = 0;
    cr_assert_eq(decode(m, NULL), SG_OK);
    for (unsigned i = 0; i < m->base.descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *kind = &m->base.descriptor->fields[i];
        ProtobufCMessage *rows;
        if (kind->type != PROTOBUF_C_TYPE_MESSAGE || strcmp(kind->name, "totals") == 0) continue;
        memcpy(&rows, (char *)m + kind->offset, sizeof rows);
        cr_assert_not_null(rows, "%s", kind->name);
        for (unsigned k = 0; k < rows->descriptor->n_fields; k++, columns++)
            check_column(m, rows, &rows->descriptor->fields[k]);
    }
    cr_assert_eq(columns, 48);
    cr_assert_eq(decode(m, NULL), SG_OK);
    sandglass__v1__batch__free_unpacked(m, NULL);
}

/* What decoding says of a batch whose lists that `what` names have `count` entries. */
static enum sg_error decode_with(const char *what, size_t count, struct sg_fault *f)
{
    static char name[] = "x";
    Sandglass__V1__Batch m;
    Sandglass__V1__Sandboxes sandboxes;
    Sandglass__V1__Gaps gaps;
    char **names = malloc(count * sizeof *names);
    int64_t *times = calloc(count, sizeof *times);
    for (size_t i = 0; i < count; i++) names[i] = name;
    sandglass__v1__batch__init(&m);
    sandglass__v1__sandboxes__init(&sandboxes);
    sandglass__v1__gaps__init(&gaps);
    m.version = BATCH_VERSION;
    m.runner = m.region = name;
    m.epoch = m.seq = 1;
    if (strstr(what, "teams")) m.n_teams = count, m.teams = names;
    if (strstr(what, "projects")) m.n_projects = count, m.projects = names;
    if (strstr(what, "sandboxes")) sandboxes.n_id = count, sandboxes.id = names, m.sandboxes = &sandboxes;
    if (strstr(what, "gaps")) gaps.n_from_ms = count, gaps.from_ms = times, m.gaps = &gaps;
    enum sg_error e = decode(&m, f);
    free(names);
    free(times);
    return e;
}

Test(batch_columns, dictionaries_and_rows_are_bounded)
{
    static const struct {
        const char *what, *why;
    } cases[] = {{"teams", "batch: teams: too many names"},
                 {"projects", "batch: projects: too many names"},
                 {"sandboxes", "batch: sandboxes: too many names"},
                 {"gaps", "batch: head: too many rows"}};
    struct sg_fault f = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect_eq(decode_with(cases[i].what, BATCH_ROWS_MAX + 1, &f), SG_ERR_MALFORMED, "%s", cases[i].what);
        cr_expect_str_eq(f.text, cases[i].why);
    }
    cr_expect_eq(decode_with("gaps", BATCH_ROWS_MAX, &f), SG_OK, "%s", f.text);
    cr_expect_eq(decode_with("teams projects sandboxes", BATCH_NAMES_MAX + 1, &f), SG_ERR_MALFORMED);
    cr_expect_str_eq(f.text, "batch: teams: too many names");
}

Test(batch_columns, kinds_without_rows_are_none)
{
    Sandglass__V1__Batch *m = example();
    struct sg_fault f = {0};
    for (unsigned i = m->base.descriptor->n_fields; i-- > 0;) { /* sandboxes last: the others refer to them */
        const ProtobufCFieldDescriptor *kind = &m->base.descriptor->fields[i];
        ProtobufCMessage *rows;
        if (kind->type != PROTOBUF_C_TYPE_MESSAGE || strcmp(kind->name, "totals") == 0) continue;
        memcpy(&rows, (char *)m + kind->offset, sizeof rows);
        for (unsigned k = 0; k < rows->descriptor->n_fields; k++) {
            size_t *count;
            (void)member(&rows->descriptor->fields[k], rows, &count);
            *count = 0;
        }
        cr_expect_eq(decode(m, &f), SG_OK, "%s: %s", kind->name, f.text);
    }
}

Test(batch_columns, what_is_zero_where_nothing_may_be_is_refused)
{
    Sandglass__V1__Batch *m = example();
    uint32_t *const least[] = {m->sandboxes->vcpus, m->sandboxes->mem_mib, m->api_calls->status};
    for (size_t i = 0; i < sizeof least / sizeof *least; i++) {
        uint32_t was = least[i][1];
        least[i][1] = 0;
        cr_assert_eq(decode(m, NULL), SG_ERR_MALFORMED, "%zu", i);
        least[i][1] = was;
    }
    size_t vcpus = m->sandboxes->n_vcpus;
    m->sandboxes->n_vcpus = 0; /* all are zero */
    cr_assert_eq(decode(m, NULL), SG_ERR_MALFORMED);
    m->sandboxes->n_vcpus = vcpus;
    m->complete_through_ms = (uint64_t)WALL_MS_MAX + 1;
    cr_assert_eq(decode(m, NULL), SG_ERR_MALFORMED);
    m->complete_through_ms = 0;
    m->base_ms = (uint64_t)WALL_MS_MAX + 1;
    cr_assert_eq(decode(m, NULL), SG_ERR_MALFORMED);
    sandglass__v1__batch__free_unpacked(m, NULL);
}
