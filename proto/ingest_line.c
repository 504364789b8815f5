/* Parser of the ingest contract's lines (proto/ingest.md).
 *
 * WHY BY HAND  The contract asks for what a JSON library does not give: the byte at which a line is wrong, a closed
 *              schema checked while reading, duplicate keys refused, integers that never pass through a double, no
 *              allocation, and a million lines a second on one core. The language is small: one object of scalars.
 * HAPPY PATH   `{`, then for each member: key -> field (table INGEST_FIELDS, by length, then bytes) -> value by the
 *              field's kind, checked at once -> `}`, end. Then the type's sets: no field beyond them, none missing.
 * FAILURES     The first thing wrong, in reading order, is the error and its offset is told. Fields of another type are
 *              found after the last byte, since the type may come last. A refused line is read a second time
 *              by ingest_line_salvage(), leniently, for its number.
 * INVARIANTS   Nothing beyond `end` is read. What present names has been checked. Strings are copied, with their
 *              escapes decoded, so identifiers never hold a byte that id_valid() would refuse. */
#include "proto/ingest_line.h"

#include <assert.h>
#include <string.h>

#include "sandglass/field.h"
#include "sandglass/time.h"

enum kind {
    KIND_NUMBER,
    KIND_BOOLEAN,
    KIND_ID,
    KIND_TYPE,
    KIND_ORIGIN,
    KIND_REASON,
    KIND_OPERATION,
    KIND_CGROUP,
    KIND_TAP
};

struct field_rule {
    const char *name;
    uint8_t length, kind;
    uint64_t min, max;
};

#define FIELD_RULE(name_, text_, kind_, min_, max_) {text_, sizeof(text_) - 1, KIND_##kind_, min_, max_},
static const struct field_rule field_rules[INGEST_FIELD_COUNT] = {INGEST_FIELDS(FIELD_RULE)};

#define BIT(f)       (UINT64_C(1) << INGEST_FIELD_##f)
#define EVENT_FIELDS (BIT(N) | BIT(BOOT_MS) | BIT(TYPE))
#define LIFE_FIELDS  (BIT(SANDBOX) | BIT(TEAM) | BIT(PROJECT) | BIT(VCPUS) | BIT(MEM_MIB) | BIT(DISK_MIB))
#define COUNTER_FIELDS                                                                                                 \
    (BIT(CPU_US) | BIT(NET_RX_BYTES) | BIT(NET_TX_BYTES) | BIT(IO_READ_BYTES) | BIT(IO_WRITE_BYTES) | BIT(MEM_BYTES))

struct type_rule {
    const char *name;
    uint8_t length;
    uint64_t required, optional;
};

_Static_assert(INGEST_FIELD_COUNT <= 64, "the sets of fields are 64 bits");
static const struct type_rule type_rules[INGEST_TYPE_COUNT] = {
    [INGEST_TYPE_HELLO] = {"hello", 5, BIT(V) | BIT(TYPE) | BIT(SOURCE) | BIT(BOOT_ID) | BIT(BOOT_MS) | BIT(WALL_MS),
                           0},
    [INGEST_TYPE_CREATED] = {"sandbox.created", 15, EVENT_FIELDS | LIFE_FIELDS | BIT(ORIGIN) | BIT(CREATE_MS),
                             BIT(CGROUP) | BIT(TAP)},
    [INGEST_TYPE_ADOPTED] = {"sandbox.adopted", 15, EVENT_FIELDS | LIFE_FIELDS | BIT(RUNNING), BIT(CGROUP) | BIT(TAP)},
    [INGEST_TYPE_USAGE] = {"sandbox.usage", 13, EVENT_FIELDS | BIT(SANDBOX), COUNTER_FIELDS},
    [INGEST_TYPE_HIBERNATED] = {"sandbox.hibernated", 18, EVENT_FIELDS | BIT(SANDBOX), 0},
    [INGEST_TYPE_RESUMED] = {"sandbox.resumed", 15, EVENT_FIELDS | BIT(SANDBOX), BIT(CREATE_MS)},
    [INGEST_TYPE_DESTROYED] = {"sandbox.destroyed", 17, EVENT_FIELDS | BIT(SANDBOX) | BIT(REASON),
                               COUNTER_FIELDS | BIT(MEM_PEAK_BYTES)},
    [INGEST_TYPE_EXEC_EXITED] = {"exec.exited", 11, EVENT_FIELDS | BIT(SANDBOX) | BIT(EXIT_CODE) | BIT(DURATION_MS), 0},
    [INGEST_TYPE_API_CALLED] = {"api.called", 10, EVENT_FIELDS | BIT(TEAM) | BIT(OPERATION) | BIT(STATUS),
                                BIT(PROJECT)},
    [INGEST_TYPE_CAPACITY] = {"runner.capacity", 15,
                              EVENT_FIELDS | BIT(VCPUS_TOTAL) | BIT(MEM_MIB_TOTAL) | BIT(DISK_MIB_TOTAL) | BIT(WARM),
                              0},
    [INGEST_TYPE_TICK] = {"tick", 4, EVENT_FIELDS, 0},
};

