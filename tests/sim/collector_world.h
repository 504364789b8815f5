/* The world of collectors: supervisors that follow ingest.md to the letter, the program that ships, but for files,
 * sockets and librdkafka, on a disk that loses what was not synced, and a broker that loses replies, refuses, moves
 * its leaders and lets requests of dead producers land late. The events topic that comes of it is struct events_log,
 * for who wants to read on.
 *
 * collector.c           the schedule: what happens to whom, then quiet
 * collector_source.c    supervisors: lines kept until they are acknowledged, sent again, adopted after a lost spool
 * collector_text.c      what they say, as bytes
 * collector_program.c   the program's life; its files and sockets
 * collector_broker.c    its producers, and the topic
 * collector_health.c    what it must tell of itself
 * collector_oracle.c    what must come out, by arithmetic of its own, against every batch of the topic
 *
 * CLOCKS  s->now is true UTC. A host's boot clock counts from its boot; its wall clock is true time and a skew. */
#ifndef SIM_COLLECTOR_WORLD_H
#define SIM_COLLECTOR_WORLD_H

#include "collector/collector.h"
#include "collector/session.h"
#include "collector/shipper_producer.h"
#include "tests/sim/disk.h"
#include "tests/sim/events_log.h"
#include "tests/sim/ports.h"

enum {
    COLLECTOR_RUNNERS = 2,
    COLLECTOR_REGIONS = 2,
    COLLECTOR_SOURCES = 3,
    COLLECTOR_BOXES = 12,
    COLLECTOR_TEAMS = 3,
    COLLECTOR_PROJECTS = 3
};
enum { COLLECTOR_BOOTS_MAX = 48, COLLECTOR_LIVES_MAX = 96, COLLECTOR_PRODUCERS = 32, COLLECTOR_QUEUE = 128 };
#define COLLECTOR_START INT64_C(1763884800000)

/* Lines that are refused whatever was said before. */
enum collector_bad {
    BAD_NONE,
    BAD_JSON,
    BAD_JSON_WITHOUT_N,
    BAD_TOO_LONG,
    BAD_FIELD,
    BAD_RANGE,
    BAD_NAME,
    BAD_TYPE,
    BAD_TWICE, /* from here on: only of those that talk nonsense */
    BAD_MISSING,
    BAD_WORD,
    BAD_KINDS
};

/* What a supervisor says with one number; its text is made when it is sent. */
struct collector_line {
    enum ingest_type type;
    enum collector_bad bad;
    unsigned owner, box; /* of the sandbox's name */
    unsigned team, project;
    uint64_t boot_ms;
    uint32_t vcpus, mem_mib, disk_mib;
    unsigned choice; /* origin, reason, operation, exit code, running: by type */
    uint32_t number; /* create_ms, duration_ms, status */
    uint8_t present; /* bit c: counter c is said */
    uint64_t counter[METER_COUNTERS];
    enum ingest_error told; /* as what it was refused; OK: nothing was told */
};

/* One boot of a host, as one source tells it: line n is line[n - 1]. */
struct collector_boot {
    struct collector_line *line;
    uint64_t count, capacity;
};

/* What one spool heard of one boot: lines first_n..last_n of it. */
struct collector_life {
    size_t boot;
    uint64_t epoch, first_n, last_n;
    int64_t offset; /* wall = boot + offset, by the hello that counts */
    bool anchored;
    bool rebooted;      /* the next life is of a new boot in the same spool */
    uint64_t billed_ms; /* rebooted: the sandbox of line last_n + 1 was, up to here; 0: it did not run */
};

/* A sandbox as its supervisor knows it. */
struct collector_box {
    bool alive, running;
    struct collector_line born; /* as it was said at its creation */
    uint64_t said_n;            /* number of the line that created or adopted it */
    uint64_t counter[METER_COUNTERS];
};

struct collector_source {
    struct collector_runner *runner;
    unsigned index;
    char name[12];
    struct collector_boot boot[COLLECTOR_BOOTS_MAX];
    size_t boots;
    struct collector_life life[COLLECTOR_LIVES_MAX];
    size_t lives;
    struct collector_box box[COLLECTOR_BOXES];
    uint64_t acked, sent, sent_most; /* n of the boot; sent: on this connection */
    /* the connection */
    bool connected, greeted, deaf;
    bool ended;                 /* it was told why the session ends */
    enum ingest_error ending;   /* why it must end: what was said last; OK: it goes on */
    int64_t retry_at, hears_at; /* hears_at: when it has become deaf in a connection; 0: it goes on to be */
    int64_t hello_offset;
    size_t slot; /* the session that it talks to */
    struct session session[2];
    char out[2 * INGEST_LINE_BYTES_MAX + 4096], in[256];
    size_t out_used, in_used;
};

/* One message on its way. */
struct collector_message {
    uint64_t seq;
    uint8_t *bytes;
    size_t length;
    struct wall_ms time;
};

/* librdkafka's producer and its one request in flight: the first `flight` messages of the queue. */
struct producer {
    bool used, open, broken;
    bool knows; /* the topic */
    bool useless;
    bool held; /* it is not reaped */
    struct collector_runner *runner;
    uint32_t partition;
    struct collector_message queue[COLLECTOR_QUEUE];
    size_t queued, flight, reports;
    bool appended; /* the request in flight is in the log, its reply is not here */
    int64_t at;    /* when the next thing happens */
    struct producer_news report[COLLECTOR_QUEUE];
};

