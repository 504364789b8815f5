/* What is realistic: the random choices of the simulation, apart from its order of events. */
#ifndef FLEET_MIX_H
#define FLEET_MIX_H

#include "event.h"
#include "rng.h"
#include "slots.h"

/* Dresses a new sandbox: its allocation, and counters at zero. Team and project stay as they are. */
void mix_allocation(struct rng *rng, struct slot *slot);

/* How long a sandbox lives, in ms; SLOT_NEVER: until something else ends it. The larger `lasting` is against
 * `capacity`, the fewer long-lived ones are made, so that short ones never run out of room. */
uint64_t mix_lifetime(struct rng *rng, uint32_t lasting, uint32_t capacity);

/* Lifetimes from here on count as lasting. */
enum { MIX_LASTING_MS = 30000 };

/* Moves the counters of a sandbox on (now and then they start anew), and fills `event` with some or all of them. */
void mix_counters(struct rng *rng, struct slot *slot, struct event *event);

/* An exit code, most often 0. */
uint32_t mix_exit_code(struct rng *rng);

/* An HTTP status, most often a good one. */
uint32_t mix_status(struct rng *rng);

/* Why a sandbox ended. */
enum event_reason mix_reason(struct rng *rng);

/* What happens next when no sandbox's own plan is due. */
enum mix_filler { FILLER_CREATE, FILLER_USAGE, FILLER_EXEC, FILLER_API, FILLER_TICK, FILLER_CAPACITY, FILLERS };

/* Chooses a filler. */
enum mix_filler mix_filler(struct rng *rng);

#endif
