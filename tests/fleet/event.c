#include "event.h"

const char *const event_type_names[EVENT_TYPES] = {
    "sandbox.created",   "sandbox.adopted", "sandbox.usage", "sandbox.hibernated", "sandbox.resumed",
    "sandbox.destroyed", "exec.exited",     "api.called",    "runner.capacity",    "tick",
};

const char *const event_reason_names[REASONS] = {"api", "timeout", "oom", "crash", "host"};

const char *const event_origin_names[ORIGINS] = {"create", "fork", "restore"};

const char *const event_counter_names[COUNTERS] = {"cpu_us", "net_rx_bytes", "net_tx_bytes", "io_read_bytes",
                                                   "io_write_bytes"};

const char *const event_operation_names[OPERATIONS] = {
    "sandbox.create",    "sandbox.fork",   "sandbox.get",     "sandbox.list",    "sandbox.exec",
    "sandbox.hibernate", "sandbox.resume", "sandbox.destroy", "snapshot.create", "snapshot.restore",
    "snapshot.delete",   "file.read",      "file.write",      "other",
};

const char *const event_capacity_names[CAPACITIES] = {"vcpus_total", "mem_mib_total", "disk_mib_total", "warm"};
