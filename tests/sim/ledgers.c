#include "tests/sim/ledgers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct record {
    uint64_t offset;
    int64_t time;
    char *bytes;
    size_t length;
};

/* How long a call waits in vain, as txlog.h has it: an append for its records, then without a tick for the commit. A
 * slow one comes to its end. */
enum { OPEN_MS = 10 * SECOND_MS, APPEND_MS = 10 * SECOND_MS, COMMIT_MS = 5 * SECOND_MS, SLOW_MS = 6 * SECOND_MS };
enum { DESTROY_MS = 2 * SECOND_MS }; /* a client ends */
enum { TICK_MS = SECOND_MS / 2 };
enum { OWNERS_MOST = 256 };

/* Whoever opens by this transactional.id; of the same one, the latest. */
struct owner {
    char id[64];
    unsigned epoch;
    const struct txlog *log; /* the newest one's; NULL: it is destroyed */
};

struct ledger {
    struct record *record;
    size_t count, capacity;
    uint64_t end;
    const struct owner *undecided_of;
    struct record *undecided;
    size_t undecided_count;
};

static struct sim *sim;
static struct ledger ledgers[LEDGERS_MOST], control;
static struct owner owners[OWNERS_MOST]; /* of any partition: an id is the producer's, not the log's */
static const struct ledgers_watcher *watcher;
static bool silent, slow;
static struct txlog_waiter onlooker; /* while Kafka is that */

static bool fault(enum sim_fault kind)
{
    return !sim->quiet && sim_fault(sim, kind);
}

/* ---- what is kept ---- */

void ledgers_begin(struct sim *s)
{
    sim = s;
    watcher = NULL;
    silent = slow = false;
}

static void drop_undecided(struct ledger *l)
{
    for (size_t i = 0; i < l->undecided_count; i++) free(l->undecided[i].bytes);
    free(l->undecided);
    l->undecided = NULL;
    l->undecided_count = 0;
}

static void drop(struct ledger *l)
{
    drop_undecided(l);
    for (size_t i = 0; i < l->count; i++) free(l->record[i].bytes);
    free(l->record);
    *l = (struct ledger){0};
}

void ledgers_end(void)
{
    for (size_t i = 0; i < LEDGERS_MOST; i++) drop(&ledgers[i]);
    drop(&control);
    memset(owners, 0, sizeof owners);
}

void ledgers_watch(const struct ledgers_watcher *w)
{
    watcher = w;
}

void ledgers_silence(struct txlog_waiter w)
{
    onlooker = w;
    silent = true;
}

void ledgers_slow_down(struct txlog_waiter w)
{
    onlooker = w;
    slow = true;
}

void ledgers_speak(void)
{
    silent = slow = false;
}

/* Somebody waits. wait: as long as he wants to; NULL: he is not asked. */
static void passes(int64_t ms, const struct txlog_waiter *wait)
{
    for (int64_t end = sim->now + ms; (silent || slow) && sim->now < end;) {
        sim->now += end - sim->now < TICK_MS ? end - sim->now : TICK_MS;
        (void)onlooker.tick(onlooker.arg);
        if (wait && wait->tick(wait->arg)) break;
    }
}

static bool in_vain(int64_t ms, const struct txlog_waiter *wait)
{
    if (silent) passes(ms, wait);
    return silent;
}

static bool commit_in_vain(const struct txlog_waiter *wait)
{
    bool records = sim_draw(sim, 2);
    if (silent && records) passes(APPEND_MS, wait);
    if (silent && !records) passes(COMMIT_MS, NULL);
    if (slow) passes(SLOW_MS, wait);
    return silent;
}

void ledgers_forget_undecided(void)
{
    for (size_t i = 0; i < LEDGERS_MOST; i++) drop_undecided(&ledgers[i]);
}

void ledgers_cut(uint32_t shard, uint64_t offset)
{
    struct ledger *l = &ledgers[shard];
    while (l->count > 0 && l->record[l->count - 1].offset >= offset) free(l->record[--l->count].bytes);
    l->end = offset;
}

static struct record copy_of(const char *bytes, size_t length)
{
    struct record r = {.time = sim->now, .bytes = malloc(length + 1), .length = length};
    if (!r.bytes) abort();
    memcpy(r.bytes, bytes, length);
    return r;
}

/* Takes r over. Returns its offset. */
static uint64_t keep(struct ledger *l, struct record r)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 64;
        l->record = reallocarray(l->record, l->capacity, sizeof *l->record);
        if (!l->record) abort();
    }
    r.offset = l->end++;
    l->record[l->count++] = r;
    if (watcher && l != &control) watcher->kept(watcher->arg, (uint32_t)(l - ledgers), r.offset, r.bytes, r.length);
    return r.offset;
}

void ledgers_say(const char *bytes, size_t length)
{
    (void)keep(&control, copy_of(bytes, length));
}

