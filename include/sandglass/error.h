/* Errors: one enum with texts, and the fault that carries a sentence to the operator.
 *
 * Operating errors are returned, programming errors abort. A fault's text names what failed (file, record, offset,
 * topic) and is wrapped on the way up; it never quotes input. Passing NULL for a fault is allowed: only the code is
 * returned then. */
#ifndef SANDGLASS_ERROR_H
#define SANDGLASS_ERROR_H

#define SG_MUST_USE __attribute__((warn_unused_result))

#define SG_ERRORS(X)                                                                                                   \
    X(NOMEM, "no memory")                                                                                              \
    X(IO, "input or output failed")                                                                                    \
    X(CORRUPT, "stored data is damaged")                                                                               \
    X(VERSION, "unknown format version")                                                                               \
    X(LIMIT, "a limit is reached")                                                                                     \
    X(OVERFLOW, "a number does not fit")                                                                               \
    X(MALFORMED, "malformed")                                                                                          \
    X(NOT_FOUND, "not found")                                                                                          \
    X(STATE, "not possible in this state")                                                                             \
    X(TIMEOUT, "timed out")                                                                                            \
    X(UNREACHABLE, "could not be reached")                                                                             \
    X(DENIED, "denied")                                                                                                \
    X(FENCED, "fenced by a newer owner")                                                                               \
    X(UNKNOWN, "the outcome is not known")                                                                             \
    X(MISMATCH, "not what was last seen")                                                                              \
    X(LOCKED, "locked by another process")                                                                             \
    X(CONFIG, "bad configuration")                                                                                     \
    X(USAGE, "wrong use")

#define SG_ENUM_ERROR(name, text) SG_ERR_##name,
enum sg_error { SG_OK, SG_ERRORS(SG_ENUM_ERROR) SG_ERROR_COUNT };

enum { SG_FAULT_BYTES = 256 };

/* Zeroed is "no fault". */
struct sg_fault {
    enum sg_error code;
    char text[SG_FAULT_BYTES];
};

/* Static text of a code. */
const char *sg_error_text(enum sg_error e);
/* Its name as a word for logs: "NOT_FOUND". */
const char *sg_error_name(enum sg_error e);
/* Fills f (may be NULL) with code and sentence, cut to its size; returns code, which is not SG_OK. */
enum sg_error sg_fail(struct sg_fault *f, enum sg_error code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Puts "context: " before the sentence in f (may be NULL); returns its code (SG_ERR_STATE for NULL). */
enum sg_error sg_wrap(struct sg_fault *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
