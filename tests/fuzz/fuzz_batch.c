/* Batch decoding: whatever is accepted holds to what proto/batch.h promises, is what protobuf-c reads in the same
 * bytes, and can be said again: built anew of its rows it decodes to the same rows, and then to the same bytes. (The
 * wire format has no canonical form, so the bytes may differ from the input's.) mutate_batch.c keeps lengths true. */
#include <assert.h>
#include <string.h>

#include "batch.pb-c.h"
#include "proto/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REBUILT_ROWS_MAX = 256 };

/* Every column that is a plain number: kind, column, type. */
#define COLUMNS(X)                                                                                                     \
    X(sandboxes, vcpus, u32)                                                                                           \
    X(sandboxes, mem_mib, u32)                                                                                         \
    X(sandboxes, disk_mib, u32)                                                                                        \
    X(slices, sandbox, u32)                                                                                            \
    X(slices, length_ms, u32)                                                                                          \
    X(slices, cpu_us, u64)                                                                                             \
    X(slices, net_rx_bytes, u64)                                                                                       \
    X(slices, net_tx_bytes, u64)                                                                                       \
    X(slices, io_read_bytes, u64)                                                                                      \
    X(slices, io_write_bytes, u64)                                                                                     \
    X(slices, mem_bytes, u64)                                                                                          \
    X(starts, sandbox, u32)                                                                                            \
    X(starts, origin, u32)                                                                                             \
    X(starts, create_ms, u32)                                                                                          \
    X(states, sandbox, u32)                                                                                            \
    X(states, state, u32)                                                                                              \
    X(ends, sandbox, u32)                                                                                              \
    X(ends, reason, u32)                                                                                               \
    X(ends, mem_peak_bytes, u64)                                                                                       \
    X(execs, sandbox, u32)                                                                                             \
    X(execs, exit_code, u32)                                                                                           \
    X(execs, duration_ms, u64)                                                                                         \
    X(api_calls, operation, u32)                                                                                       \
    X(api_calls, status, u32)                                                                                          \
    X(capacities, vcpus_total, u64)                                                                                    \
    X(capacities, mem_mib_total, u64)                                                                                  \
    X(capacities, disk_mib_total, u64)                                                                                 \
    X(capacities, warm, u64)                                                                                           \
    X(capacities, vcpus_allocated, u64)                                                                                \
    X(capacities, mem_mib_allocated, u64)                                                                              \
    X(capacities, disk_mib_allocated, u64)                                                                             \
    X(capacities, sandboxes_running, u64)                                                                              \
    X(gaps, first_n, u64)                                                                                              \
    X(gaps, last_n, u64)
/* Times, relative to their batch's base. */
#define TIMES(X)                                                                                                       \
    X(slices, start_ms)                                                                                                \
    X(starts, at_ms)                                                                                                   \
    X(states, at_ms)                                                                                                   \
    X(ends, at_ms)                                                                                                     \
    X(execs, at_ms)                                                                                                    \
    X(api_calls, at_ms)                                                                                                \
    X(capacities, at_ms)                                                                                               \
    X(gaps, from_ms)                                                                                                   \
    X(gaps, to_ms)

