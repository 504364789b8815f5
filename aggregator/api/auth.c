#include "aggregator/api/auth.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/clock.h"

enum { RECORDS_PER_POLL = 10000 };

struct auth {
    pthread_mutex_t reader_mutex; /* guards the reader; taken before the other one */
    struct txlog_reader *reader;
    pthread_mutex_t mutex; /* guards the view; never held while brokers are waited for */
    struct control_view view;
    struct boot_ms second; /* of the catch-ups counted; HTTP thread */
    unsigned catch_ups;
    bool exhausted;          /* a fact could not be taken for want of memory; under the reader's mutex */
    struct boot_ms asked_at; /* when brokers were asked last whether they live; main thread */
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
    pthread_mutex_init(&a->reader_mutex, NULL);
    pthread_mutex_init(&a->mutex, NULL);
    *out = a;
    return SG_OK;
}

void auth_destroy(struct auth *a)
{
    if (!a) return;
    txlog_reader_destroy(a->reader);
    control_view_destroy(&a->view);
    pthread_mutex_destroy(&a->reader_mutex);
    pthread_mutex_destroy(&a->mutex);
    free(a);
}

static enum sg_error fold(void *arg, const struct txlog_record *record, struct sg_fault *f)
{
    struct auth *a = arg;
    pthread_mutex_lock(&a->mutex);
    enum sg_error e = control_view_fold(&a->view, record->bytes, record->length, f);
    pthread_mutex_unlock(&a->mutex);
    return e;
}

/* Under the reader's mutex, which every writer of the view holds. */
static enum sg_error read_on(struct auth *a, uint32_t timeout_ms, struct sg_fault *f)
{
    if (a->exhausted) return sg_fail(f, SG_ERR_NOMEM, "no memory for a control fact");
    if (a->view.broken)
        return sg_fail(f, SG_ERR_MISMATCH, "the control topic's chain is broken behind record %llu",
                       (unsigned long long)a->view.chain.seq);
    enum sg_error e = txlog_reader_poll(a->reader, timeout_ms, RECORDS_PER_POLL, fold, a, f);
    a->exhausted = a->view.broken && e == SG_ERR_NOMEM;
    return e;
}

enum sg_error auth_poll(struct auth *a, uint32_t timeout_ms, bool *asked, struct sg_fault *f)
{
    struct boot_ms now = clock_boot();
    uint64_t lag = 0, interval_ms = auth_ready(a) ? AUTH_ASK_MS : 0;
    *asked = clock_since(now, a->asked_at) >= interval_ms;
    pthread_mutex_lock(&a->reader_mutex);
    enum sg_error e = read_on(a, timeout_ms, f);
    if (!e && *asked) {
        a->asked_at = now;
        e = txlog_reader_lag(a->reader, AUTH_CATCH_UP_MS, &lag, f);
        if (!e && lag == 0) atomic_store(&a->ready, true);
    }
    pthread_mutex_unlock(&a->reader_mutex);
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
    pthread_mutex_lock(&a->reader_mutex);
    while (lag && clock_since(clock_boot(), start) < AUTH_CATCH_UP_MS)
        if (txlog_reader_lag(a->reader, AUTH_CATCH_UP_MS, &lag, NULL) || (lag && read_on(a, 50, NULL))) break;
    pthread_mutex_unlock(&a->reader_mutex);
}

/* NOT_FOUND: not known, or not any more; *known says which. */
static enum sg_error look_up(struct auth *a, const char *hex, struct id *team, enum role *role, bool *known)
{
    pthread_mutex_lock(&a->mutex);
    const struct control_key *found = control_view_key(&a->view, hex);
    *known = found != NULL;
    bool valid = found && !found->revoked;
    if (valid) {
        *team = found->team;
        *role = found->role;
    }
    pthread_mutex_unlock(&a->mutex);
    return valid ? SG_OK : SG_ERR_NOT_FOUND;
}

enum sg_error auth_check(struct auth *a, const char *key, size_t length, struct id *team, enum role *role)
{
    char hex[CONTROL_HEX_BYTES];
    bool known;
    if (!auth_ready(a)) return SG_ERR_STATE;
    if (length == 0 || length > AUTH_KEY_BYTES_MAX) return SG_ERR_NOT_FOUND;
    control_key_hex(key, length, hex);
    enum sg_error e = look_up(a, hex, team, role, &known);
    if (known || !may_catch_up(a)) return e;
    catch_up(a);
    return look_up(a, hex, team, role, &known);
}
