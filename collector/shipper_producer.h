/* The shipper's producers: librdkafka, one instance after the other. The main thread waits for none to end, but at the
 * program's own end, and when no thread is to be had for it. What is to be sent when, and what a report means, is the
 * shipper's (shipper.c).
 *
 * SETTINGS  what correctness or the memory bound rests on is not for the configuration to change: idempotence, acks of
 *           all, no message timeout, one request in flight.
 * THREADS   the scout asks for the topic's partition count until it knows it (a first message sent without that waits a
 *           second inside librdkafka) and ends; the reaper joins the scout and tears the producer down, which can take
 *           as long as a name look-up. Both write to wake_fd when they have news. Everything else: main thread.
 * TEXTS     faults are static texts of ours or librdkafka's. */
#ifndef COLLECTOR_SHIPPER_PRODUCER_H
#define COLLECTOR_SHIPPER_PRODUCER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/shipper.h"
#include "sandglass/error.h"

/* What all producers of a shipper are made with. Opaque. */
struct producer_settings;
/* Opaque. */
struct producer;

/* Strings are copied. CONFIG (a property that librdkafka refuses; its value is not quoted), NOMEM. */
SG_MUST_USE enum sg_error producer_settings_new(struct producer_settings **out, const struct shipper_config *config,
                                                struct sg_fault *f);
/* NULL is allowed. */
void producer_settings_free(struct producer_settings *s);

/* Starts a producer; the settings are borrowed. NULL when librdkafka, memory or threads fail: try again later. */
struct producer *producer_start(const struct producer_settings *s);
/* Drops everything that was not delivered, without reports, and begins the end. Call once. */
void producer_retire(struct producer *p);
/* True when it has ended, or (wait_ms > 0) ended within that time; it is freed then. After producer_retire. */
bool producer_reaped(struct producer *p, uint32_t wait_ms);

/* True once it knows the runner's partition and can send. *fault: set when it has asked in vain, NULL when it has just
 * learned it; else as it was. */
bool producer_ready(struct producer *p, const char **fault);
/* What became of a batch that was handed over: QUEUED (copied); FULL, nothing happened; FAILED, *fault says why. */
enum producer_sending { PRODUCER_QUEUED, PRODUCER_FULL, PRODUCER_FAILED };
enum producer_sending producer_send(struct producer *p, uint64_t seq, const uint8_t *bytes, size_t length,
                                    const char **fault);

/* NEWS of a producer. REPORT: a batch was delivered, or (fault) was not. TROUBLE: something is wrong with a connection,
 * the cluster or the producer itself. */
enum producer_news_kind { PRODUCER_NO_NEWS, PRODUCER_REPORT, PRODUCER_TROUBLE };
struct producer_news {
    enum producer_news_kind kind;
    uint64_t seq; /* REPORT */
    size_t length;
    const char *fault; /* NULL: delivered */
    bool useless;      /* TROUBLE: this producer will not send again */
    bool one_of_many;  /* TROUBLE: one connection, beside which others may work */
};
/* The next of it, without waiting. */
void producer_next(struct producer *p, struct producer_news *out);

#endif
