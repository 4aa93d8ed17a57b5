/*
 * status.h - how a failure travels: a code, and the story that explains it.
 *
 * Module: core
 * Whatever can fail returns a sim_status.  The codes are sysexits numbers, so that
 * main returns them unchanged.  The story is thread-local text for the user; the
 * trail of source places behind it is printed only where SIMILE_TRACE is set.
 */
#ifndef SIMILE_STATUS_H
#define SIMILE_STATUS_H

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    SIM_OK = 0,
    SIM_E_USAGE = 64,   /* the command line is wrong */
    SIM_E_DATA = 65,    /* a data set, checkpoint or image is wrong */
    SIM_E_INPUT = 66,   /* an input does not exist or cannot be read */
    SIM_E_INSTALL = 69, /* something needed is not installed */
    SIM_E_BUG = 70,     /* a bug of ours, or a guard's stop */
    SIM_E_CREATE = 73,  /* a run directory is busy or cannot be created */
    SIM_E_IO = 74,      /* reading or writing failed */
    SIM_E_AGAIN = 75,   /* stopped with a valid checkpoint: run me again */
    SIM_E_ACCESS = 77,  /* permission denied */
    SIM_E_CONFIG = 78   /* the job file or a key is wrong */
} sim_status;

#define SIM_MUST_USE           __attribute__((warn_unused_result))
#define SIM_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/* Starts a new story and returns `code`.  Use it through SIM_FAIL or SIM_CHECK. */
sim_status sim_error_begin(sim_status code, const char *file, int line, const char *fmt,
                           ...) SIM_PRINTF(4, 5);

/* Adds a source place to the trail of the present story. */
void sim_error_add_frame(const char *file, int line);

/* Puts a sentence in front of the present story: "reading a.h5: " and so on. */
void sim_error_prefix(const char *fmt, ...) SIM_PRINTF(1, 2);

/* The story of the last failure in this thread; "" when there is none.  Borrowed. */
const char *sim_error_message(void);

/* The trail of source places, innermost first; "" when there is none.  Borrowed. */
const char *sim_error_backtrace(void);

/* Replaces the story, e.g. by the one another rank or thread told. */
void sim_error_set(const char *text);

/* Forgets the story: the failure was dealt with. */
void sim_error_clear(void);

/* Name of a code for people: "configuration", "input missing" ... */
const char *sim_status_name(sim_status code);

/* The function to run when SIM_ASSERT fails, after the message; default abort(). */
void sim_assert_hook(void (*hook)(void));
_Noreturn void sim_assert_failed(const char *what, const char *file, int line);

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

/* For releases on a way out that has its own failure to tell. */
#define SIM_IGNORE(call)                                                                 \
    do {                                                                                 \
        if ((call) != SIM_OK) {                                                          \
        }                                                                                \
    } while (0)

/* Bugs are not errors: stays on in release, ends the whole job with 70. */
#define SIM_ASSERT(condition)                                                            \
    do {                                                                                 \
        if (!(condition))                                                                \
            sim_assert_failed(#condition, __FILE__, __LINE__);                           \
    } while (0)

#endif
