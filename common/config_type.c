#include "common/config_type.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sandglass/time.h"

/* A suffix and what it multiplies with; largest last. */
struct unit {
    const char *suffix;
    uint64_t factor;
};

static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
static const struct unit byte_units[] = {{"", 1}, {"k", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {NULL, 0}};
static const struct unit time_units[] = {{"ms", 1},      {"s", SECOND_MS}, {"m", MINUTE_MS},
                                         {"h", HOUR_MS}, {"d", DAY_MS},    {NULL, 0}};

static const struct unit *units_of(enum config_type type)
{
    return type == CONFIG_TYPE_BYTES ? byte_units : type == CONFIG_TYPE_DURATION ? time_units : no_units;
}

/* Writes v in the largest unit that divides it. */
static void print_quantity(enum config_type type, uint64_t v, char *out, size_t size)
{
    const struct unit *units = units_of(type), *best = units;
    for (const struct unit *u = units; u->suffix; u++)
        if (v && v % u->factor == 0) best = u;
    snprintf(out, size, "%" PRIu64 "%s", v / best->factor, best->suffix);
}

static enum sg_error fail_range(const struct config_key *k, struct sg_fault *f)
{
    char low[32], high[32];
    print_quantity(k->type, k->min, low, sizeof low);
    print_quantity(k->type, k->max, high, sizeof high);
    return sg_fail(f, SG_ERR_CONFIG, "must lie between %s and %s", low, high);
}

static enum sg_error parse_quantity(const struct config_key *k, const char *value, void *member, struct sg_fault *f)
{
    uint64_t v = 0;
    const char *p = value;
    bool fits = true;
    for (; *p >= '0' && *p <= '9'; p++) {
        fits = fits && !__builtin_mul_overflow(v, (uint64_t)10, &v);
        fits = fits && !__builtin_add_overflow(v, (uint64_t)(*p - '0'), &v);
    }
    if (p == value) return sg_fail(f, SG_ERR_CONFIG, "not a number");
    const struct unit *u = units_of(k->type);
    while (u->suffix && strcmp(u->suffix, p) != 0) u++;
    if (!u->suffix) {
        if (k->type == CONFIG_TYPE_BYTES) return sg_fail(f, SG_ERR_CONFIG, "bad unit: none, k, M or G");
        if (k->type == CONFIG_TYPE_DURATION) return sg_fail(f, SG_ERR_CONFIG, "bad unit: ms, s, m, h or d");
        return sg_fail(f, SG_ERR_CONFIG, "not a number");
    }
    fits = fits && !__builtin_mul_overflow(v, u->factor, &v);
    if (!fits || v < k->min || v > k->max) return fail_range(k, f);
    if (k->type == CONFIG_TYPE_INT)
        *(int64_t *)member = (int64_t)v;
    else
        *(uint64_t *)member = v;
    return SG_OK;
}

static enum sg_error copy(const char *value, char **out, struct sg_fault *f)
{
    *out = strdup(value);
    return *out ? SG_OK : sg_fail(f, SG_ERR_NOMEM, "no memory for the configuration");
}

static enum sg_error parse_string(const struct config_key *k, const char *value, void *member, struct sg_fault *f)
{
    (void)k;
    return copy(value, member, f);
}

static enum sg_error parse_path(const struct config_key *k, const char *value, void *member, struct sg_fault *f)
{
    (void)k;
    if (value[0] && value[0] != '/') return sg_fail(f, SG_ERR_CONFIG, "not an absolute path");
    return copy(value, member, f);
}

static enum sg_error parse_bool(const struct config_key *k, const char *value, void *member, struct sg_fault *f)
{
    (void)k;
    bool yes = strcmp(value, "yes") == 0;
    if (!yes && strcmp(value, "no") != 0) return sg_fail(f, SG_ERR_CONFIG, "neither yes nor no");
    *(bool *)member = yes;
    return SG_OK;
}

static enum sg_error parse_word(const struct config_key *k, const char *value, void *member, struct sg_fault *f)
{
    for (int i = 0; k->words[i]; i++) {
        if (strcmp(k->words[i], value) != 0) continue;
        *(int *)member = i;
        return SG_OK;
    }
    return sg_fail(f, SG_ERR_CONFIG, "not one of the words allowed");
}

static enum sg_error parse_list(const struct config_key *k, const char *value, void *member, struct sg_fault *f)
{
    (void)k;
    struct config_list *list = member;
    if (list->count == CONFIG_LIST_MAX) return sg_fail(f, SG_ERR_CONFIG, "given more than %d times", CONFIG_LIST_MAX);
    char **item = realloc(list->item, (list->count + 1) * sizeof *item);
    if (!item) return sg_fail(f, SG_ERR_NOMEM, "no memory for the configuration");
    list->item = item;
    enum sg_error e = copy(value, &item[list->count], f);
    if (!e) list->count++;
    return e;
}

static enum sg_error parse_listen(const struct config_key *k, const char *value, void *member, struct sg_fault *f)
{
    (void)k;
    static const char wrong[] = "not ADDRESS:PORT with a numeric address";
    struct config_listen *listen = member;
    unsigned char address[sizeof(struct in6_addr)];
    const char *colon = strrchr(value, ':');
    if (!colon) return sg_fail(f, SG_ERR_CONFIG, "%s", wrong);
    const char *host = value;
    size_t length = (size_t)(colon - value), port_digits = strspn(colon + 1, "0123456789");
    bool v6 = length >= 2 && host[0] == '[' && host[length - 1] == ']';
    if (v6) {
        host++;
        length -= 2;
    }
    if (length >= sizeof listen->host || port_digits == 0 || port_digits > 5 || colon[1 + port_digits])
        return sg_fail(f, SG_ERR_CONFIG, "%s", wrong);
    unsigned long port = strtoul(colon + 1, NULL, 10);
    memset(listen, 0, sizeof *listen);
    memcpy(listen->host, host, length);
    if (port > UINT16_MAX || inet_pton(v6 ? AF_INET6 : AF_INET, listen->host, address) != 1)
        return sg_fail(f, SG_ERR_CONFIG, "%s", wrong);
    listen->port = (uint16_t)port;
    return SG_OK;
}

/* Path of the file that holds the secret: value is "file:PATH" or "credential:NAME". */
static enum sg_error secret_path(const char *value, char *out, size_t size, struct sg_fault *f)
{
    static const char file[] = "file:", credential[] = "credential:";
    const char *folder = "", *slash = "", *name;
    if (strncmp(value, file, sizeof file - 1) == 0) {
        name = value + sizeof file - 1;
        if (name[0] != '/') return sg_fail(f, SG_ERR_CONFIG, "not an absolute path");
    } else if (strncmp(value, credential, sizeof credential - 1) == 0) {
        name = value + sizeof credential - 1;
        if (!name[0] || name[0] == '.' || strchr(name, '/')) return sg_fail(f, SG_ERR_CONFIG, "bad credential name");
        folder = getenv("CREDENTIALS_DIRECTORY");
        if (!folder) return sg_fail(f, SG_ERR_CONFIG, "a credential, but the service manager gave none");
        slash = "/";
    } else {
        return sg_fail(f, SG_ERR_CONFIG, "neither file:PATH nor credential:NAME");
    }
    int length = snprintf(out, size, "%s%s%s", folder, slash, name);
    return (size_t)length < size ? SG_OK : sg_fail(f, SG_ERR_CONFIG, "the path is too long");
}

/* Length of a secret without its final newline; false when it is empty, too long or not one line of text. */
static bool secret_length(const char *secret, size_t *length)
{
    if (*length && secret[*length - 1] == '\n') (*length)--;
    if (*length == 0 || *length > CONFIG_SECRET_BYTES_MAX) return false;
    return !memchr(secret, '\0', *length) && !memchr(secret, '\n', *length);
}

static enum sg_error parse_secret(const struct config_key *k, const char *value, void *member, struct sg_fault *f)
{
    (void)k;
    char path[CONFIG_VALUE_BYTES_MAX * 2], secret[CONFIG_SECRET_BYTES_MAX + 2];
    enum sg_error e = secret_path(value, path, sizeof path, f);
    if (e) return e;
    FILE *in = fopen(path, "re");
    if (!in) return sg_fail(f, SG_ERR_CONFIG, "the secret's file: %s", strerror(errno));
    setvbuf(in, NULL, _IONBF, 0); /* no copy of the secret in a buffer that nobody wipes */
    size_t length = fread(secret, 1, sizeof secret, in);
    bool failed = ferror(in);
    fclose(in);
    if (failed)
        e = sg_fail(f, SG_ERR_CONFIG, "the secret's file cannot be read");
    else if (!secret_length(secret, &length))
        e = sg_fail(f, SG_ERR_CONFIG, "the secret's file does not hold one line of at most %d bytes",
                    CONFIG_SECRET_BYTES_MAX);
    secret[e ? 0 : length] = '\0';
    if (!e) e = copy(secret, member, f);
    explicit_bzero(secret, sizeof secret);
    return e;
}

typedef enum sg_error parse_value(const struct config_key *k, const char *value, void *member, struct sg_fault *f);

static const struct {
    const char *shape;
    parse_value *parse;
} types[] = {
    [CONFIG_TYPE_STRING] = {"text", parse_string},
    [CONFIG_TYPE_PATH] = {"absolute path", parse_path},
    [CONFIG_TYPE_INT] = {"number", parse_quantity},
    [CONFIG_TYPE_BYTES] = {"bytes with k, M or G", parse_quantity},
    [CONFIG_TYPE_DURATION] = {"duration with ms, s, m, h or d", parse_quantity},
    [CONFIG_TYPE_BOOL] = {"yes or no", parse_bool},
    [CONFIG_TYPE_WORD] = {"one of", parse_word},
    [CONFIG_TYPE_LIST] = {"text, may be given several times", parse_list},
    [CONFIG_TYPE_SECRET] = {"file:PATH or credential:NAME", parse_secret},
    [CONFIG_TYPE_LISTEN] = {"ADDRESS:PORT", parse_listen},
};

enum sg_error config_type_parse(const struct config_key *k, const char *value, void *member, struct sg_fault *f)
{
    return types[k->type].parse(k, value, member, f);
}

enum sg_error config_type_default(const struct config_key *k, void *member, struct sg_fault *f)
{
    if (k->type == CONFIG_TYPE_LIST) return SG_OK;
    if (k->type == CONFIG_TYPE_SECRET && !k->fallback[0]) return copy("", member, f);
    return config_type_parse(k, k->fallback, member, f);
}

void config_type_free(const struct config_key *k, void *member)
{
    struct config_list *list = member;
    switch (k->type) {
    case CONFIG_TYPE_SECRET:
        if (*(char **)member) explicit_bzero(*(char **)member, strlen(*(char **)member));
        __attribute__((fallthrough));
    case CONFIG_TYPE_STRING:
    case CONFIG_TYPE_PATH: free(*(char **)member); break;
    case CONFIG_TYPE_LIST:
        for (size_t i = 0; i < list->count; i++) free(list->item[i]);
        free(list->item);
        break;
    default: break;
    }
}

void config_type_describe(const struct config_key *k, FILE *out)
{
    char low[32], high[32];
    fputs(types[k->type].shape, out);
    if (k->type == CONFIG_TYPE_WORD) {
        for (int i = 0; k->words[i]; i++) fprintf(out, "%s %s", i ? "," : "", k->words[i]);
    } else if (k->type == CONFIG_TYPE_INT || k->type == CONFIG_TYPE_BYTES || k->type == CONFIG_TYPE_DURATION) {
        print_quantity(k->type, k->min, low, sizeof low);
        print_quantity(k->type, k->max, high, sizeof high);
        fprintf(out, ", %s to %s", low, high);
    }
}
