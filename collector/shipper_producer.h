/* One librdkafka producer of the shipper, from its creation to its end, neither of which the main thread waits for.
 *
 * THREADS   the scout asks for the topic's partition count until it knows it (a first message sent without that waits a
 *           second inside librdkafka) and ends; the reaper joins the scout and tears the producer down, which can take
 *           as long as a name look-up. Both write to wake_fd when they have news. Everything else: main thread. */
#ifndef COLLECTOR_SHIPPER_PRODUCER_H
#define COLLECTOR_SHIPPER_PRODUCER_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sandglass/error.h"

struct producer {
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue; /* delivery reports and errors */
    pthread_t scout, reaper;
    bool reaping;
    int wake_fd;
    atomic_int partitions; /* 0: not known yet */
    atomic_int trouble;    /* rd_kafka_resp_err_t of the last question, 0: none */
    atomic_bool stop, gone;
};

/* Starts a producer for topic; conf is copied. NULL when librdkafka, memory or threads fail: try again later. */
struct producer *producer_start(const rd_kafka_conf_t *conf, const char *topic, int wake_fd);
/* Drops everything that was not delivered, without reports, and begins the end. Call once. */
void producer_retire(struct producer *p);
/* True when it has ended, or (wait_ms > 0) ended within that time; it is freed then. After producer_retire. */
bool producer_reaped(struct producer *p, uint32_t wait_ms);

#endif
