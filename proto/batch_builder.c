/* Building of a batch: rows are appended to columns, sealed into bytes by protobuf-c.
 *
 * The builder keeps, beside the columns, the exact size that they will have on the wire (times are relative to the
 * first row's), so that "full" is decided before a row is appended and sealing cannot fail for its size. Columns keep
 * their memory between seals; memory is bounded by BATCH_ROWS_MAX rows and BATCH_BYTES_MAX bytes.
 *
 * FAILURES  NOMEM and LIMIT: nothing was appended. The caller seals and appends again; a row alone always fits. */
#include "proto/batch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "batch.pb-c.h"
#include "sandglass/id.h"

/* Longest encodings, tag and length included: head with its names and totals; the frame of one row kind with all its
 * columns. */
enum { HEAD_BYTES_MAX = 512, KIND_BYTES_MAX = 64, KINDS = 9 };
enum {
    ROW_BYTES_MAX = 128,
    NAME_BYTES_MAX = ID_BYTES_MAX + 2,
    NAMES_PER_ROW = 3,
    SANDBOX_BYTES_MAX = NAME_BYTES_MAX + 25
};

/* A growing array of 32- or 64-bit values. */
struct column {
    void *data;
    size_t capacity;
    bool nonzero;
};

/* Distinct names: bytes one after the other, their places, and a hash table of indexes + 1. */
struct names {
    char *bytes;
    size_t bytes_used, bytes_capacity;
    size_t *start;
    size_t count, capacity;
    uint32_t *slot;
    size_t slots;
};

enum { COLUMNS_MAX = 9 };

/* The rows of one kind. Which column is which stands at the kind's append function. */
struct rows {
    struct column column[COLUMNS_MAX];
    size_t count;
};

enum kind { SANDBOXES, SLICES, STATES, STARTS, ENDS, EXECS, API_CALLS, CAPACITIES, GAPS };

struct batch_builder {
    struct names teams, projects, sandbox_ids;
    struct rows rows[KINDS];
    int64_t base_ms; /* of the first time appended; valid when times > 0 */
    size_t times, row_count, wire_bytes;
    uint64_t generation;
    char **pointers; /* scratch for sealing: the dictionaries as arrays of strings */
    size_t pointers_capacity;
    uint8_t *out;
    size_t out_capacity;
};

static size_t varint_bytes(uint64_t v)
{
    return (size_t)(63 - __builtin_clzll(v | 1)) / 7 + 1;
}

