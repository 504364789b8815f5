/* Two views held against each other, window by window, while usage flows.
 *
 * The views are read one after the other and stand at different positions, so late usage in a closed window shows as a
 * difference until both have it: a window that was equal once is equal; the rest is looked at again by whoever calls.
 */
#ifndef CTL_VIEW_COMPARE_H
#define CTL_VIEW_COMPARE_H

#include "aggregator/ctl/view_digest.h"

enum compare_side { COMPARE_OLD, COMPARE_NEW, COMPARE_SIDES };

/* cells is 0 on a side that does not have the window. */
struct compared_window {
    struct window_digest side[COMPARE_SIDES];
    bool equal;
};
/* Closed windows of one kind, ascending. */
struct compared_windows {
    struct compared_window *window;
    size_t count, capacity, equal;
};
/* Zeroed is "nothing looked at yet". */
struct comparison {
    struct compared_windows kind[WINDOW_KINDS];
};

/* Frees what c owns and zeroes it. */
void comparison_destroy(struct comparison *c);
/* Looks at all windows that are closed, again at those that differed. Errors as the view's. */
SG_MUST_USE enum sg_error comparison_look(struct comparison *c, struct view *old, struct view *new,
                                          struct watermark closed, struct sg_fault *f);
/* True when no window differs. */
bool comparison_equal(const struct comparison *c);

#endif
