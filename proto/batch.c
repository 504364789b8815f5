/* Decoding and checking of a batch. What is checked stands in proto/batch.h.
 *
 * HAPPY PATH  one walk over the bytes. What the messages of batch.proto consist of stands in tables; fields ascend,
 * each once (but the names of a dictionary, which follow each other). A column goes into the arena as it is read, and
 * its least and greatest number are held against the table. What takes more than one field is checked
 * at the end: is the head whole, does a slice cross a minute, are there too many rows.
 *
 * ARENA  never asks for more than eight bytes of memory per byte on the wire: an entry of a column has at least one
 * byte, and what is rounded up is paid for by the field's tag and length. So memory follows from the bytes that are
 * really there, and is had before they are looked at.
 *
 * FAILURES  Every refusal names the rule and the row kind; nothing of the content. The caller quarantines. */
#include "proto/batch.h"

#include <assert.h>
#include <endian.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "sandglass/id.h"

enum { WIRE_VARINT = 0, WIRE_LENGTH = 2, SHORT_BYTES_MAX = 5, ARENA_BYTES_PER_BYTE = 8 };

/* ---- what there is ---- */

enum form { FORM_VERSION, FORM_NUMBER, FORM_TEXT, FORM_SHA256, FORM_NAMES, FORM_ROWS, FORM_U32, FORM_U64, FORM_TIME };

/* A field of a message; the first has number 1. */
struct part {
    enum form form;
    uint16_t at;       /* where it goes, in the struct of its message */
    uint16_t count_at; /* of names: where their count goes; of an index: where the count is, in struct batch */
    bool none_allowed; /* of names: "-" is one */
    uint64_t least, most;
    const char *what;
    const struct message *message;
};

struct message {
    const char *name;
    const struct part *part;
    size_t parts;
    bool columns; /* its struct begins with the count of its rows, which the first part says */
};