static size_t zigzag_bytes(int64_t v)
{
    return varint_bytes(((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
}

static bool grow(void **data, size_t *capacity, size_t need, size_t item_bytes)
{
    size_t wanted = *capacity ? *capacity : 64;
    if (need <= *capacity) return true;
    while (wanted < need) wanted *= 2;
    void *grown = realloc(*data, wanted * item_bytes);
    if (!grown) return false;
    *data = grown;
    *capacity = wanted;
    return true;
}

struct batch_builder *batch_builder_new(void)
{
    struct batch_builder *b = calloc(1, sizeof *b);
    if (b) batch_builder_reset(b);
    return b;
}

static void names_destroy(struct names *n)
{
    free(n->bytes);
    free(n->start);
    free(n->slot);
}

void batch_builder_free(struct batch_builder *b)
{
    if (!b) return;
    names_destroy(&b->teams);
    names_destroy(&b->projects);
    names_destroy(&b->sandbox_ids);
    for (size_t k = 0; k < KINDS; k++)
        for (size_t c = 0; c < COLUMNS_MAX; c++) free(b->rows[k].column[c].data);
    free(b->pointers);
    free(b->out);
    free(b);
}

static void names_reset(struct names *n)
{
    n->bytes_used = n->count = 0;
    if (n->slot) memset(n->slot, 0, n->slots * sizeof *n->slot);
}

void batch_builder_reset(struct batch_builder *b)
{
    names_reset(&b->teams);
    names_reset(&b->projects);
    names_reset(&b->sandbox_ids);
    for (size_t k = 0; k < KINDS; k++) {
        b->rows[k].count = 0;
        for (size_t c = 0; c < COLUMNS_MAX; c++) b->rows[k].column[c].nonzero = false;
    }
    b->times = b->row_count = 0;
    b->wire_bytes = HEAD_BYTES_MAX + KINDS * KIND_BYTES_MAX;
    b->generation++;
}

size_t batch_builder_rows(const struct batch_builder *b)
{
    return b->row_count;
}

size_t batch_builder_bytes(const struct batch_builder *b)
{
    return b->wire_bytes;
}

bool batch_builder_full(const struct batch_builder *b, size_t rows)
{
    size_t bytes = rows * (ROW_BYTES_MAX + NAMES_PER_ROW * NAME_BYTES_MAX + SANDBOX_BYTES_MAX);
    return b->row_count + rows > BATCH_ROWS_MAX || b->rows[SANDBOXES].count + rows > BATCH_NAMES_MAX ||
           b->teams.count + rows > BATCH_NAMES_MAX || b->projects.count + rows > BATCH_NAMES_MAX ||
           b->wire_bytes + bytes > BATCH_BYTES_MAX;
}

uint64_t batch_builder_generation(const struct batch_builder *b)
{
    return b->generation;
}

/* ---- dictionaries ---- */

static enum sg_error names_append(struct names *n, const char *name, size_t length, uint32_t *index)
{
    if (!grow((void **)&n->bytes, &n->bytes_capacity, n->bytes_used + length + 1, 1)) return SG_ERR_NOMEM;
    if (!grow((void **)&n->start, &n->capacity, n->count + 1, sizeof *n->start)) return SG_ERR_NOMEM;
    memcpy(n->bytes + n->bytes_used, name, length + 1);
    n->start[n->count] = n->bytes_used;
    n->bytes_used += length + 1;
    *index = (uint32_t)n->count++;
    return SG_OK;
}

static size_t names_slot(const struct names *n, const char *name, size_t length)
{
    size_t i = XXH3_64bits(name, length) & (n->slots - 1);
    while (n->slot[i] && strcmp(n->bytes + n->start[n->slot[i] - 1], name) != 0) i = (i + 1) & (n->slots - 1);
    return i;
}

/* Keeps the table at most half full. */
static bool names_rehash(struct names *n)
{
    if (n->count * 2 < n->slots) return true;
    size_t slots = n->slots ? n->slots * 2 : 64;
    uint32_t *slot = calloc(slots, sizeof *slot);
    if (!slot) return false;
    free(n->slot);
    n->slot = slot;
    n->slots = slots;
    for (size_t i = 0; i < n->count; i++) {
        const char *name = n->bytes + n->start[i];
        n->slot[names_slot(n, name, strlen(name))] = (uint32_t)i + 1;
    }
    return true;
}

/* Index of a name, added when it is new. */
static enum sg_error names_intern(struct batch_builder *b, struct names *n, const char *name, uint32_t *index)
{
    size_t length = strlen(name);
    assert(id_valid_or_none(name, length));
    if (!names_rehash(n)) return SG_ERR_NOMEM;
    size_t at = names_slot(n, name, length);
    if (n->slot[at]) {
        *index = n->slot[at] - 1;
        return SG_OK;
    }
    if (n->count == BATCH_NAMES_MAX || b->wire_bytes + length + 2 > BATCH_BYTES_MAX) return SG_ERR_LIMIT;
    enum sg_error e = names_append(n, name, length, index);
    if (e) return e;
    n->slot[at] = *index + 1;
    b->wire_bytes += length + 2;
    return SG_OK;
}

/* ---- rows ---- */

/* One value of a row being appended. */
struct value {
    enum { VALUE_U32, VALUE_U64, VALUE_TIME } type;
    uint64_t v;
};

#define U32(x)                                                                                                         \
    {                                                                                                                  \
        VALUE_U32, (x)                                                                                                 \
    }
#define U64(x)                                                                                                         \
    {                                                                                                                  \
        VALUE_U64, (x)                                                                                                 \
    }
#define TIME(t)                                                                                                        \
    {                                                                                                                  \
        VALUE_TIME, (uint64_t)(t).v                                                                                    \
    }

static int64_t relative(const struct batch_builder *b, uint64_t absolute)
{
    return (int64_t)absolute - b->base_ms;
}

static void column_put(const struct batch_builder *b, struct column *c, size_t at, const struct value *v)
{
    if (v->type == VALUE_U32)
        ((uint32_t *)c->data)[at] = (uint32_t)v->v;
    else if (v->type == VALUE_U64)
        ((uint64_t *)c->data)[at] = v->v;
    else
        ((int64_t *)c->data)[at] = relative(b, v->v);
    c->nonzero |= v->type == VALUE_TIME ? relative(b, v->v) != 0 : v->v != 0;
}

static enum sg_error append(struct batch_builder *b, enum kind kind, const struct value *values, size_t count)
{
    struct rows *r = &b->rows[kind];
    size_t bytes = 0, limit = kind == SANDBOXES ? BATCH_NAMES_MAX : BATCH_ROWS_MAX;
    assert(count <= COLUMNS_MAX);
    for (size_t c = 0; c < count; c++) {
        size_t width = values[c].type == VALUE_U32 ? sizeof(uint32_t) : sizeof(uint64_t);
        if (!grow(&r->column[c].data, &r->column[c].capacity, r->count + 1, width)) return SG_ERR_NOMEM;
        if (values[c].type == VALUE_TIME && b->times == 0) {
            b->base_ms = (int64_t)values[c].v;
            b->times = 1;
        }
        bytes += values[c].type == VALUE_TIME ? zigzag_bytes(relative(b, values[c].v)) : varint_bytes(values[c].v);
    }
    if ((kind == SANDBOXES ? r->count : b->row_count) >= limit || b->wire_bytes + bytes > BATCH_BYTES_MAX)
        return SG_ERR_LIMIT;
    for (size_t c = 0; c < count; c++) column_put(b, &r->column[c], r->count, &values[c]);
    r->count++;
    b->row_count += kind != SANDBOXES;
    b->wire_bytes += bytes;
    return SG_OK;
}

#define APPEND(b, kind, ...)                                                                                           \
    append(b, kind, (const struct value[]){__VA_ARGS__},                                                               \
           sizeof((const struct value[]){__VA_ARGS__}) / sizeof(struct value))

enum sg_error batch_builder_sandbox(struct batch_builder *b, const struct batch_sandbox *s, uint32_t *index)
{
    uint32_t team, project;
    size_t length = strlen(s->id);
    if (b->rows[SANDBOXES].count == BATCH_NAMES_MAX || b->wire_bytes + SANDBOX_BYTES_MAX > BATCH_BYTES_MAX)
        return SG_ERR_LIMIT;
    enum sg_error e = names_intern(b, &b->teams, s->team, &team);
    if (!e) e = names_intern(b, &b->projects, s->project, &project);
    if (!e) e = names_append(&b->sandbox_ids, s->id, length, index);
    if (e) return e;
    e = APPEND(b, SANDBOXES, U32(team), U32(project), U32(s->vcpus), U32(s->mem_mib), U32(s->disk_mib));
    if (e) {
        b->sandbox_ids.count--;
        b->sandbox_ids.bytes_used -= length + 1;
        return e;
    }
    b->wire_bytes += length + 2;
    return SG_OK;
}

enum sg_error batch_builder_slice(struct batch_builder *b, uint32_t sandbox, struct wall_ms start, uint32_t length_ms,
                                  const struct batch_rise *rise)
{
    assert(start.v % MINUTE_MS + length_ms <= MINUTE_MS);
    return APPEND(b, SLICES, U32(sandbox), TIME(start), U32(length_ms), U64(rise->cpu_us), U64(rise->net_rx_bytes),
                  U64(rise->net_tx_bytes), U64(rise->io_read_bytes), U64(rise->io_write_bytes), U64(rise->mem_bytes));
}

enum sg_error batch_builder_start(struct batch_builder *b, uint32_t sandbox, struct wall_ms at, uint32_t origin,
                                  uint32_t create_ms)
{
    return APPEND(b, STARTS, U32(sandbox), TIME(at), U32(origin), U32(create_ms));
}

enum sg_error batch_builder_state(struct batch_builder *b, uint32_t sandbox, struct wall_ms at,
                                  enum sandbox_state state)
{
    return APPEND(b, STATES, U32(sandbox), TIME(at), U32((uint32_t)state));
}

enum sg_error batch_builder_end(struct batch_builder *b, uint32_t sandbox, struct wall_ms at, enum reason reason,
                                uint64_t mem_peak_bytes)
{
    return APPEND(b, ENDS, U32(sandbox), TIME(at), U32((uint32_t)reason), U64(mem_peak_bytes));
}

enum sg_error batch_builder_exec(struct batch_builder *b, uint32_t sandbox, struct wall_ms at, uint32_t exit_code,
                                 uint64_t duration_ms)
{
    return APPEND(b, EXECS, U32(sandbox), TIME(at), U32(exit_code), U64(duration_ms));
}

enum sg_error batch_builder_api_call(struct batch_builder *b, const char *team, const char *project, struct wall_ms at,
                                     enum operation operation, uint32_t status)
{
    uint32_t team_index, project_index;
    enum sg_error e = names_intern(b, &b->teams, team, &team_index);
    if (!e) e = names_intern(b, &b->projects, project, &project_index);
    if (e) return e;
    return APPEND(b, API_CALLS, U32(team_index), U32(project_index), TIME(at), U32((uint32_t)operation), U32(status));
}

enum sg_error batch_builder_capacity(struct batch_builder *b, struct wall_ms at, const struct batch_capacity *c)
{
    return APPEND(b, CAPACITIES, TIME(at), U64(c->vcpus_total), U64(c->mem_mib_total), U64(c->disk_mib_total),
                  U64(c->warm), U64(c->vcpus_allocated), U64(c->mem_mib_allocated), U64(c->disk_mib_allocated),
                  U64(c->sandboxes_running));
}

enum sg_error batch_builder_gap(struct batch_builder *b, struct wall_ms from, struct wall_ms to, uint64_t first_n,
                                uint64_t last_n)
{
    return APPEND(b, GAPS, TIME(from), TIME(to), U64(first_n), U64(last_n));
}

/* ---- sealing ---- */

static char **names_pointers(struct names *n, char ***next)
{
    char **start = *next;
    for (size_t i = 0; i < n->count; i++) start[i] = n->bytes + n->start[i];
    *next += n->count;
    return start;
}

/* The first column of a kind is always written, the others only when something in them is not zero. */
#define SET(m, r, i, name)                                                                                             \
    do {                                                                                                               \
        (m).n_##name = (i) == 0 || (r)->column[i].nonzero ? (r)->count : 0;                                            \
        (m).name = (r)->column[i].data;                                                                                \
    } while (0)

/* The messages that a sealed batch consists of; they point into the builder. */
struct sealing {
    Sandglass__V1__Batch batch;
    Sandglass__V1__Sandboxes sandboxes;
    Sandglass__V1__Slices slices;
    Sandglass__V1__Starts starts;
    Sandglass__V1__States states;
    Sandglass__V1__Ends ends;
    Sandglass__V1__Execs execs;
    Sandglass__V1__ApiCalls api_calls;
    Sandglass__V1__Capacities capacities;
    Sandglass__V1__Gaps gaps;
    Sandglass__V1__Totals totals;
};

static void set_sandboxes(struct sealing *s, struct batch_builder *b, char **ids)
{
    const struct rows *r = &b->rows[SANDBOXES];
    sandglass__v1__sandboxes__init(&s->sandboxes);
    s->sandboxes.n_id = r->count;
    s->sandboxes.id = ids;
    SET(s->sandboxes, r, 1, project);
    SET(s->sandboxes, r, 2, vcpus);
    SET(s->sandboxes, r, 3, mem_mib);
    SET(s->sandboxes, r, 4, disk_mib);
    s->sandboxes.n_team = r->column[0].nonzero ? r->count : 0;
    s->sandboxes.team = r->column[0].data;
    if (r->count) s->batch.sandboxes = &s->sandboxes;
}

static void set_slices(struct sealing *s, const struct rows *r)
{
    sandglass__v1__slices__init(&s->slices);
    SET(s->slices, r, 0, sandbox);
    SET(s->slices, r, 1, start_ms);
    SET(s->slices, r, 2, length_ms);
    SET(s->slices, r, 3, cpu_us);
    SET(s->slices, r, 4, net_rx_bytes);
    SET(s->slices, r, 5, net_tx_bytes);
    SET(s->slices, r, 6, io_read_bytes);
    SET(s->slices, r, 7, io_write_bytes);
    SET(s->slices, r, 8, mem_bytes);
    if (r->count) s->batch.slices = &s->slices;
}

static void set_lives(struct sealing *s, const struct batch_builder *b)
{
    const struct rows *starts = &b->rows[STARTS], *states = &b->rows[STATES], *ends = &b->rows[ENDS];
    sandglass__v1__starts__init(&s->starts);
    SET(s->starts, starts, 0, sandbox);
    SET(s->starts, starts, 1, at_ms);
    SET(s->starts, starts, 2, origin);
    SET(s->starts, starts, 3, create_ms);
    if (starts->count) s->batch.starts = &s->starts;
    sandglass__v1__states__init(&s->states);
    SET(s->states, states, 0, sandbox);
    SET(s->states, states, 1, at_ms);
    SET(s->states, states, 2, state);
    if (states->count) s->batch.states = &s->states;
    sandglass__v1__ends__init(&s->ends);
    SET(s->ends, ends, 0, sandbox);
    SET(s->ends, ends, 1, at_ms);
    SET(s->ends, ends, 2, reason);
    SET(s->ends, ends, 3, mem_peak_bytes);
    if (ends->count) s->batch.ends = &s->ends;
}

static void set_calls(struct sealing *s, const struct batch_builder *b)
{
    const struct rows *execs = &b->rows[EXECS], *calls = &b->rows[API_CALLS];
    sandglass__v1__execs__init(&s->execs);
    SET(s->execs, execs, 0, sandbox);
    SET(s->execs, execs, 1, at_ms);
    SET(s->execs, execs, 2, exit_code);
    SET(s->execs, execs, 3, duration_ms);
    if (execs->count) s->batch.execs = &s->execs;
    sandglass__v1__api_calls__init(&s->api_calls);
    SET(s->api_calls, calls, 0, team);
    SET(s->api_calls, calls, 1, project);
    SET(s->api_calls, calls, 2, at_ms);
    SET(s->api_calls, calls, 3, operation);
    SET(s->api_calls, calls, 4, status);
    if (calls->count) s->batch.api_calls = &s->api_calls;
}

static void set_runner(struct sealing *s, const struct batch_builder *b)
{
    const struct rows *caps = &b->rows[CAPACITIES], *gaps = &b->rows[GAPS];
    sandglass__v1__capacities__init(&s->capacities);
    SET(s->capacities, caps, 0, at_ms);
    SET(s->capacities, caps, 1, vcpus_total);
    SET(s->capacities, caps, 2, mem_mib_total);
    SET(s->capacities, caps, 3, disk_mib_total);
    SET(s->capacities, caps, 4, warm);
    SET(s->capacities, caps, 5, vcpus_allocated);
    SET(s->capacities, caps, 6, mem_mib_allocated);
    SET(s->capacities, caps, 7, disk_mib_allocated);
    SET(s->capacities, caps, 8, sandboxes_running);
    if (caps->count) s->batch.capacities = &s->capacities;
    sandglass__v1__gaps__init(&s->gaps);
    SET(s->gaps, gaps, 0, from_ms);
    SET(s->gaps, gaps, 1, to_ms);
    SET(s->gaps, gaps, 2, first_n);
    SET(s->gaps, gaps, 3, last_n);
    if (gaps->count) s->batch.gaps = &s->gaps;
}

static void set_head(struct sealing *s, const struct batch_builder *b, const struct batch_head *h)
{
    /* protobuf-c's structs have no const; packing writes to none of these */
    s->batch.version = BATCH_VERSION;
    s->batch.runner = (char *)(uintptr_t)h->runner;
    s->batch.region = (char *)(uintptr_t)h->region;
    s->batch.epoch = h->epoch;
    s->batch.seq = h->seq;
    if (h->seq > 1)
        s->batch.previous_sha256 = (ProtobufCBinaryData){SHA256_BYTES, (uint8_t *)(uintptr_t)h->previous_sha256};
    s->batch.complete_through_ms = (uint64_t)h->complete_through.v;
    s->batch.base_ms = b->times ? (uint64_t)b->base_ms : 0;
    sandglass__v1__totals__init(&s->totals);
    s->totals.vcpu_ms = h->totals.vcpu_ms;
    s->totals.mem_mib_ms = h->totals.mem_mib_ms;
    s->totals.disk_mib_ms = h->totals.disk_mib_ms;
    s->totals.running_ms = h->totals.running_ms;
    s->totals.events = h->totals.events;
    s->totals.refused = h->totals.refused;
    s->batch.totals = &s->totals;
}

enum sg_error batch_builder_seal(struct batch_builder *b, const struct batch_head *head, const uint8_t **bytes,
                                 size_t *length)
{
    struct sealing s;
    size_t names = b->teams.count + b->projects.count + b->sandbox_ids.count;
    if (!grow((void **)&b->pointers, &b->pointers_capacity, names, sizeof *b->pointers)) return SG_ERR_NOMEM;
    char **next = b->pointers;
    sandglass__v1__batch__init(&s.batch);
    set_head(&s, b, head);
    s.batch.n_teams = b->teams.count;
    s.batch.teams = names_pointers(&b->teams, &next);
    s.batch.n_projects = b->projects.count;
    s.batch.projects = names_pointers(&b->projects, &next);
    set_sandboxes(&s, b, names_pointers(&b->sandbox_ids, &next));
    set_slices(&s, &b->rows[SLICES]);
    set_lives(&s, b);
    set_calls(&s, b);
    set_runner(&s, b);
    size_t size = sandglass__v1__batch__get_packed_size(&s.batch);
    assert(size <= b->wire_bytes && size <= BATCH_BYTES_MAX);
    if (!grow((void **)&b->out, &b->out_capacity, size, 1)) return SG_ERR_NOMEM;
    *length = sandglass__v1__batch__pack(&s.batch, b->out);
    *bytes = b->out;
    assert(*length == size);
    batch_builder_reset(b);
    return SG_OK;
}
