/* The fields of a rollup: every number that sandglass sums, with the name under which Redis, the API and Stripe know
 * it.
 *
 * The set is closed (api.md, "Fields of a rollup"). A field is an index; plain fields come first, then the families
 * creates.<origin>, destroys.<reason>, exit.<code>, api.<operation>.<class>. The order is the order of the text form of
 * a cell (proto/cell.h) and is never changed: new fields go to the end. */
#ifndef SANDGLASS_FIELD_H
#define SANDGLASS_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SG_PLAIN_FIELDS(X)                                                                                             \
    X(VCPU_MS, "vcpu_ms")                                                                                              \
    X(MEM_MIB_MS, "mem_mib_ms")                                                                                        \
    X(DISK_MIB_MS, "disk_mib_ms")                                                                                      \
    X(RUNNING_MS, "running_ms")                                                                                        \
    X(CPU_US, "cpu_us")                                                                                                \
    X(NET_RX_BYTES, "net_rx_bytes")                                                                                    \
    X(NET_TX_BYTES, "net_tx_bytes")                                                                                    \
    X(IO_READ_BYTES, "io_read_bytes")                                                                                  \
    X(IO_WRITE_BYTES, "io_write_bytes")                                                                                \
    X(EXECS, "execs")

#define SG_ORIGINS(X) X(CREATE, "create") X(FORK, "fork") X(RESTORE, "restore")
#define SG_REASONS(X) X(API, "api") X(TIMEOUT, "timeout") X(OOM, "oom") X(CRASH, "crash") X(HOST, "host")
#define SG_OPERATIONS(X)                                                                                               \
    X(SANDBOX_CREATE, "sandbox.create")                                                                                \
    X(SANDBOX_FORK, "sandbox.fork")                                                                                    \
    X(SANDBOX_GET, "sandbox.get")                                                                                      \
    X(SANDBOX_LIST, "sandbox.list")                                                                                    \
    X(SANDBOX_EXEC, "sandbox.exec")                                                                                    \
    X(SANDBOX_HIBERNATE, "sandbox.hibernate")                                                                          \
    X(SANDBOX_RESUME, "sandbox.resume")                                                                                \
    X(SANDBOX_DESTROY, "sandbox.destroy")                                                                              \
    X(SNAPSHOT_CREATE, "snapshot.create")                                                                              \
    X(SNAPSHOT_RESTORE, "snapshot.restore")                                                                            \
    X(SNAPSHOT_DELETE, "snapshot.delete")                                                                              \
    X(FILE_READ, "file.read")                                                                                          \
    X(FILE_WRITE, "file.write")                                                                                        \
    X(OTHER, "other")

#define SG_ENUM_FIELD(name, text)     FIELD_##name,
#define SG_ENUM_ORIGIN(name, text)    ORIGIN_##name,
#define SG_ENUM_REASON(name, text)    REASON_##name,
#define SG_ENUM_OPERATION(name, text) OPERATION_##name,

enum origin { SG_ORIGINS(SG_ENUM_ORIGIN) ORIGINS };
enum reason { SG_REASONS(SG_ENUM_REASON) REASONS };
enum operation { SG_OPERATIONS(SG_ENUM_OPERATION) OPERATIONS };
enum { EXIT_CODES = 256, STATUS_CLASSES = 5 }; /* status class: 0 = 1xx ... 4 = 5xx */

enum field {
    SG_PLAIN_FIELDS(SG_ENUM_FIELD) PLAIN_FIELDS,
    FIELD_CREATES = PLAIN_FIELDS,                  /* + enum origin */
    FIELD_DESTROYS = FIELD_CREATES + (int)ORIGINS, /* + enum reason */
    FIELD_EXIT = FIELD_DESTROYS + (int)REASONS,    /* + exit code */
    FIELD_API = FIELD_EXIT + (int)EXIT_CODES,      /* + operation * STATUS_CLASSES + class */
    FIELDS = FIELD_API + (int)OPERATIONS * (int)STATUS_CLASSES,
};

enum { FIELD_NAME_BYTES_MAX = 32 }; /* longest name with its NUL fits */

/* Writes the NUL-terminated name of f (< FIELDS) to out; returns its length. */
size_t field_name(enum field f, char out[static FIELD_NAME_BYTES_MAX]);
/* Finds the field called name[0..length); false when there is none. */
__attribute__((warn_unused_result)) bool field_parse(const char *name, size_t length, enum field *out);

/* Texts of the closed sets; static, NUL-terminated. */
const char *origin_text(enum origin o);
/* As origin_text. */
const char *reason_text(enum reason r);
/* As origin_text. */
const char *operation_text(enum operation o);
/* The inverse of origin_text; false when text is none of the set. */
__attribute__((warn_unused_result)) bool origin_parse(const char *text, size_t length, enum origin *out);
/* The inverse of reason_text. */
__attribute__((warn_unused_result)) bool reason_parse(const char *text, size_t length, enum reason *out);
/* The inverse of operation_text. */
__attribute__((warn_unused_result)) bool operation_parse(const char *text, size_t length, enum operation *out);

/* The field that counts an API call; status 100..599. */
static inline enum field field_of_api_call(enum operation o, uint32_t status)
{
    return (enum field)(FIELD_API + (int)o * STATUS_CLASSES + (int)(status / 100 - 1));
}

#endif
