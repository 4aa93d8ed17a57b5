/*
 * log.c - messages on stderr and in the log file of a run.
 *
 * Nothing here changes the error message of the thread, because error handling may log before the
 * message is printed.
 */
#include "simile/log.h"

#include "simile/clock.h"
#include "simile/file.h"
#include "simile/heartbeat.h"
#include "simile/memory.h"
#include "simile/text.h"
#include "simile/thread.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct {
    int rank, size;
    char host[64];
    bool quiet;
    bool in_place; /* the last line on the terminal is a progress line */
    int fd;        /* log file, or -1 */
    char path[4096];
} logger = {.size = 1, .fd = -1};

void sim_log_identity(int rank, int size, const char *host)
{
    logger.rank = rank;
    logger.size = size;
    (void)snprintf(logger.host, sizeof logger.host, "%s", host);
}

bool sim_log_is_terminal(void)
{
    const char *plain = getenv("NO_COLOR"), *kind = getenv("TERM");
    if ((plain && *plain) || (kind && strcmp(kind, "dumb") == 0))
        return false;
    return isatty(STDERR_FILENO) == 1;
}

static void erase_progress(void)
{
    if (logger.in_place)
        (void)fputs("\r\033[K", stderr);
    logger.in_place = false;
}

void sim_log_end_progress(void)
{
    erase_progress();
    (void)fflush(stderr);
}

void sim_log_set_quiet(void)
{
    logger.quiet = true;
}

enum { TEXT_BYTES = 4200, PRINTED_BYTES = 4 * TEXT_BYTES };

/* Without control characters.  Further lines of a message are indented, so that none of them looks
 * like a line of the log. */
static void make_printable(const char *text, char out[PRINTED_BYTES])
{
    char escaped[PRINTED_BYTES];
    size_t used = 0;

    sim_text_escape(text, true, escaped, sizeof escaped);
    for (const char *p = escaped; *p && used + 4 < PRINTED_BYTES; p++) {
        out[used++] = *p;
        if (*p == '\n' && p[1] != ' ') {
            out[used++] = ' ';
            out[used++] = ' ';
        }
    }
    out[used] = '\0';
}

static void append_to_file(const char *text)
{
    char line[PRINTED_BYTES + 32], error[4096], when[21];
    if (logger.fd < 0)
        return;
    sim_clock_iso(sim_clock_wall_s(), when);
    (void)snprintf(line, sizeof line, "%s %s\n", when, text);
    (void)snprintf(error, sizeof error, "%s", sim_error_message());
    if (sim_file_append(logger.fd, logger.path, line) != SIM_OK) {
        /* A failure of the log file does not end the run: warn once and continue without it. */
        (void)fprintf(stderr, "simile: warning: %s; the log file is no longer written\n",
                      sim_error_message());
        SIM_IGNORE(sim_log_file(NULL));
        sim_error_set(error);
    }
}

/* In one write, because several processes may write to the same file. */
static void print_line(const char *text)
{
    char line[PRINTED_BYTES + 2];

    erase_progress();
    (void)snprintf(line, sizeof line, "%s\n", text);
    (void)fputs(line, stderr);
    (void)fflush(stderr);
}

static void format(char out[PRINTED_BYTES], const char *first, const char *fmt,
                   va_list args)
{
    char text[TEXT_BYTES];
    const size_t n = strlen(first);

    memcpy(text, first, n);
    (void)vsnprintf(text + n, sizeof text - n, fmt, args);
    sim_text_escape(text, strchr(fmt, '\n') != NULL, out, PRINTED_BYTES);
}

void sim_log(const char *fmt, ...)
{
    char text[PRINTED_BYTES];
    va_list args;
    if (logger.rank != 0)
        return;
    va_start(args, fmt);
    format(text, "", fmt, args);
    va_end(args);
    if (!logger.quiet)
        print_line(text);
    append_to_file(text);
}

void sim_log_each(const char *fmt, ...)
{
    char text[PRINTED_BYTES], line[PRINTED_BYTES];
    va_list args;
    va_start(args, fmt);
    format(text, "", fmt, args);
    va_end(args);
    (void)snprintf(line, sizeof line, "rank %d on %s: %.*s", logger.rank, logger.host,
                   PRINTED_BYTES - 128, text);
    print_line(line);
    append_to_file(line);
}

void sim_log_warn(const char *fmt, ...)
{
    char text[PRINTED_BYTES];
    va_list args;
    if (logger.rank != 0)
        return;
    va_start(args, fmt);
    format(text, "warning: ", fmt, args);
    va_end(args);
    print_line(text);
    append_to_file(text);
}