#define COLUMN(kind, name, FORM, LEAST, MOST, WHAT)                                                                    \
    {                                                                                                                  \
        .form = FORM, .at = offsetof(struct batch_##kind, name), .least = LEAST, .most = MOST, .what = WHAT            \
    }
#define INDEX(kind, name, COUNT, WHAT)                                                                                 \
    {                                                                                                                  \
        .form = FORM_U32, .at = offsetof(struct batch_##kind, name), .count_at = offsetof(struct batch, COUNT),        \
        .what = WHAT                                                                                                   \
    }
#define TIME(kind, name)    COLUMN(kind, name, FORM_TIME, 0, 0, "time")
#define COUNTER(kind, name) COLUMN(kind, name, FORM_U64, 0, COUNTER_MAX, "counter")
#define ANY(kind, name)     COLUMN(kind, name, FORM_U64, 0, UINT64_MAX, "number")

static const struct part sandboxes[] = {
    {.form = FORM_NAMES, .at = offsetof(struct batch_sandboxes, id), .what = "sandboxes"},
    INDEX(sandboxes, team, team_count, "team"),
    INDEX(sandboxes, project, project_count, "project"),
    COLUMN(sandboxes, vcpus, FORM_U32, 1, VCPUS_MAX, "allocation"),
    COLUMN(sandboxes, mem_mib, FORM_U32, 1, MEM_MIB_MAX, "allocation"),
    COLUMN(sandboxes, disk_mib, FORM_U32, 0, DISK_MIB_MAX, "allocation")};
static const struct part slices[] = {INDEX(slices, sandbox, sandboxes.count, "sandbox"),
                                     TIME(slices, start_ms),
                                     COLUMN(slices, length_ms, FORM_U32, 0, MINUTE_MS, "length"),
                                     COUNTER(slices, cpu_us),
                                     COUNTER(slices, net_rx_bytes),
                                     COUNTER(slices, net_tx_bytes),
                                     COUNTER(slices, io_read_bytes),
                                     COUNTER(slices, io_write_bytes),
                                     COUNTER(slices, mem_bytes)};
static const struct part starts[] = {INDEX(starts, sandbox, sandboxes.count, "sandbox"), TIME(starts, at_ms),
                                     COLUMN(starts, origin, FORM_U32, 0, ORIGINS, "origin"),
                                     COLUMN(starts, create_ms, FORM_U32, 0, DAY_MS, "create_ms")};
static const struct part states[] = {INDEX(states, sandbox, sandboxes.count, "sandbox"), TIME(states, at_ms),
                                     COLUMN(states, state, FORM_U32, 0, SANDBOX_HIBERNATED, "state")};
static const struct part ends[] = {INDEX(ends, sandbox, sandboxes.count, "sandbox"), TIME(ends, at_ms),
                                   COLUMN(ends, reason, FORM_U32, 0, REASONS - 1, "reason"),
                                   COUNTER(ends, mem_peak_bytes)};
static const struct part execs[] = {INDEX(execs, sandbox, sandboxes.count, "sandbox"), TIME(execs, at_ms),
                                    COLUMN(execs, exit_code, FORM_U32, 0, EXIT_CODES - 1, "exit_code"),
                                    COUNTER(execs, duration_ms)};
static const struct part api_calls[] = {INDEX(api_calls, team, team_count, "team"),
                                        INDEX(api_calls, project, project_count, "project"), TIME(api_calls, at_ms),
                                        COLUMN(api_calls, operation, FORM_U32, 0, OPERATIONS - 1, "operation"),
                                        COLUMN(api_calls, status, FORM_U32, 100, 599, "status")};
static const struct part capacities[] = {TIME(capacities, at_ms),
                                         ANY(capacities, vcpus_total),
                                         ANY(capacities, mem_mib_total),
                                         ANY(capacities, disk_mib_total),
                                         ANY(capacities, warm),
                                         ANY(capacities, vcpus_allocated),
                                         ANY(capacities, mem_mib_allocated),
                                         ANY(capacities, disk_mib_allocated),
                                         ANY(capacities, sandboxes_running)};
static const struct part gaps[] = {TIME(gaps, from_ms), TIME(gaps, to_ms), ANY(gaps, first_n), ANY(gaps, last_n)};

#define NUMBER(type, name, LEAST, MOST, WHAT)                                                                          \
    {                                                                                                                  \
        .form = FORM_NUMBER, .at = offsetof(type, name), .least = LEAST, .most = MOST, .what = WHAT                    \
    }
#define TOTAL(name) NUMBER(struct batch_totals, name, 0, UINT64_MAX, "number")

static const struct part totals[] = {TOTAL(vcpu_ms),    TOTAL(mem_mib_ms), TOTAL(disk_mib_ms),
                                     TOTAL(running_ms), TOTAL(events),     TOTAL(refused)};

#define PARTS(name) name, sizeof(name) / sizeof *(name)
#define ROWS(kind)                                                                                                     \
    {                                                                                                                  \
        .form = FORM_ROWS, .at = offsetof(struct batch, kind), .message = &(const struct message)                      \
        {                                                                                                              \
#kind, PARTS(kind), true                                                                                   \
        }                                                                                                              \
    }

static const struct part fields[] = {{.form = FORM_VERSION},
                                     {.form = FORM_TEXT, .at = offsetof(struct batch, runner), .what = "runner"},
                                     {.form = FORM_TEXT, .at = offsetof(struct batch, region), .what = "region"},
                                     NUMBER(struct batch, epoch, 1, UINT64_MAX, "epoch"),
                                     NUMBER(struct batch, seq, 1, UINT64_MAX, "seq"),
                                     {.form = FORM_SHA256},
                                     NUMBER(struct batch, complete_through_ms, 0, WALL_MS_MAX, "time"),
                                     NUMBER(struct batch, base_ms, 0, WALL_MS_MAX, "time"),
                                     {.form = FORM_NAMES,
                                      .at = offsetof(struct batch, teams),
                                      .count_at = offsetof(struct batch, team_count),
                                      .what = "teams"},
                                     {.form = FORM_NAMES,
                                      .at = offsetof(struct batch, projects),
                                      .count_at = offsetof(struct batch, project_count),
                                      .none_allowed = true,
                                      .what = "projects"},
                                     ROWS(sandboxes),
                                     ROWS(slices),
                                     ROWS(starts),
                                     ROWS(states),
                                     ROWS(ends),
                                     ROWS(execs),
                                     ROWS(api_calls),
                                     ROWS(capacities),
                                     ROWS(gaps),
                                     {.form = FORM_ROWS,
                                      .at = offsetof(struct batch, totals),
                                      .message = &(const struct message){"totals", PARTS(totals), false}}};
static const struct message whole = {"head", PARTS(fields), false};

/* ---- reading ---- */

struct wire {
    const uint8_t *p, *end;
};

struct decoding {
    struct batch_decoder *d;
    struct batch *out;
    const uint8_t *end; /* of the batch */
    bool versioned, chained;
    struct sg_fault *f;
};

static enum sg_error wrong(struct decoding *g, const char *where, const char *what)
{
    return sg_fail(g->f, SG_ERR_MALFORMED, "batch: %s: %s", where, what);
}

static enum sg_error out_of_range(struct decoding *g, const struct message *m, const struct part *part)
{
    return sg_fail(g->f, SG_ERR_MALFORMED, "batch: %s: %s out of range", m->name, part->what);
}

/* Padded ones are taken; more than 64 bits are not. */
static bool take_varint(struct wire *w, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; w->p < w->end; shift += 7) {
        uint64_t b = *w->p++;
        if (shift == 63 && b > 1) return false; /* it also goes no further */
        v |= (b & 0x7f) << shift;
        if (b < 0x80) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* A tag or a length: at most 32 bits in five bytes, as protobuf has it. */
static bool take_short(struct wire *w, uint64_t *out)
{
    const uint8_t *start = w->p;
    return take_varint(w, out) && w->p - start <= SHORT_BYTES_MAX && *out <= UINT32_MAX;
}

static bool take_bytes(struct wire *w, struct wire *out)
{
    uint64_t length;
    if (!take_short(w, &length) || length > (uint64_t)(w->end - w->p)) return false;
    *out = (struct wire){w->p, w->p + length};
    w->p += length;
    return true;
}

/* Whatever type; see ARENA. */
static void *arena_take(struct batch_decoder *d, size_t bytes)
{
    size_t rounded = (bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t) * sizeof(uint64_t);
    assert(rounded <= d->arena_bytes - d->arena_used);
    void *p = d->arena + d->arena_used;
    d->arena_used += rounded;
    return p;
}

static enum sg_error arena_reserve(struct batch_decoder *d, size_t length)
{
    size_t need = ARENA_BYTES_PER_BYTE * (length + 1);
    d->arena_used = 0;
    if (need <= d->arena_bytes) return SG_OK;
    free(d->arena);
    d->arena_bytes = 0;
    d->arena = malloc(need);
    if (!d->arena) return SG_ERR_NOMEM;
    d->arena_bytes = need;
    return SG_OK;
}

/* ---- columns ---- */

/* What a column holds from least to greatest, times with their sign turned so that they compare as unsigned. */
struct range {
    uint64_t least, most;
};
#define SIGN (UINT64_C(1) << 63)

static bool in_range(const struct decoding *g, const struct part *part, struct range r)
{
    size_t count;
    if (part->form == FORM_TIME)
        return r.least >= ((uint64_t)-g->out->base_ms ^ SIGN) &&
               r.most <= ((uint64_t)(WALL_MS_MAX - g->out->base_ms) ^ SIGN);
    if (!part->count_at) return r.least >= part->least && r.most <= part->most;
    memcpy(&count, (const char *)g->out + part->count_at, sizeof count);
    return r.most < count;
}

/* A number ends with a byte below 0x80. They are taken from blocks of 64 bytes: first it is found where all of them
 * end, then each is had with one load, whatever its length. To go from byte to byte would take a branch for each, and
 * how long the next number is is what no processor can guess. A number of eight bytes may begin with the block's last.
 */
enum { BLOCK = 64, BLOCK_READ = BLOCK + 7 };

/* Bit i: byte i ends a number. */
static inline uint64_t ends_in(const uint8_t *block)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < BLOCK / sizeof(uint64_t); i++) {
        uint64_t eight;
        memcpy(&eight, block + i * sizeof eight, sizeof eight);
        eight = ~le64toh(eight) >> 7 & UINT64_C(0x0101010101010101);
        mask |= (eight * UINT64_C(0x0102040810204080) >> 56) << 8 * i; /* one bit of each byte, side by side */
    }
    return mask;
}

/* The seven bits of each of the number's bytes, side by side. length: 1 to 8. */
static inline uint64_t number_of(const uint8_t *p, unsigned length)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    x = le64toh(x) & UINT64_MAX >> (64 - 8 * length) & UINT64_C(0x7f7f7f7f7f7f7f7f);
    x = (x & UINT64_C(0x007f007f007f007f)) | (x & UINT64_C(0x7f007f007f007f00)) >> 1;
    x = (x & UINT64_C(0x00003fff00003fff)) | (x & UINT64_C(0x3fff00003fff0000)) >> 2;
    return (x & UINT64_C(0x000000000fffffff)) | (x & UINT64_C(0x0fffffff00000000)) >> 4;
}

