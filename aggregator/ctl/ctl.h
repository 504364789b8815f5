/* The `sandglass` command: one table of commands, one function each.
 *
 * Exit codes (api.md): 0 done, 1 the answer is no (unhealthy, a difference), 2 wrong use, 3 a component could not be
 * reached. Answers go to standard output: a table for people, one JSON object a line with --json. Errors go to standard
 * error, one sentence; they never quote what they could not read. */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "sandglass/error.h"
#include "sandglass/id.h"
#include "sandglass/time.h"

enum ctl_exit { CTL_DONE = 0, CTL_NO = 1, CTL_USAGE = 2, CTL_UNREACHABLE = 3 };

/* The command line's configuration file. */
struct ctl_config {
    char *cluster, *kafka_brokers, *events_topic, *ledger_topic, *control_topic, *redis, *redis_user, *redis_password,
        *price_book;
    bool redis_cluster;
    int64_t shards;
    uint64_t runner_grace_ms;
    struct config_list programs; /* "NAME URL" */
    struct config_list kafka_properties;
    const char *kafka[2 * CONFIG_LIST_MAX + 1]; /* kafka_properties as name, value, ..., NULL */
};

/* Options of a command, by name; what a command does not list is refused. */
enum ctl_option {
    OPTION_ROLE,
    OPTION_REGION,
    OPTION_CUSTOMER,
    OPTION_FROM,
    OPTION_TO,
    OPTION_STEP,
    OPTION_JSON,
    OPTION_PARTITIONS,
    OPTION_REPLICATION,
    OPTION_COUNT,
    OPTION_INTO,
    OPTION_ALONE,
    CTL_OPTIONS
};

enum { CTL_ARGS_MAX = 4 };

/* A parsed command line. Strings are argv's. */
struct ctl_call {
    const struct ctl_config *config;
    const char *arg[CTL_ARGS_MAX];
    int arg_count;
    const char *option[CTL_OPTIONS]; /* NULL: not given; a flag is "" */
};

struct rd_kafka_conf_s;
/* A client's configuration: the brokers, the configured properties, then settings (name, value, ..., NULL). NULL and f
 * when a property is refused. */
struct rd_kafka_conf_s *ctl_kafka_conf(const struct ctl_config *k, const char *const *settings, struct sg_fault *f);

/* Says a fault on standard error and gives the exit code that it means. */
int ctl_fail(const struct sg_fault *f);
/* Says why the call is wrong; CTL_USAGE. */
int ctl_misuse(const char *sentence);
/* Takes an identifier from text; false (and said) when it is none. what names the argument. */
SG_MUST_USE bool ctl_take_id(const char *what, const char *text, struct id *out);
/* Takes an instant from an option; fallback when it is not given; false (and said) when it is none. */
SG_MUST_USE bool ctl_take_time(const struct ctl_call *c, enum ctl_option o, struct wall_ms fallback,
                               struct wall_ms *out);
/* Takes --step; fallback when it is not given; false (and said) when it is none. */
SG_MUST_USE bool ctl_take_step(const struct ctl_call *c, enum window_kind fallback, enum window_kind *out);

/* key create TEAM --role ROLE [--region eu] */
int ctl_key_create(const struct ctl_call *c);
/* key list [--json] */
int ctl_key_list(const struct ctl_call *c);
/* key revoke SHA256 */
int ctl_key_revoke(const struct ctl_call *c);
/* account set TEAM --stripe-customer CUSTOMER */
int ctl_account_set(const struct ctl_call *c);
/* control verify */
int ctl_control_verify(const struct ctl_call *c);
/* usage TEAM [--from T] [--to T] [--step hour] [--json] */
int ctl_usage(const struct ctl_call *c);
/* status [--json] */
int ctl_status(const struct ctl_call *c);
/* reconcile [--json] */
int ctl_reconcile(const struct ctl_call *c);
/* digest [--from T] [--to T] [--step hour] [--json] */
int ctl_digest(const struct ctl_call *c);
/* rebuild --into FILE [--alone] [--json] */
int ctl_rebuild(const struct ctl_call *c);
/* decode FILE */
int ctl_decode(const struct ctl_call *c);
/* spool verify DIR */
int ctl_spool_verify(const struct ctl_call *c);
/* spool dump DIR */
int ctl_spool_dump(const struct ctl_call *c);
/* tail [--count N] */
int ctl_tail(const struct ctl_call *c);
/* price check FILE */
int ctl_price_check(const struct ctl_call *c);
/* topics create [--partitions N] [--replication N] */
int ctl_topics_create(const struct ctl_call *c);

#endif
