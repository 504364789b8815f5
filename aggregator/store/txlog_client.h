/* What the fenced log's writer and reader share: properties, error codes, a deadline. Private to aggregator/store. */
#ifndef STORE_TXLOG_CLIENT_H
#define STORE_TXLOG_CLIENT_H

#include <librdkafka/rdkafka.h>

#include "aggregator/store/txlog.h"

enum { TXLOG_TIMEOUT_MS_DEFAULT = 10 * 1000, TXLOG_TICK_MS = 100, TXLOG_END_MS_MAX = 5000, TXLOG_PRIME_MS = 1000 };

/* A configuration for either kind with the shared settings and the caller's; NULL: f says why. */
rd_kafka_conf_t *txlog_conf(const struct txlog_config *config, const char *const *more, void *opaque,
                            struct sg_fault *f);
/* The callback for errors, unless there is another, which calls it: ends the process when a thread could not be made,
 * for librdkafka does not try again. */
void txlog_on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque);
/* Our code for librdkafka's. */
enum sg_error txlog_error(rd_kafka_resp_err_t e);
/* Milliseconds on the boot-time clock. */
uint64_t txlog_now_ms(void);
/* config->timeout_ms or the default. */
uint32_t txlog_timeout_ms(const struct txlog_config *config);
/* Calls the waiter, if there is one; true: give up. */
bool txlog_tick(const struct txlog_waiter *wait);
/* Learns the topic's leaders at once, waiting up to timeout_ms; without it the client finds them in steps of a quarter
 * of a second or more. Failure shows later. */
void txlog_prime(rd_kafka_t *rk, rd_kafka_topic_t *topic, uint32_t timeout_ms);

#endif
