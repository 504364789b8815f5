/* One source's connection.
 *
 * LAYOUT      ring (bytes, offsets since the boot began):   tail <= sent <= head <= tail + ring_bytes
 *             [acked, forgotten) tail [written, unacked) sent [not yet written) head
 * HAPPY PATH  hello -> {"ack":N}; lines are written far ahead; {"ack":n} moves the tail.
 * FAILURES    A lost connection: connect again with growing pauses, hello, go on with N + 1, the same bytes.
 * {"new":true} after acks: the acked lines are a named gap; what is still held goes on, and the owner announces what
 * lives. An ack below what was acked, or beyond what was written, a refusal nobody wanted, an error that closes: a
 * fault, told at the end. INVARIANTS  A line is forgotten only when acked. A number is used once in a boot. */
#include "session.h"
#include "line.h"
#include "reply.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    LINE_BYTES_USUAL = 192, /* the ring holds `window` lines of it */
    WRITE_TURN_BYTES = 1 << 20,
    BACKOFF_MIN_MS = 10,
    BACKOFF_MAX_MS = 500,
    REFUSALS_LATE_MS = 5000,
};

void session_fault(struct session_faults *faults, const char *format, ...)
{
    if (faults->count < SESSION_FAULTS_MAX) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(faults->texts[faults->count], SESSION_FAULT_BYTES, format, arguments);
        va_end(arguments);
    }
    faults->count++;
}

void session_init(struct session *session, struct session_faults *faults, int epoll, const struct fleet_runner *runner,
                  const char *source, uint64_t window)
{
    *session = (struct session){.faults = faults,
                                .runner = runner->name,
                                .path = runner->path,
                                .epoll = epoll,
                                .fd = -1,
                                .window = window,
                                .ring_bytes = window * LINE_BYTES_USUAL < 65536 ? 65536 : window * LINE_BYTES_USUAL};
    snprintf(session->source, sizeof session->source, "%s", source);
    session->ring = malloc(session->ring_bytes);
    session->ends = calloc(window, sizeof *session->ends);
    assert((window & (window - 1)) == 0 && session->ring != NULL && session->ends != NULL);
}

static void disconnect(struct session *session)
{
    if (session->fd >= 0) close(session->fd);
    session->fd = -1;
    session->in_bytes = 0;
    session->wants_write = false;
    if (session->state != SESSION_FAILED) session->state = SESSION_WAITING;
}

void session_destroy(struct session *session)
{
    if (session->ring == NULL) return;
    disconnect(session);
    free(session->ring);
    free(session->ends);
    free(session->bads);
    *session = (struct session){.fd = -1};
}

void session_boot(struct session *session, const char *boot_id, uint64_t boot_ms, uint64_t wall_ms)
{
    assert(session->n_acked == session->n_head);
    disconnect(session);
    session->written_before += session->n_head;
    session->acked_before += session->n_acked;
    session->bad_before += session->bad_count;
    session->head = session->sent = session->tail = 0;
    session->n_head = session->n_acked = session->tolerate_to = 0;
    session->bad_count = session->bad_seen = session->boot_reconnects = 0;
    session->settled_at_ms = session->retry_at_ms = 0;
    session->backoff_ms = BACKOFF_MIN_MS;
    snprintf(session->boot_id, sizeof session->boot_id, "%s", boot_id);
    session->hello_bytes = line_hello(session->hello, session->source, boot_id, boot_ms, wall_ms);
}

bool session_has_room(const struct session *session)
{
    return session->n_head - session->n_acked < session->window &&
           session->ring_bytes - (session->head - session->tail) >= LINE_ROOM;
}

static void ring_put(struct session *session, const char *bytes, size_t count)
{
    uint64_t at = session->head % session->ring_bytes, first = session->ring_bytes - at;
    if (first > count) first = count;
    memcpy(session->ring + at, bytes, first);
    memcpy(session->ring, bytes + first, count - first);
    session->head += count;
}

void session_append(struct session *session, const char *line, size_t bytes, uint32_t codes)
{
    assert(session_has_room(session) && bytes <= LINE_ROOM);
    ring_put(session, line, bytes);
    session->n_head++;
    session->ends[session->n_head & (session->window - 1)] = session->head;
    session->settled_at_ms = 0;
    if (codes == 0) return;
    if (session->bad_count == session->bad_room) {
        session->bad_room = session->bad_room == 0 ? 1024 : session->bad_room * 2;
        session->bads = realloc(session->bads, session->bad_room * sizeof *session->bads);
        assert(session->bads != NULL);
    }
    session->bads[session->bad_count++] = (struct session_bad){.n = session->n_head, .codes = codes};
}