#define ERROR_TEXT(name_, text_, help_) text_,
static const char *const error_texts[INGEST_ERROR_COUNT] = {"ok", INGEST_ERRORS(ERROR_TEXT)};

const char *ingest_error_text(enum ingest_error e)
{
    assert(e < INGEST_ERROR_COUNT);
    return error_texts[e];
}

/* ---- tokens ---- */

/* Where reading stands. A decoded string lies in the line itself, or in scratch when it had escapes. */
struct reader {
    const char *start, *p, *end;
    char scratch[INGEST_LINE_BYTES_MAX];
};

struct text {
    const char *s;
    size_t length;
};

static void skip_space(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\r')) r->p++;
}

static bool take(struct reader *r, char c)
{
    if (r->p == r->end || *r->p != c) return false;
    r->p++;
    return true;
}

/* Length of the UTF-8 sequence at p, 0 when it is none (overlong, surrogate, beyond U+10FFFF, cut off). */
static size_t utf8_length(const unsigned char *p, const unsigned char *end)
{
    size_t length = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (!length || (size_t)(end - p) < length) return 0;
    for (size_t i = 1; i < length; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0;
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0;
    return length;
}

static bool hex4(struct reader *r, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++, r->p++) {
        if (r->p == r->end) return false;
        char c = *r->p;
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) return false;
        *out = *out << 4 | digit;
    }
    return true;
}

static size_t utf8_put(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00U >> length & 0xf0) | c);
    return length;
}

/* After a backslash. A surrogate without its other half is no text: refused. */
static size_t take_escape(struct reader *r, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t c, low;
    if (r->p == r->end) return 0;
    char which = *r->p++;
    const char *found = which ? strchr(from, which) : NULL;
    if (found) {
        *out = to[found - from];
        return 1;
    }
    if (which != 'u' || !hex4(r, &c)) return 0;
    if (c >= 0xdc00 && c <= 0xdfff) return 0;
    if (c >= 0xd800 && c <= 0xdbff) {
        if (!take(r, '\\') || !take(r, 'u') || !hex4(r, &low) || low < 0xdc00 || low > 0xdfff) return 0;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    return utf8_put(out, c);
}

/* The rest of a string with escapes; what came before the first is copied. */
static bool take_escaped(struct reader *r, const char *begin, struct text *out)
{
    size_t used = (size_t)(r->p - begin);
    memcpy(r->scratch, begin, used);
    while (r->p < r->end && *r->p != '"') {
        size_t length = 1;
        if (*r->p == '\\') {
            r->p++;
            length = take_escape(r, r->scratch + used);
        } else {
            if ((unsigned char)*r->p >= 0x80)
                length = utf8_length((const unsigned char *)r->p, (const unsigned char *)r->end);
            else if ((unsigned char)*r->p < 0x20)
                length = 0;
            memcpy(r->scratch + used, r->p, length);
            r->p += length;
        }
        if (!length) return false;
        used += length; /* never longer than its encoding, so scratch holds any line */
    }
    *out = (struct text){r->scratch, used};
    return take(r, '"');
}

static bool take_string(struct reader *r, struct text *out)
{
    if (!take(r, '"')) return false;
    const char *begin = r->p;
    while (r->p < r->end) {
        unsigned char c = (unsigned char)*r->p;
        if (c == '"') {
            *out = (struct text){begin, (size_t)(r->p - begin)};
            r->p++;
            return true;
        }
        if (c == '\\') return take_escaped(r, begin, out);
        if (c < 0x20) return false;
        if (c < 0x80) {
            r->p++;
            continue;
        }
        size_t length = utf8_length((const unsigned char *)r->p, (const unsigned char *)r->end);
        if (!length) return false;
        r->p += length;
    }
    return false;
}

/* A JSON number. Not whole: it has a fraction or an exponent. Out of uint64_t, or negative: fits is false. */
struct number {
    uint64_t value;
    bool whole, fits;
};

static bool take_digits(struct reader *r)
{
    const char *begin = r->p;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9') r->p++;
    return r->p > begin;
}

static bool take_number(struct reader *r, struct number *out)
{
    *out = (struct number){0, true, !take(r, '-')};
    const char *first = r->p;
    if (!take_digits(r)) return false;
    if (*first == '0' && r->p > first + 1) return false;
    for (const char *p = first; p < r->p; p++)
        if (__builtin_mul_overflow(out->value, UINT64_C(10), &out->value) ||
            __builtin_add_overflow(out->value, (uint64_t)(*p - '0'), &out->value))
            out->fits = false;
    if (take(r, '.')) {
        out->whole = false;
        if (!take_digits(r)) return false;
    }
    if (take(r, 'e') || take(r, 'E')) {
        out->whole = false;
        if (!take(r, '+')) (void)take(r, '-');
        return take_digits(r);
    }
    return true;
}

static bool take_word(struct reader *r, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(r->end - r->p) < length || memcmp(r->p, word, length) != 0) return false;
    r->p += length;
    return true;
}

