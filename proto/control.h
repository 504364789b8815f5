/* Control records: administrative facts, hash-chained (proto/control.md). Pure: bytes to facts and back (jansson,
 * SHA-256). */
#ifndef PROTO_CONTROL_H
#define PROTO_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/error.h"
#include "sandglass/id.h"
#include "sandglass/time.h"

enum { CONTROL_VERSION = 1, CONTROL_BYTES_MAX = 4096, CONTROL_HASH_BYTES = 32, CONTROL_HEX_BYTES = 65 };

#define SG_ROLES(X)                                                                                                    \
    X(CUSTOMER, "customer")                                                                                            \
    X(OPERATOR, "operator")                                                                                            \
    X(BILLING, "billing")                                                                                              \
    X(PRIVACY, "privacy")                                                                                              \
    X(ADMIN, "admin")
#define SG_ENUM_ROLE(name, text) ROLE_##name,
enum role { SG_ROLES(SG_ENUM_ROLE) ROLES };

enum control_kind { CONTROL_KEY_CREATED, CONTROL_KEY_REVOKED, CONTROL_ACCOUNT_SET, CONTROL_KINDS };

/* One fact. Members that its kind does not have are empty. */
struct control_fact {
    enum control_kind kind;
    uint64_t seq;
    struct wall_ms at;
    struct id by, team, customer;
    char key_hex[CONTROL_HEX_BYTES]; /* SHA-256 of an API key, lower-case hex */
    enum role role;
};

/* Where the chain stands; zeroed is before the first record. */
struct control_chain {
    uint64_t seq;
    uint8_t hash[CONTROL_HASH_BYTES];
};

/* Static text of a role. */
const char *role_text(enum role r);
/* False when text is no role. */
SG_MUST_USE bool role_parse(const char *text, size_t length, enum role *out);
/* SHA-256 of an API key as lower-case hex: what is stored of it. */
void control_key_hex(const char *key, size_t length, char out[static CONTROL_HEX_BYTES]);
/* Writes fact as the record that follows chain (fact->seq is ignored) and moves the chain. Returns the length in out.
 */
SG_MUST_USE enum sg_error control_encode(struct control_chain *chain, const struct control_fact *fact,
                                         char out[static CONTROL_BYTES_MAX], size_t *length);
/* Parses the record that follows chain, as control_encode() writes it to the byte, and moves the chain. MALFORMED,
 * VERSION, LIMIT, NOMEM; MISMATCH: seq or prev does not follow. On any error the chain is where it was. f names the seq
 * that was expected, never content. */
SG_MUST_USE enum sg_error control_decode(struct control_chain *chain, const char *text, size_t length,
                                         struct control_fact *out, struct sg_fault *f);

#endif
