/* Sessions of the ingest socket.
 *
 *     NEW -> (hello) -> GREETED -> ... -> CLOSING (an error that ends it is being written) -> closed
 *                          \-> DRAINING (the client has said its last: what it waits for is still answered) -> closed
 *
 * HAPPY PATH  readable -> read into the buffer -> each whole line: parse, meter -> taken. After the next seal is on
 * disk, ingest_durable(): refusals up to the durable number, then one cumulative ack. STALLS      A session stops
 * reading while (a) the meter is full or the ingest is paused: its line stays in the buffer; (b) INGEST_REFUSALS_MAX
 * refusals are unread. A reader that does not read never holds up an ack's bookkeeping: only the newest ack is kept.
 * FAILURES    A line without a readable n has the number after the session's last line: numbers have no gaps. Too long:
 * the rest up to the newline is skipped. Any error of the socket closes the session; nothing taken is lost by it.
 * INVARIANTS  An ack or a refusal is written only for numbers that are durable. A source has one session at most. */
#include "collector/ingest.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"

enum { OUT_BYTES = 4096, ANSWER_BYTES_MAX = 128, BACKLOG = 64, NAME_BYTES = 64, DISCARDS_MAX = 64 };

enum session_state { SESSION_NEW, SESSION_GREETED, SESSION_DRAINING, SESSION_CLOSING };

struct refusal {
    uint64_t n;
    uint16_t at;
    uint8_t error;
};

/* Those that are still to be told, by rising n. A ring, allocated at the first one. */
struct refusals {
    struct refusal *ring;
    size_t first, count;
};

struct session {
    struct ingest *ingest;
    struct session *next;
    struct loop_source watch;
    int fd;
    enum session_state state;
    unsigned source;   /* valid when GREETED or DRAINING */
    struct id name;    /* of the source; likewise */
    struct id boot_id; /* likewise */
    uint64_t position; /* n of the session's last line */
    uint64_t acked;    /* last ack written */
    bool ack_due;      /* a duplicate asks for one */
    bool skipping;     /* the rest of a line that was too long */
    bool wants_room;   /* a line waits until out has room for its answer */
    bool dead;         /* to be freed */
    uint32_t events;   /* what the loop waits for */
    size_t in_used, out_used;
    struct refusals refused;
    char out[OUT_BYTES];
    char in[INGEST_BUFFER_BYTES];
};

struct ingest {
    struct ingest_options options;
    struct loop_source watch;
    struct session *sessions;
    struct session *by_source[SOURCES_MAX];
    struct left {
        struct id boot_id;
        struct refusals refused; /* of the source's last session: what was not durable when it ended */
    } left[SOURCES_MAX];
    size_t session_count;
    int fd;
    bool wants_seal, paused;
};

static bool greeted(const struct session *s)
{
    return s->state == SESSION_GREETED || s->state == SESSION_DRAINING;
}

static void drop_first(struct refusals *r)
{
    r->first = (r->first + 1) % INGEST_REFUSALS_MAX;
    r->count--;
}

/* ---- begin and end of sessions ---- */

/* A socket that is closed with something unread resets its peer, which then may not get to read the reason. */
static void discard_unread(struct session *s)
{
    for (int i = 0; i < DISCARDS_MAX && recv(s->fd, s->in, sizeof s->in, MSG_DONTWAIT) > 0; i++) continue;
}

/* The session no longer speaks for its source. Its client will say again what was not durable; what was refused of it
 * is a duplicate then, and must be told all the same. */
static void leave_source(struct session *s)
{
    struct ingest *i = s->ingest;
    struct left *left = &i->left[s->source];
    if (!greeted(s) || i->by_source[s->source] != s) return;
    free(left->refused.ring);
    if (s->refused.count == 0) {
        free(s->refused.ring);
        s->refused.ring = NULL;
    }
    *left = (struct left){s->boot_id, s->refused};
    s->refused = (struct refusals){0};
    i->by_source[s->source] = NULL;
    meter_connected(i->options.meter, s->source, false);
}

