/*
 * expand.h - paths of a job.
 */
#ifndef SIMILE_JOB_EXPAND_H
#define SIMILE_JOB_EXPAND_H

#include "simile/option.h"
#include "simile/status.h"

/*
 * Replaces a leading ~/ by $HOME, and $NAME and ${NAME} by the environment.
 * Errors: SIM_E_CONFIG naming the key (variable not set, malformed, too long).
 */
SIM_MUST_USE sim_status sim_job_expand_path(const char *key,
                                            char path[SIM_OPTION_TEXT_BYTES]);

#endif
