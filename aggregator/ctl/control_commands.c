/* Administrative facts: keys and accounts. Each command that changes something opens the control topic as its only
 * writer (which fences another one that is at work), folds it, decides, appends one record. Fenced itself, it starts
 * again: somebody else was quicker. */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "aggregator/ctl/ctl.h"
#include "aggregator/store/control_view.h"
#include "aggregator/store/txlog.h"
#include "common/buffer.h"
#include "common/clock.h"
#include "common/json_out.h"

enum { ATTEMPTS_MAX = 5, KEY_RANDOM_CHARS = 43, LINE_BYTES_MAX = 4096, RETRY_US = 200 * 1000, TIMEOUT_MS = 20 * 1000 };

static enum sg_error fold(void *arg, const struct txlog_record *record, struct sg_fault *f)
{
    return control_view_fold(arg, record->bytes, record->length, f);
}

static struct txlog_config log_config(const struct ctl_config *k, char id[static 300])
{
    snprintf(id, 300, "sandglass-control-%s", k->cluster);
    return (struct txlog_config){.brokers = k->kafka_brokers,
                                 .topic = k->control_topic,
                                 .transactional_id = id,
                                 .kafka = k->kafka,
                                 .client_id = "sandglass",
                                 .timeout_ms = TIMEOUT_MS};
}

/* Reads the whole topic to its end as of now. */
static enum sg_error read_facts(const struct ctl_config *k, struct control_view *view, struct sg_fault *f)
{
    char id[300];
    struct txlog_config config = log_config(k, id);
    struct txlog_reader *reader = NULL;
    struct boot_ms start = clock_boot();
    uint64_t lag = 1;
    enum sg_error e = txlog_reader_open(&reader, &config, 0, f);
    while (!e && lag) {
        e = txlog_reader_poll(reader, 100, 10000, fold, view, f);
        if (!e || e == SG_ERR_UNREACHABLE) e = txlog_reader_lag(reader, 5000, &lag, f);
        if ((e == SG_ERR_UNREACHABLE || e == SG_ERR_TIMEOUT) && clock_since(clock_boot(), start) < TIMEOUT_MS)
            e = SG_OK;
    }
    txlog_reader_destroy(reader);
    return e;
}

/* Whether a fact may be said, given those before it. DONE: it need not be said, it is so already. */
typedef enum sg_error may_say(const struct control_view *view, const struct control_fact *fact, bool *already,
                              struct sg_fault *f);

static enum sg_error say_once(const struct ctl_config *k, const struct control_fact *fact, may_say *may,
                              struct sg_fault *f)
{
    char id[300], text[CONTROL_BYTES_MAX];
    struct txlog_config config = log_config(k, id);
    struct txlog *log = NULL;
    struct control_view view = {0};
    size_t length;
    bool already = false;
    enum sg_error e = txlog_open(&log, &config, 0, fold, &view, f);
    if (!e) e = may(&view, fact, &already, f);
    if (!e && !already) {
        e = control_encode(&view.chain, fact, text, &length);
        if (e)
            (void)sg_fail(f, e, "control: the record could not be written");
        else
            e = txlog_append(log, &(struct txlog_bytes){text, length}, 1, NULL, f);
    }
    txlog_destroy(log);
    control_view_destroy(&view);
    return e;
}

/* An UNKNOWN outcome is tried again too: the next opening reads whether the record is there, and `may` then says that
 * it is so already. */
static enum sg_error say(const struct ctl_config *k, const struct control_fact *fact, may_say *may, struct sg_fault *f)
{
    enum sg_error e = SG_OK;
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        e = say_once(k, fact, may, f);
        if (e != SG_ERR_FENCED && e != SG_ERR_UNKNOWN) return e;
        usleep(RETRY_US * (unsigned)(i + 1));
    }
    return e;
}

/* Who runs this, by the operating system; "unknown" when the name is no identifier. */
static struct id operator_name(void)
{
    struct id by = {"unknown"};
    const struct passwd *p = getpwuid(geteuid());
    if (p && id_valid(p->pw_name, strlen(p->pw_name))) memcpy(by.s, p->pw_name, strlen(p->pw_name) + 1);
    return by;
}

static struct control_fact fact_of(enum control_kind kind)
{
    return (struct control_fact){.kind = kind, .at = clock_wall(), .by = operator_name()};
}

/* isorun_live_<region>_<43 of 62 characters>: 256 bits. Bytes beyond the last multiple of 62 are drawn again, so all
 * characters are alike. */
static bool key_make(const char *region, char *out, size_t size)
{
    static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    int n = snprintf(out, size, "isorun_live_%s_", region);
    if (n < 0 || (size_t)n + KEY_RANDOM_CHARS >= size) return false;
    for (int i = 0; i < KEY_RANDOM_CHARS;) {
        uint8_t byte;
        if (getrandom(&byte, 1, 0) != 1) return false;
        if (byte < 248) out[n + i++] = alphabet[byte % 62];
    }
    out[n + KEY_RANDOM_CHARS] = '\0';
    return true;
}

static enum sg_error may_create(const struct control_view *view, const struct control_fact *fact, bool *already,
                                struct sg_fault *f)
{
    (void)f;
    *already = control_view_key(view, fact->key_hex) != NULL;
    return SG_OK;
}

