/* The run: the record of one sandbox from create to destroy, as one partition's log tells it (proto/redis.md, "Run
 * cell"). Pure. */
#ifndef PROTO_RUN_CELL_H
#define PROTO_RUN_CELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/cell.h"
#include "sandglass/error.h"
#include "sandglass/id.h"
#include "sandglass/time.h"

enum run_state { RUN_RUNNING, RUN_HIBERNATED, RUN_ENDED };

/* Zeroed is a run of which nothing is known. A time of 0 is not known; has_ says it of the others. */
struct run {
    struct id team, project, region, runner;
    uint32_t vcpus, mem_mib, disk_mib;
    enum run_state state;
    bool has_origin, has_reason, has_exit, has_create_ms; /* adopted runs have no origin and no create_ms */
    enum origin origin;
    enum reason reason;
    uint32_t create_ms, exit_code;
    struct wall_ms created, started, ended, seen, exit_at; /* 0: not known */
    uint64_t mem_peak_bytes;                               /* 0: not measured */
    struct amount running_ms, cpu_us, net_rx_bytes, net_tx_bytes, io_read_bytes, io_write_bytes, execs;
};

enum { RUN_CELL_BYTES_MAX = 1024 };

/* Writes the text (not NUL-terminated) of a run as of offset; returns its length. */
size_t run_cell_encode(uint64_t offset, const struct run *r, char out[static RUN_CELL_BYTES_MAX]);
/* Parses what run_cell_encode writes. MALFORMED otherwise. */
SG_MUST_USE enum sg_error run_cell_decode(const char *text, size_t length, uint64_t *offset, struct run *r);

#endif