/* One of more than eight bytes. */
static bool long_number(const uint8_t *p, const uint8_t *end, uint64_t *out)
{
    struct wire one = {p, end};
    return take_varint(&one, out);
}

/* Puts a number into its column; gives what it compares as. */
static inline uint64_t put_number(void *column, size_t i, enum form form, uint64_t v)
{
    if (form == FORM_U32) ((uint32_t *)column)[i] = (uint32_t)v; /* the range is checked as of v */
    if (form == FORM_U64) ((uint64_t *)column)[i] = v;
    if (form != FORM_TIME) return v;
    ((int64_t *)column)[i] = (int64_t)((v >> 1) ^ -(v & 1));
    return (v >> 1) ^ -(v & 1) ^ SIGN;
}

/* Made for each form: what form it is costs nothing in here. Gives how many numbers w held, SIZE_MAX when one of them
 * has more than 64 bits or no end. */
__attribute__((always_inline)) static inline size_t read_numbers(struct wire w, const uint8_t *readable, enum form form,
                                                                 void *column, struct range *r)
{
    uint8_t last[BLOCK_READ] = {0};
    uint64_t least = UINT64_MAX, most = 0;
    size_t count = 0;
    while (w.p < w.end) {
        size_t left = (size_t)(w.end - w.p), start = 0;
        const uint8_t *block = w.p;
        if (readable - w.p < BLOCK_READ) block = memcpy(last, w.p, left < BLOCK ? left : BLOCK);
        uint64_t stops = ends_in(block) & (left < BLOCK ? (UINT64_C(1) << left) - 1 : UINT64_MAX);
        if (!stops) return SIZE_MAX;
        for (; stops; stops &= stops - 1) {
            size_t end = (size_t)__builtin_ctzll(stops) + 1;
            uint64_t v;
            if (end - start <= sizeof v)
                v = number_of(block + start, (unsigned)(end - start));
            else if (!long_number(block + start, block + end, &v))
                return SIZE_MAX;
            v = put_number(column, count++, form, v);
            least = v < least ? v : least;
            most = v > most ? v : most;
            start = end;
        }
        w.p += start;
    }
    *r = (struct range){least, most};
    return count;
}

