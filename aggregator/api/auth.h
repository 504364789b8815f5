/* Who asks: API keys, from the control topic.
 *
 * The facts are folded in memory by a reader of the control topic; keys are known by their SHA-256 only. A key that is
 * not known makes auth read on to the topic's end before it answers no (at most AUTH_CATCH_UPS_PER_S times a second:
 * strangers cannot make it busy), so that a key works as soon as the command that made it has returned. Two threads:
 * the main thread polls, the HTTP thread asks. A key that is known is found without waiting for brokers. */
#ifndef API_AUTH_H
#define API_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "aggregator/store/control_view.h"
#include "aggregator/store/txlog.h"

enum { AUTH_CATCH_UPS_PER_S = 10, AUTH_CATCH_UP_MS = 500, AUTH_ASK_MS = 2000, AUTH_KEY_BYTES_MAX = 256 };

/* Opaque. */
struct auth;

/* Connects lazily. CONFIG, NOMEM. */
SG_MUST_USE enum sg_error auth_open(struct auth **out, const struct txlog_config *config, struct sg_fault *f);
/* NULL is allowed. */
void auth_destroy(struct auth *a);
/* Reads what is new; waits at most timeout_ms. Every AUTH_ASK_MS, and until auth_ready, it also asks whether the
 * brokers live: *asked; waiting AUTH_CATCH_UP_MS for them. Main thread. UNREACHABLE and the like: it retries by itself;
 * a broken chain is told as MISMATCH, MALFORMED or VERSION for ever; NOMEM, for ever too: a fact is missing. */
SG_MUST_USE enum sg_error auth_poll(struct auth *a, uint32_t timeout_ms, bool *asked, struct sg_fault *f);
/* True once the topic was read to its end at least once. Any thread. */
bool auth_ready(const struct auth *a);
/* Finds the key: NOT_FOUND when it is unknown or revoked; STATE before auth_ready. HTTP thread. */
SG_MUST_USE enum sg_error auth_check(struct auth *a, const char *key, size_t length, struct id *team, enum role *role);

#endif