/* Takes what the source's last session has left, as far as this boot's hello was not told that it is durable. */
static void join_source(struct session *s, uint64_t durable)
{
    struct left *left = &s->ingest->left[s->source];
    s->ingest->by_source[s->source] = s;
    meter_connected(s->ingest->options.meter, s->source, true);
    free(s->refused.ring);
    s->refused = left->refused;
    left->refused = (struct refusals){0};
    if (strcmp(left->boot_id.s, s->boot_id.s) != 0) s->refused.count = 0;
    while (s->refused.count > 0 && s->refused.ring[s->refused.first].n <= durable) drop_first(&s->refused);
}

/* Takes the session out of use; sweep() frees it once nobody looks at it. */
static void session_close(struct session *s)
{
    if (s->dead) return;
    leave_source(s);
    loop_remove(s->ingest->options.loop, &s->watch);
    discard_unread(s);
    close(s->fd);
    s->dead = true;
}

/* Frees dead sessions. Not from inside a walk over them. */
static void sweep(struct ingest *i)
{
    for (struct session **link = &i->sessions; *link;) {
        struct session *s = *link;
        if (!s->dead) {
            link = &s->next;
            continue;
        }
        *link = s->next;
        i->session_count--;
        free(s->refused.ring);
        free(s);
    }
    counters_set(i->options.counters, i->options.sessions_index, i->session_count);
    if (i->watch.active) loop_mod(i->options.loop, &i->watch, i->session_count < INGEST_SESSIONS_MAX ? EPOLLIN : 0);
}

/* ---- answers ---- */

