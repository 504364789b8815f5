/* Sessions of sources: bytes in, lines to the meter, answers out. Pure: ingest.c has the sockets. (proto/ingest.md)
 *
 *     NEW -> (hello) -> GREETED -> ... -> CLOSING (an error that ends it is to be written) -> OVER
 *                          \-> DRAINING (the client has said its last: what it waits for is still answered) -> OVER
 *
 * HAPPY PATH  session_room, session_received -> each whole line: parse, meter -> taken. When the next batch is on disk,
 *             session_output: refusals up to the durable number, then one cumulative ack -> session_written.
 * STALLS      A session stops reading while (a) the meter is full or the sessions are paused: its line stays in the
 *             buffer; (b) SESSION_REFUSALS_MAX refusals are unread. A reader that does not read never holds up an ack's
 *             bookkeeping: only the newest ack is kept.
 * FAILURES    A line without a readable n has the number after the session's last line: numbers have no gaps. Too long:
 *             the rest up to the newline is skipped. Nothing taken is lost when a session ends.
 * INVARIANTS  An ack or a refusal is written only for numbers that are durable. A source has one session at most. */
#ifndef COLLECTOR_SESSION_H
#define COLLECTOR_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/meter.h"
#include "common/counters.h"
#include "sandglass/id.h"

enum { SESSION_BUFFER_BYTES = 64 * 1024, SESSION_REFUSALS_MAX = 1024, SESSION_OUT_BYTES = 4096 };

enum session_state { SESSION_NEW, SESSION_GREETED, SESSION_DRAINING, SESSION_CLOSING, SESSION_OVER };

/* Those that are still to be told, by rising n. A ring, allocated at the first one. */
struct session_refusals {
    struct session_refusal {
        uint64_t n;
        uint16_t at;
        uint8_t error;
    } * ring;
    size_t first, count;
};

/* All fields are the module's own. */
struct session {
    struct sessions *all;
    enum session_state state;
    unsigned source;   /* valid when GREETED or DRAINING */
    struct id name;    /* of the source; likewise */
    struct id boot_id; /* likewise */
    uint64_t position; /* n of the session's last line */
    uint64_t acked;    /* last ack written */
    bool ack_due;      /* a duplicate asks for one */
    bool skipping;     /* the rest of a line that was too long */
    bool wants_room;   /* a line waits until there is room for its answer: in out, or among the refusals */
    size_t in_used, out_used;
    struct session_refusals refused;
    char out[SESSION_OUT_BYTES];
    char in[SESSION_BUFFER_BYTES];
};

/* Borrowed. */
struct sessions_options {
    struct meter *meter;
    struct counters *counters;
    size_t refused_index; /* counters[refused_index + error - 1] counts refusals by enum ingest_error */
};

/* What the sessions of one collector share. The shell reads wants_seal, and takes untold. */
struct sessions {
    struct sessions_options options;
    struct session *by_source[SOURCES_MAX];
    struct session_left {
        struct id boot_id;
        struct session_refusals refused; /* of the source's last session: what was not durable when it ended */
    } left[SOURCES_MAX];
    bool wants_seal; /* a session waits for room: seal, make durable, continue */
    bool paused;     /* the spool is full: no line is taken */
    size_t untold;   /* refusals that there was no memory to tell */
};

/* There are none yet. */
void sessions_init(struct sessions *all, const struct sessions_options *o);
/* All sessions are over. */
void sessions_destroy(struct sessions *all);
/* No line is taken any more, until sessions_continue; then session_take for each. */
void sessions_pause(struct sessions *all);
void sessions_continue(struct sessions *all);

/* A client has connected. */
void session_init(struct session *s, struct sessions *all);
/* The connection is gone, or is to go. Afterwards it is OVER, and there is nothing to free. */
void session_end(struct session *s);
/* The client says no more: what was taken is still answered. */
void session_at_end(struct session *s);
/* Where the next bytes go, and how many; then session_received says how many came, and takes what lines it can. */
char *session_room(struct session *s, size_t *bytes);
void session_received(struct session *s, size_t bytes);
/* Takes lines that wait in the buffer. */
void session_take(struct session *s);
/* What is to be written now; session_written says how much was. With nothing left to say, a session that is CLOSING, or
 * DRAINING and answered, is OVER. */
const char *session_output(struct session *s, size_t *bytes);
void session_written(struct session *s, size_t bytes);
/* Whether it waits for bytes to come, and for room to write. */
bool session_reads(const struct session *s);
bool session_writes(const struct session *s);

#endif
