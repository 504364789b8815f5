/* Stripe, and the network before it: requests arrive late and in any order, are throttled, refused, fail before or
 * after they are carried out, and their answers get lost or crossed. Identifiers are forgotten after a day; an event is
 * in the summaries hours later, and in those of a replica that is behind later still. At no time may it hold more than
 * the truth. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/billing_world.h"

enum { ODD_CHANCES = 4 };
#define FOREIGN_VALUE (UINT64_C(1) << 46) /* more than is used where units are small, and no multiple of large ones */

static void say(struct billing_request *q, uint32_t status, const char *body)
{
    q->status = status;
    snprintf(q->answer, sizeof q->answer, "%s", body);
}

static void say_taken(struct billing_request *q, const char *identifier)
{
    char text[256];
    snprintf(text, sizeof text, "{\"object\":\"billing.meter_event\",\"identifier\":\"%s\"}", identifier);
    say(q, 200, text);
}

static void say_duplicate(struct billing_request *q, const char *identifier)
{
    char text[256];
    snprintf(text, sizeof text,
             "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"An event already exists with identifier "
             "%s.\"}}",
             identifier);
    say(q, 400, text);
}

static bool known(const struct billing_world *w, const struct billing_request *q)
{
    for (size_t i = w->receipts; i-- > 0;)
        if (strcmp(w->receipt[i].identifier, q->identifier) == 0 && q->at - w->receipt[i].at < w->remembers_ms)
            return true;
    return false;
}

/* Those that come of an intermediary, which does not know what became of the request, stand first. */
enum { OF_INTERMEDIARIES = 4 };

static void say_rare(struct billing_world *w, struct billing_request *q, bool done)
{
    static const struct {
        uint32_t status;
        const char *body;
    } rare[] = {{200, "<html>"},
                {302, "<html>"},
                {308, ""},
                {408, ""},
                {400, "<html>"},
                {400, "{\"error\":{\"type\":\"invalid_request_error\",\"code\":\"rate_limit\"}}"},
                {404, "{\"error\":{\"type\":\"invalid_request_error\"}}"},
                {409, "{\"error\":{\"type\":\"idempotency_error\"}}"}};
    size_t i = sim_draw(w->sim, done ? OF_INTERMEDIARIES : sizeof rare / sizeof *rare);
    say(q, rare[i].status, rare[i].body);
}

static uint32_t denial(struct billing_world *w)
{
    return sim_draw(w->sim, 2) ? 401 : 403;
}

/* Something between answers for another request, or refuses it on its own. True: Stripe has not seen it. */
static bool turned_away(struct billing_world *w, struct billing_request *q)
{
    static const char other[] = "sg1-0000000000000000000000000000000000000000000000000000000000000000";
    if (q->at < w->key_off_until)
        say(q, denial(w), "{\"error\":{\"type\":\"invalid_request_error\"}}");
    else if (billing_fault(w, SIM_STRIPE_RARE))
        say_rare(w, q, false);
    else if (billing_fault(w, SIM_STRIPE_429))
        say(q, 429, "");
    else if (billing_fault(w, SIM_STRIPE_REFUSES))
        say(q, 400, "{\"error\":{\"message\":\"No such customer\"}}");
    else if (billing_fault(w, SIM_STRIPE_500_BEFORE))
        say(q, 500, sim_draw(w->sim, 2) ? "{\"error\":{}}" : "<html>");
    else if (billing_fault(w, SIM_STRIPE_CROSSED))
        sim_draw(w->sim, 2) ? say_taken(q, other) : say_duplicate(q, other);
    else if (q->at < w->meter_off_until)
        say(q, 400, "{\"error\":{\"message\":\"No active meter found for event name\"}}");
    else
        return false;
    return true;
}

static int customer_of(const struct billing_request *q)
{
    for (int c = 0; c < BILLING_CUSTOMERS; c++)
        if (strstr(q->body, billing_customers[c])) return c;
    return -1;
}

/* Whether an event that was forgotten, and is taken again, is in the place of one that was dropped: its own, or another
 * of the same value, which no summary can tell from it. */
