/* What a collector answers: one flat JSON object a line. */
#ifndef FLEET_REPLY_H
#define FLEET_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The refusals of the contract; REPLY_UNKNOWN is a text that the contract does not have. */
#define REPLY_CODES(X)                                                                                                 \
    X(MALFORMED, "malformed")                                                                                          \
    X(TOO_LONG, "too_long")                                                                                            \
    X(UNKNOWN_FIELD, "unknown_field")                                                                                  \
    X(DUPLICATE_FIELD, "duplicate_field")                                                                              \
    X(MISSING_FIELD, "missing_field")                                                                                  \
    X(BAD_TYPE, "bad_type")                                                                                            \
    X(OUT_OF_RANGE, "out_of_range")                                                                                    \
    X(BAD_IDENTIFIER, "bad_identifier")                                                                                \
    X(UNKNOWN_TYPE, "unknown_type")                                                                                    \
    X(UNKNOWN_SANDBOX, "unknown_sandbox")                                                                              \
    X(DUPLICATE_SANDBOX, "duplicate_sandbox")                                                                          \
    X(BAD_STATE, "bad_state")                                                                                          \
    X(TIME_WENT_BACK, "time_went_back")                                                                                \
    X(TABLE_FULL, "table_full")                                                                                        \
    X(NUMBER_GAP, "number_gap")                                                                                        \
    X(NOT_GREETED, "not_greeted")                                                                                      \
    X(BAD_HELLO, "bad_hello")

enum reply_code {
#define X(name, text) REPLY_##name,
    REPLY_CODES(X)
#undef X
        REPLY_UNKNOWN,
    REPLY_NONE
};

struct reply {
    bool has_ack;
    bool has_reject;
    bool is_new;
    enum reply_code error; /* REPLY_NONE when it names none */
    uint64_t ack;
    uint64_t reject;
    uint64_t at;
};

/* Reads one line, without its newline. False when it is not a flat object of numbers, texts and truths. Members that
 * the contract does not have are passed over: a collector may say more. */
bool reply_parse(struct reply *reply, const char *text, size_t bytes);

/* The contract's text of a code. */
const char *reply_code_text(enum reply_code code);

#endif
