/*
 * tool_schedule.c - the learning rates of a schedule, for test_schedule.py.
 *
 *   tool_schedule shape warmup_start_lr min_lr gamma base warmup epochs per_epoch MILESTONE...
 * Prints the rate of every update, one per line.  per_epoch 0: `epochs` is the length in updates.
 */
#include "simile/optim.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **a)
{
    if (argc < 9 || argc > 9 + SIM_OPTION_MAX_NUMBERS)
        return 64;
    const int64_t length = atol(a[7]), per_epoch = atol(a[8]);
    sim_schedule_options s = {.shape = atoi(a[1]),
                              .warmup_start_lr = atof(a[2]),
                              .min_lr = atof(a[3]),
                              .gamma = atof(a[4]),
                              .epochs = length,
                              .steps = per_epoch ? 0 : length};
    const double base = atof(a[5]), warmup = atof(a[6]);
    const int64_t total = per_epoch ? length * per_epoch : length;
    for (int i = 9; i < argc; i++)
        s.milestones.values[s.milestones.n++] = atof(a[i]);
    if (sim_schedule_check(&s, base) != SIM_OK)
        return 78;
    for (int64_t t = 0; t < total; t++)
        (void)printf("%.17g\n", sim_schedule_learning_rate(&s, base, (double)t, warmup,
                                                           (double)total));
    return 0;
}