/* Records below `until`. */
static enum sg_error give(const struct ledger *l, size_t first, uint64_t until, txlog_each *each, void *arg,
                          struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    for (size_t i = first; i < l->count && l->record[i].offset < until && e == SG_OK; i++) {
        const struct record *r = &l->record[i];
        const struct txlog_record given = {r->offset, {r->time}, r->bytes, r->length};
        e = each(arg, &given, f);
    }
    return e;
}

bool ledgers_hold(uint32_t shard, const char *bytes, size_t length)
{
    const struct ledger *l = &ledgers[shard];
    for (size_t i = 0; i < l->count; i++)
        if (memmem(l->record[i].bytes, l->record[i].length, bytes, length)) return true;
    return false;
}

enum sg_error ledgers_read(uint32_t shard, txlog_each *each, void *arg, struct sg_fault *f)
{
    return give(&ledgers[shard], 0, UINT64_MAX, each, arg, f);
}

/* ---- writers ---- */

struct txlog {
    struct ledger *ledger;
    struct sim_actor *actor;
    struct owner *owner;
    const struct txlog_waiter *wait;
    unsigned epoch;
    uint64_t end;
    bool dead; /* it is in doubt, or fenced */
};

static struct owner *owner_named(const char *id)
{
    struct owner *o = owners;
    while (o->id[0] && strcmp(o->id, id) != 0) o++;
    assert(o < owners + OWNERS_MOST - 1 && strlen(id) < sizeof o->id);
    memcpy(o->id, id, strlen(id) + 1);
    return o;
}

/* Others may go on. False: who calls is dead. */
static bool alive_after_interruption(struct sim_actor *a)
{
    if (a && a->interrupted && !a->dead) a->interrupted(a->arg);
    return !a || !a->dead;
}

/* The older owner's last commit is decided. */
static enum sg_error fence(struct txlog *log, const struct txlog_waiter *wait, struct sg_fault *f)
{
    struct ledger *l = log->ledger;
    bool away = fault(SIM_BROKER_AWAY);
    if (!alive_after_interruption(log->actor) || in_vain(OPEN_MS, wait) || (away && sim_draw(sim, 2)))
        return sg_fail(f, SG_ERR_UNREACHABLE, "no broker answers");
    bool decided = l->undecided_of == log->owner, committed = decided && sim_draw(sim, 2);
    for (size_t i = 0; i < l->undecided_count && committed; i++) {
        (void)keep(l, l->undecided[i]);
        l->undecided[i].bytes = NULL;
    }
    if (decided) drop_undecided(l);
    l->end++;
    const struct txlog *older = log->owner->log;
    if (older && older->actor && older->actor == log->actor && !older->dead) sim_fail(sim, "a program fences itself");
    log->epoch = ++log->owner->epoch;
    log->owner->log = log;
    if (watcher) watcher->owned(watcher->arg, (uint32_t)(l - ledgers), log->actor);
    return away ? sg_fail(f, SG_ERR_TIMEOUT, "no broker answers") : SG_OK;
}

/* Up to the barrier, which stands where nobody newer has come; some of it is read twice. */
static enum sg_error read_all(struct txlog *log, uint64_t from, txlog_each *each, void *arg, struct sg_fault *f)
{
    struct ledger *l = log->ledger;
    size_t first = 0;
    if (!alive_after_interruption(log->actor)) return sg_fail(f, SG_ERR_UNREACHABLE, "no broker answers");
    if (log->epoch && log->epoch != log->owner->epoch) return sg_fail(f, SG_ERR_FENCED, "somebody newer has come");
    uint64_t barrier = l->end++;
    while (first < l->count && l->record[first].offset < from) first++;
    enum sg_error e = give(l, first, barrier, each, arg, f);
    if (e == SG_OK && watcher && l->count && fault(SIM_LEDGER_READ_TWICE))
        e = give(l, sim_draw(sim, l->count), barrier, each, arg, f);
    log->end = barrier + 1;
    return e;
}

enum sg_error txlog_open(struct txlog **out, const struct txlog_config *config, uint64_t from, txlog_each *each,
                         void *arg, struct sg_fault *f)
{
    struct txlog *log = calloc(1, sizeof *log);
    if (!log) abort();
    assert(config->partition < LEDGERS_MOST && config->transactional_id);
    log->ledger = &ledgers[config->partition];
    log->owner = owner_named(config->transactional_id);
    log->actor = ports_acting();
    log->wait = config->append_wait;
    enum sg_error e = fence(log, config->wait, f);
    if (e == SG_OK) e = read_all(log, from, each, arg, f);
    if (e == SG_OK)
        *out = log;
    else
        txlog_destroy(log);
    return e;
}