/* ---- values ---- */

/* The byte after a scalar can only be one of these; `truex` or `12x` is no JSON. (NUL is not one of them.) */
static bool at_boundary(const struct reader *r)
{
    static const char boundaries[] = {' ', '\t', '\r', ',', '}', ']'};
    return r->p == r->end || memchr(boundaries, *r->p, sizeof boundaries) != NULL;
}

static bool begins_number(const struct reader *r)
{
    return r->p < r->end && (*r->p == '-' || (*r->p >= '0' && *r->p <= '9'));
}

/* What stands where another type was wanted: a value, or nothing that JSON knows. */
static enum ingest_error wrong_type(struct reader *r)
{
    struct text text;
    struct number number;
    bool good = r->p < r->end;
    if (good && *r->p == '"')
        good = take_string(r, &text);
    else if (good && begins_number(r))
        good = take_number(r, &number);
    else if (good && *r->p != '{' && *r->p != '[')
        good = (take_word(r, "true") || take_word(r, "false") || take_word(r, "null")) && at_boundary(r);
    return good ? INGEST_BAD_TYPE : INGEST_MALFORMED;
}

static enum ingest_error read_number(struct reader *r, const struct field_rule *rule, uint64_t *out)
{
    struct number n;
    if (!begins_number(r)) return wrong_type(r);
    if (!take_number(r, &n) || !at_boundary(r)) return INGEST_MALFORMED;
    if (!n.whole) return INGEST_BAD_TYPE;
    if (!n.fits || n.value < rule->min || n.value > rule->max) return INGEST_OUT_OF_RANGE;
    *out = n.value;
    return INGEST_OK;
}

static enum ingest_error read_boolean(struct reader *r, uint64_t *out)
{
    *out = take_word(r, "true");
    if (!*out && !take_word(r, "false")) return wrong_type(r);
    return at_boundary(r) ? INGEST_OK : INGEST_MALFORMED;
}

static bool path_valid(const struct text *t, size_t bytes_max)
{
    if (t->length == 0 || t->length > bytes_max) return false;
    for (size_t i = 0; i < t->length; i++) {
        char c = t->s[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (c == '\0' || !strchr("_./:@-", c))) return false;
        if (c == '.' && i + 1 < t->length && t->s[i + 1] == '.') return false;
    }
    return true;
}

/* What the kernel takes as a name: no slash, no colon, not `.`. */
static bool tap_valid(const struct text *t)
{
    return path_valid(t, INGEST_TAP_BYTES_MAX) && !memchr(t->s, '/', t->length) && !memchr(t->s, ':', t->length) &&
           !(t->length == 1 && t->s[0] == '.');
}

static void copy_text(char *out, const struct text *t)
{
    memcpy(out, t->s, t->length);
    out[t->length] = '\0';
}