static size_t read_column(const struct wire *w, const uint8_t *readable, enum form form, void *column, struct range *r)
{
    switch (form) {
    case FORM_U32: return read_numbers(*w, readable, FORM_U32, column, r);
    case FORM_U64: return read_numbers(*w, readable, FORM_U64, column, r);
    default: return read_numbers(*w, readable, FORM_TIME, column, r);
    }
}

static enum sg_error take_column(struct decoding *g, const struct message *m, const struct part *part,
                                 const struct wire *w, void *rows)
{
    size_t *row_count = rows;
    struct range r;
    void *column = g->d->arena + g->d->arena_used;
    assert(ARENA_BYTES_PER_BYTE * (size_t)(w->end - w->p) <= g->d->arena_bytes - g->d->arena_used);
    size_t count = read_column(w, g->end, part->form, column, &r);
    if (count == SIZE_MAX) return wrong(g, m->name, "bad number");
    if (part == m->part) *row_count = count;
    if (count == 0) return SG_OK;
    if (count != *row_count) return wrong(g, m->name, "columns differ in length");
    if (!in_range(g, part, r)) return out_of_range(g, m, part);
    (void)arena_take(g->d, count * (part->form == FORM_U32 ? sizeof(uint32_t) : sizeof(uint64_t)));
    memcpy((char *)rows + part->at, &column, sizeof column);
    return SG_OK;
}

