/*
 * log.h - messages on stderr and in the log file of a run.
 *
 * Module: core
 * Only rank 0 prints, except for sim_log_each and sim_log_failure. On a terminal, one progress
 * line is rewritten in place; elsewhere, with NO_COLOR or with TERM=dumb it is not printed.
 * Logging does not change the error message of the thread.
 */
#ifndef SIMILE_LOG_H
#define SIMILE_LOG_H

#include "simile/status.h"

#include <stddef.h>

/* Sets the rank, the number of ranks and the host name. Before this call every process logs as
 * rank 0 of 1. */
void sim_log_identity(int rank, int size, const char *host);

void sim_log(const char *fmt, ...) SIM_PRINTF(1, 2); /* rank 0 */
void sim_log_each(const char *fmt, ...)
    SIM_PRINTF(1, 2); /* any rank; prefixed with its name */
void sim_log_warn(const char *fmt, ...)
    SIM_PRINTF(1, 2); /* rank 0; prefixed "warning: " */
/* Rank 0: rewrites the progress line; prints nothing if stderr is not a terminal. */
void sim_log_progress(const char *fmt, ...) SIM_PRINTF(1, 2);
/* Erases the progress line, before something else is printed to the terminal. */
void sim_log_end_progress(void);
/* Of messages, only warnings and failures are printed on stderr; the log file has all. */
void sim_log_set_quiet(void);

/*
 * Progress of long work: on a terminal a line that is rewritten, as "embedding: 1280 of 100000 images, 812
 * images/s, 2m01s left"; elsewhere, and in the log file, such a line every minute.
 */
typedef struct {
    const char *what; /* before the numbers; NULL: nothing */
    const char *unit; /* "images" */
    size_t begun, total;
    double start_s, shown_s, recorded_s;
} sim_progress_line;
/* `begun` of `total` are done, and not counted in the rate. */
sim_progress_line sim_progress_line_begin(const char *what, const char *unit,
                                          size_t begun, size_t total);
void sim_progress_line_report(sim_progress_line *p, size_t done);

/* Rank 0: writes to the log file, and to stderr if it is not a terminal. */
void sim_log_record(const char *fmt, ...) SIM_PRINTF(1, 2);

/* Any rank: prints "simile: MESSAGE", and the backtrace if SIMILE_TRACE is set. */
void sim_log_failure(sim_status code);

/*
 * Any rank: prints a line on stderr only, by a thread of its own, and waits for it for at most
 * `wait_s`.  For threads that must not block where stderr may be a full pipe or on a failed disk, and
 * for lines that must be printed although another thread is blocked in writing one.  The line is
 * printed later, or never, if the time has passed.
 */
void sim_log_urgent(const char *text, double wait_s);

/* Whether stderr is a terminal on which progress is rewritten in place. */
bool sim_log_is_terminal(void);

/* Also appends log lines to this file on rank 0, from now on; NULL closes the file.
 * Errors: SIM_E_IO. */
SIM_MUST_USE sim_status sim_log_file(const char *path);

#endif