static struct id *id_of(struct ingest_event *e, enum ingest_field f)
{
    switch (f) {
    case INGEST_FIELD_SOURCE: return &e->source;
    case INGEST_FIELD_BOOT_ID: return &e->boot_id;
    case INGEST_FIELD_SANDBOX: return &e->sandbox;
    case INGEST_FIELD_TEAM: return &e->team;
    default: assert(f == INGEST_FIELD_PROJECT); return &e->project;
    }
}

static bool type_parse(const struct text *t, enum ingest_type *out)
{
    for (size_t i = 0; i < INGEST_TYPE_COUNT; i++)
        if (type_rules[i].length == t->length && memcmp(type_rules[i].name, t->s, t->length) == 0) {
            *out = (enum ingest_type)i;
            return true;
        }
    return false;
}

static enum ingest_error store_text(struct ingest_event *e, enum ingest_field f, const struct text *t)
{
    enum origin origin;
    enum reason reason;
    enum operation operation;
    switch ((enum kind)field_rules[f].kind) {
    case KIND_ID:
        if (!id_valid(t->s, t->length)) return INGEST_BAD_IDENTIFIER;
        copy_text(id_of(e, f)->s, t);
        return INGEST_OK;
    case KIND_TYPE: return type_parse(t, &e->type) ? INGEST_OK : INGEST_UNKNOWN_TYPE;
    case KIND_ORIGIN:
        if (!origin_parse(t->s, t->length, &origin)) return INGEST_OUT_OF_RANGE;
        e->number[f] = origin;
        return INGEST_OK;
    case KIND_REASON:
        if (!reason_parse(t->s, t->length, &reason)) return INGEST_OUT_OF_RANGE;
        e->number[f] = reason;
        return INGEST_OK;
    case KIND_OPERATION:
        if (!operation_parse(t->s, t->length, &operation)) return INGEST_OUT_OF_RANGE;
        e->number[f] = operation;
        return INGEST_OK;
    case KIND_CGROUP:
        if (!path_valid(t, INGEST_CGROUP_BYTES_MAX)) return INGEST_BAD_IDENTIFIER;
        copy_text(e->cgroup, t);
        return INGEST_OK;
    default:
        assert(field_rules[f].kind == KIND_TAP);
        if (!tap_valid(t)) return INGEST_BAD_IDENTIFIER;
        copy_text(e->tap, t);
        return INGEST_OK;
    }
}

static enum ingest_error read_value(struct reader *r, struct ingest_event *e, enum ingest_field f)
{
    const struct field_rule *rule = &field_rules[f];
    struct text t;
    if (rule->kind == KIND_NUMBER) return read_number(r, rule, &e->number[f]);
    if (rule->kind == KIND_BOOLEAN) return read_boolean(r, &e->number[f]);
    if (r->p == r->end || *r->p != '"') return wrong_type(r);
    return take_string(r, &t) ? store_text(e, f, &t) : INGEST_MALFORMED;
}

/* ---- the line ---- */

/* Names are ordered by length: the first field of each length, so that few comparisons find one. */
static bool field_find(const struct text *key, enum ingest_field *out)
{
    for (size_t f = 0; f < INGEST_FIELD_COUNT && field_rules[f].length <= key->length; f++) {
        if (field_rules[f].length != key->length || field_rules[f].name[0] != key->s[0]) continue;
        if (memcmp(field_rules[f].name, key->s, key->length) != 0) continue;
        *out = (enum ingest_field)f;
        return true;
    }
    return false;
}

/* key_at remembers where each key began, for fields that turn out not to belong to the type. */
static enum ingest_error read_member(struct reader *r, struct ingest_event *e, uint16_t *key_at, size_t *at)
{
    struct text key;
    enum ingest_field f;
    *at = (size_t)(r->p - r->start);
    if (!take_string(r, &key)) return INGEST_MALFORMED;
    if (!field_find(&key, &f)) return INGEST_UNKNOWN_FIELD;
    if (ingest_has(e, f)) return INGEST_DUPLICATE_FIELD;
    key_at[f] = (uint16_t)*at;
    skip_space(r);
    *at = (size_t)(r->p - r->start);
    if (!take(r, ':')) return INGEST_MALFORMED;
    skip_space(r);
    *at = (size_t)(r->p - r->start);
    e->at[f] = (uint16_t)*at;
    enum ingest_error error = read_value(r, e, f);
    if (!error) e->present |= UINT64_C(1) << f;
    return error;
}