/* What is not written is zero, where that is allowed. */
static enum sg_error absent_columns(struct decoding *g, const struct message *m, const void *rows)
{
    size_t row_count;
    memcpy(&row_count, rows, sizeof row_count);
    for (size_t i = 1; row_count && i < m->parts; i++) {
        const struct part *part = &m->part[i];
        const void *column;
        memcpy(&column, (const char *)rows + part->at, sizeof column);
        const uint64_t zero = part->form == FORM_TIME ? SIGN : 0;
        if (!column && !in_range(g, part, (struct range){zero, zero})) return out_of_range(g, m, part);
    }
    return SG_OK;
}

/* ---- names ---- */

static bool name_ok(const struct part *part, const struct wire *name)
{
    size_t length = (size_t)(name->end - name->p);
    return part->none_allowed ? id_valid_or_none((const char *)name->p, length)
                              : id_valid((const char *)name->p, length);
}

static char *copied(char *to, const struct wire *name)
{
    size_t length = (size_t)(name->end - name->p);
    memcpy(to, name->p, length);
    to[length] = '\0';
    return to + length + 1;
}

/* w stands behind the first name's tag; all that follow with this tag are taken. */
static enum sg_error take_names(struct decoding *g, const struct part *part, uint64_t tag, struct wire *w, void *into)
{
    struct wire again = *w, name;
    size_t count = 0, bytes = 0;
    uint64_t next = tag;
    for (struct wire ahead = *w; next == tag; count++) {
        *w = ahead;
        if (!take_bytes(w, &name)) return wrong(g, part->what, "bad length");
        if (!name_ok(part, &name)) return wrong(g, part->what, "bad identifier");
        bytes += (size_t)(name.end - name.p) + 1;
        ahead = *w;
        if (!take_short(&ahead, &next)) next = 0; /* the end, or what the caller will find */
    }
    if (count > BATCH_NAMES_MAX) return wrong(g, part->what, "too many names");
    char **names = arena_take(g->d, count * sizeof *names), *end = arena_take(g->d, bytes);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) (void)take_short(&again, &next);
        (void)take_bytes(&again, &name);
        names[i] = end;
        end = copied(end, &name);
    }
    memcpy((char *)into + part->at, &names, sizeof names);
    memcpy((char *)into + part->count_at, &count, sizeof count);
    return SG_OK;
}

static enum sg_error take_text(struct decoding *g, const struct part *part, const struct wire *text, void *into)
{
    if (!name_ok(part, text)) return wrong(g, part->what, "bad identifier");
    char *copy = arena_take(g->d, (size_t)(text->end - text->p) + 1);
    (void)copied(copy, text);
    memcpy((char *)into + part->at, &copy, sizeof copy);
    return SG_OK;
}

/* ---- messages ---- */

static enum sg_error take_number_field(struct decoding *g, const struct message *m, const struct part *part,
                                       struct wire *w, void *into)
{
    uint64_t v;
    if (!take_varint(w, &v)) return wrong(g, m->name, "bad number");
    if (part->form == FORM_VERSION) {
        g->versioned = v == BATCH_VERSION;
        if (!g->versioned)
            return sg_fail(g->f, SG_ERR_VERSION, "batch: version %llu is unknown", (unsigned long long)v);
        return SG_OK;
    }
    if (!in_range(g, part, (struct range){v, v})) return out_of_range(g, m, part);
    memcpy((char *)into + part->at, &v, sizeof v);
    return SG_OK;
}

static enum sg_error take_message(struct decoding *g, const struct message *m, struct wire w, void *into);