static void propose(const struct ledger *l, const struct txlog_bytes *records, size_t count)
{
    for (size_t i = 0; i < count && watcher; i++)
        watcher->proposed(watcher->arg, (uint32_t)(l - ledgers), records[i].bytes, records[i].length);
}

static void leave_undecided(struct txlog *log, const struct txlog_bytes *records, size_t count)
{
    struct ledger *l = log->ledger;
    assert(l->undecided_count == 0);
    l->undecided_of = log->owner;
    l->undecided = calloc(count, sizeof *l->undecided);
    if (!l->undecided) abort();
    for (size_t i = 0; i < count; i++)
        l->undecided[l->undecided_count++] = copy_of(records[i].bytes, records[i].length);
}

enum sg_error txlog_append(struct txlog *log, const struct txlog_bytes *records, size_t count, uint64_t *offsets,
                           struct sg_fault *f)
{
    struct ledger *l = log->ledger;
    if (log->dead) sim_fail(sim, "a log is written to whose commit has failed");
    log->dead = true;
    if (!alive_after_interruption(log->actor)) return sg_fail(f, SG_ERR_UNKNOWN, "killed");
    bool owns = log->epoch == log->owner->epoch;
    propose(l, records, count);
    if (!owns) return sg_fail(f, SG_ERR_FENCED, "somebody newer owns the shard");
    if (sim->failed || commit_in_vain(log->wait)) return sg_fail(f, SG_ERR_UNKNOWN, "nothing comes of it");
    bool lost = l->undecided_count > 0 || fault(SIM_COMMIT_LOST);
    bool seen = !lost || (l->undecided_count == 0 && sim_draw(sim, 2)); /* committed, though the answer may be lost */
    if (!seen && l->undecided_count == 0) leave_undecided(log, records, count);
    for (size_t i = 0; i < count && seen; i++) {
        uint64_t at = keep(l, copy_of(records[i].bytes, records[i].length));
        if (offsets) offsets[i] = at;
    }
    log->end = l->end++;
    if (!alive_after_interruption(log->actor)) return sg_fail(f, SG_ERR_UNKNOWN, "killed");
    if (lost) return sg_fail(f, SG_ERR_UNKNOWN, "the fate of a commit is not known");
    log->dead = false;
    return SG_OK;
}

uint64_t txlog_end(const struct txlog *log)
{
    return log->end;
}
void txlog_destroy(struct txlog *log)
{
    if (log) (void)in_vain(DESTROY_MS, NULL);
    if (log && log->owner->log == log) log->owner->log = NULL;
    free(log);
}

/* ---- readers ---- */

struct txlog_reader {
    const struct ledger *ledger;
    struct sim_actor *actor;
    size_t next;
};

enum sg_error txlog_reader_open(struct txlog_reader **out, const struct txlog_config *config, uint64_t from,
                                struct sg_fault *f)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return sg_fail(f, SG_ERR_NOMEM, "no memory");
    bool facts = strcmp(config->topic, LEDGERS_CONTROL) == 0;
    **out = (struct txlog_reader){facts ? &control : &ledgers[config->partition], ports_acting(), 0};
    while ((*out)->next < (*out)->ledger->count && (*out)->ledger->record[(*out)->next].offset < from) (*out)->next++;
    return SG_OK;
}

enum sg_error txlog_reader_poll(struct txlog_reader *r, uint32_t timeout_ms, size_t max, txlog_each *each, void *arg,
                                struct sg_fault *f)
{
    const struct ledger *l = r->ledger;
    enum sg_error e = SG_OK;
    if (!alive_after_interruption(r->actor) || fault(SIM_BROKER_AWAY))
        return sg_fail(f, SG_ERR_UNREACHABLE, "no broker answers");
    size_t most = silent ? 0 : sim->quiet ? max : sim_draw(sim, 5);
    if (!in_vain(timeout_ms, NULL) && (most == 0 || r->next == l->count)) sim->now += timeout_ms;
    for (size_t i = 0; e == SG_OK && i < most && r->next < l->count; i++) {
        const struct record *at = &l->record[r->next++];
        const struct txlog_record record = {at->offset, {at->time}, at->bytes, at->length};
        e = each(arg, &record, f);
    }
    return e;
}
enum sg_error txlog_reader_lag(struct txlog_reader *r, uint32_t timeout_ms, uint64_t *lag, struct sg_fault *f)
{
    if ((r->actor && r->actor->dead) || in_vain(timeout_ms, NULL))
        return sg_fail(f, SG_ERR_UNREACHABLE, "no broker answers");
    *lag = r->ledger->count - r->next;
    return SG_OK;
}
uint64_t txlog_reader_position(const struct txlog_reader *r)
{
    return r->next < r->ledger->count ? r->ledger->record[r->next].offset : r->ledger->end;
}
void txlog_reader_destroy(struct txlog_reader *r)
{
    free(r);
}