/* Truncates to the width of the terminal, because a wrapped line cannot be erased. */
static void truncate_to_width(char *text)
{
    struct winsize size = {0};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return;
    size_t columns = 0;
    for (char *p = text; *p; p++) {
        if (((unsigned char)*p & 0xc0) != 0x80) /* not a UTF-8 continuation byte */
            columns++;
        if (columns >= size.ws_col) {
            *p = '\0';
            return;
        }
    }
}

void sim_log_progress(const char *fmt, ...)
{
    char text[PRINTED_BYTES];
    va_list args;
    if (logger.rank != 0 || logger.quiet || !sim_log_is_terminal())
        return;
    va_start(args, fmt);
    format(text, "", fmt, args);
    va_end(args);
    truncate_to_width(text);
    (void)fprintf(stderr, "\r\033[K%s", text);
    (void)fflush(stderr);
    logger.in_place = true;
}

void sim_log_record(const char *fmt, ...)
{
    char text[PRINTED_BYTES];
    va_list args;
    if (logger.rank != 0)
        return;
    va_start(args, fmt);
    format(text, "", fmt, args);
    va_end(args);
    if (!logger.quiet && !sim_log_is_terminal())
        print_line(text);
    append_to_file(text);
}

void sim_log_failure(sim_status code)
{
    char message[TEXT_BYTES], text[PRINTED_BYTES];
    (void)snprintf(message, sizeof message, "simile: %s", sim_error_message());
    make_printable(message, text);
    print_line(text);
    if (getenv("SIMILE_TRACE"))
        (void)fprintf(stderr, "simile: code %d (%s), at %s\n", (int)code,
                      sim_status_name(code), sim_error_backtrace());
    append_to_file(text);
}

/* ---- without waiting for stderr ---- */

typedef struct {
    atomic_flag
        released; /* by the writing thread or the waiting one, whichever ends first */
    atomic_bool written;
    char text[];
} urgent_line;

/* The last of the two threads frees the line. */
static void release_line(urgent_line *l)
{
    if (atomic_flag_test_and_set(&l->released))
        sim_free(l);
}

/* Not by stdio: another thread may hold the lock of stderr while it is blocked in a write. */
static void write_to_stderr(const char *text)
{
    for (size_t n = strlen(text); n > 0;) {
        struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
        const ssize_t written = write(STDERR_FILENO, text, n);
        if (written > 0) {
            text += written;
            n -= (size_t)written;
        } else if (written < 0 && errno == EAGAIN) {
            (void)poll(&ready, 1, -1);
        } else if (written < 0 && errno != EINTR) {
            return;
        }
    }
}

static void *write_urgent(void *ctx)
{
    urgent_line *l = ctx;

    sim_heartbeat_mute();
    write_to_stderr(l->text);
    atomic_store(&l->written, true);
    release_line(l);
    return NULL;
}

static void wait_for_line(const urgent_line *l, double wait_s)
{
    enum { POLLS_PER_S = 50 };

    for (int i = 0; i < (int)(wait_s * POLLS_PER_S) && !atomic_load(&l->written); i++)
        sim_clock_sleep(1.0 / POLLS_PER_S);
}

void sim_log_urgent(const char *text, double wait_s)
{
    urgent_line *l = NULL;
    void *memory = NULL;
    sim_thread thread;
    const size_t n = strlen(text) + 3;

    if (sim_alloc_bytes(sizeof *l + n, 1, "core/log", &memory) != SIM_OK)
        return;
    l = memory;
    atomic_flag_clear(&l->released);
    atomic_init(&l->written, false);
    (void)snprintf(l->text, n, "%s%s\n", sim_log_is_terminal() ? "\n" : "", text);
    if (sim_thread_start(&thread, write_urgent, l) != SIM_OK) {
        sim_free(l);
        return;
    }
    sim_thread_detach(&thread);
    wait_for_line(l, wait_s);
    release_line(l);
}

sim_status sim_log_file(const char *path)
{
    sim_status st = SIM_OK;

    if (logger.fd >= 0)
        st = sim_file_close(&logger.fd, logger.path);
    logger.fd = -1;
    if (!path || logger.rank != 0)
        return st;
    (void)snprintf(logger.path, sizeof logger.path, "%s", path);
    SIM_TRY(sim_file_open_append(path, &logger.fd));
done:
    return st;
}
