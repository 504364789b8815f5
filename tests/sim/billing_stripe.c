/* Stripe, and the network before it: requests arrive late and in any order, are throttled, refused, fail before or
 * after they are carried out, and their answers get lost or crossed. Identifiers are forgotten after a day. At no time
 * may it hold more than the truth. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/billing_world.h"

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

/* Something between answers for another request, or refuses it on its own. True: Stripe has not seen it. */
static bool turned_away(struct billing_world *w, struct billing_request *q)
{
    static const char other[] = "sg1-0000000000000000000000000000000000000000000000000000000000000000";
    if (billing_fault(w, SIM_STRIPE_429))
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

static void bill(struct billing_world *w, struct billing_request *q)
{
    int i = billing_index(q->key), customer = customer_of(q);
    uint64_t value = strtoull(strstr(q->body, "payload%5Bv%5D=") + 15, NULL, 10);
    bool set = billing_meters[q->key.meter].meter.mode == BILL_SET, dropped = billing_fault(w, SIM_STRIPE_DROPS);
    struct billing_receipt *r = &w->receipt[w->receipts++];
    memcpy(r->identifier, q->identifier, sizeof r->identifier);
    r->at = q->at;
    if (set && value < w->billed[i]) sim_fail(w->sim, "a set meter went down, key %d", i);
    if (w->billed[i] && customer != w->billed_to[i]) sim_fail(w->sim, "an hour of two customers, key %d", i);
    w->billed_to[i] = customer;
    if (dropped)
        w->dropped[i] = set ? value - w->billed[i] : w->dropped[i] + value;
    else if (set)
        w->dropped[i] = 0;
    if (!dropped) w->billed[i] = set ? value : w->billed[i] + value;
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
        bill(w, q);
        say_taken(q, q->identifier);
        if (billing_fault(w, SIM_STRIPE_500_AFTER)) say(q, 500, "{\"error\":{}}");
        if (billing_fault(w, SIM_ANSWER_CUT)) q->answer[20] = '\0';
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