/* The fields against the sets of their type. */
static enum ingest_error check_fields(const struct ingest_event *e, const uint16_t *key_at, size_t brace, size_t *at)
{
    *at = brace;
    if (!ingest_has(e, INGEST_FIELD_TYPE)) return INGEST_MISSING_FIELD;
    const struct type_rule *rule = &type_rules[e->type];
    uint64_t foreign = e->present & ~(rule->required | rule->optional);
    if (foreign) {
        for (uint64_t rest = foreign; rest; rest &= rest - 1) {
            size_t candidate = key_at[__builtin_ctzll(rest)];
            if (candidate < *at) *at = candidate;
        }
        return INGEST_UNKNOWN_FIELD;
    }
    return (e->present & rule->required) == rule->required ? INGEST_OK : INGEST_MISSING_FIELD;
}

static enum ingest_error read_members(struct reader *r, struct ingest_event *e, uint16_t *key_at, size_t *at)
{
    skip_space(r);
    if (take(r, '}')) return INGEST_OK;
    for (;;) {
        enum ingest_error error = read_member(r, e, key_at, at);
        if (error) return error;
        skip_space(r);
        *at = (size_t)(r->p - r->start);
        if (take(r, '}')) return INGEST_OK;
        if (!take(r, ',')) return INGEST_MALFORMED;
        skip_space(r);
    }
}

enum ingest_error ingest_line_parse(const char *line, size_t length, struct ingest_event *e, size_t *at)
{
    struct reader r; /* scratch is written before it is read: not zeroed, for speed */
    uint16_t key_at[INGEST_FIELD_COUNT];
    assert(length < INGEST_LINE_BYTES_MAX);
    r.start = r.p = line;
    r.end = line + length;
    e->present = 0;
    skip_space(&r);
    *at = (size_t)(r.p - r.start);
    if (!take(&r, '{')) return INGEST_MALFORMED;
    enum ingest_error error = read_members(&r, e, key_at, at);
    if (error) return error;
    size_t brace = (size_t)(r.p - r.start) - 1;
    skip_space(&r);
    *at = (size_t)(r.p - r.start);
    if (r.p != r.end) return INGEST_MALFORMED;
    return check_fields(e, key_at, brace, at);
}

/* ---- salvage ---- */

/* Skips a value of any kind. Nesting is counted, not matched: this text is refused already. */
static bool skip_value(struct reader *r)
{
    struct text text;
    size_t depth = 0;
    do {
        skip_space(r);
        if (r->p == r->end) return false;
        if (*r->p == '"') {
            if (!take_string(r, &text)) return false;
            continue;
        }
        if (*r->p == '{' || *r->p == '[')
            depth++;
        else if (*r->p == '}' || *r->p == ']') {
            if (depth == 0) return false;
            depth--;
        } else if (depth == 0 && *r->p == ',')
            return false;
        r->p++;
        if (depth == 0)
            while (!at_boundary(r)) r->p++;
    } while (depth > 0);
    return true;
}

static bool salvage_member(struct reader *r, struct ingest_salvage *s, bool *typed)
{
    struct text key, type;
    uint64_t n;
    skip_space(r);
    if (!take_string(r, &key)) return false;
    bool is_n = key.length == 1 && key.s[0] == 'n';
    bool is_type = key.length == 4 && memcmp(key.s, "type", 4) == 0;
    skip_space(r);
    if (!take(r, ':')) return false;
    skip_space(r);
    const char *value = r->p;
    if (is_n && !s->has_n && read_number(r, &field_rules[INGEST_FIELD_N], &n) == INGEST_OK) {
        s->has_n = true;
        s->n = n;
    }
    if (is_type && !*typed && r->p < r->end && *r->p == '"' && take_string(r, &type)) {
        *typed = true;
        s->is_hello = type.length == 5 && memcmp(type.s, "hello", 5) == 0;
    }
    r->p = value;
    if (!skip_value(r)) return false;
    skip_space(r);
    return take(r, ',');
}

struct ingest_salvage ingest_line_salvage(const char *line, size_t length)
{
    struct ingest_salvage s = {false, false, 0};
    struct reader r;
    bool typed = false;
    assert(length <= INGEST_LINE_BYTES_MAX);
    r.start = r.p = line;
    r.end = line + length;
    skip_space(&r);
    if (!take(&r, '{')) return s;
    while (salvage_member(&r, &s, &typed)) continue;
    return s;
}
