/* Decoding and checking of a batch. What is checked, and in which order, stands in proto/batch.h.
 *
 * HAPPY PATH  scan() walks the wire format once without allocating: fields known by protobuf-c's descriptors, in
 * ascending order, each once (but repeated strings), names counted. So the arena's size follows from the bytes that are
 * really there, and protobuf-c never merges or grows. Then protobuf_c_message_unpack() into the arena, then one check
 * per row kind. FAILURES    Every refusal names the rule and the row kind; nothing of the content. The caller
 * quarantines. */
#include "proto/batch.h"

#include <assert.h>
#include <openssl/sha.h>
#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>
#include <string.h>

#include "batch.pb-c.h"
#include "sandglass/id.h"

enum { WIRE_VARINT = 0, WIRE_LENGTH = 2, SCAN_DEPTH_MAX = 2 };
/* What protobuf-c and the arena need per string beside its bytes: pointer, alignment, a scanned member or two. */
enum { ARENA_BYTES_PER_NAME = 192, ARENA_BYTES_BASE = 16384, ARENA_ALIGN = 16 };

struct scan {
    const uint8_t *p, *end;
    size_t names;
};

static bool take_varint(struct scan *s, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && s->p < s->end; shift += 7) {
        uint8_t b = *s->p++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

static const char *scan_message(struct scan *s, const ProtobufCMessageDescriptor *d, unsigned depth);

/* One field's value; NULL when it is well-formed, else what is wrong. */
static const char *scan_value(struct scan *s, const ProtobufCFieldDescriptor *field, uint64_t wire, unsigned depth)
{
    uint64_t v;
    if (wire == WIRE_VARINT) {
        if (field->label == PROTOBUF_C_LABEL_REPEATED || !take_varint(s, &v)) return "bad varint";
        return NULL;
    }
    if (wire != WIRE_LENGTH || !take_varint(s, &v) || v > (uint64_t)(s->end - s->p)) return "bad length";
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        struct scan inner = {s->p, s->p + v, s->names};
        const char *wrong = scan_message(&inner, field->descriptor, depth + 1);
        if (wrong) return wrong;
        s->names = inner.names;
    } else if (field->type == PROTOBUF_C_TYPE_STRING) {
        s->names++;
    } else if (field->type == PROTOBUF_C_TYPE_BYTES ? v != SHA256_BYTES : field->label != PROTOBUF_C_LABEL_REPEATED) {
        return "bad length";
    }
    s->p += v;
    return NULL;
}

static const char *scan_message(struct scan *s, const ProtobufCMessageDescriptor *d, unsigned depth)
{
    uint64_t last = 0;
    assert(depth < SCAN_DEPTH_MAX);
    while (s->p < s->end) {
        uint64_t tag;
        if (!take_varint(s, &tag)) return "bad tag";
        uint64_t number = tag >> 3;
        const ProtobufCFieldDescriptor *field =
            number <= UINT32_MAX ? protobuf_c_message_descriptor_get_field(d, (unsigned)number) : NULL;
        if (!field) return "unknown field";
        bool again =
            number == last && field->label == PROTOBUF_C_LABEL_REPEATED && field->type == PROTOBUF_C_TYPE_STRING;
        if (number <= last && !again) return "fields out of order";
        last = number;
        const char *wrong = scan_value(s, field, tag & 7, depth);
        if (wrong) return wrong;
    }
    return NULL;
}