static bool makes_up(struct billing_world *w, const struct billing_request *q, int key, uint64_t value)
{
    struct billing_receipt *other = NULL;
    bool again = false;
    for (size_t i = w->receipts; i-- > 0;) {
        struct billing_receipt *r = &w->receipt[i];
        bool same = strcmp(r->identifier, q->identifier) == 0, missing = r->dropped && !r->made_up;
        again |= same;
        if (missing && r->key == key && r->value == value && (same || !other)) other = r;
    }
    if (!again || !other) return false;
    return other->made_up = true;
}

static int64_t lag_of(const struct billing_world *w)
{
    struct sim *s = w->sim;
    if (s->now >= w->lags_until) return 0;
    return sim_draw(s, 2) ? w->lag_ms : (int64_t)sim_draw(s, (uint64_t)w->lag_ms);
}

/* foreign: under its identifier, though it is not ours. */
static void bill(struct billing_world *w, struct billing_request *q, bool foreign)
{
    int i = billing_index(q->key), customer = customer_of(q);
    uint64_t value = strtoull(strstr(q->body, "payload%5Bv%5D=") + 15, NULL, 10);
    bool set = billing_meters[q->key.meter].meter.mode == BILL_SET;
    bool dropped = foreign || billing_fault(w, SIM_STRIPE_DROPS);
    if (set && value < w->billed[i]) sim_fail(w->sim, "a set meter went down, key %d", i);
    if (w->billed[i] && customer != w->billed_to[i]) sim_fail(w->sim, "an hour of two customers, key %d", i);
    w->billed_to[i] = customer;
    if (set)
        w->dropped[i] = dropped ? value - w->billed[i] : 0;
    else
        w->dropped[i] += value * dropped - value * makes_up(w, q, i, value);
    if (!dropped) w->billed[i] = set ? value : w->billed[i] + value;
    w->odd[i] |= dropped;
    struct billing_receipt *r = &w->receipt[w->receipts++];
    *r = (struct billing_receipt){
        .key = i, .customer = customer, .value = value, .at = q->at, .shown_at = q->at + lag_of(w), .dropped = dropped};
    memcpy(r->identifier, q->identifier, sizeof r->identifier);
    w->sim->checks++;
    if (w->billed[i] + w->dropped[i] > w->view->truth(w->view->arg, i))
        sim_fail(w->sim, "billed more than the truth, key %d", i);
    sim_trace(w->sim, "stripe: key %d value %llu now %llu", i, (unsigned long long)value,
              (unsigned long long)w->billed[i]);
}

static void receive(struct billing_world *w, struct billing_request *q)
{
    q->taken = q->answered = true;
    if (turned_away(w, q)) return;
    if (known(w, q)) {
        say_duplicate(q, q->identifier);
    } else {
        bool foreign = billing_fault(w, SIM_FOREIGN_IDENTIFIER);
        bill(w, q, foreign);
        (foreign ? say_duplicate : say_taken)(q, q->identifier);
        if (billing_fault(w, SIM_STRIPE_500_AFTER)) say(q, 500, "{\"error\":{}}");
        if (billing_fault(w, SIM_ANSWER_CUT)) q->answer[20] = '\0';
        if (billing_fault(w, SIM_STRIPE_RARE)) say_rare(w, q, true);
    }
    if (billing_fault(w, SIM_ANSWER_LOST)) q->status = 0;
}

void billing_deliver(struct billing_world *w)
{
    for (;;) {
        struct billing_request *first = NULL;
        while (w->untaken < w->requests && w->request[w->untaken].taken) w->untaken++;
        for (size_t i = w->untaken; i < w->requests; i++) {
            struct billing_request *q = &w->request[i];
            if (!q->taken && q->at <= w->sim->now && (!first || q->at < first->at)) first = q;
        }
        if (!first) return;
        receive(w, first);
    }
}

