/* The ledger's partitions and the control topic as Kafka keeps them, behind txlog.h: transactions of one owner; whoever
 * opens last fences the rest; a commit may end without an answer, and is decided by whoever opens next. Offsets rise
 * with holes: each transaction, and each barrier, takes some for itself. */
#ifndef SIM_LEDGERS_H
#define SIM_LEDGERS_H

#include "aggregator/store/txlog.h"
#include "tests/sim/ports.h"

enum { LEDGERS_MOST = 3 };
#define LEDGERS_CONTROL "control" /* the name of that topic; any other is the ledger */

/* What a world wants to see. */
struct ledgers_watcher {
    void *arg;
    /* Somebody wants it committed; it may be already, or never. */
    void (*proposed)(void *arg, uint32_t shard, const char *bytes, size_t length);
    /* It is committed. */
    void (*kept)(void *arg, uint32_t shard, uint64_t offset, const char *bytes, size_t length);
    /* Somebody owns the shard now. */
    void (*owned)(void *arg, uint32_t shard, const struct sim_actor *owner);
};

/* Empty; of this world. */
void ledgers_begin(struct sim *s);
void ledgers_end(void);
/* Borrowed until the end. */
void ledgers_watch(const struct ledgers_watcher *watcher);
/* A fact for the control topic. */
void ledgers_say(const char *bytes, size_t length);
/* Nothing comes of Kafka, until it speaks again. Who waits for it is looked at every half a second. */
void ledgers_silence(struct txlog_waiter onlooker);
/* Commits take a long time, until then, and come to their end. */
void ledgers_slow_down(struct txlog_waiter onlooker);
void ledgers_speak(void);
/* A shard's records from this offset on are gone, and so are their offsets. */
void ledgers_cut(uint32_t shard, uint64_t offset);
/* Commits that nobody has decided never come. */
void ledgers_forget_undecided(void);
/* Whether some record of the shard holds these bytes. */
bool ledgers_hold(uint32_t shard, const char *bytes, size_t length);
/* Reads all of a shard. */
SG_MUST_USE enum sg_error ledgers_read(uint32_t shard, txlog_each *each, void *arg, struct sg_fault *f);

#endif
