/* See sampler_links.h. */
#include "collector/sampler_links.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

enum { REPLY_BYTES_MAX = 32 << 10, DUMP_ATTEMPTS = 3 };

static bool open_socket(struct links *l)
{
    if (l->socket) return true;
    l->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    if (l->socket && mnl_socket_bind(l->socket, 0, MNL_SOCKET_AUTOPID) == 0) return true;
    int error = errno;
    if (l->socket) mnl_socket_close(l->socket);
    l->socket = NULL;
    errno = error;
    return false;
}

static void close_socket(struct links *l)
{
    if (l->socket) mnl_socket_close(l->socket);
    l->socket = NULL;
}

enum sg_error links_init(struct links *l, struct sg_fault *f)
{
    *l = (struct links){0};
    if (!open_socket(l)) return sg_fail(f, SG_ERR_IO, "netlink: %s", strerrordesc_np(errno));
    return SG_OK;
}

void links_destroy(struct links *l)
{
    close_socket(l);
    free(l->stats);
    *l = (struct links){0};
}

static int keep_stats(const struct nlattr *attribute, void *arg)
{
    struct link_stats *out = arg;
    if (mnl_attr_get_type(attribute) != IFLA_STATS_LINK_64) return MNL_CB_OK;
    struct rtnl_link_stats64 s;
    /* a newer kernel's struct is longer, an older one's has these members all the same */
    if (mnl_attr_get_payload_len(attribute) < offsetof(struct rtnl_link_stats64, rx_errors)) return MNL_CB_ERROR;
    memcpy(&s, mnl_attr_get_payload(attribute), offsetof(struct rtnl_link_stats64, rx_errors));
    out->rx_bytes = s.rx_bytes;
    out->tx_bytes = s.tx_bytes;
    return MNL_CB_STOP;
}

static int take_link(const struct nlmsghdr *message, void *arg)
{
    struct links *l = arg;
    if (message->nlmsg_type != RTM_NEWSTATS) return MNL_CB_OK;
    if (mnl_nlmsg_get_payload_len(message) < sizeof(struct if_stats_msg)) return MNL_CB_ERROR;
    const struct if_stats_msg *head = mnl_nlmsg_get_payload(message);
    struct link_stats stats = {.ifindex = head->ifindex};
    int found = mnl_attr_parse(message, sizeof *head, keep_stats, &stats);
    if (found != MNL_CB_STOP) return found; /* a link without these counters */
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        struct link_stats *more = room <= LINKS_MAX ? reallocarray(l->stats, room, sizeof *more) : NULL;
        if (!more) return MNL_CB_ERROR;
        l->stats = more;
        l->room = room;
    }
    l->stats[l->count++] = stats;
    return MNL_CB_OK;
}

/* One question and its whole answer; false also when the links changed while they were listed. */
static bool ask(struct links *l, uint32_t ifindex)
{
    char bytes[REPLY_BYTES_MAX];
    struct nlmsghdr *message = mnl_nlmsg_put_header(bytes);
    message->nlmsg_type = RTM_GETSTATS;
    message->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | (ifindex ? NLM_F_ACK : NLM_F_DUMP));
    message->nlmsg_seq = ++l->sequence;
    struct if_stats_msg *head = mnl_nlmsg_put_extra_header(message, sizeof *head);
    head->ifindex = ifindex;
    head->filter_mask = IFLA_STATS_FILTER_BIT(IFLA_STATS_LINK_64);
    l->count = 0;
    if (mnl_socket_sendto(l->socket, message, message->nlmsg_len) < 0) return false;
    for (int go = MNL_CB_OK; go == MNL_CB_OK;) {
        ssize_t n = mnl_socket_recvfrom(l->socket, bytes, sizeof bytes);
        if (n < 0) return false;
        go = mnl_cb_run(bytes, (size_t)n, l->sequence, mnl_socket_get_portid(l->socket), take_link, l);
        if (go == MNL_CB_ERROR) return false;
    }
    return true;
}

static int by_ifindex(const void *a, const void *b)
{
    uint32_t x = ((const struct link_stats *)a)->ifindex, y = ((const struct link_stats *)b)->ifindex;
    return x < y ? -1 : x > y;
}

bool links_read(struct links *l, uint32_t ifindex)
{
    for (int i = 0; i < DUMP_ATTEMPTS; i++) {
        if (!open_socket(l)) break;
        if (ask(l, ifindex)) {
            if (l->count) qsort(l->stats, l->count, sizeof *l->stats, by_ifindex);
            return true;
        }
        bool gone = errno == ENODEV;
        close_socket(l); /* with it what is left of a broken answer */
        if (gone) break;
    }
    l->count = 0;
    return false;
}

const struct link_stats *links_find(const struct links *l, uint32_t ifindex)
{
    struct link_stats key = {.ifindex = ifindex};
    return l->count ? bsearch(&key, l->stats, l->count, sizeof key, by_ifindex) : NULL;
}