void billing_foreign_event(struct billing_world *w)
{
    struct sim *s = w->sim;
    int i = (int)sim_draw(s, BILLING_KEYS), team = billing_key_at(i).team;
    if (w->foreign == BILLING_FOREIGN) return;
    w->foreign++;
    w->odd[i] = true;
    w->receipt[w->receipts++] = (struct billing_receipt){.key = i,
                                                         .customer = sim_draw(s, 4) ? team : BILLING_TEAMS + team,
                                                         .value = FOREIGN_VALUE + sim_draw(s, 50),
                                                         .at = s->now,
                                                         .shown_at = s->now + lag_of(w)};
    sim_trace(s, "stripe: an event that is not ours, key %d", i);
}

/* ---- summaries ---- */

static uint64_t shown(const struct billing_world *w, int key, int customer, int64_t at)
{
    bool set = billing_meters[billing_key_at(key).meter].meter.mode == BILL_SET;
    uint64_t sum = 0;
    for (size_t i = 0; i < w->receipts; i++) {
        const struct billing_receipt *r = &w->receipt[i];
        if (r->key == key && r->customer == customer && !r->dropped && r->shown_at <= at)
            sum = set ? r->value : sum + r->value;
    }
    return sum;
}

/* Not told, in one of the ways in which that happens. */
static void say_nothing(struct billing_world *w, struct billing_shown *out)
{
    static const struct {
        uint32_t status;
        const char *text;
    } ways[] = {{0, ""},
                {429, ""},
                {500, "{\"error\":{}}"},
                {502, "<html>"},
                {400, "{\"error\":{}}"},
                {302, "<html>"},
                {404, "{\"error\":{}}"},
                {409, "{\"error\":{}}"},
                {200, "<html>"},
                {200, "{\"data\":["},
                {200, "{\"data\":[],\"has_more\":true}"}};
    size_t i = sim_draw(w->sim, sizeof ways / sizeof *ways);
    out->status = ways[i].status;
    memcpy(out->text, ways[i].text, strlen(ways[i].text) + 1);
}

/* A number that is no sum of ours. */
static void say_odd(struct billing_world *w, uint64_t hoped, char text[static 32])
{
    if (sim_draw(w->sim, 2))
        snprintf(text, 32, "%llu.0625", (unsigned long long)hoped);
    else
        snprintf(text, 32, "%llu", (unsigned long long)(hoped + 1 + sim_draw(w->sim, 50)));
}

void billing_summary(struct billing_world *w, struct billing_key key, int customer, uint64_t hoped,
                     struct billing_shown *out)
{
    struct sim *s = w->sim;
    int i = billing_index(key);
    int64_t behind = billing_fault(w, SIM_SUMMARY_STALE) ? sim_draw(s, 2) ? BILLING_STALE_MS : 10 * MINUTE_MS : 0;
    uint64_t sum = shown(w, i, customer, s->now - behind);
    char number[32];
    *out = (struct billing_shown){
        .status = 200, .at = s->now, .told_at = s->now + (s->quiet ? 0 : (int64_t)sim_draw(s, MINUTE_MS / 2))};
    if (s->now < w->key_off_until) out->status = denial(w);
    if (s->now < w->key_off_until) return;
    if (billing_fault(w, SIM_SUMMARY_UNTOLD)) return say_nothing(w, out);
    snprintf(number, sizeof number, sim_draw(s, 2) ? "%llu.0" : "%llu", (unsigned long long)sum);
    bool odd = false;
    for (int k = 0; k < ODD_CHANCES; k++) odd |= billing_fault(w, SIM_SUMMARY_ODD); /* few summaries are read */
    if (odd) {
        w->odd[i] = true;
        say_odd(w, hoped, number);
    }
    bool empty = strtoull(number, NULL, 10) == 0 && sim_draw(s, 2);
    snprintf(out->text, sizeof out->text,
             "{\"data\":[{\"start_time\":%lld,\"aggregated_value\":%s}],\"has_more\":false}",
             (long long)(billing_hour(w, key).v / SECOND_MS), number);
    if (empty) snprintf(out->text, sizeof out->text, "{\"data\":[]}");
    sim_trace(s, "stripe: summary of key %d: %s", i, out->text);
}
