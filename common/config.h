/* Configuration: one table per program makes the parser, the example file, --help and the man page.
 *
 * FORMAT    lines of `key = value`; blank lines and lines that start with # are skipped; spaces around key and value
 * are not part of them; no quotes, no continuation, no comment behind a value. A value is at most
 *           CONFIG_VALUE_BYTES_MAX bytes of UTF-8 without control characters.
 *           bytes: a number, or one with k, M or G (powers of 1024). duration: ms, s, m, h or d must be given.
 *           bool: yes or no. list: the key is repeated. listen: ADDRESS:PORT, [ADDRESS]:PORT for IPv6, numeric.
 *           secret: `file:PATH` or `credential:NAME` (a file in $CREDENTIALS_DIRECTORY, systemd's LoadCredential);
 *           its content without the final newline is the value.
 * ERRORS    `FILE:LINE: KEY: what is wrong`, never the value: it may be a secret in the wrong place. An unknown key is
 *           an error (and is not named: it may be a value), so is a key given twice that is no list, and a missing
 *           required one. Environment variables override nothing.
 *
 * A table: keys[] = {
 *     CONFIG_STRING(struct thing, brokers, "kafka.brokers", NULL, "host:port,host:port of the Kafka cluster"),
 *     CONFIG_DURATION(struct thing, commit_ms, "commit.interval", "200ms", 1, MINUTE_MS, "how long ..."),
 * }; a NULL default makes the key required; "" makes a string optional (then it is ""). */
#ifndef COMMON_CONFIG_H
#define COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "sandglass/error.h"

enum { CONFIG_VALUE_BYTES_MAX = 1024, CONFIG_LINE_BYTES_MAX = 2048, CONFIG_KEYS_MAX = 64, CONFIG_LIST_MAX = 64 };
enum { CONFIG_SECRET_BYTES_MAX = 4096, CONFIG_HOST_BYTES = 46 };

/* In brackets: the C type of the member at offset. */
enum config_type {
    CONFIG_TYPE_STRING,   /* char *, owned, never NULL */
    CONFIG_TYPE_PATH,     /* char *, owned; absolute, or "" */
    CONFIG_TYPE_INT,      /* int64_t */
    CONFIG_TYPE_BYTES,    /* uint64_t */
    CONFIG_TYPE_DURATION, /* uint64_t, milliseconds */
    CONFIG_TYPE_BOOL,     /* bool */
    CONFIG_TYPE_WORD,     /* int, index into words */
    CONFIG_TYPE_LIST,     /* struct config_list */
    CONFIG_TYPE_SECRET,   /* char *, owned, wiped by config_destroy; "" when not given */
    CONFIG_TYPE_LISTEN,   /* struct config_listen */
};

/* Values of a repeatable key, owned. */
struct config_list {
    char **item;
    size_t count;
};

/* A numeric address to listen on. */
struct config_listen {
    char host[CONFIG_HOST_BYTES]; /* without brackets */
    uint16_t port;                /* 0: the kernel chooses */
};

/* One key. */
struct config_key {
    const char *name;
    enum config_type type;
    size_t offset;
    const char *fallback;     /* as it would be written in the file; NULL: required */
    const char *help;         /* one sentence without a full stop */
    uint64_t min, max;        /* int (never negative), bytes, duration */
    const char *const *words; /* of a word, NULL at the end */
};

#define CONFIG_KEY_(type_, struct_, member_, name_, fallback_, help_, ...)                                             \
    {                                                                                                                  \
        .name = (name_), .type = CONFIG_TYPE_##type_, .offset = offsetof(struct_, member_), .fallback = (fallback_),   \
        .help = (help_), __VA_ARGS__                                                                                   \
    }
#define CONFIG_STRING(s, m, name, fallback, help)       CONFIG_KEY_(STRING, s, m, name, fallback, help, .min = 0)
#define CONFIG_PATH(s, m, name, fallback, help)         CONFIG_KEY_(PATH, s, m, name, fallback, help, .min = 0)
#define CONFIG_BOOL(s, m, name, fallback, help)         CONFIG_KEY_(BOOL, s, m, name, fallback, help, .min = 0)
#define CONFIG_SECRET(s, m, name, fallback, help)       CONFIG_KEY_(SECRET, s, m, name, fallback, help, .min = 0)
#define CONFIG_LISTEN(s, m, name, fallback, help)       CONFIG_KEY_(LISTEN, s, m, name, fallback, help, .min = 0)
#define CONFIG_LIST(s, m, name, help)                   CONFIG_KEY_(LIST, s, m, name, "", help, .min = 0)
#define CONFIG_LIST_REQUIRED(s, m, name, help)          CONFIG_KEY_(LIST, s, m, name, NULL, help, .min = 0)
#define CONFIG_WORD(s, m, name, fallback, words_, help) CONFIG_KEY_(WORD, s, m, name, fallback, help, .words = words_)
#define CONFIG_INT(s, m, name, fallback, lo, hi, help)                                                                 \
    CONFIG_KEY_(INT, s, m, name, fallback, help, .min = lo, .max = hi)
#define CONFIG_BYTES(s, m, name, fallback, lo, hi, help)                                                               \
    CONFIG_KEY_(BYTES, s, m, name, fallback, help, .min = lo, .max = hi)
#define CONFIG_DURATION(s, m, name, fallback, lo, hi, help)                                                            \
    CONFIG_KEY_(DURATION, s, m, name, fallback, help, .min = lo, .max = hi)

/* A program's configuration. Static. */
struct config_table {
    const char *program; /* "sandglass-collector" */
    const char *summary; /* one line, for help and man page */
    const struct config_key *keys;
    size_t count;
    size_t struct_bytes; /* sizeof the program's struct */
    /* Rules between keys, run after a file was read; NULL: none. Returns CONFIG with a sentence in f. */
    enum sg_error (*check)(const void *config, struct sg_fault *f);
};

/* Reads file into out (struct_bytes, overwritten). On error out is destroyed and zeroed. CONFIG, IO, LIMIT, NOMEM. */
SG_MUST_USE enum sg_error config_load(const char *file, const struct config_table *table, void *out,
                                      struct sg_fault *f);
/* The same of a file's text, which is changed and has room for one byte more; file names it in errors. CONFIG, NOMEM;
 * what a secret names is read. */
SG_MUST_USE enum sg_error config_parse(const char *file, char *text, size_t length, const struct config_table *table,
                                       void *out, struct sg_fault *f);
/* Frees what config_load made, wipes secrets, zeroes. Safe on a zeroed struct. */
void config_destroy(const struct config_table *table, void *config);
/* Splits a list of "NAME VALUE" in place: pairs = name, value, name, value, ..., NULL (properties of librdkafka).
 * CONFIG names the key when an item is not that. pairs point into the list. */
SG_MUST_USE enum sg_error config_list_pairs(const struct config_list *list, const char *key,
                                            const char *pairs[static 2 * CONFIG_LIST_MAX + 1], struct sg_fault *f);
/* A commented file in which every key stands with its default; required ones stand without a value. */
void config_print_example(const struct config_table *table, FILE *out);
/* The keys, for --help. */
void config_print_help(const struct config_table *table, FILE *out);
/* A man page in roff. */
void config_print_man(const struct config_table *table, FILE *out);

#endif
