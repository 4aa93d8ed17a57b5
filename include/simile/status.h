/*
 * status.h - status codes, error messages and assertions.
 *
 * Module: core
 * Every function that can fail returns a sim_status. The codes are those of sysexits.h; main
 * returns them unchanged. The error message for the user and the backtrace of source locations
 * are thread-local; the backtrace is printed only if SIMILE_TRACE is set.
 */
#ifndef SIMILE_STATUS_H
#define SIMILE_STATUS_H

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    SIM_OK = 0,
    SIM_E_USAGE = 64,   /* invalid command line */
    SIM_E_DATA = 65,    /* invalid data set, checkpoint or image */
    SIM_E_INPUT = 66,   /* an input does not exist or cannot be read */
    SIM_E_INSTALL = 69, /* a required program, library or newer simile is missing */
    SIM_E_BUG = 70,     /* failed assertion, or training stopped by a guard */
    SIM_E_CREATE = 73,  /* an output or run directory is in use or cannot be created */
    SIM_E_IO = 74,      /* input/output error, or memory exhausted */
    SIM_E_AGAIN = 75,   /* stopped with a valid checkpoint: run the same command again */
    SIM_E_ACCESS = 77,  /* permission denied */
    SIM_E_CONFIG = 78   /* invalid job file or key */
} sim_status;

#define SIM_MUST_USE           __attribute__((warn_unused_result))
#define SIM_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/* Sets the error message, restarts the backtrace at file:line and returns `code`. Use it
 * through SIM_FAIL or SIM_CHECK. */
sim_status sim_error_begin(sim_status code, const char *file, int line, const char *fmt,
                           ...) SIM_PRINTF(4, 5);

/* Appends a source location to the backtrace. */
void sim_error_add_frame(const char *file, int line);

/* Prepends context to the error message, such as "reading a.h5: ". */
void sim_error_prefix(const char *fmt, ...) SIM_PRINTF(1, 2);

/* The message of the last error in this thread, "" if none. Borrowed. */
const char *sim_error_message(void);

/* The source locations of the last error, innermost first, "" if none. Borrowed. */
const char *sim_error_backtrace(void);

/* Replaces the error message, for instance with that of another rank or thread. */
void sim_error_set(const char *text);

/* Clears message and backtrace of an error that was handled. */
void sim_error_clear(void);

/* Short description of a code, such as "configuration". */
const char *sim_status_name(sim_status code);

/* Sets the function that a failed assertion calls after printing its message; if it returns,
 * or by default, abort() follows. */
void sim_assert_hook(void (*hook)(void));
_Noreturn void sim_assert_failed(const char *what, const char *file, int line);

/* The macros below expect a variable `sim_status st` and a label `done`. */
#define SIM_FAIL(code, ...)                                                              \
    do {                                                                                 \
        st = sim_error_begin((code), __FILE__, __LINE__, __VA_ARGS__);                   \
        goto done;                                                                       \
    } while (0)

#define SIM_CHECK(condition, code, ...)                                                  \
    do {                                                                                 \
        if (!(condition))                                                                \
            SIM_FAIL(code, __VA_ARGS__);                                                 \
    } while (0)

#define SIM_TRY(call)                                                                    \
    do {                                                                                 \
        st = (call);                                                                     \
        if (st != SIM_OK) {                                                              \
            sim_error_add_frame(__FILE__, __LINE__);                                     \
            goto done;                                                                   \
        }                                                                                \
    } while (0)

/* Discards the status of a call, for cleanup after an error that is already reported. */
#define SIM_IGNORE(call)                                                                 \
    do {                                                                                 \
        if ((call) != SIM_OK) {                                                          \
        }                                                                                \
    } while (0)

/* Checks an invariant, in release builds too. A violation is a bug: it ends the job with
 * SIM_E_BUG. */
#define SIM_ASSERT(condition)                                                            \
    do {                                                                                 \
        if (!(condition))                                                                \
            sim_assert_failed(#condition, __FILE__, __LINE__);                           \
    } while (0)

#endif
