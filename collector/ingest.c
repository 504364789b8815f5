/* The sockets of the sessions: accepting, reading, writing, closing. What is said is session.c's.
 *
 * FAILURES    Any error of a socket ends its session; nothing taken is lost by it. A session that another one of its
 *             source has ended is closed by sweep(), in the same turn of the loop. */
#include "collector/ingest.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "collector/session.h"
#include "common/log.h"

enum { BACKLOG = 64, NAME_BYTES = 64, DISCARD_BYTES = 16 * 1024, DISCARDS_MAX = 256 };

struct connection {
    struct ingest *ingest;
    struct connection *next;
    struct loop_source watch;
    int fd;
    uint32_t events; /* what the loop waits for */
    struct session session;
};

struct ingest {
    struct ingest_options options;
    struct loop_source watch;
    struct sessions sessions;
    struct connection *connections;
    size_t count;
    int fd;
};

static bool over(const struct connection *c)
{
    return c->session.state == SESSION_OVER;
}

/* A socket that is closed with something unread resets its peer, which then may not get to read the reason. */
static void discard_unread(const struct connection *c)
{
    char bytes[DISCARD_BYTES];
    for (int i = 0; i < DISCARDS_MAX && recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0; i++) continue;
}

/* Closes and frees what is over. Not from inside a walk over the connections. */
static void sweep(struct ingest *i)
{
    for (struct connection **link = &i->connections; *link;) {
        struct connection *c = *link;
        if (!over(c)) {
            link = &c->next;
            continue;
        }
        *link = c->next;
        i->count--;
        loop_remove(i->options.loop, &c->watch);
        discard_unread(c);
        close(c->fd);
        free(c);
    }
    if (i->sessions.untold) log_event(LOG_ERROR, "refusal_not_told", "lines=%zu", i->sessions.untold);
    i->sessions.untold = 0;
    counters_set(i->options.counters, i->options.sessions_index, i->count);
    if (i->watch.active) loop_mod(i->options.loop, &i->watch, i->count < INGEST_SESSIONS_MAX ? EPOLLIN : 0);
}

/* What the connection waits for now. */
static void rearm(struct connection *c)
{
    uint32_t events = (session_reads(&c->session) ? EPOLLIN : 0U) | (session_writes(&c->session) ? EPOLLOUT : 0U);
    if (over(c) || events == c->events) return;
    loop_mod(c->ingest->options.loop, &c->watch, events);
    c->events = events;
}

/* Writes until the client does not take more. */
static void flush(struct connection *c)
{
    size_t bytes;
    for (const char *out; (out = session_output(&c->session, &bytes)), bytes > 0;) {
        ssize_t written = send(c->fd, out, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        if (written < 0) {
            session_end(&c->session);
            return;
        }
        session_written(&c->session, (size_t)written);
    }
    rearm(c);
}

static void read_more(struct connection *c)
{
    size_t room;
    char *in = session_room(&c->session, &room);
    if (room == 0) return;
    ssize_t got = recv(c->fd, in, room, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (got < 0)
        session_end(&c->session);
    else if (got == 0)
        session_at_end(&c->session);
    else
        session_received(&c->session, (size_t)got);
}

static void on_events(void *arg, uint32_t events)
{
    struct connection *c = arg;
    if (events & EPOLLIN)
        read_more(c);
    else if (events & (EPOLLERR | EPOLLHUP))
        session_end(&c->session);
    if (!over(c)) flush(c);
    session_take(&c->session); /* those that waited for the client to read */
    if (!over(c)) flush(c);
    sweep(c->ingest);
}

static void connection_open(struct ingest *i, int fd)
{
    struct connection *c = calloc(1, sizeof *c);
    if (!c) {
        close(fd);
        log_event(LOG_ERROR, "session_refused", "reason=memory");
        return;
    }
    struct sg_fault f = {0};
    c->ingest = i;
    c->fd = fd;
    c->events = EPOLLIN;
    session_init(&c->session, &i->sessions);
    if (loop_add(i->options.loop, &c->watch, fd, EPOLLIN, on_events, c, &f)) {
        log_fault(LOG_ERROR, "session_refused", &f);
        close(fd);
        free(c);
        return;
    }
    c->next = i->connections;
    i->connections = c;
    i->count++;
    rearm(c);
}

static void on_connection(void *arg, uint32_t events)
{
    struct ingest *i = arg;
    (void)events;
    while (i->count < INGEST_SESSIONS_MAX) {
        int fd = accept4(i->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) break; /* EAGAIN; anything else comes again or concerns a client that is gone */
        connection_open(i, fd);
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
    sessions_init(&i->sessions, &(struct sessions_options){
                                    .meter = o->meter, .counters = o->counters, .refused_index = o->refused_index});
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
    for (struct connection *c = i->connections; c; c = c->next) session_end(&c->session);
    sweep(i);
    sessions_destroy(&i->sessions);
    free(i);
}

bool ingest_wants_seal(const struct ingest *i)
{
    return i->sessions.wants_seal;
}

void ingest_pause(struct ingest *i)
{
    if (i->sessions.paused) return;
    sessions_pause(&i->sessions);
    for (struct connection *c = i->connections; c; c = c->next) rearm(c);
}

void ingest_continue(struct ingest *i)
{
    sessions_continue(&i->sessions);
    for (struct connection *c = i->connections; c; c = c->next) {
        session_take(&c->session);
        if (!over(c)) flush(c);
    }
    sweep(i);
}

void ingest_durable(struct ingest *i)
{
    for (struct connection *c = i->connections; c; c = c->next)
        if (!over(c)) flush(c);
    sweep(i);
}