static void watch(struct session *session, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (session->wants_write ? (uint32_t)EPOLLOUT : 0),
                                .data.ptr = session};
    int failed = epoll_ctl(session->epoll, operation, session->fd, &event);
    assert(failed == 0);
    (void)failed;
}

static void retry_later(struct session *session, uint64_t now_ms)
{
    if (session->state != SESSION_WAITING) {
        session->reconnects++;
        session->boot_reconnects++;
        session->resent_bytes += session->sent - session->tail;
    }
    disconnect(session);
    session->retry_at_ms = now_ms + session->backoff_ms;
    session->backoff_ms = session->backoff_ms * 2 < BACKOFF_MAX_MS ? session->backoff_ms * 2 : BACKOFF_MAX_MS;
}

static void give_up(struct session *session)
{
    session->state = SESSION_FAILED;
    disconnect(session);
}

static void try_connect(struct session *session, uint64_t now_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(session->path) >= sizeof address.sun_path) {
        session_fault(session->faults, "%s/%s: the socket's path is too long", session->runner, session->source);
        give_up(session);
        return;
    }
    memcpy(address.sun_path, session->path, strlen(session->path) + 1);
    session->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (session->fd < 0 || connect(session->fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        retry_later(session, now_ms);
        return;
    }
    session->state = SESSION_GREETING;
    session->hello_sent = 0;
    watch(session, EPOLL_CTL_ADD);
}

/* What is to be written next, in at most two pieces; returns the bytes. */
static size_t pending(const struct session *session, struct iovec pieces[2])
{
    pieces[1] = (struct iovec){0};
    if (session->state == SESSION_GREETING) {
        char *hello = (char *)(uintptr_t)session->hello;
        pieces[0] = (struct iovec){hello + session->hello_sent, session->hello_bytes - session->hello_sent};
        return pieces[0].iov_len;
    }
    uint64_t left = session->head - session->sent, at = session->sent % session->ring_bytes;
    uint64_t first = session->ring_bytes - at < left ? session->ring_bytes - at : left;
    pieces[0] = (struct iovec){session->ring + at, first};
    pieces[1] = (struct iovec){session->ring, left - first};
    return left;
}

static void flush(struct session *session, uint64_t now_ms)
{
    struct iovec pieces[2];
    bool blocked = false;
    for (size_t turn = 0; !blocked && turn < WRITE_TURN_BYTES && pending(session, pieces) > 0;) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
        ssize_t done = sendmsg(session->fd, &message, MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR) continue;
        blocked = done < 0 && errno == EAGAIN;
        if (done < 0 && !blocked) return retry_later(session, now_ms);
        if (done > 0 && session->state == SESSION_GREETING)
            session->hello_sent += (size_t)done;
        else if (done > 0)
            session->sent += (uint64_t)done;
        turn += done > 0 ? (size_t)done : 0;
    }
    if (blocked == session->wants_write) return;
    session->wants_write = blocked;
    watch(session, EPOLL_CTL_MOD);
}

void session_drive(struct session *session, uint64_t now_ms)
{
    if (session->state == SESSION_WAITING && now_ms >= session->retry_at_ms) try_connect(session, now_ms);
    if (session->fd >= 0 && !session->wants_write) flush(session, now_ms);
}

static void acked(struct session *session, uint64_t n)
{
    if (n <= session->n_acked) return;
    session->n_acked = n;
    session->tail = session->ends[n & (session->window - 1)];
}

/* A collector is new until something is durable: the same gap, told again. */
static bool gap_is_noted(const struct session *session)
{
    const struct session_gap *last = session->gap_count ? &session->gaps[session->gap_count - 1] : NULL;
    return last && last->to == session->n_acked && strcmp(last->boot_id, session->boot_id) == 0;
}

static void note_gap(struct session *session)
{
    bool exact = session->n_head == session->n_acked;
    if (session->gap_count == SESSION_GAPS_MAX) {
        session_fault(session->faults, "%s/%s: too many gaps", session->runner, session->source);
        return;
    }
    struct session_gap *gap = &session->gaps[session->gap_count++];
    *gap = (struct session_gap){.from = 1, .to = session->n_acked, .exact = exact};
    memcpy(gap->boot_id, session->boot_id, sizeof gap->boot_id);
    session->tolerate_to = session->n_head;
    session->lost = true;
}