#define EXPECT_COLUMN(kind, name, type)                                                                                \
    assert(x->kind.count == y->kind.count);                                                                            \
    for (size_t i = 0; i < x->kind.count; i++) assert(column_##type(x->kind.name, i) == column_##type(y->kind.name, i));
#define EXPECT_TIME(kind, name)                                                                                        \
    for (size_t i = 0; i < x->kind.count; i++)                                                                         \
        assert(x->base_ms + column_i64(x->kind.name, i) == y->base_ms + column_i64(y->kind.name, i));
#define EXPECT_IN_RANGE(kind, name)                                                                                    \
    for (size_t i = 0; i < b->kind.count; i++) (void)time_at(b, b->kind.name, i);

#define EXPECT_READ_COLUMN(kind, name, type)                                                                           \
    if (m->kind)                                                                                                       \
        for (size_t i = 0; i < b->kind.count; i++)                                                                     \
            assert(column_##type(b->kind.name, i) == (m->kind->n_##name ? m->kind->name[i] : 0));
#define EXPECT_READ_TIME(kind, name) EXPECT_READ_COLUMN(kind, name, i64)

static struct wall_ms time_at(const struct batch *b, const int64_t *column, size_t i)
{
    struct wall_ms t = {b->base_ms + column_i64(column, i)};
    assert(t.v >= 0 && t.v <= WALL_MS_MAX);
    return t;
}

static void expect_names(const struct batch *x, const struct batch *y)
{
    const struct batch_sandboxes *a = &x->sandboxes, *b = &y->sandboxes;
    for (size_t i = 0; i < a->count; i++) {
        assert(strcmp(a->id[i], b->id[i]) == 0);
        assert(strcmp(x->teams[column_u32(a->team, i)], y->teams[column_u32(b->team, i)]) == 0);
        assert(strcmp(x->projects[column_u32(a->project, i)], y->projects[column_u32(b->project, i)]) == 0);
    }
    for (size_t i = 0; i < x->api_calls.count; i++) {
        uint32_t team = column_u32(x->api_calls.team, i), other = column_u32(y->api_calls.team, i);
        assert(strcmp(x->teams[team], y->teams[other]) == 0);
        team = column_u32(x->api_calls.project, i), other = column_u32(y->api_calls.project, i);
        assert(strcmp(x->projects[team], y->projects[other]) == 0);
    }
}

static void expect_same(const struct batch *x, const struct batch *y)
{
    assert(strcmp(x->runner, y->runner) == 0 && strcmp(x->region, y->region) == 0);
    assert(x->epoch == y->epoch && x->seq == y->seq && x->complete_through_ms == y->complete_through_ms);
    assert(memcmp(x->previous_sha256, y->previous_sha256, SHA256_BYTES) == 0);
    assert(memcmp(&x->totals, &y->totals, sizeof x->totals) == 0);
    COLUMNS(EXPECT_COLUMN)
    TIMES(EXPECT_TIME)
    expect_names(x, y);
}

static void expect_read_names(size_t count, char *const *names, size_t read_count, char *const *read)
{
    assert(count == read_count);
    for (size_t i = 0; i < count; i++) assert(strcmp(names[i], read[i]) == 0);
}

/* Kinds without an entry of the message have no rows. */
static void expect_read(const struct batch *b, const uint8_t *bytes, size_t length)
{
    Sandglass__V1__Batch *m = sandglass__v1__batch__unpack(NULL, length, bytes);
    assert(m && m->version == BATCH_VERSION);
    assert(strcmp(b->runner, m->runner) == 0 && strcmp(b->region, m->region) == 0);
    assert(b->epoch == m->epoch && b->seq == m->seq && b->base_ms == (int64_t)m->base_ms);
    assert(b->complete_through_ms == (int64_t)m->complete_through_ms);
    expect_read_names(b->team_count, b->teams, m->n_teams, m->teams);
    expect_read_names(b->project_count, b->projects, m->n_projects, m->projects);
    if (m->sandboxes) expect_read_names(b->sandboxes.count, b->sandboxes.id, m->sandboxes->n_id, m->sandboxes->id);
    size_t rows = (m->slices ? m->slices->n_sandbox : 0) + (m->starts ? m->starts->n_sandbox : 0) +
                  (m->states ? m->states->n_sandbox : 0) + (m->ends ? m->ends->n_sandbox : 0) +
                  (m->execs ? m->execs->n_sandbox : 0) + (m->api_calls ? m->api_calls->n_team : 0) +
                  (m->capacities ? m->capacities->n_at_ms : 0) + (m->gaps ? m->gaps->n_from_ms : 0);
    assert(batch_row_count(b) == rows);
    COLUMNS(EXPECT_READ_COLUMN)
    TIMES(EXPECT_READ_TIME)
    EXPECT_READ_COLUMN(sandboxes, team, u32)
    EXPECT_READ_COLUMN(sandboxes, project, u32)
    EXPECT_READ_COLUMN(api_calls, team, u32)
    EXPECT_READ_COLUMN(api_calls, project, u32)
    if (m->totals) {
        const Sandglass__V1__Totals *t = m->totals;
        const struct batch_totals read = {t->vcpu_ms,    t->mem_mib_ms, t->disk_mib_ms,
                                          t->running_ms, t->events,     t->refused};
        assert(memcmp(&b->totals, &read, sizeof read) == 0);
    }
    assert(m->previous_sha256.len == (m->seq > 1 ? SHA256_BYTES : 0));
    assert(m->seq == 1 || memcmp(b->previous_sha256, m->previous_sha256.data, SHA256_BYTES) == 0);
    sandglass__v1__batch__free_unpacked(m, NULL);
}

static bool build_slices(struct batch_builder *to, const struct batch *b)
{
    const struct batch_slices *s = &b->slices;
    bool ok = true;
    for (size_t i = 0; ok && i < s->count; i++) {
        const struct batch_rise rise = {column_u64(s->cpu_us, i),         column_u64(s->net_rx_bytes, i),
                                        column_u64(s->net_tx_bytes, i),   column_u64(s->io_read_bytes, i),
                                        column_u64(s->io_write_bytes, i), column_u64(s->mem_bytes, i)};
        ok = !batch_builder_slice(to, column_u32(s->sandbox, i), time_at(b, s->start_ms, i),
                                  column_u32(s->length_ms, i), &rise);
    }
    return ok;
}

static bool build_lives(struct batch_builder *to, const struct batch *b)
{
    bool ok = true;
    for (size_t i = 0; ok && i < b->sandboxes.count; i++) {
        const struct batch_sandboxes *s = &b->sandboxes;
        const struct batch_sandbox one = {
            s->id[i],      b->teams[column_u32(s->team, i)], b->projects[column_u32(s->project, i)], s->vcpus[i],
            s->mem_mib[i], column_u32(s->disk_mib, i)};
        uint32_t index;
        ok = !batch_builder_sandbox(to, &one, &index) && index == i;
    }
    for (size_t i = 0; ok && i < b->starts.count; i++)
        ok = !batch_builder_start(to, column_u32(b->starts.sandbox, i), time_at(b, b->starts.at_ms, i),
                                  column_u32(b->starts.origin, i), column_u32(b->starts.create_ms, i));
    for (size_t i = 0; ok && i < b->states.count; i++)
        ok = !batch_builder_state(to, column_u32(b->states.sandbox, i), time_at(b, b->states.at_ms, i),
                                  (enum sandbox_state)column_u32(b->states.state, i));
    for (size_t i = 0; ok && i < b->ends.count; i++)
        ok = !batch_builder_end(to, column_u32(b->ends.sandbox, i), time_at(b, b->ends.at_ms, i),
                                (enum reason)column_u32(b->ends.reason, i), column_u64(b->ends.mem_peak_bytes, i));
    for (size_t i = 0; ok && i < b->execs.count; i++)
        ok = !batch_builder_exec(to, column_u32(b->execs.sandbox, i), time_at(b, b->execs.at_ms, i),
                                 column_u32(b->execs.exit_code, i), column_u64(b->execs.duration_ms, i));
    return ok;
}

static bool build_rest(struct batch_builder *to, const struct batch *b)
{
    bool ok = true;
    for (size_t i = 0; ok && i < b->api_calls.count; i++) {
        const struct batch_api_calls *c = &b->api_calls;
        ok = !batch_builder_api_call(to, b->teams[column_u32(c->team, i)], b->projects[column_u32(c->project, i)],
                                     time_at(b, c->at_ms, i), (enum operation)column_u32(c->operation, i),
                                     column_u32(c->status, i));
    }
    for (size_t i = 0; ok && i < b->capacities.count; i++) {
        const struct batch_capacities *c = &b->capacities;
        const struct batch_capacity one = {column_u64(c->vcpus_total, i),        column_u64(c->mem_mib_total, i),
                                           column_u64(c->disk_mib_total, i),     column_u64(c->warm, i),
                                           column_u64(c->vcpus_allocated, i),    column_u64(c->mem_mib_allocated, i),
                                           column_u64(c->disk_mib_allocated, i), column_u64(c->sandboxes_running, i)};
        ok = !batch_builder_capacity(to, time_at(b, c->at_ms, i), &one);
    }
    for (size_t i = 0; ok && i < b->gaps.count; i++)
        ok = !batch_builder_gap(to, time_at(b, b->gaps.from_ms, i), time_at(b, b->gaps.to_ms, i),
                                column_u64(b->gaps.first_n, i), column_u64(b->gaps.last_n, i));
    return ok;
}

/* Says b again; *bytes belong to the builder. */
static void rebuild(struct batch_builder *to, const struct batch *b, const uint8_t **bytes, size_t *length)
{
    const struct batch_head head = {
        b->runner, b->region, b->epoch, b->seq, b->previous_sha256, {b->complete_through_ms}, b->totals};
    bool built =
        build_lives(to, b) && build_slices(to, b) && build_rest(to, b) && !batch_builder_seal(to, &head, bytes, length);
    assert(built);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct batch_builder *first, *second;
    static struct batch_decoder decoder, other;
    const uint8_t *said, *again;
    size_t said_bytes, again_bytes;
    struct batch batch, same, *b = &batch;
    struct sg_fault f = {0};
    if (!first) first = batch_builder_new();
    if (!second) second = batch_builder_new();
    if (batch_decode(&decoder, data, size, b, &f)) {
        assert(f.text[0]);
        return 0;
    }
    expect_read(b, data, size);
    TIMES(EXPECT_IN_RANGE)
    assert(batch_row_count(b) <= BATCH_ROWS_MAX);
    for (size_t i = 0; i < b->slices.count; i++)
        assert(b->slices.sandbox ? column_u32(b->slices.sandbox, i) < b->sandboxes.count : b->sandboxes.count > 0);
    if (batch_row_count(b) > REBUILT_ROWS_MAX || b->sandboxes.count > REBUILT_ROWS_MAX) return 0;
    rebuild(first, b, &said, &said_bytes);
    enum sg_error e = batch_decode(&other, said, said_bytes, &same, &f);
    assert(e == SG_OK);
    expect_same(b, &same);
    rebuild(second, &same, &again, &again_bytes);
    assert(again_bytes == said_bytes && memcmp(again, said, said_bytes) == 0);
    return 0;
}
