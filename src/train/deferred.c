/*
 * deferred.c - local failures between two points of agreement.
 */
#include "state.h"

#include <stdio.h>

void sim_defer_error(sim_deferred *d, sim_status st)
{
    if (st == SIM_OK || d->status != SIM_OK)
        return;
    d->status = st;
    (void)snprintf(d->message, sizeof d->message, "%s", sim_error_message());
}

sim_status sim_deferred_agree(const sim_deferred *d, const sim_comm *c)
{
    if (d->status != SIM_OK)
        sim_error_set(d->message);
    return sim_comm_agree(c, d->status);
}
