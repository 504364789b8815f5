/* sandglass status: asks every program's /healthz, all at once, and says what each says of itself. */
#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "aggregator/ctl/ctl.h"
#include "common/buffer.h"
#include "common/json_out.h"

enum {
    TIMEOUT_MS = 3000,
    BODY_BYTES_MAX = 4096,
    LINE_BYTES_MAX = 64 * 1024,
    NAME_BYTES = 65,
    URL_BYTES = 256,
    REASON_BYTES = 640
};

struct program {
    char name[NAME_BYTES], url[URL_BYTES];
    CURL *curl;
    struct buffer body;
    CURLcode asked; /* what came of asking */
    bool healthy;
    char reason[REASON_BYTES];
    json_int_t position_age_ms, lag;
};

static size_t take_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct buffer *body = arg;
    buffer_append(body, bytes, size * count);
    return body->error ? 0 : size * count;
}

/* "NAME URL"; false when the configuration's value is not that. */
static bool program_parse(const char *text, struct program *p)
{
    const char *space = strchr(text, ' ');
    size_t length = space ? (size_t)(space - text) : 0;
    if (!space || !id_valid(text, length)) return false;
    memcpy(p->name, text, length);
    int n = snprintf(p->url, sizeof p->url, "%s/healthz", space + 1);
    return n > 0 && (size_t)n < sizeof p->url;
}

static bool program_ask(struct program *p, CURLM *multi)
{
    buffer_init(&p->body, BODY_BYTES_MAX);
    p->curl = curl_easy_init();
    if (!p->curl) return false;
    curl_easy_setopt(p->curl, CURLOPT_URL, p->url);
    curl_easy_setopt(p->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(p->curl, CURLOPT_TIMEOUT_MS, (long)TIMEOUT_MS);
    curl_easy_setopt(p->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(p->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(p->curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(p->curl, CURLOPT_WRITEDATA, &p->body);
    return curl_multi_add_handle(multi, p->curl) == CURLM_OK;
}

static void ask_all(CURLM *multi, struct program *programs, size_t count)
{
    int running = 1, left;
    while (running && curl_multi_perform(multi, &running) == CURLM_OK && running)
        if (curl_multi_poll(multi, NULL, 0, TIMEOUT_MS, NULL) != CURLM_OK) return;
    for (CURLMsg *m; (m = curl_multi_info_read(multi, &left));)
        for (size_t i = 0; i < count; i++)
            if (programs[i].curl == m->easy_handle) programs[i].asked = m->data.result;
}

static void program_judge(struct program *p)
{
    json_error_t error;
    json_t *j = p->body.length ? json_loadb(p->body.data, p->body.length, 0, &error) : NULL;
    if (!json_is_object(j)) {
        /* nothing listens: it has ended, or it never began; it listens and says nothing: it is stopped, or its host is
         */
        snprintf(p->reason, sizeof p->reason, "%s",
                 p->asked == CURLE_COULDNT_CONNECT      ? "down: it does not run"
                 : p->asked == CURLE_OPERATION_TIMEDOUT ? "down: it runs and does not answer, or its host is away"
                                                        : "down: it does not answer");
    } else {
        const char *reason = json_string_value(json_object_get(j, "reason"));
        p->healthy = json_is_true(json_object_get(j, "healthy"));
        p->position_age_ms = json_integer_value(json_object_get(j, "position_age_ms"));
        p->lag = json_integer_value(json_object_get(j, "lag"));
        snprintf(p->reason, sizeof p->reason, "%s", reason ? reason : "");
    }
    json_decref(j);
}

static void print_json(const struct program *programs, size_t count, bool healthy)
{
    struct buffer line;
    struct json_out j;
    buffer_init(&line, LINE_BYTES_MAX);
    json_out_init(&j, &line);
    json_out_object_begin(&j, NULL);
    json_out_bool(&j, "healthy", healthy);
    json_out_array_begin(&j, "programs");
    for (size_t i = 0; i < count; i++) {
        json_out_object_begin(&j, NULL);
        json_out_string(&j, "name", programs[i].name);
        json_out_bool(&j, "healthy", programs[i].healthy);
        json_out_string(&j, "reason", programs[i].reason[0] ? programs[i].reason : NULL);
        json_out_i64(&j, "position_age_ms", programs[i].position_age_ms);
        json_out_i64(&j, "lag", programs[i].lag);
        json_out_object_end(&j);
    }
    json_out_array_end(&j);
    json_out_object_end(&j);
    if (json_out_finish(&j) == SG_OK) puts(line.data);
    buffer_destroy(&line);
}

static void print_table(const struct program *programs, size_t count, bool healthy)
{
    printf("%-24s %-8s %16s %12s  %s\n", "program", "health", "position age", "lag", "reason");
    for (size_t i = 0; i < count; i++)
        printf("%-24s %-8s %13lld ms %12lld  %s\n", programs[i].name, programs[i].healthy ? "green" : "red",
               (long long)programs[i].position_age_ms, (long long)programs[i].lag, programs[i].reason);
    if (!healthy) puts("What to do: deploy/runbook/, a page for every word before a colon.");
}

int ctl_status(const struct ctl_call *c)
{
    static struct program programs[CONFIG_LIST_MAX];
    size_t count = c->config->programs.count;
    bool healthy = true, ok = true;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURLM *multi = curl_multi_init();
    if (!multi) return ctl_misuse("no memory");
    for (size_t i = 0; ok && i < count; i++)
        ok = program_parse(c->config->programs.item[i], &programs[i]) && program_ask(&programs[i], multi);
    if (ok) ask_all(multi, programs, count);
    for (size_t i = 0; i < count; i++) {
        if (ok) program_judge(&programs[i]);
        healthy &= programs[i].healthy;
        if (programs[i].curl) {
            curl_multi_remove_handle(multi, programs[i].curl);
            curl_easy_cleanup(programs[i].curl);
        }
        buffer_destroy(&programs[i].body);
    }
    curl_multi_cleanup(multi);
    curl_global_cleanup();
    if (!ok) return ctl_misuse("a program in the configuration is not NAME URL");
    if (c->option[OPTION_JSON])
        print_json(programs, count, healthy);
    else
        print_table(programs, count, healthy);
    return healthy ? CTL_DONE : CTL_NO;
}
