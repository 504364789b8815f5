#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/args.h"
#include "common/config.h"
#include "sandglass/time.h"

struct thing {
    char *brokers, *note, *path, *key;
    int64_t partitions;
    uint64_t spool_bytes, interval_ms;
    bool tls;
    int level;
    struct config_list runners;
    struct config_listen listen;
};

static const char *const levels[] = {"error", "info", NULL};
static const struct config_key keys[] = {
    CONFIG_STRING(struct thing, brokers, "kafka.brokers", NULL, "brokers of the cluster"),
    CONFIG_STRING(struct thing, note, "note", "", "anything"),
    CONFIG_PATH(struct thing, path, "spool.path", "/var/lib/thing", "where the spool is"),
    CONFIG_INT(struct thing, partitions, "partitions", "6", 1, 1024, "partitions of the topic"),
    CONFIG_BYTES(struct thing, spool_bytes, "spool.bytes", "1G", 1 << 20, UINT64_C(1) << 40, "size of the spool"),
    CONFIG_DURATION(struct thing, interval_ms, "interval", "200ms", 1, MINUTE_MS, "time between commits"),
    CONFIG_BOOL(struct thing, tls, "tls", "no", "whether TLS is on"),
    CONFIG_WORD(struct thing, level, "level", "info", levels, "how much is logged"),
    CONFIG_LIST(struct thing, runners, "runner", "a runner"),
    CONFIG_SECRET(struct thing, key, "stripe.key", "", "restricted key"),
    CONFIG_LISTEN(struct thing, listen, "listen", "127.0.0.1:0", "operations listener"),
};

static enum sg_error check(const void *config, struct sg_fault *f)
{
    const struct thing *t = config;
    if (t->tls && !t->key[0]) return sg_fail(f, SG_ERR_CONFIG, "tls needs stripe.key");
    return SG_OK;
}

static const struct config_table table = {
    .program = "thing",
    .summary = "a program of tests",
    .keys = keys,
    .count = sizeof keys / sizeof keys[0],
    .struct_bytes = sizeof(struct thing),
    .check = check,
};

static char folder[] = P_tmpdir "/test_config.XXXXXX";
static char file[64];
static struct thing thing;
static struct sg_fault fault;

static void set_up(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/thing.conf", folder);
}

static void write_file(const char *path, const char *text, size_t length)
{
    FILE *out = fopen(path, "w");
    cr_assert_not_null(out);
    cr_assert_eq(fwrite(text, 1, length, out), length);
    fclose(out);
}

static void tear_down(void)
{
    char path[128];
    config_destroy(&table, &thing);
    unlink(file);
    snprintf(path, sizeof path, "%s/secret", folder);
    unlink(path);
    rmdir(folder);
}

TestSuite(config, .init = set_up, .fini = tear_down);

static enum sg_error load(const char *text)
{
    write_file(file, text, strlen(text));
    config_destroy(&table, &thing);
    memset(&fault, 0, sizeof fault);
    return config_load(file, &table, &thing, &fault);
}

/* Loads text and expects "FILE" + what follows. */
static void assert_refused(const char *text, const char *after_file)
{
    struct thing zeroed = {0};
    cr_assert_eq(load(text), SG_ERR_CONFIG, "%s", text);
    cr_assert_eq(strncmp(fault.text, file, strlen(file)), 0);
    cr_assert_str_eq(fault.text + strlen(file), after_file);
    cr_assert_eq(memcmp(&thing, &zeroed, sizeof thing), 0);
}

Test(config, fills_in_defaults)
{
    cr_assert_eq(load("kafka.brokers = a:1\n"), SG_OK, "%s", fault.text);
    cr_assert_str_eq(thing.brokers, "a:1");
    cr_assert_str_empty(thing.note);
    cr_assert_str_eq(thing.path, "/var/lib/thing");
    cr_assert_eq(thing.partitions, 6);
    cr_assert_eq(thing.spool_bytes, 1 << 30);
    cr_assert_eq(thing.interval_ms, 200);
    cr_assert_not(thing.tls);
    cr_assert_eq(thing.level, 1);
    cr_assert_eq(thing.runners.count, 0);
    cr_assert_str_empty(thing.key);
    cr_assert_str_eq(thing.listen.host, "127.0.0.1");
    cr_assert_eq(thing.listen.port, 0);
}

