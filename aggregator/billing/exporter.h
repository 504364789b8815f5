/* sandglass-exporter: brings the closed hours of the view to Stripe, through the ledger (design.md, section 6).
 *
 * A TURN      control facts, Stripe's meters and time -> per shard: outcomes committed, then a cycle when it is due
 *             (shard.c) -> attempts begun for open revisions, and reads of summaries for old ones -> the network for a
 *             while (pusher.c).
 *
 * A CYCLE     hours that changed and are closed -> snapshot -> plan -> intents of all of them in one transaction ->
 *             fields of `due` removed whose hours are accounted for.
 *
 * FAILURES    Kafka: any doubt about a commit closes the shard's log and book, and the shard is opened anew, which is
 *             start-up. Fenced: likewise, after a wait that doubles each time (two exporters must not fence each other
 *             in a circle). Redis: the cycle is tried again; billing cells that could not be written are rewritten from
 *             the ledger. Stripe: attempts wait and repeat; 401 and 403 pause all. Summaries: one is read at a time,
 *             and less often when they are not told; nothing follows from that. Clock: while it is not believed
 *             (clock_trust.h) nothing is planned, sent, read or held.
 *
 * INVARIANTS  A request is begun only for a revision whose intent this process read from the ledger or committed
 *             itself, and not before Redis was seen to know no more of the ledger than there is of it; a revision is
 *             closed only by a committed outcome; answers to attempts of an earlier incarnation of a shard's book are
 *             dropped (its copies are harmless). One thread, beside librdkafka's and the operations listener's. */
#ifndef BILLING_EXPORTER_H
#define BILLING_EXPORTER_H

#include "aggregator/billing/stripe_client.h"
#include "aggregator/billing/view.h"
#include "aggregator/store/control_view.h"
#include "aggregator/store/txlog.h"
#include "common/backoff.h"
#include "common/config.h"
#include "common/counters.h"
#include "common/health.h"
#include "common/loop.h"

enum {
    EXPORTER_RESULTS_MAX = 1024,
    EXPORTER_OPEN_MAX = 20000, /* revisions of one shard: no intents beyond it, they would age in the queue */
    EXPORTER_PROPERTIES_MAX = 64,
    EXPORTER_READ_MS = 500,             /* between two reads of summaries: Stripe's reads are rationed */
    EXPORTER_EVENT_MS = 20 * SECOND_MS, /* how long an event is shown as a fault */
};

/* As in the configuration file. */
struct exporter_config {
    char *instance, *cluster, *kafka_brokers, *ledger_topic, *control_topic, *redis, *redis_user, *redis_password;
    char *stripe_url, *stripe_key, *stripe_account, *stripe_version, *stripe_ca_file, *stripe_proxy;
    struct config_list meters, kafka_properties;
    bool redis_cluster;
    int64_t shards, stripe_concurrency;
    uint64_t hour_close_delay_ms, poll_interval_ms, archive_interval_ms, runner_grace_ms;
    struct config_listen ops_listen;
    int log_level;
};
/* Static. */
extern const struct config_table exporter_config_table;

