#include "proto/control.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <openssl/sha.h>
#include <string.h>

#define TEXT(name, text) text,
static const char *const role_texts[] = {SG_ROLES(TEXT)};
#undef TEXT

/* What each fact carries beside the head; the order is that of the text. */
enum { HAS_KEY = 1, HAS_TEAM = 2, HAS_ROLE = 4, HAS_CUSTOMER = 8, HEAD_MEMBERS = 6 };
static const struct {
    const char *name;
    unsigned has;
} kinds[] = {
    [CONTROL_KEY_CREATED] = {"key_created", HAS_KEY | HAS_TEAM | HAS_ROLE},
    [CONTROL_KEY_REVOKED] = {"key_revoked", HAS_KEY},
    [CONTROL_ACCOUNT_SET] = {"account_set", HAS_TEAM | HAS_CUSTOMER},
};

const char *role_text(enum role r)
{
    assert((unsigned)r < ROLES);
    return role_texts[r];
}

bool role_parse(const char *text, size_t length, enum role *out)
{
    for (unsigned i = 0; i < ROLES; i++) {
        if (strlen(role_texts[i]) == length && memcmp(role_texts[i], text, length) == 0) {
            *out = (enum role)i;
            return true;
        }
    }
    return false;
}

static void hex(const uint8_t hash[static CONTROL_HASH_BYTES], char out[static CONTROL_HEX_BYTES])
{
    for (size_t i = 0; i < CONTROL_HASH_BYTES; i++) {
        out[2 * i] = "0123456789abcdef"[hash[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[hash[i] & 15];
    }
    out[CONTROL_HEX_BYTES - 1] = '\0';
}

static bool hex_valid(const char *s)
{
    return strlen(s) == CONTROL_HEX_BYTES - 1 && strspn(s, "0123456789abcdef") == CONTROL_HEX_BYTES - 1;
}

void control_key_hex(const char *key, size_t length, char out[static CONTROL_HEX_BYTES])
{
    uint8_t hash[CONTROL_HASH_BYTES];
    SHA256((const uint8_t *)key, length, hash);
    hex(hash, out);
}

static void chain_advance(struct control_chain *chain, const char *text, size_t length)
{
    chain->seq++;
    SHA256((const uint8_t *)text, length, chain->hash);
}

enum sg_error control_encode(struct control_chain *chain, const struct control_fact *fact,
                             char out[static CONTROL_BYTES_MAX], size_t *length)
{
    char prev[CONTROL_HEX_BYTES];
    unsigned has = kinds[fact->kind].has;
    hex(chain->hash, prev);
    json_t *j = json_pack("{s:i, s:I, s:s, s:I, s:s, s:s}", "v", CONTROL_VERSION, "seq", (json_int_t)(chain->seq + 1),
                          "prev", prev, "at", (json_int_t)fact->at.v, "by", fact->by.s, "fact", kinds[fact->kind].name);
    int bad = !j;
    if (!bad && has & HAS_KEY) bad |= json_object_set_new(j, "key", json_string(fact->key_hex));
    if (!bad && has & HAS_TEAM) bad |= json_object_set_new(j, "team", json_string(fact->team.s));
    if (!bad && has & HAS_ROLE) bad |= json_object_set_new(j, "role", json_string(role_text(fact->role)));
    if (!bad && has & HAS_CUSTOMER) bad |= json_object_set_new(j, "customer", json_string(fact->customer.s));
    size_t n = bad ? 0 : json_dumpb(j, out, CONTROL_BYTES_MAX, JSON_COMPACT);
    json_decref(j);
    if (n == 0) return SG_ERR_NOMEM;
    assert(n <= CONTROL_BYTES_MAX);
    *length = n;
    chain_advance(chain, out, n);
    return SG_OK;
}

static bool take_id(const json_t *j, const char *name, struct id *out)
{
    const char *s = json_string_value(json_object_get(j, name));
    if (!s || !id_valid(s, strlen(s))) return false;
    memcpy(out->s, s, strlen(s) + 1);
    return true;
}

static bool take_members(const json_t *j, unsigned has, struct control_fact *out)
{
    size_t members = HEAD_MEMBERS + (size_t)__builtin_popcount(has);
    if (json_object_size(j) != members) return false;
    if (has & HAS_KEY) {
        const char *s = json_string_value(json_object_get(j, "key"));
        if (!s || !hex_valid(s)) return false;
        memcpy(out->key_hex, s, CONTROL_HEX_BYTES);
    }
    if (has & HAS_TEAM && !take_id(j, "team", &out->team)) return false;
    if (has & HAS_CUSTOMER && !take_id(j, "customer", &out->customer)) return false;
    if (has & HAS_ROLE) {
        const char *s = json_string_value(json_object_get(j, "role"));
        if (!s || !role_parse(s, strlen(s), &out->role)) return false;
    }
    return true;
}

static bool take_kind(const json_t *j, enum control_kind *out)
{
    const char *s = json_string_value(json_object_get(j, "fact"));
    for (unsigned i = 0; s && i < CONTROL_KINDS; i++) {
        if (strcmp(kinds[i].name, s) == 0) {
            *out = (enum control_kind)i;
            return true;
        }
    }
    return false;
}

/* One fact has one text, for the chain is over bytes: the record is what control_encode() writes for it. */
static enum sg_error canonical(struct control_chain chain, const struct control_fact *fact, const char *text,
                               size_t length, struct sg_fault *f)
{
    char again[CONTROL_BYTES_MAX];
    size_t n = 0;
    enum sg_error e = control_encode(&chain, fact, again, &n);
    if (e) return sg_fail(f, e, "control record %" PRIu64 ": no memory", fact->seq);
    if (n == length && memcmp(again, text, n) == 0) return SG_OK;
    return sg_fail(f, SG_ERR_MALFORMED, "control record %" PRIu64 ": not as it is written", fact->seq);
}

static enum sg_error record_decode(const struct control_chain *chain, const json_t *j, struct control_fact *out,
                                   struct sg_fault *f)
{
    char prev[CONTROL_HEX_BYTES];
    json_int_t version = json_integer_value(json_object_get(j, "v")),
               seq = json_integer_value(json_object_get(j, "seq"));
    const char *said = json_string_value(json_object_get(j, "prev"));
    uint64_t expected = chain->seq + 1;
    hex(chain->hash, prev);
    if (json_is_integer(json_object_get(j, "v")) && version != CONTROL_VERSION)
        return sg_fail(f, SG_ERR_VERSION, "control record %" PRIu64 ": version %lld is unknown", expected,
                       (long long)version);
    if (seq < 0 || (uint64_t)seq != expected || !said || strcmp(said, prev) != 0)
        return sg_fail(f, SG_ERR_MISMATCH, "control record %" PRIu64 ": the chain is broken", expected);
    out->seq = expected;
    out->at.v = json_integer_value(json_object_get(j, "at"));
    if (version == CONTROL_VERSION && out->at.v >= 0 && out->at.v <= WALL_MS_MAX && take_id(j, "by", &out->by) &&
        take_kind(j, &out->kind) && take_members(j, kinds[out->kind].has, out))
        return SG_OK;
    return sg_fail(f, SG_ERR_MALFORMED, "control record %" PRIu64 ": malformed", expected);
}

enum sg_error control_decode(struct control_chain *chain, const char *text, size_t length, struct control_fact *out,
                             struct sg_fault *f)
{
    json_error_t error;
    *out = (struct control_fact){0};
    if (length > CONTROL_BYTES_MAX)
        return sg_fail(f, SG_ERR_LIMIT, "control record %" PRIu64 ": longer than %d bytes", chain->seq + 1,
                       CONTROL_BYTES_MAX);
    json_t *j = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!j) return sg_fail(f, SG_ERR_MALFORMED, "control record %" PRIu64 ": not JSON", chain->seq + 1);
    enum sg_error e = record_decode(chain, j, out, f);
    json_decref(j);
    if (e == SG_OK) e = canonical(*chain, out, text, length, f);
    if (e == SG_OK) chain_advance(chain, text, length);
    return e;
}