Test(config, reads_every_type)
{
    cr_assert_eq(load("# comment\n\n \t# indented comment\n"
                      "kafka.brokers=a:1,b:2\n"
                      "note =\t a value = with # and spaces \t\n"
                      "spool.path = /srv/x y\n"
                      "partitions = 1024\n"
                      "spool.bytes = 3M\n"
                      "interval = 1m\n"
                      "tls = no\n"
                      "level = error\n"
                      "runner = r1\nrunner = r2\n"
                      "listen = [::1]:9464"),
                 SG_OK, "%s", fault.text);
    cr_assert_str_eq(thing.note, "a value = with # and spaces");
    cr_assert_str_eq(thing.path, "/srv/x y");
    cr_assert_eq(thing.partitions, 1024);
    cr_assert_eq(thing.spool_bytes, 3 << 20);
    cr_assert_eq(thing.interval_ms, 60000);
    cr_assert_eq(thing.level, 0);
    cr_assert_eq(thing.runners.count, 2);
    cr_assert_str_eq(thing.runners.item[1], "r2");
    cr_assert_str_eq(thing.listen.host, "::1");
    cr_assert_eq(thing.listen.port, 9464);
}

Test(config, names_file_line_and_key_but_never_the_value)
{
    static const struct {
        const char *line, *error;
    } cases[] = {
        {"sk_live_secret = 1", ":2: unknown key"},
        {"sk_live_secret", ":2: not a line of `key = value`"},
        {"partitions =", ":2: partitions: no value"},
        {"partitions = sk_live", ":2: partitions: not a number"},
        {"partitions = 7x", ":2: partitions: not a number"},
        {"partitions = -1", ":2: partitions: not a number"},
        {"partitions = 0", ":2: partitions: must lie between 1 and 1024"},
        {"partitions = 99999999999999999999999", ":2: partitions: must lie between 1 and 1024"},
        {"spool.bytes = 5T", ":2: spool.bytes: bad unit: none, k, M or G"},
        {"spool.bytes = 18446744073709551615G", ":2: spool.bytes: must lie between 1M and 1024G"},
        {"interval = 200", ":2: interval: bad unit: ms, s, m, h or d"},
        {"interval = 2m", ":2: interval: must lie between 1ms and 1m"},
        {"interval = 0ms", ":2: interval: must lie between 1ms and 1m"},
        {"tls = true", ":2: tls: neither yes nor no"},
        {"level = loud", ":2: level: not one of the words allowed"},
        {"spool.path = relative", ":2: spool.path: not an absolute path"},
        {"kafka.brokers = again", ":2: kafka.brokers: given twice"},
        {"listen = localhost:1", ":2: listen: not ADDRESS:PORT with a numeric address"},
        {"listen = 127.0.0.1", ":2: listen: not ADDRESS:PORT with a numeric address"},
        {"listen = 127.0.0.1:65536", ":2: listen: not ADDRESS:PORT with a numeric address"},
        {"listen = ::1:80", ":2: listen: not ADDRESS:PORT with a numeric address"},
        {"listen = 127.0.0.1:+1", ":2: listen: not ADDRESS:PORT with a numeric address"},
        {"stripe.key = sk_live_secret", ":2: stripe.key: neither file:PATH nor credential:NAME"},
        {"stripe.key = file:relative", ":2: stripe.key: not an absolute path"},
        {"stripe.key = credential:../x", ":2: stripe.key: bad credential name"},
        {"stripe.key = file:/nonexistent/x", ":2: stripe.key: the secret's file: No such file or directory"},
        {"note = a\x01", ":2: the line has control characters"},
        {"tls = yes", ": tls needs stripe.key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "kafka.brokers = a:1\n%s\n", cases[i].line);
        assert_refused(text, cases[i].error);
        cr_assert_null(strstr(fault.text, "sk_live"));
    }
}

Test(config, refuses_a_file_without_a_required_key)
{
    assert_refused("note = x\n", ": kafka.brokers: must be given");
}

Test(config, refuses_a_file_without_a_list_that_must_not_be_empty)
{
    static const struct config_key one[] = {CONFIG_LIST_REQUIRED(struct thing, runners, "runner", "a runner")};
    static const struct config_table required = {
        .program = "thing", .summary = "x", .keys = one, .count = 1, .struct_bytes = sizeof(struct thing)};
    write_file(file, "", 0);
    cr_assert_eq(config_load(file, &required, &thing, &fault), SG_ERR_CONFIG);
    cr_assert_str_eq(fault.text + strlen(file), ": runner: must be given");
    write_file(file, "runner = r1\nrunner = r2\n", 24);
    cr_assert_eq(config_load(file, &required, &thing, &fault), SG_OK);
    cr_assert_eq(thing.runners.count, 2);
}

Test(config, refuses_lines_and_values_that_are_too_long)
{
    char text[CONFIG_LINE_BYTES_MAX + 64];
    snprintf(text, sizeof text, "note = %0*d\n", CONFIG_VALUE_BYTES_MAX + 1, 0);
    assert_refused(text, ":1: note: the value is too long");
    snprintf(text, sizeof text, "note = %0*d\n", CONFIG_LINE_BYTES_MAX, 0);
    assert_refused(text, ":1: the line is too long");
}

Test(config, refuses_a_nul_byte)
{
    write_file(file, "note = a\0b\n", 11);
    cr_assert_eq(config_load(file, &table, &thing, &fault), SG_ERR_CONFIG);
}

Test(config, says_when_there_is_no_file)
{
    cr_assert_eq(config_load("/nonexistent/thing.conf", &table, &thing, &fault), SG_ERR_IO);
    cr_assert_str_eq(fault.text, "/nonexistent/thing.conf: No such file or directory");
}

Test(config, reads_secrets_from_files_and_credentials)
{
    char secret[96], text[256];
    snprintf(secret, sizeof secret, "%s/secret", folder);
    write_file(secret, "rk_test_1\n", 10);
    snprintf(text, sizeof text, "kafka.brokers = a:1\nstripe.key = file:%s\n", secret);
    cr_assert_eq(load(text), SG_OK, "%s", fault.text);
    cr_assert_str_eq(thing.key, "rk_test_1");
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_refused("kafka.brokers = a:1\nstripe.key = credential:secret\n",
                   ":2: stripe.key: a credential, but the service manager gave none");
    setenv("CREDENTIALS_DIRECTORY", folder, 1);
    cr_assert_eq(load("kafka.brokers = a:1\nstripe.key = credential:secret\n"), SG_OK, "%s", fault.text);
    cr_assert_str_eq(thing.key, "rk_test_1");
}

Test(config, refuses_a_secret_that_is_not_one_line)
{
    static const char *const wrong[] = {"", "\n", "a\nb\n"};
    char secret[96], text[256];
    snprintf(secret, sizeof secret, "%s/secret", folder);
    snprintf(text, sizeof text, "kafka.brokers = a:1\nstripe.key = file:%s\n", secret);
    for (size_t i = 0; i < 3; i++) {
        write_file(secret, wrong[i], strlen(wrong[i]));
        assert_refused(text, ":2: stripe.key: the secret's file does not hold one line of at most 4096 bytes");
    }
}

Test(config, prints_an_example_that_loads_once_it_is_filled_in)
{
    char text[8192];
    FILE *out = fmemopen(text, sizeof text, "w");
    config_print_example(&table, out);
    fclose(out);
    cr_assert_not_null(strstr(text, "# size of the spool (bytes with k, M or G, 1M to 1024G; default 1G)\n"
                                    "spool.bytes = 1G\n"));
    cr_assert_not_null(strstr(text, "#note =\n"));
    assert_refused(text, ":4: kafka.brokers: no value");
    char *required = strstr(text, "kafka.brokers =\n");
    cr_assert_not_null(required);
    char filled[8300];
    snprintf(filled, sizeof filled, "%.*skafka.brokers = a:1\n%s", (int)(required - text), text,
             required + strlen("kafka.brokers =\n"));
    cr_assert_eq(load(filled), SG_OK, "%s", fault.text);
    cr_assert_eq(thing.spool_bytes, 1 << 30);
}

Test(config, prints_help_and_a_man_page_for_every_key)
{
    char text[8192];
    for (int man = 0; man < 2; man++) {
        FILE *out = fmemopen(text, sizeof text, "w");
        if (man)
            config_print_man(&table, out);
        else
            config_print_help(&table, out);
        fclose(out);
        for (size_t i = 0; i < table.count; i++) cr_assert_not_null(strstr(text, keys[i].name), "%s", keys[i].name);
    }
}

/* ---- the front of main ---- */

static bool setup(int *status, const char *a, const char *b)
{
    char program[] = "thing", first[160], second[160];
    char *argv[] = {program, first, second, NULL};
    snprintf(first, sizeof first, "%s", a ? a : "");
    snprintf(second, sizeof second, "%s", b ? b : "");
    config_destroy(&table, &thing);
    return args_main_setup(a ? b ? 3 : 2 : 1, argv, &table, &thing, status);
}

Test(config, main_goes_on_with_a_configuration_that_holds)
{
    int status = -1;
    write_file(file, "kafka.brokers = a:1\n", 20);
    cr_assert(setup(&status, "--config", file));
    cr_assert_str_eq(thing.brokers, "a:1");
    char joined[128];
    snprintf(joined, sizeof joined, "--config=%s", file);
    cr_assert(setup(&status, joined, NULL));
    cr_assert_not(setup(&status, joined, "--check-config"));
    cr_assert_eq(status, 0);
}

Test(config, main_ends_with_the_exit_code_that_is_promised)
{
    static const struct {
        const char *first, *second;
        int status;
    } cases[] = {
        {"--help", NULL, 0},         {"--version", NULL, 0}, {"--example-config", NULL, 0},
        {"--man", NULL, 0},          {"--unknown", NULL, 2}, {"extra", NULL, 2},
        {"--config", NULL, 2},       {NULL, NULL, 1},        {"--config", "/nonexistent", 1},
        {"--check-config", NULL, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int status = -1;
        cr_assert_not(setup(&status, cases[i].first, cases[i].second));
        cr_assert_eq(status, cases[i].status, "case %zu", i);
    }
}