static void answer(struct session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void answer(struct session *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    assert(OUT_BYTES - s->out_used >= ANSWER_BYTES_MAX);
    int length = vsnprintf(s->out + s->out_used, ANSWER_BYTES_MAX, format, args);
    va_end(args);
    assert(length > 0 && length < ANSWER_BYTES_MAX);
    s->out_used += (size_t)length;
}

static bool out_has_room(const struct session *s)
{
    return OUT_BYTES - s->out_used >= 2 * ANSWER_BYTES_MAX; /* one is kept for what ends a session */
}

/* Everything that is durable and unsaid, as far as out has room. */
static void compose(struct session *s)
{
    if (!greeted(s)) return;
    uint64_t durable = meter_durable_n(s->ingest->options.meter, s->source);
    while (s->refused.count > 0 && out_has_room(s)) {
        const struct refusal *r = &s->refused.ring[s->refused.first];
        if (r->n > durable) break;
        answer(s, "{\"reject\":%llu,\"error\":\"%s\",\"at\":%u}\n", (unsigned long long)r->n,
               ingest_error_text((enum ingest_error)r->error), r->at);
        drop_first(&s->refused);
    }
    bool refusals_said = s->refused.count == 0 || s->refused.ring[s->refused.first].n > durable;
    if (!refusals_said || !out_has_room(s) || (durable <= s->acked && !s->ack_due)) return;
    answer(s, "{\"ack\":%llu}\n", (unsigned long long)durable);
    s->acked = durable;
    s->ack_due = false;
}

/* What the session waits for now. */
static void rearm(struct session *s)
{
    bool greets = s->state == SESSION_NEW || s->state == SESSION_GREETED;
    bool takes = !s->ingest->paused && !s->ingest->wants_seal;
    bool reads = greets && takes && s->in_used < sizeof s->in && s->refused.count < INGEST_REFUSALS_MAX;
    bool writes = s->out_used > 0 || (takes && s->wants_room);
    uint32_t events = (reads ? EPOLLIN : 0U) | (writes ? EPOLLOUT : 0U);
    if (s->dead || events == s->events) return;
    loop_mod(s->ingest->options.loop, &s->watch, events);
    s->events = events;
}

static bool drained(const struct session *s)
{
    return s->out_used == 0 && s->refused.count == 0 && !memchr(s->in, '\n', s->in_used) &&
           meter_durable_n(s->ingest->options.meter, s->source) + 1 ==
               meter_next_n(s->ingest->options.meter, s->source);
}

/* Writes until the client does not take more. */
static void flush(struct session *s)
{
    for (;;) {
        compose(s);
        if (s->out_used == 0) break;
        ssize_t written = send(s->fd, s->out, s->out_used, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        if (written < 0) {
            session_close(s);
            return;
        }
        s->out_used -= (size_t)written;
        memmove(s->out, s->out + written, s->out_used);
    }
    if (s->state == SESSION_CLOSING && s->out_used == 0) session_close(s);
    if (s->state == SESSION_DRAINING && drained(s)) session_close(s);
    rearm(s);
}

/* ---- lines ---- */

static void count_refusal(struct session *s, enum ingest_error error)
{
    counters_add(s->ingest->options.counters, s->ingest->options.refused_index + (size_t)error - 1, 1);
}

/* The session ends with this error; no number is used up. */
static void close_with(struct session *s, enum ingest_error error, size_t at)
{
    count_refusal(s, error);
    if (greeted(s)) {
        compose(s);
        leave_source(s);
    }
    s->state = SESSION_CLOSING;
    s->in_used = 0;
    answer(s, "{\"error\":\"%s\",\"at\":%zu}\n", ingest_error_text(error), at);
}

static void remember_refusal(struct session *s, uint64_t n, enum ingest_error error, size_t at)
{
    if (!s->refused.ring) s->refused.ring = calloc(INGEST_REFUSALS_MAX, sizeof *s->refused.ring);
    count_refusal(s, error);
    if (!s->refused.ring) { /* the client learns of it by the ack alone */
        log_event(LOG_ERROR, "refusal_not_told", "");
        return;
    }
    assert(s->refused.count < INGEST_REFUSALS_MAX);
    size_t last = (s->refused.first + s->refused.count) % INGEST_REFUSALS_MAX;
    s->refused.ring[last] = (struct refusal){n, (uint16_t)at, (uint8_t)error};
    s->refused.count++;
}

/* What a verdict means to the session. False: the line was not taken, it stays. */
static bool apply_verdict(struct session *s, enum meter_verdict v, uint64_t n, const struct meter_refusal *refusal,
                          size_t n_at)
{
    switch (v) {
    case METER_FULL: s->ingest->wants_seal = true; return false;
    case METER_GAP: close_with(s, INGEST_NUMBER_GAP, n_at); return true;
    case METER_DUPLICATE:
        s->position = n;
        s->ack_due |= n <= meter_durable_n(s->ingest->options.meter, s->source);
        return true;
    case METER_REFUSED: remember_refusal(s, n, refusal->error, refusal->at); break;
    case METER_ACCEPTED: break;
    }
    s->position = n;
    return true;
}

static bool take_hello(struct session *s, const struct ingest_event *hello)
{
    struct ingest *i = s->ingest;
    unsigned source;
    uint64_t durable;
    bool fresh;
    s->wants_room = !out_has_room(s);
    if (s->wants_room) return false;
    if (greeted(s) && strcmp(s->name.s, hello->source.s) != 0) { /* before it could end a boot of that source */
        close_with(s, INGEST_BAD_HELLO, hello->at[INGEST_FIELD_SOURCE]);
        return true;
    }
    enum meter_verdict v = meter_hello(i->options.meter, hello, &source, &durable, &fresh);
    if (v == METER_FULL) {
        i->wants_seal = true;
        return false;
    }
    if (v == METER_REFUSED) {
        close_with(s, INGEST_BAD_HELLO, hello->at[INGEST_FIELD_SOURCE]);
        return true;
    }
    if (i->by_source[source] == s)
        leave_source(s);
    else if (i->by_source[source])
        session_close(i->by_source[source]);
    s->state = SESSION_GREETED;
    s->source = source;
    s->name = hello->source;
    s->boot_id = hello->boot_id;
    s->position = s->acked = durable;
    s->ack_due = false;
    join_source(s, durable);
    if (fresh)
        answer(s, "{\"ack\":0,\"new\":true}\n");
    else
        answer(s, "{\"ack\":%llu}\n", (unsigned long long)durable);
    return true;
}

static bool refuse_line(struct session *s, const char *line, size_t length, enum ingest_error error, size_t at)
{
    struct ingest_salvage left = ingest_line_salvage(line, length);
    struct meter_refusal refusal = {error, at};
    if (left.is_hello || !greeted(s)) {
        close_with(s, left.is_hello ? INGEST_BAD_HELLO : INGEST_NOT_GREETED, at);
        return true;
    }
    uint64_t n = left.has_n ? left.n : s->position + 1;
    return apply_verdict(s, meter_refuse(s->ingest->options.meter, s->source, n), n, &refusal, at);
}

/* False: it was not taken and stays. */
static bool take_line(struct session *s, const char *line, size_t length)
{
    struct ingest_event e;
    struct meter_refusal refusal = {INGEST_OK, 0};
    size_t at;
    if (length >= INGEST_LINE_BYTES_MAX)
        return refuse_line(s, line, INGEST_LINE_BYTES_MAX, INGEST_TOO_LONG, INGEST_LINE_BYTES_MAX);
    enum ingest_error error = ingest_line_parse(line, length, &e, &at);
    if (error) return refuse_line(s, line, length, error, at);
    if (e.type == INGEST_TYPE_HELLO) return take_hello(s, &e);
    if (!greeted(s)) {
        close_with(s, INGEST_NOT_GREETED, e.at[INGEST_FIELD_TYPE]);
        return true;
    }
    enum meter_verdict v = meter_event(s->ingest->options.meter, s->source, &e, &refusal);
    return apply_verdict(s, v, e.number[INGEST_FIELD_N], &refusal, e.at[INGEST_FIELD_N]);
}

static bool refusals_durable(const struct session *s)
{
    size_t last = (s->refused.first + s->refused.count - 1) % INGEST_REFUSALS_MAX;
    return s->refused.ring[last].n <= meter_durable_n(s->ingest->options.meter, s->source);
}

/* The next line in in[*from..in_used); false: there is none to be taken now. */
static bool take_next(struct session *s, size_t *from)
{
    const char *line = s->in + *from;
    size_t left = s->in_used - *from;
    const char *newline = memchr(line, '\n', left);
    size_t length = newline ? (size_t)(newline - line) : left;
    if (s->refused.count == INGEST_REFUSALS_MAX) {
        s->ingest->wants_seal |= left > 0 && !refusals_durable(s); /* else they wait for the client */
        return false;
    }
    if (!s->skipping && (newline || length >= INGEST_LINE_BYTES_MAX)) {
        if (!take_line(s, line, length)) return false;
        if (s->state == SESSION_CLOSING) return false;
        s->skipping = !newline;
    }
    if (!newline && !s->skipping) return false;
    *from += length + (newline ? 1 : 0);
    if (newline) s->skipping = false;
    return newline != NULL;
}

static void take_lines(struct session *s)
{
    size_t from = 0;
    if (s->ingest->paused || s->dead) return;
    while (take_next(s, &from)) continue;
    if (s->state == SESSION_CLOSING || s->dead) return;
    memmove(s->in, s->in + from, s->in_used - from);
    s->in_used -= from;
}

/* ---- the socket ---- */

/* No more comes. What was taken is still answered. */
static void at_end(struct session *s)
{
    if (s->state == SESSION_GREETED) {
        meter_connected(s->ingest->options.meter, s->source, false);
        s->state = SESSION_DRAINING;
    } else if (s->state == SESSION_NEW)
        session_close(s);
}

static void read_more(struct session *s)
{
    size_t room = sizeof s->in - s->in_used;
    if (room == 0) return;
    ssize_t got = recv(s->fd, s->in + s->in_used, room, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (got < 0) {
        session_close(s);
        return;
    }
    if (got == 0) {
        at_end(s);
        return;
    }
    s->in_used += (size_t)got;
    take_lines(s);
}

static void on_session(void *arg, uint32_t events)
{
    struct session *s = arg;
    struct ingest *i = s->ingest;
    if (events & EPOLLIN)
        read_more(s);
    else if (events & (EPOLLERR | EPOLLHUP))
        session_close(s);
    if (!s->dead) flush(s);
    take_lines(s); /* those that waited for the client to read */
    if (!s->dead) flush(s);
    sweep(i);
}

static void session_open(struct ingest *i, int fd)
{
    struct session *s = calloc(1, sizeof *s);
    if (!s) {
        close(fd);
        log_event(LOG_ERROR, "session_refused", "reason=memory");
        return;
    }
    struct sg_fault f = {0};
    s->ingest = i;
    s->fd = fd;
    s->events = EPOLLIN;
    if (loop_add(i->options.loop, &s->watch, fd, EPOLLIN, on_session, s, &f)) {
        log_fault(LOG_ERROR, "session_refused", &f);
        close(fd);
        free(s);
        return;
    }
    s->next = i->sessions;
    i->sessions = s;
    i->session_count++;
    rearm(s);
}

static void on_connection(void *arg, uint32_t events)
{
    struct ingest *i = arg;
    (void)events;
    while (i->session_count < INGEST_SESSIONS_MAX) {
        int fd = accept4(i->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) break; /* EAGAIN; anything else comes again or concerns a client that is gone */
        session_open(i, fd);
    }
    sweep(i);
}

static enum sg_error parse_owner(const char *owner, uid_t *uid, gid_t *gid, struct sg_fault *f)
{
    char user[NAME_BYTES];
    const char *colon = strchr(owner, ':');
    size_t length = colon ? (size_t)(colon - owner) : strlen(owner);
    *uid = (uid_t)-1;
    *gid = (gid_t)-1;
    if (length >= sizeof user) return sg_fail(f, SG_ERR_CONFIG, "the socket's owner is too long");
    memcpy(user, owner, length);
    user[length] = '\0';
    if (length > 0) {
        const struct passwd *p = getpwnam(user);
        if (!p) return sg_fail(f, SG_ERR_CONFIG, "the socket's owner is no user of this host");
        *uid = p->pw_uid;
    }
    if (colon && colon[1] != '\0') {
        const struct group *g = getgrnam(colon + 1);
        if (!g) return sg_fail(f, SG_ERR_CONFIG, "the socket's group is no group of this host");
        *gid = g->gr_gid;
    }
    return SG_OK;
}

/* Bound without any permission, so that nobody connects before mode and owner are right. */
static enum sg_error bind_socket(struct ingest *i, struct sg_fault *f)
{
    const struct ingest_options *o = &i->options;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uid_t uid;
    gid_t gid;
    if (strlen(o->path) >= sizeof address.sun_path)
        return sg_fail(f, SG_ERR_CONFIG, "the path of the ingest socket is longer than %zu bytes",
                       sizeof address.sun_path - 1);
    memcpy(address.sun_path, o->path, strlen(o->path));
    enum sg_error e = parse_owner(o->owner, &uid, &gid, f);
    if (e) return e;
    i->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (i->fd < 0) return sg_fail(f, SG_ERR_IO, "ingest socket: %s", strerror(errno));
    if (unlink(o->path) && errno != ENOENT) return sg_fail(f, SG_ERR_IO, "%s: %s", o->path, strerror(errno));
    mode_t mask = umask(0777);
    int bound = bind(i->fd, (const struct sockaddr *)&address, sizeof address);
    umask(mask);
    if (bound || chmod(o->path, (mode_t)o->mode) || (*o->owner && chown(o->path, uid, gid)) || listen(i->fd, BACKLOG))
        return sg_fail(f, SG_ERR_IO, "%s: %s", o->path, strerror(errno));
    return SG_OK;
}

enum sg_error ingest_start(struct ingest **out, const struct ingest_options *o, struct sg_fault *f)
{
    struct ingest *i = calloc(1, sizeof *i);
    if (!i) return sg_fail(f, SG_ERR_NOMEM, "no memory for the ingest");
    i->options = *o;
    i->fd = -1;
    enum sg_error e = bind_socket(i, f);
    if (!e) e = loop_add(o->loop, &i->watch, i->fd, EPOLLIN, on_connection, i, f);
    if (e) {
        if (i->fd >= 0) close(i->fd);
        free(i);
        return e;
    }
    *out = i;
    return SG_OK;
}

void ingest_stop(struct ingest *i)
{
    if (!i) return;
    loop_remove(i->options.loop, &i->watch);
    close(i->fd);
    unlink(i->options.path);
    for (struct session *s = i->sessions; s; s = s->next) session_close(s);
    sweep(i);
    for (size_t k = 0; k < SOURCES_MAX; k++) free(i->left[k].refused.ring);
    free(i);
}

bool ingest_wants_seal(const struct ingest *i)
{
    return i->wants_seal;
}

void ingest_pause(struct ingest *i)
{
    if (i->paused) return;
    i->paused = true;
    for (struct session *s = i->sessions; s; s = s->next) rearm(s);
}

void ingest_continue(struct ingest *i)
{
    i->paused = i->wants_seal = false;
    for (struct session *s = i->sessions; s; s = s->next) {
        take_lines(s);
        if (!s->dead) flush(s);
    }
    sweep(i);
}

void ingest_durable(struct ingest *i)
{
    for (struct session *s = i->sessions; s; s = s->next)
        if (!s->dead) flush(s);
    sweep(i);
}
