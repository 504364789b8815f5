/* The shipper: carries the spool's batches to Kafka, in order, and moves the spool's position by delivery reports.
 *
 * The design and the failures stand at the top of shipper.c, its rules in shipper_plan.h. Runs in the main thread;
 * librdkafka's threads only wake it through wake_fd. It never waits for a broker. */
#ifndef COLLECTOR_SHIPPER_H
#define COLLECTOR_SHIPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/shipper_plan.h"
#include "collector/spool.h"
#include "sandglass/error.h"

/* Strings are copied. */
struct shipper_config {
    const char *brokers;      /* bootstrap.servers */
    const char *topic;        /* sandglass.events */
    const char *runner;       /* message key; chooses the partition (murmur2, as Java's) */
    const char *client_id;    /* shown in the broker's logs */
    const char *const *kafka; /* more librdkafka properties, name, value, ..., NULL (security); NULL: none */
    int wake_fd;              /* loop_wake_fd(): written to when a step has something to do */
};

/* How far it is. */
struct shipper_status {
    uint64_t delivered_seq;             /* Kafka has everything up to here */
    uint64_t lag_batches;               /* durable and not yet delivered */
    uint64_t lag_age_ms;                /* how long the oldest of these has been waiting; 0: none */
    uint64_t sent, delivered, restarts; /* messages handed over, reported as delivered; producers replaced */
    uint64_t delivered_bytes;
    const char *fault; /* why nothing moves, for health; NULL: none known. Static or valid until the next step */
};

/* Opaque. */
struct shipper;

/* Connects to nothing yet. spool must be open and outlives the shipper. CONFIG (a property that librdkafka refuses; its
 * value is not quoted), NOMEM. */
SG_MUST_USE enum sg_error shipper_new(struct shipper **out, const struct shipper_config *config, struct spool *spool,
                                      struct sg_fault *f);
/* Stops without waiting for deliveries (they are sent again by the next start), saves the cursor. NULL is allowed. */
void shipper_free(struct shipper *s);
/* Takes reports, sends what is durable and fits the window, saves the cursor. Call it from the loop's tick, after every
 * sync and when *next has come (LOOP_NEVER: only the wake-up). Brokers that are away are no error, see status.
 * IO, CORRUPT: the spool's; the collector stops. */
SG_MUST_USE enum sg_error shipper_step(struct shipper *s, struct boot_ms now, struct boot_ms *next, struct sg_fault *f);
/* Any time, main thread. */
void shipper_status(const struct shipper *s, struct boot_ms now, struct shipper_status *out);

#endif
