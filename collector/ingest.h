/* The ingest socket: sessions of sources on a Unix stream socket, lines in, acks and refusals out. (proto/ingest.md)
 *
 * The shell of session.h: bytes from and to sockets. It never seals: when the
 * meter is full it keeps the line, says so by ingest_wants_seal(), and goes on at ingest_continue(). Acks and refusals
 * leave only after ingest_durable(): what they speak of is on disk.
 *
 * BOUNDED  INGEST_SESSIONS_MAX sessions (more wait in the kernel's backlog), one buffer of SESSION_BUFFER_BYTES each,
 *          SESSION_REFUSALS_MAX refusals unread (then nothing is read from that session), one pending ack.
 * THREAD   The loop's. */
#ifndef COLLECTOR_INGEST_H
#define COLLECTOR_INGEST_H

#include <stdbool.h>
#include <stddef.h>

#include "collector/meter.h"
#include "common/counters.h"
#include "common/loop.h"
#include "sandglass/error.h"

enum { INGEST_SESSIONS_MAX = 64 };

/* Everything is borrowed and outlives the ingest. */
struct ingest_options {
    const char *path;  /* of the socket; what stands there is replaced: the spool's lock says that we may */
    unsigned mode;     /* of the socket */
    const char *owner; /* USER, USER:GROUP or :GROUP; "": whoever we are */
    struct loop *loop;
    struct meter *meter;
    struct counters *counters;
    size_t refused_index;  /* counters[refused_index + error - 1] counts refusals by enum ingest_error */
    size_t sessions_index; /* a gauge */
};

/* Opaque. */
struct ingest;

/* Listens. IO, CONFIG (path too long, no such owner), NOMEM. */
SG_MUST_USE enum sg_error ingest_start(struct ingest **out, const struct ingest_options *o, struct sg_fault *f);
/* Closes all sessions and removes the socket. NULL is allowed. */
void ingest_stop(struct ingest *i);
/* True when a session waits for room: seal, make durable, continue. */
bool ingest_wants_seal(const struct ingest *i);
/* Stops taking lines (the spool is full) until ingest_continue(). */
void ingest_pause(struct ingest *i);
/* Takes lines again, first those that wait in buffers. */
void ingest_continue(struct ingest *i);
/* What the meter had taken is on disk (meter_durable() was called): answers go out. */
void ingest_durable(struct ingest *i);

#endif
