/*
 * log.h - messages on stderr, and in the run's log file once there is one.
 *
 * Module: core
 * Rank 0 speaks (sim_log); another rank only where it must (sim_log_each).  On a
 * terminal one line may be rewritten in place (sim_log_progress); in a batch log it is
 * not shown.  NO_COLOR, a dumb terminal and a non-terminal give plain lines.  Logging
 * leaves the present story as it is.
 */
#ifndef SIMILE_LOG_H
#define SIMILE_LOG_H

#include "simile/status.h"

/* Tells the log who speaks; before it is called every process counts as rank 0 of 1. */
void sim_log_identity(int rank, int size, const char *host);

void sim_log(const char *fmt, ...) SIM_PRINTF(1, 2);      /* rank 0 */
void sim_log_each(const char *fmt, ...) SIM_PRINTF(1, 2); /* any rank, named */
void sim_log_warn(const char *fmt, ...) SIM_PRINTF(1, 2); /* rank 0, "warning: " */
/* Rank 0: rewrites one line in place; nothing where stderr is not a terminal. */
void sim_log_progress(const char *fmt, ...) SIM_PRINTF(1, 2);
/* Rank 0: a line of the record, for the log file and where stderr is no terminal. */
void sim_log_record(const char *fmt, ...) SIM_PRINTF(1, 2);

/* Prints "simile: <story>" (and the trail where SIMILE_TRACE is set); any rank. */
void sim_log_failure(sim_status code);

/* Does stderr show progress in place? */
bool sim_log_is_terminal(void);

/* Also appends sim_log lines to this file (rank 0).  Fails: SIM_E_IO.  NULL closes. */
SIM_MUST_USE sim_status sim_log_file(const char *path);

#endif