#define EXPORTER_COUNTERS(X)                                                                                           \
    X(INTENTS, COUNTER, "sandglass_exporter_intents_total", NULL, "revisions whose intent was committed")              \
    X(ACCEPTED, COUNTER, "sandglass_exporter_answers_total", "answer=\"accepted\"", "attempts by what came of them")   \
    X(DUPLICATE, COUNTER, "sandglass_exporter_answers_total", "answer=\"duplicate\"", "attempts by what came of them") \
    X(NOT_SENT, COUNTER, "sandglass_exporter_answers_total", "answer=\"not_sent\"", "attempts by what came of them")   \
    X(AMBIGUOUS, COUNTER, "sandglass_exporter_answers_total", "answer=\"ambiguous\"", "attempts by what came of them") \
    X(AMBIGUOUS_NEXT, COUNTER, "sandglass_exporter_answers_total", "answer=\"ambiguous_next\"",                        \
      "attempts by what came of them")                                                                                 \
    X(THROTTLED, COUNTER, "sandglass_exporter_answers_total", "answer=\"throttled\"", "attempts by what came of them") \
    X(REFUSED, COUNTER, "sandglass_exporter_answers_total", "answer=\"refused\"", "attempts by what came of them")     \
    X(DENIED, COUNTER, "sandglass_exporter_answers_total", "answer=\"denied\"", "attempts by what came of them")       \
    X(SHOWS_NEW, COUNTER, "sandglass_exporter_summaries_total", "shows=\"new\"",                                       \
      "summaries of old revisions, by what they show")                                                                 \
    X(SHOWS_OLD, COUNTER, "sandglass_exporter_summaries_total", "shows=\"old\"",                                       \
      "summaries of old revisions, by what they show")                                                                 \
    X(SHOWS_NEITHER, COUNTER, "sandglass_exporter_summaries_total", "shows=\"neither\"",                               \
      "summaries of old revisions, by what they show")                                                                 \
    X(UNREADABLE, COUNTER, "sandglass_exporter_summaries_total", "shows=\"nothing\"",                                  \
      "summaries of old revisions, by what they show")                                                                 \
    X(FOREIGN, COUNTER, "sandglass_exporter_first_duplicates_total", NULL,                                             \
      "first attempts that Stripe called duplicates: a foreign writer, or a connection that broke")                    \
    X(LOWER, COUNTER, "sandglass_exporter_lower_totals_total", NULL,                                                   \
      "times an hour's total was below what is accounted for")                                                         \
    X(NOTES, COUNTER, "sandglass_exporter_notes_total", NULL, "refusals and holds written to the ledger")              \
    X(REOPENED, COUNTER, "sandglass_exporter_shards_opened_total", NULL, "times a shard of the ledger was opened")     \
    X(FENCED, COUNTER, "sandglass_exporter_fenced_total", NULL, "times another exporter took a shard over")            \
    X(ARCHIVED, COUNTER, "sandglass_exporter_archived_bytes_total", NULL,                                              \
      "bytes of cells and marks put into the archive")                                                                 \
    X(OPEN, GAUGE, "sandglass_exporter_open_revisions", NULL, "revisions without an outcome")                          \
    X(STUCK, GAUGE, "sandglass_exporter_stuck_revisions", NULL, "of these, refused or held: a person must look")       \
    X(UNSHOWN, GAUGE, "sandglass_exporter_unshown_revisions", NULL,                                                    \
      "old revisions whose summary cannot be read, or shows neither their total nor the one before")                   \
    X(WAITING, GAUGE, "sandglass_exporter_hours_waiting", NULL,                                                        \
      "closed hours that are not accounted for, or not looked at yet")                                                 \
    X(PENDING, GAUGE, "sandglass_exporter_hours_pending", NULL, "closed hours of teams without a customer")            \
    X(HELD, GAUGE, "sandglass_exporter_hours_held", NULL, "closed hours whose total cannot be sent")                   \
    X(UNREAD, GAUGE, "sandglass_exporter_unread", NULL,                                                                \
      "hours, cells and fields of the view that are not understood: neither billed nor archived")                      \
    X(OPEN_AGE, GAUGE, "sandglass_exporter_open_age_ms", NULL,                                                         \
      "age of the oldest intent without an outcome, stuck ones left out; 0: none")                                     \
    X(STUCK_AGE, GAUGE, "sandglass_exporter_stuck_age_ms", NULL,                                                       \
      "age of the oldest intent that is refused or held; 0: none")                                                     \
    X(ARCHIVE_AGE, GAUGE, "sandglass_exporter_archive_age_ms", NULL,                                                   \
      "time since all that is closed was in the archive, of the shard that is worst off, at most since it was opened") \
    X(COMPLETE_THROUGH, GAUGE, "sandglass_exporter_complete_through_ms", NULL,                                         \
      "Unix time in ms before which all usage is in the view; 0: not known, or nothing holds it back")                 \
    X(SHARDS, GAUGE, "sandglass_exporter_shards", NULL, "shards of the ledger that are open")
enum exporter_counter { EXPORTER_COUNTERS(COUNTERS_ENUM) EXPORTER_COUNTER_COUNT };

/* Component, name in reports, how long its fault may stand (a blip is no fault; with the time that it takes to notice,
 * red comes within 10 s), how long an event stands. */
