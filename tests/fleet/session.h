/* One source's connection to its collector: numbering, sending ahead, acks, refusals, sending again. */
#ifndef FLEET_SESSION_H
#define FLEET_SESSION_H

#include "options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum session_state { SESSION_WAITING, SESSION_GREETING, SESSION_OPEN, SESSION_FAILED };

enum { SESSION_FAULTS_MAX = 20, SESSION_FAULT_BYTES = 200, SESSION_IN_BYTES = 65536, SESSION_GAPS_MAX = 16 };

/* What went wrong, over all sessions; the first few in words. */
struct session_faults {
    uint64_t count;
    char texts[SESSION_FAULTS_MAX][SESSION_FAULT_BYTES];
};

/* A line whose refusal is wanted. */
struct session_bad {
    uint64_t n;
    uint32_t codes; /* a bit per enum reply_code */
    bool seen;
};

/* Numbers that a collector lost after it had acked them. */
struct session_gap {
    char boot_id[FLEET_NAME_MAX + 1];
    uint64_t from;
    uint64_t to;
    bool exact; /* nothing was under way: what is expected is still exact */
};

/* Ring offsets count bytes from the start of the boot; ends[n & mask] is where line n ends. Owns the socket and the
 * arrays. */
struct session {
    struct session_faults *faults;
    const char *runner;
    const char *path;
    char source[FLEET_NAME_MAX + 1];
    char boot_id[FLEET_NAME_MAX + 1];
    enum session_state state;
    int epoll;
    int fd;
    bool wants_write;
    bool lost; /* the collector lost what it had acked: to be handled and cleared by the owner */
    uint64_t retry_at_ms;
    uint64_t backoff_ms;
    char *ring;
    uint64_t ring_bytes;
    uint64_t head;
    uint64_t sent;
    uint64_t tail;
    uint64_t *ends;
    uint64_t window;
    uint64_t n_head;      /* number of the newest line */
    uint64_t n_acked;     /* everything up to it is acked */
    uint64_t tolerate_to; /* refusals up to this number follow from a loss */
    uint64_t settled_at_ms;
    char hello[512];
    size_t hello_bytes;
    size_t hello_sent;
    char in[SESSION_IN_BYTES];
    size_t in_bytes;
    struct session_bad *bads;
    uint64_t bad_count;
    uint64_t bad_room;
    uint64_t bad_seen;
    uint64_t boot_reconnects;
    uint64_t written_before; /* sums over the boots before this one */
    uint64_t acked_before;
    uint64_t bad_before;
    uint64_t unreported; /* wanted refusals that a lost connection swallowed */
    uint64_t rejected;   /* seen, each number once */
    uint64_t tolerated;
    uint64_t reconnects;
    uint64_t resent_bytes;
    struct session_gap gaps[SESSION_GAPS_MAX];
    uint32_t gap_count;
};

/* A session that keeps up to `window` lines (a power of two) for sending again. Aborts when memory is out. */
void session_init(struct session *session, struct session_faults *faults, int epoll, const struct fleet_runner *runner,
                  const char *source, uint64_t window);

/* Closes and releases everything; safe on a zeroed struct. */
void session_destroy(struct session *session);

/* Begins a boot: numbers start at 1 again. All lines of the boot before must be settled. */
void session_boot(struct session *session, const char *boot_id, uint64_t boot_ms, uint64_t wall_ms);

/* Whether one more line of up to LINE_ROOM bytes can be taken. */
bool session_has_room(const struct session *session);

/* Takes line n_head + 1; `codes`: the refusals that are right for it, 0 for a good line. */
void session_append(struct session *session, const char *line, size_t bytes, uint32_t codes);

/* Connects when it is time to, and writes what can be written. */
void session_drive(struct session *session, uint64_t now_ms);

/* Handles what epoll reported. */
void session_ready(struct session *session, uint32_t events, uint64_t now_ms);

/* Whether every line is acked and every refusal that can still come has come. Reports those that did not come. */
bool session_settled(struct session *session, uint64_t now_ms);

/* Notes a fault. */
__attribute__((format(printf, 2, 3))) void session_fault(struct session_faults *faults, const char *format, ...);

#endif