static enum sg_error take_bytes_field(struct decoding *g, const struct message *m, const struct part *part,
                                      const struct wire *bytes, void *into)
{
    switch (part->form) {
    case FORM_TEXT: return take_text(g, part, bytes, into);
    case FORM_SHA256:
        if (bytes->end - bytes->p != SHA256_BYTES) return wrong(g, m->name, "previous_sha256 has a wrong length");
        memcpy(g->out->previous_sha256, bytes->p, SHA256_BYTES);
        g->chained = true;
        return SG_OK;
    case FORM_ROWS: return take_message(g, part->message, *bytes, (char *)into + part->at);
    default: return take_column(g, m, part, bytes, into);
    }
}

static enum sg_error take_field(struct decoding *g, const struct message *m, uint64_t tag, struct wire *w, void *into)
{
    const struct part *part = &m->part[(tag >> 3) - 1];
    struct wire bytes;
    bool number = part->form == FORM_VERSION || part->form == FORM_NUMBER;
    if ((tag & 7) != (number ? WIRE_VARINT : WIRE_LENGTH)) return wrong(g, m->name, "bad wire type");
    if (number) return take_number_field(g, m, part, w, into);
    if (part->form == FORM_NAMES) return take_names(g, part, tag, w, into);
    if (!take_bytes(w, &bytes)) return wrong(g, m->name, "bad length");
    return take_bytes_field(g, m, part, &bytes, into);
}

static enum sg_error take_message(struct decoding *g, const struct message *m, struct wire w, void *into)
{
    uint64_t last = 0;
    enum sg_error e = SG_OK;
    while (!e && w.p < w.end) {
        uint64_t tag;
        if (!take_short(&w, &tag)) return wrong(g, m->name, "bad tag");
        uint64_t number = tag >> 3;
        if (number == 0 || number > m->parts) return wrong(g, m->name, "unknown field");
        if (number <= last) return wrong(g, m->name, "fields out of order");
        last = number;
        e = take_field(g, m, tag, &w, into);
    }
    return !e && m->columns ? absent_columns(g, m, into) : e;
}

/* ---- what takes more than one field ---- */

static const char *head_wrong(const struct decoding *g)
{
    const struct batch *b = g->out;
    if (!b->runner || !b->region) return "runner or region is missing";
    if (b->epoch == 0 || b->seq == 0) return "epoch or seq is missing";
    if (g->chained != (b->seq > 1)) return "previous_sha256 has a wrong length";
    return NULL;
}

static bool slices_cross_minutes(const struct batch *b)
{
    const struct batch_slices *s = &b->slices;
    for (size_t i = 0; i < s->count; i++) {
        int64_t start = b->base_ms + column_i64(s->start_ms, i);
        if (start % MINUTE_MS + column_u32(s->length_ms, i) > MINUTE_MS) return true;
    }
    return false;
}

size_t batch_row_count(const struct batch *b)
{
    return b->slices.count + b->starts.count + b->states.count + b->ends.count + b->execs.count + b->api_calls.count +
           b->capacities.count + b->gaps.count;
}

static enum sg_error check_whole(struct decoding *g)
{
    const char *what = head_wrong(g);
    if (!g->versioned) return sg_fail(g->f, SG_ERR_VERSION, "batch: has no version");
    if (what) return wrong(g, whole.name, what);
    if (slices_cross_minutes(g->out)) return wrong(g, "slices", "across a minute");
    if (batch_row_count(g->out) > BATCH_ROWS_MAX) return wrong(g, whole.name, "too many rows");
    return SG_OK;
}

/* ---- interface ---- */

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

enum sg_error batch_decode(struct batch_decoder *d, const uint8_t *bytes, size_t length, struct batch *out,
                           struct sg_fault *f)
{
    struct decoding g = {.d = d, .out = out, .end = bytes + length, .f = f};
    *out = (struct batch){0};
    if (length > BATCH_BYTES_MAX) return sg_fail(f, SG_ERR_LIMIT, "batch: longer than %d bytes", BATCH_BYTES_MAX);
    if (arena_reserve(d, length)) return sg_fail(f, SG_ERR_NOMEM, "batch: no memory for %zu bytes", length);
    enum sg_error e = take_message(&g, &whole, (struct wire){bytes, bytes + length}, out);
    return e ? e : check_whole(&g);
}

void batch_sha256(const uint8_t *bytes, size_t length, uint8_t out[static SHA256_BYTES])
{
    SHA256(bytes, length, out);
}
