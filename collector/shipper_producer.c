/* See shipper_producer.h. */
#include "collector/shipper_producer.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { QUESTION_WAIT_MS = 1000, QUESTION_PAUSE_MS = 250 };

static void wake(const struct producer *p)
{
    uint64_t one = 1;
    /* an eventfd whose counter is full wakes just as well */
    (void)!write(p->wake_fd, &one, sizeof one);
}

/* Asks once; the partition count, or 0 with *trouble set. */
static int ask(struct producer *p, rd_kafka_resp_err_t *trouble)
{
    const struct rd_kafka_metadata *m;
    *trouble = rd_kafka_metadata(p->rk, 0, p->topic, &m, QUESTION_WAIT_MS);
    if (*trouble) return 0;
    int count = 0;
    if (m->topic_cnt == 1) {
        *trouble = m->topics[0].err;
        if (!*trouble) count = m->topics[0].partition_cnt;
    }
    rd_kafka_metadata_destroy(m);
    return count;
}

static void *scout(void *arg)
{
    struct producer *p = arg;
    while (!atomic_load(&p->stop)) {
        rd_kafka_resp_err_t trouble;
        int count = ask(p, &trouble);
        atomic_store(&p->trouble, (int)trouble);
        atomic_store(&p->partitions, count);
        wake(p);
        if (count) break;
        nanosleep(&(struct timespec){.tv_nsec = QUESTION_PAUSE_MS * 1000L * 1000L}, NULL);
    }
    return NULL;
}

static void *reap(void *arg)
{
    struct producer *p = arg;
    pthread_join(p->scout, NULL);
    rd_kafka_queue_destroy(p->queue);
    rd_kafka_topic_destroy(p->topic);
    rd_kafka_destroy(p->rk);
    atomic_store(&p->gone, true);
    wake(p);
    return NULL;
}

struct producer *producer_start(const rd_kafka_conf_t *conf, const char *topic, int wake_fd)
{
    struct producer *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->wake_fd = wake_fd;
    rd_kafka_conf_t *copy = rd_kafka_conf_dup(conf);
    char why[256];
    p->rk = rd_kafka_new(RD_KAFKA_PRODUCER, copy, why, sizeof why);
    if (!p->rk) {
        rd_kafka_conf_destroy(copy);
        free(p);
        return NULL;
    }
    p->topic = rd_kafka_topic_new(p->rk, topic, NULL);
    if (!p->topic) {
        rd_kafka_destroy(p->rk);
        free(p);
        return NULL;
    }
    p->queue = rd_kafka_queue_get_main(p->rk);
    uint64_t one = 1;
    rd_kafka_queue_io_event_enable(p->queue, wake_fd, &one, sizeof one);
    if (pthread_create(&p->scout, NULL, scout, p)) {
        rd_kafka_queue_destroy(p->queue);
        rd_kafka_topic_destroy(p->topic);
        rd_kafka_destroy(p->rk);
        free(p);
        return NULL;
    }
    return p;
}

void producer_retire(struct producer *p)
{
    atomic_store(&p->stop, true);
    rd_kafka_queue_io_event_enable(p->queue, -1, NULL, 0);
    rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
    p->reaping = pthread_create(&p->reaper, NULL, reap, p) == 0;
    if (!p->reaping) reap(p); /* no thread to be had: better late than leaked */
}

bool producer_reaped(struct producer *p, uint32_t wait_ms)
{
    if (p->reaping && wait_ms) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until); /* what pthread_timedjoin_np counts in */
        until.tv_sec += wait_ms / 1000;
        until.tv_nsec += wait_ms % 1000 * 1000L * 1000L;
        if (until.tv_nsec >= 1000L * 1000L * 1000L) until.tv_sec++, until.tv_nsec -= 1000L * 1000L * 1000L;
        if (pthread_timedjoin_np(p->reaper, NULL, &until)) return false;
    } else if (p->reaping) {
        if (!atomic_load(&p->gone)) return false;
        pthread_join(p->reaper, NULL);
    }
    free(p);
    return true;
}