#define EXPORTER_COMPONENTS(X)                                                                                         \
    X(KAFKA, "kafka", 5000, 0)                                                                                         \
    X(FENCED, "fenced", 0, EXPORTER_EVENT_MS)                                                                          \
    X(LEDGER, "ledger", 5000, 0)                                                                                       \
    X(REDIS, "redis", 5000, 0)                                                                                         \
    X(STRIPE, "stripe", 5000, 0)                                                                                       \
    X(CONTROL, "control", 5000, 0)                                                                                     \
    X(CLOCK, "clock", 5000, 0)                                                                                         \
    X(SUMMARY, "summary", 5000, 0)                                                                                     \
    X(HELD, "held", 5000, 0)                                                                                           \
    X(ARCHIVE, "archive", 5000, 0)
#define EXPORTER_ENUM_COMPONENT(id, name, allowance, hold) EXPORTER_##id,
enum exporter_component { EXPORTER_COMPONENTS(EXPORTER_ENUM_COMPONENT) EXPORTER_COMPONENT_COUNT };

/* What became of one round through `arch`. */
struct archive_round {
    uint64_t unread;       /* fields and cells that are not understood */
    struct sg_fault fault; /* of the first portion that failed and was passed by; OK: none did */
};

/* One shard of the ledger. */
struct shard {
    uint32_t index;
    struct txlog *log;    /* NULL: closed; then the book is empty */
    uint64_t incarnation; /* of the book */
    struct book book;
    struct boot_ms open_at, opened_at; /* not before; when it was */
    struct boot_ms called_at;          /* when the last call to Kafka began, or was heard of */
    struct sg_fault closed_by;         /* why it is closed; OK: it never was open */
    struct sg_fault cycle_fault;       /* of the last cycle; OK: it went well */
    bool ledger_unread;                /* that was Kafka, which did not give the ledger to read, and not Redis */
    struct watermark mark;             /* as last seen */
    struct boot_ms archived_at;        /* all that is closed was in the archive then, or the shard was opened */
    struct backoff doubt_backoff, fenced_backoff;
    bool view_checked; /* since it was opened: the ledger does not end before the billing cells in Redis */
    bool view_short;   /* it did in the last opening */
    bool view_synced;  /* every billing cell below view_at is in Redis */
    uint64_t view_at;
    struct view_cursor due;
    struct boot_ms next_cycle;
    struct cycle_tally round, tally; /* hours of the round under way; of the last whole one */
    struct view_cursor arch;
    struct archive_round archiving, archived; /* the round under way; the last one that came to its end */
    struct boot_ms next_archive;
    uint64_t marks_at[PARTITIONS_MAX]; /* offsets of the marks archived last */
    struct ledger_record *result;      /* outcomes and notes to be committed; EXPORTER_RESULTS_MAX */
    size_t result_count;
};

/* A request in flight: of a revision, or of its summary first. */
struct attempt {
    bool used;
    uint32_t shard;
    uint64_t incarnation;
    struct id team, customer;
    enum field meter;
    struct wall_ms hour;
    uint64_t revision;
    char identifier[LEDGER_IDENTIFIER_BYTES];
    struct boot_ms begun_at; /* what it rests upon was decided, or asked for, then */
};

