/* The front of the `sandglass` command: configuration, the table of commands, help. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/ctl/ctl.h"
#include "common/log.h"
#include "common/rfc3339.h"
#include "proto/json_memory.h"
#include "sandglass/limits.h"

static const char default_config[] = "/etc/sandglass/sandglass.conf";

static const struct config_key keys[] = {
    CONFIG_STRING(struct ctl_config, cluster, "cluster", "sandglass",
                  "name of this installation; part of transactional ids"),
    CONFIG_STRING(struct ctl_config, kafka_brokers, "kafka_brokers", NULL, "host:port,host:port of the Kafka cluster"),
    CONFIG_LIST(struct ctl_config, kafka_properties, "kafka_property",
                "NAME VALUE of a librdkafka property, for TLS and login"),
    CONFIG_STRING(struct ctl_config, events_topic, "events_topic", "sandglass.events", "topic of the batches"),
    CONFIG_STRING(struct ctl_config, ledger_topic, "ledger_topic", "sandglass.ledger",
                  "topic of what was pushed to Stripe"),
    CONFIG_STRING(struct ctl_config, control_topic, "control_topic", "sandglass.control",
                  "topic of administrative facts"),
    CONFIG_STRING(struct ctl_config, redis, "redis", NULL, "host:port of Redis, or several nodes of a cluster"),
    CONFIG_BOOL(struct ctl_config, redis_cluster, "redis_cluster", "no", "whether redis is a Redis Cluster"),
    CONFIG_STRING(struct ctl_config, redis_user, "redis_user", "", "user of Redis; empty: the default user"),
    CONFIG_SECRET(struct ctl_config, redis_password, "redis_password", "", "password of Redis"),
    CONFIG_INT(struct ctl_config, shards, "shards", "16", 1, SHARDS_MAX, "shards of the view, fixed at its creation"),
    CONFIG_DURATION(struct ctl_config, runner_grace_ms, "runner_grace", "10m", SECOND_MS, DAY_MS,
                    "a runner silent for longer is left out of the watermark and is a gap"),
    CONFIG_PATH(struct ctl_config, price_book, "price_book", "", "file with the price versions"),
    CONFIG_LIST(struct ctl_config, programs, "program", "NAME URL of a program's operations listener, for status"),
};

static const struct config_table table = {
    .program = "sandglass",
    .summary = "looks after a sandglass installation: keys, accounts, usage, health, reconciliation",
    .keys = keys,
    .count = sizeof keys / sizeof *keys,
    .struct_bytes = sizeof(struct ctl_config),
};

static const struct {
    const char *name;
    bool flag;
} options[CTL_OPTIONS] = {
    [OPTION_ROLE] = {"--role", false},
    [OPTION_REGION] = {"--region", false},
    [OPTION_CUSTOMER] = {"--stripe-customer", false},
    [OPTION_FROM] = {"--from", false},
    [OPTION_TO] = {"--to", false},
    [OPTION_STEP] = {"--step", false},
    [OPTION_JSON] = {"--json", true},
    [OPTION_PARTITIONS] = {"--partitions", false},
    [OPTION_REPLICATION] = {"--replication", false},
    [OPTION_COUNT] = {"--count", false},
    [OPTION_INTO] = {"--into", false},
    [OPTION_ALONE] = {"--alone", true},
};

#define BIT(o) (1u << (o))

/* A command: its words, how many arguments it takes, which options, whether it works without a configuration. */
static const struct command {
    const char *words, *arguments, *help;
    int arg_count;
    unsigned allowed;
    bool needs_config;
    int (*run)(const struct ctl_call *c);
} commands[] = {
    {"key create", "TEAM --role ROLE [--region REGION]", "makes an API key and prints it, once", 1,
     BIT(OPTION_ROLE) | BIT(OPTION_REGION), true, ctl_key_create},
    {"key list", "[--json]", "all keys by their SHA-256, with team and role", 0, BIT(OPTION_JSON), true, ctl_key_list},
    {"key revoke", "SHA256", "ends a key, named by its SHA-256 or an unambiguous start of it", 1, 0, true,
     ctl_key_revoke},
    {"account set", "TEAM --stripe-customer CUSTOMER", "bills the team's usage to a Stripe customer", 1,
     BIT(OPTION_CUSTOMER), true, ctl_account_set},
    {"control verify", "", "checks the hash chain of administrative facts", 0, 0, true, ctl_control_verify},
    {"usage", "TEAM [--from T] [--to T] [--step minute|hour|day] [--json]", "the team's rollups, window by window", 1,
     BIT(OPTION_FROM) | BIT(OPTION_TO) | BIT(OPTION_STEP) | BIT(OPTION_JSON), true, ctl_usage},
    {"status", "[--json]", "whether every program is healthy", 0, BIT(OPTION_JSON), true, ctl_status},
    {"reconcile", "[--json]", "holds what was accepted against rollups, ledger and what was billed", 0,
     BIT(OPTION_JSON), true, ctl_reconcile},
    {"digest", "[--from T] [--to T] [--step minute|hour|day] [--json]",
     "the view's windows with a digest of their cells", 0,
     BIT(OPTION_FROM) | BIT(OPTION_TO) | BIT(OPTION_STEP) | BIT(OPTION_JSON), true, ctl_digest},
    {"rebuild", "--into FILE [--alone] [--json]",
     "fills the empty Redis of an aggregator's configuration, and compares", 0,
     BIT(OPTION_INTO) | BIT(OPTION_ALONE) | BIT(OPTION_JSON), true, ctl_rebuild},
    {"decode", "FILE", "a batch or a spool segment as JSON lines", 1, 0, false, ctl_decode},
    {"spool verify", "DIR", "checks every record of a spool", 1, 0, false, ctl_spool_verify},
    {"spool dump", "DIR", "a spool's batches as JSON lines", 1, 0, false, ctl_spool_dump},
    {"tail", "[--count N]", "follows the events topic as JSON lines", 0, BIT(OPTION_COUNT), true, ctl_tail},
    {"price check", "FILE", "checks a price book and shows its versions", 1, 0, false, ctl_price_check},
    {"topics create", "[--partitions N] [--replication N]", "makes the three topics as they have to be", 0,
     BIT(OPTION_PARTITIONS) | BIT(OPTION_REPLICATION), true, ctl_topics_create},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

int ctl_fail(const struct sg_fault *f)
{
    fprintf(stderr, "sandglass: %s\n", f->text[0] ? f->text : sg_error_text(f->code));
    switch (f->code) {
    case SG_ERR_UNREACHABLE:
    case SG_ERR_TIMEOUT:
    case SG_ERR_STATE: return CTL_UNREACHABLE;
    case SG_ERR_USAGE:
    case SG_ERR_CONFIG: return CTL_USAGE;
    default: return CTL_NO;
    }
}

int ctl_misuse(const char *sentence)
{
    fprintf(stderr, "sandglass: %s; see sandglass --help\n", sentence);
    return CTL_USAGE;
}

bool ctl_take_id(const char *what, const char *text, struct id *out)
{
    if (!text || !id_valid(text, strlen(text))) {
        fprintf(stderr, "sandglass: %s must be an identifier: letters, digits, _ and -, at most 64\n", what);
        return false;
    }
    memcpy(out->s, text, strlen(text) + 1);
    return true;
}

bool ctl_take_time(const struct ctl_call *c, enum ctl_option o, struct wall_ms fallback, struct wall_ms *out)
{
    const char *text = c->option[o];
    *out = fallback;
    if (!text || rfc3339_parse(text, strlen(text), out)) return true;
    fprintf(stderr, "sandglass: %s must be RFC 3339 or Unix seconds\n", options[o].name);
    return false;
}

bool ctl_take_step(const struct ctl_call *c, enum window_kind fallback, enum window_kind *out)
{
    static const char *const steps[WINDOW_KINDS] = {"minute", "hour", "day"};
    const char *text = c->option[OPTION_STEP];
    *out = fallback;
    if (!text) return true;
    for (int i = 0; i < WINDOW_KINDS; i++) {
        if (strcmp(steps[i], text) != 0) continue;
        *out = (enum window_kind)i;
        return true;
    }
    fprintf(stderr, "sandglass: --step must be minute, hour or day\n");
    return false;
}

static void print_help(void)
{
    printf("usage: sandglass [--config FILE] COMMAND ...\n\n%s\n\n", table.summary);
    for (size_t i = 0; i < COMMANDS; i++) {
        char line[128];
        snprintf(line, sizeof line, "%s %s", commands[i].words, commands[i].arguments);
        printf("  %-72s %s\n", line, commands[i].help);
    }
    printf("\n  --help --version --check-config --example-config --man\n\n"
           "exit codes: 0 done, 1 the answer is no, 2 wrong use, 3 a component could not be reached\n\nconfiguration "
           "(default %s):\n",
           default_config);
    config_print_help(&table, stdout);
}

/* True when --help and the like were asked for and answered. */
static bool print_about(const char *option)
{
    if (strcmp(option, "--help") == 0)
        print_help();
    else if (strcmp(option, "--version") == 0)
        printf("sandglass %s\n", SANDGLASS_VERSION);
    else if (strcmp(option, "--example-config") == 0)
        config_print_example(&table, stdout);
    else if (strcmp(option, "--man") == 0)
        config_print_man(&table, stdout);
    else
        return false;
    return true;
}

/* The command whose words stand at argv[0..], and how many words it has. */
static const struct command *command_find(int argc, char **argv, int *words)
{
    char two[64] = "";
    if (argc < 1) return NULL;
    if (argc > 1) snprintf(two, sizeof two, "%s %s", argv[0], argv[1]);
    for (size_t i = 0; i < COMMANDS; i++) {
        *words = strchr(commands[i].words, ' ') ? 2 : 1;
        if (strcmp(commands[i].words, *words == 2 ? two : argv[0]) == 0) return &commands[i];
    }
    return NULL;
}

static int take_option(struct ctl_call *c, const struct command *command, int argc, char **argv)
{
    for (int o = 0; o < CTL_OPTIONS; o++) {
        if (!(command->allowed & BIT(o)) || strcmp(options[o].name, argv[0]) != 0) continue;
        if (c->option[o]) return -1;
        if (options[o].flag) {
            c->option[o] = "";
            return 1;
        }
        if (argc < 2) return -1;
        c->option[o] = argv[1];
        return 2;
    }
    return -1;
}

static bool take_arguments(struct ctl_call *c, const struct command *command, int argc, char **argv)
{
    for (int i = 0; i < argc;) {
        int taken = 1;
        if (argv[i][0] == '-' && argv[i][1])
            taken = take_option(c, command, argc - i, argv + i);
        else if (c->arg_count == CTL_ARGS_MAX)
            return false;
        else
            c->arg[c->arg_count++] = argv[i];
        if (taken < 0) return false;
        i += taken;
    }
    return c->arg_count == command->arg_count;
}

/* Reads the configuration and splits what it lists. */
static enum sg_error load(const char *file, struct ctl_config *config, struct sg_fault *f)
{
    enum sg_error e = config_load(file, &table, config, f);
    if (!e) e = config_list_pairs(&config->kafka_properties, "kafka_property", config->kafka, f);
    return e;
}

static int run(const struct command *command, const char *file, bool file_given, int argc, char **argv)
{
    struct ctl_config config = {0};
    struct ctl_call call = {.config = &config};
    struct sg_fault f = {0};
    if (!take_arguments(&call, command, argc, argv)) {
        fprintf(stderr, "usage: sandglass %s %s\n", command->words, command->arguments);
        return CTL_USAGE;
    }
    bool loads = command->needs_config || file_given;
    int status = loads && load(file, &config, &f) ? ctl_fail(&f) : command->run(&call);
    config_destroy(&table, &config);
    return status;
}

static int check_config(const char *file)
{
    struct ctl_config config = {0};
    struct sg_fault f = {0};
    int status = load(file, &config, &f) ? ctl_fail(&f) : CTL_DONE;
    config_destroy(&table, &config);
    return status;
}

/* How many arguments name the configuration: 2 for --config FILE, 1 for --config=FILE, else 0. */
static int take_config(int argc, char **argv, const char **file)
{
    static const char joined[] = "--config=";
    if (argc >= 2 && strcmp(argv[0], "--config") == 0) {
        *file = argv[1];
        return 2;
    }
    if (argc < 1 || strncmp(argv[0], joined, sizeof joined - 1) != 0) return 0;
    *file = argv[0] + sizeof joined - 1;
    return 1;
}

int main(int argc, char **argv)
{
    const char *file = NULL;
    bool check = false;
    int words;
    log_init("sandglass", LOG_ERROR);
    json_memory_setup();
    argc--;
    argv++;
    for (int taken = 1; taken;) {
        taken = take_config(argc, argv, &file);
        if (!taken && argc >= 1 && strcmp(argv[0], "--check-config") == 0) {
            check = true;
            taken = 1;
        }
        argc -= taken;
        argv += taken;
    }
    bool given = file != NULL;
    if (!given) file = default_config;
    if (check) return argc == 0 ? check_config(file) : ctl_misuse("--check-config takes no command");
    if (argc == 1 && print_about(argv[0])) return CTL_DONE;
    const struct command *command = command_find(argc, argv, &words);
    if (!command) return ctl_misuse("no such command");
    int status = run(command, file, given, argc - words, argv + words);
    if (fflush(stdout) != 0) {
        fprintf(stderr, "sandglass: standard output could not be written\n");
        return CTL_NO;
    }
    return status;
}
