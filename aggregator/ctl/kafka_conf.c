#include <librdkafka/rdkafka.h>

#include "aggregator/ctl/ctl.h"

static bool set_all(rd_kafka_conf_t *conf, const char *const *pairs)
{
    char text[256];
    for (; *pairs; pairs += 2)
        if (rd_kafka_conf_set(conf, pairs[0], pairs[1], text, sizeof text) != RD_KAFKA_CONF_OK) return false;
    return true;
}

struct rd_kafka_conf_s *ctl_kafka_conf(const struct ctl_config *k, const char *const *settings, struct sg_fault *f)
{
    const char *const always[] = {
        "bootstrap.servers", k->kafka_brokers, "client.id", "sandglass", "log_level", "0", NULL};
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (set_all(conf, k->kafka) && set_all(conf, always) && set_all(conf, settings)) return conf;
    rd_kafka_conf_destroy(conf);
    (void)sg_fail(f, SG_ERR_CONFIG, "kafka: a property of the configuration is refused");
    return NULL;
}
