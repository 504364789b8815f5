/* Requests to Stripe over libcurl's multi interface: meter events and reads of summaries, several at a time, and the
 * list of meters.
 *
 * HAPPY PATH  stripe_client_post() or stripe_client_read() takes a slot; stripe_client_turn() drives all of them and
 *             calls back once for each.
 *
 * DEADLINE    Checked when the connection is open and the request has not been written (CURLOPT_PREREQFUNCTION);
 *             libcurl comes by there for every copy that it writes, also when it repeats a request because a kept
 *             connection was dead. Past the deadline nothing is written. Connections that idled for STRIPE_IDLE_S are
 *             not used.
 *
 * BOUNDS      Requests in flight, time to connect, time in all, size of an answer; no redirects, no proxy but the
 *             configured one, TLS 1.2 or newer with the peer verified; plain HTTP for loopback addresses only.
 *
 * Nothing of an answer's text leaves this module but its class, its status, its request id, and the sum of a summary.
 * Not thread-safe. */
#ifndef BILLING_STRIPE_CLIENT_H
#define BILLING_STRIPE_CLIENT_H

#include "aggregator/billing/answer.h"
#include "aggregator/billing/meters.h"
#include "common/clock.h"

enum {
    STRIPE_CONCURRENCY_MAX = 128,
    STRIPE_CONNECT_MS = 10 * SECOND_MS,
    STRIPE_TOTAL_MS = 30 * SECOND_MS,
    STRIPE_PROBE_MS = 1 * SECOND_MS,
    STRIPE_IDLE_S = 10,
    STRIPE_BODY_BYTES_MAX = 256 * 1024,
};

/* Strings are borrowed and outlive the client. */
struct stripe_config {
    const char *url;     /* https://api.stripe.com; without a slash at the end */
    const char *key;     /* secret */
    const char *version; /* Stripe-Version */
    const char *ca_file; /* "": the system's */
    const char *proxy;   /* "": none */
    uint32_t concurrency;
    const struct clock *clock; /* NULL: clock_real */
    /* Called several times a second while stripe_client_meters blocks; true: give up. NULL: none. */
    bool (*tick)(void *arg);
    void *tick_arg;
};

/* One attempt. The body is copied, the identifier borrowed until its answer. */
struct stripe_post {
    const char *identifier, *body;
    uint32_t generation; /* Idempotency-Key = identifier.generation */
    struct boot_ms deadline;
    void *arg;
};

/* The read of a summary. Strings are copied. */
struct stripe_read {
    const char *meter_id, *customer;
    struct wall_ms hour;
    struct boot_ms deadline; /* as of an attempt */
    void *arg;
};

/* What came of it. Valid during the call. */
struct stripe_reply {
    void *arg;
    bool is_read;
    enum answer_read read;     /* of a read: these two */
    struct summary summary;    /* of TOLD */
    enum answer answer;        /* of an attempt: these two */
    enum ledger_reason reason; /* of REFUSED */
    uint32_t status;
    char request_id[LEDGER_REQUEST_ID_BYTES];
    uint64_t retry_after_ms; /* 0: not asked for */
    struct clock_trust_date date;
};
typedef void stripe_answered(void *arg, const struct stripe_reply *reply);

/* Opaque. */
struct stripe_client;

/* True when url may be used: https, or http to a loopback address. */
bool stripe_url_allowed(const char *url);
/* NOMEM, CONFIG. */
SG_MUST_USE enum sg_error stripe_client_open(struct stripe_client **out, const struct stripe_config *config,
                                             struct sg_fault *f);
/* Requests that may still be begun. */
size_t stripe_client_free(const struct stripe_client *c);
/* Begins an attempt; stripe_client_free() > 0. NOMEM: nothing was begun. */
SG_MUST_USE enum sg_error stripe_client_post(struct stripe_client *c, const struct stripe_post *post);
/* Begins a read; as stripe_client_post(). */
SG_MUST_USE enum sg_error stripe_client_read(struct stripe_client *c, const struct stripe_read *read);
/* Waits up to wait_ms for the network or for extra_fd (-1: none) to be readable, then calls each for every answer. */
void stripe_client_turn(struct stripe_client *c, uint32_t wait_ms, int extra_fd, stripe_answered *each, void *arg);
/* Asks for the meters until all are found or the list ends; blocks up to STRIPE_TOTAL_MS a page. Nothing is in flight.
 * UNREACHABLE, DENIED, MALFORMED; STATE: it was given up; CONFIG: a meter is missing or cannot be used. *date: the last
 * page's. */
SG_MUST_USE enum sg_error stripe_client_meters(struct stripe_client *c, struct meter_slot *slots, size_t count,
                                               struct clock_trust_date *date, struct sg_fault *f);
/* Opens a connection (TLS included) and closes it: no request, so nothing that Stripe rations. Blocks up to
 * STRIPE_PROBE_MS. False: Stripe cannot be reached now. */
bool stripe_client_probe(struct stripe_client *c);
/* Gives up what is in flight, without an answer. NULL is allowed. */
void stripe_client_close(struct stripe_client *c);

#endif
