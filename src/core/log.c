/*
 * log.c - messages on stderr and in the run's log.
 *
 * A failure often logs while its story waits to be told: nothing here changes the story.
 */
#include "simile/log.h"

#include "simile/clock.h"
#include "simile/file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct {
    int rank, size;
    char host[64];
    bool in_place; /* a progress line stands on the terminal */
    int fd;        /* of the log file, or -1 */
    char path[4096];
} speaker = {.size = 1, .fd = -1};

void sim_log_identity(int rank, int size, const char *host)
{
    speaker.rank = rank;
    speaker.size = size;
    (void)snprintf(speaker.host, sizeof speaker.host, "%s", host);
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
    if (speaker.in_place)
        (void)fputs("\r\033[K", stderr);
    speaker.in_place = false;
}

static void to_file(const char *text)
{
    char line[4400], story[4096], when[21];
    if (speaker.fd < 0)
        return;
    sim_clock_iso(sim_clock_wall_s(), when);
    (void)snprintf(line, sizeof line, "%s %s\n", when, text);
    (void)snprintf(story, sizeof story, "%s", sim_error_message());
    if (sim_file_append(speaker.fd, speaker.path, line) != SIM_OK) {
        /* The log must not end the run: say so once and go on without it. */
        (void)fprintf(stderr, "simile: warning: %s; logging to it ends\n",
                      sim_error_message());
        SIM_IGNORE(sim_log_file(NULL));
        sim_error_set(story);
    }
}

static void to_terminal(const char *text)
{
    erase_progress();
    (void)fprintf(stderr, "%s\n", text);
    (void)fflush(stderr);
}

static void format(char *out, size_t out_bytes, const char *fmt, va_list args)
{
    (void)vsnprintf(out, out_bytes, fmt, args);
}

void sim_log(const char *fmt, ...)
{
    char text[4200];
    va_list args;
    if (speaker.rank != 0)
        return;
    va_start(args, fmt);
    format(text, sizeof text, fmt, args);
    va_end(args);
    to_terminal(text);
    to_file(text);
}

void sim_log_each(const char *fmt, ...)
{
    char text[4200], named[4400];
    va_list args;
    va_start(args, fmt);
    format(text, sizeof text, fmt, args);
    va_end(args);
    (void)snprintf(named, sizeof named, "rank %d on %s: %s", speaker.rank, speaker.host,
                   text);
    to_terminal(named);
    to_file(named);
}

void sim_log_warn(const char *fmt, ...)
{
    char text[4200] = "warning: ";
    size_t used = strlen(text);
    va_list args;
    if (speaker.rank != 0)
        return;
    va_start(args, fmt);
    format(text + used, sizeof text - used, fmt, args);
    va_end(args);
    to_terminal(text);
    to_file(text);
}

/* Cuts a text to the terminal's width: a line that wrapped cannot be erased. */
static void cut_to_width(char *text)
{
    struct winsize size = {0};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return;
    size_t columns = 0;
    for (char *p = text; *p; p++) {
        bool starts = ((unsigned char)*p & 0xc0) != 0x80; /* a character, in UTF-8 */
        columns += starts;
        if (columns >= size.ws_col) {
            *p = '\0';
            return;
        }
    }
}

void sim_log_progress(const char *fmt, ...)
{
    char text[512];
    va_list args;
    if (speaker.rank != 0 || !sim_log_is_terminal())
        return;
    va_start(args, fmt);
    format(text, sizeof text, fmt, args);
    va_end(args);
    cut_to_width(text);
    (void)fprintf(stderr, "\r\033[K%s", text);
    (void)fflush(stderr);
    speaker.in_place = true;
}

void sim_log_record(const char *fmt, ...)
{
    char text[4200];
    va_list args;
    if (speaker.rank != 0)
        return;
    va_start(args, fmt);
    format(text, sizeof text, fmt, args);
    va_end(args);
    if (!sim_log_is_terminal())
        to_terminal(text);
    to_file(text);
}

void sim_log_failure(sim_status code)
{
    char text[4200];
    (void)snprintf(text, sizeof text, "simile: %s", sim_error_message());
    to_terminal(text);
    if (getenv("SIMILE_TRACE"))
        (void)fprintf(stderr, "simile: code %d (%s), from %s\n", (int)code,
                      sim_status_name(code), sim_error_backtrace());
    to_file(text);
}

sim_status sim_log_file(const char *path)
{
    sim_status st = SIM_OK;

    if (speaker.fd >= 0)
        st = sim_file_close(&speaker.fd, speaker.path);
    speaker.fd = -1;
    if (!path || speaker.rank != 0)
        return st;
    (void)snprintf(speaker.path, sizeof speaker.path, "%s", path);
    SIM_TRY(sim_file_open_append(path, &speaker.fd));
done:
    return st;
}