static void *arena_alloc(void *arg, size_t size)
{
    struct batch_decoder *d = arg;
    size_t rounded = (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    assert(rounded <= d->arena_bytes - d->arena_used); /* arena_reserve() */
    void *p = d->arena + d->arena_used;
    d->arena_used += rounded;
    return p;
}

static void arena_free(void *arg, void *p)
{
    (void)arg;
    (void)p;
}

enum sg_error batch_decoder_init(struct batch_decoder *d)
{
    *d = (struct batch_decoder){0};
    return SG_OK;
}

void batch_decoder_destroy(struct batch_decoder *d)
{
    free(d->arena);
    *d = (struct batch_decoder){0};
}

/* Room for everything that protobuf-c can ask for: a column's entry is at least one byte on the wire and at most eight
 * in memory. */
static enum sg_error arena_reserve(struct batch_decoder *d, size_t length, size_t names)
{
    size_t need = ARENA_BYTES_BASE + 10 * length + ARENA_BYTES_PER_NAME * names;
    d->arena_used = 0;
    if (need <= d->arena_bytes) return SG_OK;
    free(d->arena);
    d->arena_bytes = 0;
    d->arena = malloc(need);
    if (!d->arena) return SG_ERR_NOMEM;
    d->arena_bytes = need;
    return SG_OK;
}

/* ---- checks; each gives NULL or the rule that is broken ---- */

#define COLUMN(kind, name)                                                                                             \
    if (m->n_##name != 0 && m->n_##name != out->count) return kind ": columns differ in length";                       \
    out->name = m->n_##name ? m->name : NULL;

static const char *names_wrong(char *const *names, size_t count, bool none_allowed)
{
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(names[i]);
        if (!(none_allowed ? id_valid_or_none(names[i], length) : id_valid(names[i], length))) return "bad identifier";
    }
    return NULL;
}

static bool all_below(const uint32_t *column, size_t count, uint64_t limit)
{
    uint32_t max = 0;
    if (count == 0) return true;
    if (!column) return limit > 0;
    for (size_t i = 0; i < count; i++) max = column[i] > max ? column[i] : max;
    return max < limit;
}

static bool all_at_most(const uint64_t *column, size_t count, uint64_t limit)
{
    uint64_t max = 0;
    for (size_t i = 0; column && i < count; i++) max = column[i] > max ? column[i] : max;
    return max <= limit;
}

/* base is checked first, so neither bound overflows. */
static bool times_ok(const int64_t *column, size_t count, int64_t base)
{
    int64_t low = 0, high = 0;
    for (size_t i = 0; column && i < count; i++) {
        low = column[i] < low ? column[i] : low;
        high = column[i] > high ? column[i] : high;
    }
    return low >= -base && high <= WALL_MS_MAX - base;
}

static const char *sandboxes_check(const Sandglass__V1__Sandboxes *m, const struct batch *b,
                                   struct batch_sandboxes *out)
{
    if (!m) return NULL;
    out->count = m->n_id;
    out->id = m->id;
    COLUMN("sandboxes", team)
    COLUMN("sandboxes", project)
    COLUMN("sandboxes", vcpus)
    COLUMN("sandboxes", mem_mib)
    COLUMN("sandboxes", disk_mib)
    if (out->count > BATCH_NAMES_MAX) return "sandboxes: too many";
    if (names_wrong(out->id, out->count, false)) return "sandboxes: bad identifier";
    if (!all_below(out->team, out->count, b->team_count)) return "sandboxes: team out of range";
    if (!all_below(out->project, out->count, b->project_count)) return "sandboxes: project out of range";
    if (!all_below(out->vcpus, out->count, VCPUS_MAX + 1) || !all_below(out->mem_mib, out->count, MEM_MIB_MAX + 1) ||
        !all_below(out->disk_mib, out->count, DISK_MIB_MAX + UINT64_C(1)))
        return "sandboxes: allocation out of range";
    for (size_t i = 0; i < out->count; i++)
        if (column_u32(out->vcpus, i) == 0 || column_u32(out->mem_mib, i) == 0)
            return "sandboxes: allocation out of range";
    return NULL;
}

static const char *slices_check(const Sandglass__V1__Slices *m, const struct batch *b, struct batch_slices *out)
{
    if (!m) return NULL;
    out->count = m->n_sandbox;
    out->sandbox = m->sandbox;
    COLUMN("slices", start_ms)
    COLUMN("slices", length_ms)
    COLUMN("slices", cpu_us)
    COLUMN("slices", net_rx_bytes)
    COLUMN("slices", net_tx_bytes)
    COLUMN("slices", io_read_bytes)
    COLUMN("slices", io_write_bytes)
    COLUMN("slices", mem_bytes)
    if (!all_below(out->sandbox, out->count, b->sandboxes.count)) return "slices: sandbox out of range";
    if (!times_ok(out->start_ms, out->count, b->base_ms)) return "slices: time out of range";
    for (size_t i = 0; i < out->count; i++) {
        int64_t start = b->base_ms + column_i64(out->start_ms, i);
        if (start % MINUTE_MS + column_u32(out->length_ms, i) > MINUTE_MS) return "slices: across a minute";
    }
    if (!all_at_most(out->cpu_us, out->count, COUNTER_MAX) ||
        !all_at_most(out->net_rx_bytes, out->count, COUNTER_MAX) ||
        !all_at_most(out->net_tx_bytes, out->count, COUNTER_MAX) ||
        !all_at_most(out->io_read_bytes, out->count, COUNTER_MAX) ||
        !all_at_most(out->io_write_bytes, out->count, COUNTER_MAX) ||
        !all_at_most(out->mem_bytes, out->count, COUNTER_MAX))
        return "slices: counter out of range";
    return NULL;
}

static const char *starts_check(const Sandglass__V1__Starts *m, const struct batch *b, struct batch_starts *out)
{
    if (!m) return NULL;
    out->count = m->n_sandbox;
    out->sandbox = m->sandbox;
    COLUMN("starts", at_ms)
    COLUMN("starts", origin)
    COLUMN("starts", create_ms)
    if (!all_below(out->sandbox, out->count, b->sandboxes.count)) return "starts: sandbox out of range";
    if (!times_ok(out->at_ms, out->count, b->base_ms)) return "starts: time out of range";
    if (!all_below(out->origin, out->count, ORIGINS + 1)) return "starts: origin out of range";
    if (!all_below(out->create_ms, out->count, DAY_MS + 1)) return "starts: create_ms out of range";
    return NULL;
}

static const char *states_check(const Sandglass__V1__States *m, const struct batch *b, struct batch_states *out)
{
    if (!m) return NULL;
    out->count = m->n_sandbox;
    out->sandbox = m->sandbox;
    COLUMN("states", at_ms)
    COLUMN("states", state)
    if (!all_below(out->sandbox, out->count, b->sandboxes.count)) return "states: sandbox out of range";
    if (!times_ok(out->at_ms, out->count, b->base_ms)) return "states: time out of range";
    if (!all_below(out->state, out->count, SANDBOX_HIBERNATED + 1)) return "states: state out of range";
    return NULL;
}

static const char *ends_check(const Sandglass__V1__Ends *m, const struct batch *b, struct batch_ends *out)
{
    if (!m) return NULL;
    out->count = m->n_sandbox;
    out->sandbox = m->sandbox;
    COLUMN("ends", at_ms)
    COLUMN("ends", reason)
    COLUMN("ends", mem_peak_bytes)
    if (!all_below(out->sandbox, out->count, b->sandboxes.count)) return "ends: sandbox out of range";
    if (!times_ok(out->at_ms, out->count, b->base_ms)) return "ends: time out of range";
    if (!all_below(out->reason, out->count, REASONS)) return "ends: reason out of range";
    if (!all_at_most(out->mem_peak_bytes, out->count, COUNTER_MAX)) return "ends: mem_peak_bytes out of range";
    return NULL;
}

static const char *execs_check(const Sandglass__V1__Execs *m, const struct batch *b, struct batch_execs *out)
{
    if (!m) return NULL;
    out->count = m->n_sandbox;
    out->sandbox = m->sandbox;
    COLUMN("execs", at_ms)
    COLUMN("execs", exit_code)
    COLUMN("execs", duration_ms)
    if (!all_below(out->sandbox, out->count, b->sandboxes.count)) return "execs: sandbox out of range";
    if (!times_ok(out->at_ms, out->count, b->base_ms)) return "execs: time out of range";
    if (!all_below(out->exit_code, out->count, EXIT_CODES)) return "execs: exit_code out of range";
    if (!all_at_most(out->duration_ms, out->count, COUNTER_MAX)) return "execs: duration_ms out of range";
    return NULL;
}

static const char *api_calls_check(const Sandglass__V1__ApiCalls *m, const struct batch *b, struct batch_api_calls *out)
{
    if (!m) return NULL;
    out->count = m->n_team;
    out->team = m->team;
    COLUMN("api_calls", project)
    COLUMN("api_calls", at_ms)
    COLUMN("api_calls", operation)
    COLUMN("api_calls", status)
    if (!all_below(out->team, out->count, b->team_count)) return "api_calls: team out of range";
    if (!all_below(out->project, out->count, b->project_count)) return "api_calls: project out of range";
    if (!times_ok(out->at_ms, out->count, b->base_ms)) return "api_calls: time out of range";
    if (!all_below(out->operation, out->count, OPERATIONS)) return "api_calls: operation out of range";
    for (size_t i = 0; i < out->count; i++) {
        uint32_t status = column_u32(out->status, i);
        if (status < 100 || status > 599) return "api_calls: status out of range";
    }
    return NULL;
}

static const char *capacities_check(const Sandglass__V1__Capacities *m, const struct batch *b,
                                    struct batch_capacities *out)
{
    if (!m) return NULL;
    out->count = m->n_at_ms;
    out->at_ms = m->at_ms;
    COLUMN("capacities", vcpus_total)
    COLUMN("capacities", mem_mib_total)
    COLUMN("capacities", disk_mib_total)
    COLUMN("capacities", warm)
    COLUMN("capacities", vcpus_allocated)
    COLUMN("capacities", mem_mib_allocated)
    COLUMN("capacities", disk_mib_allocated)
    COLUMN("capacities", sandboxes_running)
    if (!times_ok(out->at_ms, out->count, b->base_ms)) return "capacities: time out of range";
    return NULL;
}

static const char *gaps_check(const Sandglass__V1__Gaps *m, const struct batch *b, struct batch_gaps *out)
{
    if (!m) return NULL;
    out->count = m->n_from_ms;
    out->from_ms = m->from_ms;
    COLUMN("gaps", to_ms)
    COLUMN("gaps", first_n)
    COLUMN("gaps", last_n)
    if (!times_ok(out->from_ms, out->count, b->base_ms) || !times_ok(out->to_ms, out->count, b->base_ms))
        return "gaps: time out of range";
    return NULL;
}

static const char *head_check(const Sandglass__V1__Batch *m, struct batch *out)
{
    if (!id_valid(m->runner, strlen(m->runner))) return "runner: bad identifier";
    if (!id_valid(m->region, strlen(m->region))) return "region: bad identifier";
    if (m->epoch == 0 || m->seq == 0) return "epoch or seq is zero";
    if (m->previous_sha256.len != (m->seq == 1 ? 0 : SHA256_BYTES)) return "previous_sha256 has a wrong length";
    if (m->complete_through_ms > (uint64_t)WALL_MS_MAX || m->base_ms > (uint64_t)WALL_MS_MAX)
        return "head: time out of range";
    if (m->n_teams > BATCH_NAMES_MAX || m->n_projects > BATCH_NAMES_MAX) return "dictionary: too many names";
    if (names_wrong(m->teams, m->n_teams, false)) return "teams: bad identifier";
    if (names_wrong(m->projects, m->n_projects, true)) return "projects: bad identifier";
    out->runner = m->runner;
    out->region = m->region;
    out->epoch = m->epoch;
    out->seq = m->seq;
    if (m->previous_sha256.len) memcpy(out->previous_sha256, m->previous_sha256.data, SHA256_BYTES);
    out->complete_through_ms = (int64_t)m->complete_through_ms;
    out->base_ms = (int64_t)m->base_ms;
    out->team_count = m->n_teams;
    out->teams = m->teams;
    out->project_count = m->n_projects;
    out->projects = m->projects;
    if (m->totals) {
        const Sandglass__V1__Totals *t = m->totals;
        out->totals =
            (struct batch_totals){t->vcpu_ms, t->mem_mib_ms, t->disk_mib_ms, t->running_ms, t->events, t->refused};
    }
    return NULL;
}

size_t batch_row_count(const struct batch *b)
{
    return b->slices.count + b->starts.count + b->states.count + b->ends.count + b->execs.count + b->api_calls.count +
           b->capacities.count + b->gaps.count;
}

static const char *rows_check(const Sandglass__V1__Batch *m, struct batch *out)
{
    const char *wrong = sandboxes_check(m->sandboxes, out, &out->sandboxes);
    if (!wrong) wrong = slices_check(m->slices, out, &out->slices);
    if (!wrong) wrong = starts_check(m->starts, out, &out->starts);
    if (!wrong) wrong = states_check(m->states, out, &out->states);
    if (!wrong) wrong = ends_check(m->ends, out, &out->ends);
    if (!wrong) wrong = execs_check(m->execs, out, &out->execs);
    if (!wrong) wrong = api_calls_check(m->api_calls, out, &out->api_calls);
    if (!wrong) wrong = capacities_check(m->capacities, out, &out->capacities);
    if (!wrong) wrong = gaps_check(m->gaps, out, &out->gaps);
    if (!wrong && batch_row_count(out) > BATCH_ROWS_MAX) wrong = "too many rows";
    return wrong;
}

enum sg_error batch_decode(struct batch_decoder *d, const uint8_t *bytes, size_t length, struct batch *out,
                           struct sg_fault *f)
{
    struct scan s = {bytes, bytes + length, 0};
    *out = (struct batch){0};
    if (length > BATCH_BYTES_MAX) return sg_fail(f, SG_ERR_LIMIT, "batch: longer than %d bytes", BATCH_BYTES_MAX);
    const char *wrong = scan_message(&s, &sandglass__v1__batch__descriptor, 0);
    if (!wrong && s.names > 3 * (size_t)BATCH_NAMES_MAX + 2) wrong = "dictionary: too many names";
    if (wrong) return sg_fail(f, SG_ERR_MALFORMED, "batch: %s", wrong);
    if (arena_reserve(d, length, s.names)) return sg_fail(f, SG_ERR_NOMEM, "batch: no memory for %zu bytes", length);
    ProtobufCAllocator allocator = {arena_alloc, arena_free, d};
    Sandglass__V1__Batch *m = sandglass__v1__batch__unpack(&allocator, length, bytes);
    if (!m) return sg_fail(f, SG_ERR_MALFORMED, "batch: not the wire format");
    if (m->version != BATCH_VERSION) return sg_fail(f, SG_ERR_VERSION, "batch: version %u is unknown", m->version);
    wrong = head_check(m, out);
    if (!wrong) wrong = rows_check(m, out);
    return wrong ? sg_fail(f, SG_ERR_MALFORMED, "batch: %s", wrong) : SG_OK;
}

void batch_sha256(const uint8_t *bytes, size_t length, uint8_t out[static SHA256_BYTES])
{
    SHA256(bytes, length, out);
}