int ctl_key_create(const struct ctl_call *c)
{
    struct control_fact fact = fact_of(CONTROL_KEY_CREATED);
    struct sg_fault f = {0};
    char key[160];
    const char *role = c->option[OPTION_ROLE], *region = c->option[OPTION_REGION] ? c->option[OPTION_REGION] : "eu";
    if (!ctl_take_id("TEAM", c->arg[0], &fact.team)) return CTL_USAGE;
    if (!role || !role_parse(role, strlen(role), &fact.role))
        return ctl_misuse("--role must be customer, operator, billing, privacy or admin");
    if (!id_valid(region, strlen(region)) || strlen(region) > 16 || strchr(region, '_'))
        return ctl_misuse("--region must be a short identifier without _");
    if (!key_make(region, key, sizeof key)) return ctl_misuse("no random numbers are to be had");
    control_key_hex(key, strlen(key), fact.key_hex);
    if (say(c->config, &fact, may_create, &f)) return ctl_fail(&f);
    printf("%s\n", key);
    return CTL_DONE;
}

static void print_key(const struct control_key *k, bool json)
{
    struct buffer line;
    struct json_out j;
    if (!json) {
        printf("%-12.12s  %-24s  %-9s  %s\n", k->hex, k->team.s, role_text(k->role), k->revoked ? "revoked" : "valid");
        return;
    }
    buffer_init(&line, LINE_BYTES_MAX);
    json_out_init(&j, &line);
    json_out_object_begin(&j, NULL);
    json_out_string(&j, "key_sha256", k->hex);
    json_out_string(&j, "team", k->team.s);
    json_out_string(&j, "role", role_text(k->role));
    json_out_time(&j, "created", k->created);
    json_out_bool(&j, "revoked", k->revoked);
    json_out_object_end(&j);
    if (json_out_finish(&j) == SG_OK) puts(line.data);
    buffer_destroy(&line);
}

int ctl_key_list(const struct ctl_call *c)
{
    struct control_view view = {0};
    struct sg_fault f = {0};
    enum sg_error e = read_facts(c->config, &view, &f);
    for (size_t i = 0; !e && i < view.key_count; i++) print_key(&view.key[i], c->option[OPTION_JSON]);
    control_view_destroy(&view);
    return e ? ctl_fail(&f) : CTL_DONE;
}

static enum sg_error may_revoke(const struct control_view *view, const struct control_fact *fact, bool *already,
                                struct sg_fault *f)
{
    const struct control_key *k = control_view_key(view, fact->key_hex);
    if (!k) return sg_fail(f, SG_ERR_NOT_FOUND, "there is no such key");
    *already = k->revoked;
    return SG_OK;
}

/* The one key whose hash starts with text. */
static enum sg_error key_by_start(const struct control_view *view, const char *text, char out[static CONTROL_HEX_BYTES],
                                  struct sg_fault *f)
{
    size_t found = 0, length = strlen(text);
    for (size_t i = 0; length >= 8 && i < view->key_count; i++) {
        if (strncmp(view->key[i].hex, text, length) != 0) continue;
        memcpy(out, view->key[i].hex, CONTROL_HEX_BYTES);
        found++;
    }
    if (found == 1) return SG_OK;
    return sg_fail(f, SG_ERR_NOT_FOUND,
                   found ? "several keys start like that"
                         : "there is no such key (at least 8 digits of its SHA-256 are needed)");
}

int ctl_key_revoke(const struct ctl_call *c)
{
    struct control_fact fact = fact_of(CONTROL_KEY_REVOKED);
    struct control_view view = {0};
    struct sg_fault f = {0};
    enum sg_error e = read_facts(c->config, &view, &f);
    if (!e) e = key_by_start(&view, c->arg[0], fact.key_hex, &f);
    if (!e) e = say(c->config, &fact, may_revoke, &f);
    control_view_destroy(&view);
    return e ? ctl_fail(&f) : CTL_DONE;
}

static enum sg_error may_set(const struct control_view *view, const struct control_fact *fact, bool *already,
                             struct sg_fault *f)
{
    const struct control_account *owner = control_view_customer(view, fact->customer.s),
                                 *now = control_view_account(view, fact->team.s);
    *already = now && strcmp(now->customer.s, fact->customer.s) == 0;
    if (owner && strcmp(owner->team.s, fact->team.s) != 0)
        return sg_fail(f, SG_ERR_DENIED, "this customer belongs to another team");
    return SG_OK;
}

int ctl_account_set(const struct ctl_call *c)
{
    struct control_fact fact = fact_of(CONTROL_ACCOUNT_SET);
    struct sg_fault f = {0};
    if (!ctl_take_id("TEAM", c->arg[0], &fact.team)) return CTL_USAGE;
    if (!ctl_take_id("--stripe-customer", c->option[OPTION_CUSTOMER], &fact.customer)) return CTL_USAGE;
    return say(c->config, &fact, may_set, &f) ? ctl_fail(&f) : CTL_DONE;
}

int ctl_control_verify(const struct ctl_call *c)
{
    struct control_view view = {0};
    struct sg_fault f = {0};
    enum sg_error e = read_facts(c->config, &view, &f);
    if (!e) printf("%llu records, the chain holds\n", (unsigned long long)view.chain.seq);
    control_view_destroy(&view);
    return e ? ctl_fail(&f) : CTL_DONE;
}