/* Everything. Zeroed is valid for exporter_destroy. */
struct exporter {
    const struct exporter_config *config;
    struct loop loop;
    struct counters counters;
    struct health health;
    struct redis_store *store;
    struct stripe_client *stripe;
    struct meter_slot meter[METERS_MAX];
    size_t meter_count;
    bool meters_known, meters_unheard; /* they were told once; the last question was not answered */
    struct boot_ms meters_at;          /* do not ask before */
    struct clock_trust trust;
    enum clock_trust_verdict clock; /* the last one */
    struct txlog_reader *control;
    struct control_view facts;
    bool facts_known;
    struct boot_ms control_check_at;
    struct sg_fault control_unread;                /* why the control topic cannot be followed; OK: it can */
    struct boot_ms redis_probe_at, redis_asked_at; /* not before; when it was asked last */
    struct sg_fault redis_unread;                  /* why Redis did not answer when it was asked last; OK: it did */
    struct shard *shard;
    size_t shard_count;
    struct attempt attempt[STRIPE_CONCURRENCY_MAX];
    struct boot_ms paused_until; /* no attempt before */
    struct boot_ms probe_at;     /* Stripe was not heard of for so long: see whether it is there */
    bool unreachable;            /* it could not be reached when that was tried last */
    bool unheard;                /* it did not answer what it was sent, or asked */
    enum answer said;            /* its last answer to an attempt, or of that kind; ACCEPTED: that it works, or none */
    bool read_denied;            /* its last answer about summaries: the key may not read them */
    struct boot_ms answered_at;  /* Stripe's last answer */
    struct backoff pause_backoff;
    bool reading;           /* one summary at a time */
    struct boot_ms read_at; /* no read before */
    struct backoff read_backoff;
    size_t send_first; /* shard whose revisions are looked at first */
    uint64_t random;
    const char *kafka[2 * EXPORTER_PROPERTIES_MAX + 1];
    struct txlog_waiter waiter, commit_waiter;
    struct boot_ms stop_by; /* past it no commit is begun or waited for; 0: not asked to stop */
    /* room that would be too much for the stack */
    struct cycle_due *due;
    struct cycle_group *groups;
    struct cycle_hour *hours;
    char (*positions)[LEDGER_POSITIONS_BYTES]; /* of hours; borrowed by record until the commit */
    struct view_rows *rows;
    /* limits, as large as there is room */
    size_t rows_most;    /* billing cells that are written at once; VIEW_ROWS_MAX */
    size_t open_most;    /* with so many open revisions a shard has no new intents; EXPORTER_OPEN_MAX */
    size_t results_most; /* fewer of a shard wait for a commit; EXPORTER_RESULTS_MAX */
    struct ledger_record *record;
};

/* Makes everything but connections. CONFIG, IO, NOMEM. */
SG_MUST_USE enum sg_error exporter_init(struct exporter *x, const struct exporter_config *config, struct sg_fault *f);
/* One turn. CONFIG: Stripe's meters cannot be used; NOMEM, CORRUPT: a fact of control could not be taken, or is not
 * there any more. */
SG_MUST_USE enum sg_error exporter_turn(struct exporter *x, struct sg_fault *f);
/* Waits a moment for the answers under way, and commits what came. */
void exporter_end(struct exporter *x);
/* All of that until SIGTERM: OK, or why it cannot go on. */
SG_MUST_USE enum sg_error exporter_run(struct exporter *x, struct sg_fault *f);
/* Frees. */
void exporter_destroy(struct exporter *x);

/* While a call blocks: feeds the watchdog, and not health, which tells that it hangs. True: asked to stop. */
bool exporter_hangs(void *exporter);

/* The wall clock's time. False: it is not believed, and whatever needs it must wait; health says so. */
SG_MUST_USE bool exporter_now(struct exporter *x, struct wall_ms *now);

/* ---- pusher.c ---- */

/* Is a request under way? */
bool pusher_busy(const struct exporter *x);
/* Begins attempts and reads, takes answers, for a while. Results are left with their shards. */
void pusher_turn(struct exporter *x);
/* Waits a moment for the answers under way. */
void pusher_end(struct exporter *x);

/* ---- exporter_health.c ---- */

/* Asks Redis now and then whether it is there. */
void exporter_probe_redis(struct exporter *x);
/* After the network was listened to: whether Stripe is silent. */
void exporter_judge_silence(struct exporter *x);
/* Shows what is known of Stripe; a fault that begins has stood since then. */
void exporter_show_stripe(struct exporter *x, struct boot_ms since);
/* Shows where we stand: gauges, lag, and what is wrong. */
void exporter_show(struct exporter *x);

/* ---- shard.c ---- */

/* Opens the shard's log and folds it. On failure the next try is scheduled. */
void shard_open(struct exporter *x, struct shard *s);
/* Gives up log and book after an error of the log; schedules the next open. */
void shard_close(struct exporter *x, struct shard *s, const struct sg_fault *why);
/* Before a call to Kafka that may hang: what it is, with an article. When the shard knows what came of it:
 * health_doing(NULL). */
void shard_calls(struct exporter *x, struct shard *s, const char *what);
/* Commits records, folds them, writes their billing cells. On failure the shard is closed. */
SG_MUST_USE enum sg_error shard_commit(struct exporter *x, struct shard *s, const struct ledger_record *records,
                                       size_t count, struct sg_fault *f);
/* One cycle. UNREACHABLE and the like: Redis; tried again. */
SG_MUST_USE enum sg_error shard_cycle(struct exporter *x, struct shard *s, struct sg_fault *f);

#endif