/* The answer to hello. */
static void greeted(struct session *session, const struct reply *reply)
{
    if (!reply->has_ack) {
        session_fault(session->faults, "%s/%s: hello refused: %s", session->runner, session->source,
                      reply_code_text(reply->error));
        return give_up(session);
    }
    if (reply->ack > session->n_head) {
        session_fault(
            session->faults, "%s/%s: the collector knows %llu lines of this boot, sent were %llu: another --seed?",
            session->runner, session->source, (unsigned long long)reply->ack, (unsigned long long)session->n_head);
        return give_up(session);
    }
    if (reply->is_new && session->n_acked > 0) {
        if (!gap_is_noted(session)) note_gap(session);
    } else if (reply->ack < session->n_acked) {
        session_fault(session->faults, "%s/%s: acked lines forgotten: %llu became %llu", session->runner,
                      session->source, (unsigned long long)session->n_acked, (unsigned long long)reply->ack);
        return give_up(session);
    }
    acked(session, reply->ack);
    session->sent = session->tail;
    session->state = SESSION_OPEN;
    session->backoff_ms = BACKOFF_MIN_MS;
}

static struct session_bad *find_bad(struct session *session, uint64_t n)
{
    uint64_t low = 0, high = session->bad_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (session->bads[middle].n < n)
            low = middle + 1;
        else
            high = middle;
    }
    return low < session->bad_count && session->bads[low].n == n ? &session->bads[low] : NULL;
}

static void refused(struct session *session, const struct reply *reply)
{
    struct session_bad *bad = find_bad(session, reply->reject);
    bool right = bad != NULL && (bad->codes >> reply->error & 1);
    if (bad != NULL && !bad->seen) {
        bad->seen = true;
        session->bad_seen++;
        session->rejected++;
    }
    if (right) return;
    if (reply->reject <= session->tolerate_to) {
        session->tolerated++;
        return;
    }
    session_fault(session->faults, "%s/%s: n=%llu %s: %s at byte %llu", session->runner, session->source,
                  (unsigned long long)reply->reject,
                  bad == NULL ? "was good but refused" : "was refused with a wrong code", reply_code_text(reply->error),
                  (unsigned long long)reply->at);
}

static void answered(struct session *session, const char *text, size_t bytes)
{
    struct reply reply;
    if (!reply_parse(&reply, text, bytes)) {
        session_fault(session->faults, "%s/%s: an answer that cannot be read", session->runner, session->source);
        return give_up(session);
    }
    if (session->state == SESSION_GREETING) return greeted(session, &reply);
    if (reply.has_reject && reply.error < REPLY_NUMBER_GAP && reply.reject <= session->n_head)
        return refused(session, &reply);
    if (reply.has_ack && reply.ack <= session->n_head &&
        (reply.ack <= session->n_acked || session->ends[reply.ack & (session->window - 1)] <= session->sent))
        return acked(session, reply.ack);
    session_fault(session->faults, "%s/%s: an answer that makes no sense: ack %llu, reject %llu, error %s",
                  session->runner, session->source, (unsigned long long)reply.ack, (unsigned long long)reply.reject,
                  reply_code_text(reply.error));
    give_up(session);
}

static void take_answers(struct session *session)
{
    const char *at = session->in, *end = session->in + session->in_bytes;
    for (const char *newline; (newline = memchr(at, '\n', (size_t)(end - at))) != NULL; at = newline + 1) {
        answered(session, at, (size_t)(newline - at));
        if (session->fd < 0) return;
    }
    session->in_bytes = (size_t)(end - at);
    memmove(session->in, at, session->in_bytes);
}

void session_ready(struct session *session, uint32_t events, uint64_t now_ms)
{
    if (session->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t got = recv(session->fd, session->in + session->in_bytes, sizeof session->in - session->in_bytes, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return retry_later(session, now_ms);
        session->in_bytes += got > 0 ? (size_t)got : 0;
        take_answers(session);
        if (session->in_bytes == sizeof session->in) {
            session_fault(session->faults, "%s/%s: an answer without end", session->runner, session->source);
            give_up(session);
        }
    }
    if (session->fd >= 0) flush(session, now_ms);
}

bool session_settled(struct session *session, uint64_t now_ms)
{
    if (session->n_acked != session->n_head || session->lost) return false;
    if (session->bad_seen >= session->bad_count) return true;
    uint64_t missing = session->bad_count - session->bad_seen;
    if (session->settled_at_ms == 0) session->settled_at_ms = now_ms;
    if (now_ms - session->settled_at_ms < (session->boot_reconnects > 0 ? 1000 : REFUSALS_LATE_MS)) return false;
    if (session->boot_reconnects == 0)
        session_fault(session->faults, "%s/%s: %llu bad lines were not refused", session->runner, session->source,
                      (unsigned long long)missing);
    session->unreported += missing;
    session->bad_seen = session->bad_count;
    return true;
}
