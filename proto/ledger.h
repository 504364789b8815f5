/* Ledger records: what was decided, pushed and answered for each (team, meter, hour) (proto/ledger.md). Pure: bytes to
 * records and back. Archive records share the topic and are told apart by ledger_is_billing(). */
#ifndef PROTO_LEDGER_H
#define PROTO_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandglass/amount.h"
#include "sandglass/error.h"
#include "sandglass/field.h"
#include "sandglass/id.h"
#include "sandglass/time.h"

enum {
    LEDGER_VERSION = 1,
    LEDGER_BYTES_MAX = 64 * 1024,
    LEDGER_IDENTIFIER_BYTES = 69, /* "sg1-", 64 hex digits, NUL */
    LEDGER_BODY_BYTES = 1024,     /* of the request, with its NUL */
    LEDGER_POSITIONS_BYTES = 32 * 1024,
    LEDGER_REST_BYTES_MAX = 2048, /* of a record, its positions aside */
    LEDGER_REQUEST_ID_BYTES = 65,
};

/* Stripe's numbers have at most 15 digits. */
#define LEDGER_VALUE_MAX UINT64_C(999999999999999)

/* How Stripe counts a meter's events of an hour: the last one, or their sum. */
#define SG_BILL_MODES(X) X(SET, "set") X(DELTA, "delta")
/* intent: a revision that is going to be pushed; outcome: Stripe has it; note: shown to people, changes nothing. */
#define SG_LEDGER_KINDS(X)   X(INTENT, "intent") X(OUTCOME, "outcome") X(NOTE, "note")
#define SG_LEDGER_RESULTS(X) X(ACCEPTED, "accepted") X(DUPLICATE, "duplicate") X(SEEN, "seen")
/* Why a revision (or, for the last two, a total without one) does not get on. */
#define SG_LEDGER_REASONS(X)                                                                                           \
    X(REFUSED, "refused")                                                                                              \
    X(REFUSED_METER, "refused_meter")                                                                                  \
    X(REFUSED_CUSTOMER, "refused_customer")                                                                            \
    X(REFUSED_TIME, "refused_time")                                                                                    \
    X(REFUSED_IDEMPOTENCY, "refused_idempotency")                                                                      \
    X(HELD_SUM, "held_sum")                                                                                            \
    X(HELD_DIGITS, "held_digits")                                                                                      \
    X(HELD_MODE, "held_mode")

#define SG_ENUM_BILL_MODE(name, text)     BILL_##name,
#define SG_ENUM_LEDGER_KIND(name, text)   LEDGER_##name,
#define SG_ENUM_LEDGER_RESULT(name, text) LEDGER_##name,
#define SG_ENUM_LEDGER_REASON(name, text) LEDGER_##name,
enum bill_mode { SG_BILL_MODES(SG_ENUM_BILL_MODE) BILL_MODES };
enum ledger_kind { SG_LEDGER_KINDS(SG_ENUM_LEDGER_KIND) LEDGER_KINDS };
enum ledger_result { SG_LEDGER_RESULTS(SG_ENUM_LEDGER_RESULT) LEDGER_RESULTS };
enum ledger_reason { SG_LEDGER_REASONS(SG_ENUM_LEDGER_REASON) LEDGER_REASONS };

/* One record. Members that its kind does not have are zero. */
struct ledger_record {
    enum ledger_kind kind;
    struct wall_ms at;
    struct id team, customer;
    enum field meter;
    struct wall_ms hour;
    uint64_t revision; /* >= 1 */
    /* intent */
    enum bill_mode mode;
    struct amount total, value; /* <= INT64_MAX; value <= LEDGER_VALUE_MAX */
    char identifier[LEDGER_IDENTIFIER_BYTES];
    char body[LEDGER_BODY_BYTES];
    const char *positions; /* encoding: `<partition>@<offset> ...`, NULL for none; decoding: always NULL */
    /* outcome */
    enum ledger_result result;
    char request_id[LEDGER_REQUEST_ID_BYTES]; /* "" when Stripe named none */
    /* note */
    enum ledger_reason reason;
    uint32_t status; /* of outcome and note: the HTTP status, 0 for none */
};

/* Texts of the closed sets; static. */
const char *bill_mode_text(enum bill_mode m);
/* As bill_mode_text. */
const char *ledger_reason_text(enum ledger_reason r);
/* True when a record of the ledger topic is one of these and no archive record (which its own codec checks). */
bool ledger_is_billing(const char *text, size_t length);
/* Writes r to out (not NUL-terminated). MALFORMED: what ledger_decode would not take; LIMIT: less room than
 * LEDGER_REST_BYTES_MAX and the positions. */
SG_MUST_USE enum sg_error ledger_encode(const struct ledger_record *r, char *out, size_t size, size_t *length);
/* Parses what ledger_encode writes, to the byte. MALFORMED, VERSION (with its number), LIMIT. f never quotes content.
 */
SG_MUST_USE enum sg_error ledger_decode(const char *text, size_t length, struct ledger_record *out, struct sg_fault *f);

#endif
