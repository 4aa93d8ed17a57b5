/*
 * select.h - the selection of items, shared by select.c and select_groups.c.
 */
#ifndef SIMILE_PREP_SELECT_H
#define SIMILE_PREP_SELECT_H

#include "prep.h"

/* Streams of random numbers, so that the two selections are independent. */
typedef enum { PREP_LIMIT, PREP_HOLDOUT } prep_selection;
/* The random number of an item. */
uint32_t sim_prep_select_key(uint32_t seed, prep_selection selection, size_t item);
/* Number of n items that are held out: both parts get some, if there are two. */
size_t sim_prep_held_out(size_t n, double fraction);
/*
 * Marks the items of the part: whole groups, whatever their classes.
 * Errors: SIM_E_DATA if there is only one group.
 */
SIM_MUST_USE sim_status sim_prep_hold_out_groups(const prep_source *s,
                                                 const prep_options *o, bool *selected);

#endif
