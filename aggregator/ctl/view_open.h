/* The view as the commands open it. */
#ifndef CTL_VIEW_OPEN_H
#define CTL_VIEW_OPEN_H

#include "aggregator/api/view.h"
#include "aggregator/ctl/ctl.h"

/* Opens the store that the configuration names and reads shard 0's meta. The caller calls view_close. */
SG_MUST_USE enum sg_error view_open(const struct ctl_config *k, struct view *v, struct sg_fault *f);
/* Safe on a zeroed view. */
void view_close(struct view *v);

#endif