/* One host: its disk, its collector, its supervisors. */
struct collector_runner {
    struct collector_world *world;
    unsigned index, region;
    char name[12];
    bool gone;               /* for ever */
    int64_t booted_at, skew; /* of its wall clock */
    size_t sandboxes_max;
    bool reboot, lose_spool; /* as soon as that can be */
    bool disk_full, die_in_roll;
    int64_t has_room_at;   /* its spool, as of the last look (collector_health.c) */
    const char *last_call; /* of the disk */
    struct disk disk;
    struct spool_io io;
    unsigned sources;
    struct collector_source source[COLLECTOR_SOURCES];
    /* the program, while it runs */
    bool alive;
    int64_t start_at;
    struct sim_actor actor;
    char region_name[4];
    struct collector_config config;
    struct collector collector;
    struct sg_fault fault; /* what its last failure was */
    struct sessions sessions;
    uint64_t epochs, delivered_most;
};

struct collector_world {
    struct sim *sim;
    bool system_clock;
    int64_t skew_ms_most, sleep_ms_most; /* of a host's wall clock; of a host */
    int64_t ahead_ms_most;               /* of a line's time, by which those behind it go back; 0: never */
    uint64_t segment_bytes;
    unsigned runners, regions;
    struct collector_runner runner[COLLECTOR_RUNNERS];
    struct producer producer[COLLECTOR_PRODUCERS];
    int64_t broker_away_until, large_refused_until;
    size_t message_bytes_most; /* until then */
    bool broker_silent;        /* in quiet */
    bool wall_stepped, late;
    struct events_log log;
};

/* Names, by what runners and parts say of their region. */
extern const char *const collector_regions[COLLECTOR_REGIONS];

/* One of the world's faults happens now; never in quiet. */
bool collector_fault(struct collector_world *w, enum sim_fault kind);
/* What stands before segment_bytes is set. */
void collectors_begin(struct collector_world *w);
/* Frees what w holds. */
void collectors_end(struct collector_world *w);
/* A step of the storm at the time of now: misfortunes, supervisors, programs, broker. */
void collector_act(struct collector_world *w);
/* A step of the quiet, a moment later; finish: everything that lives is destroyed. */
void collector_quiet_step(struct collector_world *w, bool finish);
/* Everything that was said is in the topic. */
bool collector_at_rest(const struct collector_world *w);
/* What a host's clocks say. */
struct boot_ms collector_boot_now(const struct collector_runner *r);
struct wall_ms collector_wall_now(const struct collector_runner *r);

/* ---- sources ---- */

/* The first boot, and each after the host was booted again. */
void collector_source_boot(struct collector_source *c);
/* The spool is lost: what was acknowledged is a gap for the next one. */
void collector_source_lost(struct collector_source *c);
/* Something happens to a sandbox, or somebody calls. */
void collector_source_event(struct collector_source *c);
/* More lines that are refused than may wait to be told, and it does not read. */
void collector_source_flood(struct collector_source *c);
/* Everything that lives is destroyed, and a tick is said. */
void collector_source_finish(struct collector_source *c);
/* Connects, sends, reads. all: as much as goes. */
void collector_source_talk(struct collector_source *c, bool all);
/* The connection is gone; half: only the source knows it. */
void collector_source_cut(struct collector_source *c, bool half);
/* The collector has answered everything. */
bool collector_source_quiet(const struct collector_source *c);
void collector_source_destroy(struct collector_source *c);
/* The life that goes on. */
struct collector_life *collector_life(struct collector_source *c);

/* ---- their texts ---- */

enum { COLLECTOR_LINE_BYTES = 1024 }; /* a line has fewer, and INGEST_LINE_BYTES_MAX more when it is too long */

/* Line n of the present boot, into room for it. Returns its end. */
char *collector_put_line(const struct collector_source *c, uint64_t n, char *out);
/* A greeting that begins so, up to its version. */
char *collector_put_hello(const struct collector_source *c, const char *version, const char *name, uint64_t boot,
                          int64_t wall, char *out);

/* ---- the program ---- */

/* The runner whose program is in the middle of something. */
struct collector_runner *collector_acting(void);
/* One turn of its loop, or an attempt to start. */
void collector_program_turn(struct collector_runner *r);
/* It is gone at once. */
void collector_program_kill(struct collector_runner *r);
/* What it says of itself. */
void collector_program_health(struct collector_runner *r, struct health_report *out);
/* Nothing is left to be done. */
bool collector_program_quiet(const struct collector_runner *r);

/* ---- the broker ---- */

/* Requests reach the broker and replies come back, up to now. */
void collector_broker_turn(struct collector_world *w);
bool collector_broker_quiet(const struct collector_world *w);
void collector_broker_destroy(struct collector_world *w);

/* ---- health ---- */

/* At rest: who misses something says so in time, and all is well again (collector_health.c). */
void collector_check_health(struct collector_world *w);

/* ---- the oracle ---- */

/* After quiet: every batch of the topic against what was accepted. */
void collector_check(struct collector_world *w);

/* A part of what a runner accepted: value more of a field of a team's project (COLLECTOR_PROJECTS: none) at a time. */
typedef void collector_part(void *arg, unsigned region, unsigned team, unsigned project, int64_t at, enum field field,
                            uint64_t value);
/* All of it, by the oracle's arithmetic; of a runner that is gone what has come to the topic. */
void collector_accepted(struct collector_world *w, collector_part *each, void *arg);

enum { COLLECTOR_GAPS_MAX = 256 };

struct collector_gap {
    uint64_t first_n, last_n;
};

/* What a runner must have told of itself, beside rows: by the oracle; of one that is gone what is in the topic. */
struct collector_told {
    uint64_t events, refused;
    struct collector_gap gap[COLLECTOR_GAPS_MAX];
    size_t gaps;
    int64_t sent_ms, complete_through; /* of the last batch of its newest epoch */
};
void collector_tell(struct collector_world *w, unsigned runner, struct collector_told *out);

#endif
