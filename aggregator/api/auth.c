#include "aggregator/api/auth.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/clock.h"

enum { RECORDS_PER_POLL = 10000 };

struct auth {
    pthread_mutex_t mutex; /* guards all below but ready */
    struct txlog_reader *reader;
    struct control_view view;
    struct boot_ms second; /* of the catch-ups counted */
    unsigned catch_ups;
    bool exhausted; /* a fact could not be taken for want of memory */
    _Atomic bool ready;
};

enum sg_error auth_open(struct auth **out, const struct txlog_config *config, struct sg_fault *f)
{
    struct auth *a = calloc(1, sizeof *a);
    if (!a) return sg_fail(f, SG_ERR_NOMEM, "auth: no memory");
    enum sg_error e = txlog_reader_open(&a->reader, config, 0, f);
    if (e) {
        free(a);
        return e;
    }
    pthread_mutex_init(&a->mutex, NULL);
    *out = a;
    return SG_OK;
}

void auth_destroy(struct auth *a)
{
    if (!a) return;
    txlog_reader_destroy(a->reader);
    control_view_destroy(&a->view);
    pthread_mutex_destroy(&a->mutex);
    free(a);
}

static enum sg_error fold(void *arg, const struct txlog_record *record, struct sg_fault *f)
{
    return control_view_fold(arg, record->bytes, record->length, f);
}

/* Under the mutex. */
static enum sg_error read_on(struct auth *a, uint32_t timeout_ms, struct sg_fault *f)
{
    uint64_t lag = 0;
    if (a->exhausted) return sg_fail(f, SG_ERR_NOMEM, "no memory for a control fact");
    if (a->view.broken)
        return sg_fail(f, SG_ERR_MISMATCH, "the control topic's chain is broken behind record %llu",
                       (unsigned long long)a->view.chain.seq);
    enum sg_error e = txlog_reader_poll(a->reader, timeout_ms, RECORDS_PER_POLL, fold, &a->view, f);
    a->exhausted = a->view.broken && e == SG_ERR_NOMEM;
    if (e || atomic_load(&a->ready)) return e;
    e = txlog_reader_lag(a->reader, AUTH_CATCH_UP_MS, &lag, f);
    if (!e && lag == 0) atomic_store(&a->ready, true);
    return e;
}

enum sg_error auth_poll(struct auth *a, uint32_t timeout_ms, struct sg_fault *f)
{
    pthread_mutex_lock(&a->mutex);
    enum sg_error e = read_on(a, timeout_ms, f);
    pthread_mutex_unlock(&a->mutex);
    return e;
}

bool auth_ready(const struct auth *a)
{
    return atomic_load(&a->ready);
}

static bool may_catch_up(struct auth *a)
{
    struct boot_ms now = clock_boot();
    if (clock_since(now, a->second) >= SECOND_MS) {
        a->second = now;
        a->catch_ups = 0;
    }
    return a->catch_ups++ < AUTH_CATCH_UPS_PER_S;
}

/* Reads to the end as of now, or until the time is up: what is not read then is read by the next poll. */
static void catch_up(struct auth *a)
{
    struct boot_ms start = clock_boot();
    uint64_t lag = 1;
    while (lag && clock_since(clock_boot(), start) < AUTH_CATCH_UP_MS) {
        if (txlog_reader_lag(a->reader, AUTH_CATCH_UP_MS, &lag, NULL)) return;
        if (lag && read_on(a, 50, NULL)) return;
    }
}

enum sg_error auth_check(struct auth *a, const char *key, size_t length, struct id *team, enum role *role)
{
    char hex[CONTROL_HEX_BYTES];
    enum sg_error e = SG_ERR_NOT_FOUND;
    if (!auth_ready(a)) return SG_ERR_STATE;
    if (length == 0 || length > AUTH_KEY_BYTES_MAX) return e;
    control_key_hex(key, length, hex);
    pthread_mutex_lock(&a->mutex);
    const struct control_key *found = control_view_key(&a->view, hex);
    if (!found && may_catch_up(a)) {
        catch_up(a);
        found = control_view_key(&a->view, hex);
    }
    if (found && !found->revoked) {
        *team = found->team;
        *role = found->role;
        e = SG_OK;
    }
    pthread_mutex_unlock(&a->mutex);
    return e;
}
