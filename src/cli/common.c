/*
 * common.c - command lines, printing, and starting MPI, for all subcommands.
 */
#include "cli.h"

#include "simile/file.h"
#include "simile/kernel.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool sim_cli_is_first_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *text = getenv(names[i]);
        if (text)
            return strcmp(text, "0") == 0;
    }
    return true;
}

/* Redirects a stream to /dev/null.  Returns a descriptor for restore_stream, or -1. */
static int mute_stream(FILE *stream)
{
    int saved = dup(fileno(stream));
    if (saved >= 0 && freopen("/dev/null", "w", stream))
        (void)setvbuf(stream, NULL, _IONBF, 0); /* abort() does not flush */
    return saved;
}

static void restore_stream(FILE *stream, int saved)
{
    if (saved < 0)
        return;
    (void)dup2(saved, fileno(stream));
    (void)close(saved);
}

/* stderr of the process while argp and getopt print words of the command line. */
static FILE *unescaped;

static ssize_t write_escaped(void *cookie, const char *bytes, size_t n)
{
    char text[1024];
    (void)cookie;
    for (size_t at = 0; at < n; at += sizeof text - 1) {
        (void)snprintf(text, sizeof text, "%.*s",
                       (int)(n - at < sizeof text ? n - at : sizeof text - 1),
                       bytes + at);
        sim_text_put_printable(unescaped, text, true);
    }
    return (ssize_t)n;
}

static void escape_errors(void)
{
    const cookie_io_functions_t calls = {.write = write_escaped};
    FILE *escaped = fopencookie(NULL, "w", calls);

    unescaped = stderr;
    if (escaped) {
        (void)setvbuf(escaped, NULL, _IOLBF, 0);
        stderr = escaped;
    }
}

static void end_escape(void)
{
    if (stderr != unescaped)
        (void)fclose(stderr);
    stderr = unescaped;
}

/* All ranks parse the same command line, so only the first prints its help or errors. */
void sim_cli_parse(const struct argp *argp, int argc, char **argv, void *out)
{
    static char name[64]; /* getopt keeps the pointer for later messages */
    (void)snprintf(name, sizeof name, "simile %s", argv[0]);
    argv[0] = name;
    argp_err_exit_status = SIM_E_USAGE;
    const bool first = sim_cli_is_first_rank();
    int saved_stdout = first ? -1 : mute_stream(stdout);
    int saved_stderr = first ? -1 : mute_stream(stderr);
    escape_errors();
    error_t error = argp_parse(argp, argc, argv, ARGP_IN_ORDER, NULL, out);
    restore_stream(stdout, saved_stdout);
    end_escape();
    restore_stream(stderr, saved_stderr);
    if (error)
        exit(SIM_E_USAGE);
}

/* A number, optionally followed by one of `letters`, whose factor multiplies it. */
static bool parse_number_with_unit(const char *text, const char *letters,
                                   const double *factors, double *out)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || !isfinite(value) || value < 0)
        return false;
    if (*end == '\0') {
        *out = value;
        return true;
    }
    const char *letter = strchr(letters, *end);
    if (!letter || end[1] != '\0')
        return false;
    *out = value * factors[letter - letters];
    return true;
}

bool sim_cli_bytes(const char *text, double *bytes)
{
    static const double factors[] = {0x1p10, 0x1p20, 0x1p30, 0x1p40};
    return parse_number_with_unit(text, "KMGT", factors, bytes);
}

/* Completes output to stdout. */
static sim_status flush_output(void)
{
    sim_status st = SIM_OK;
    const bool is_written = fflush(stdout) == 0 && !ferror(stdout);
    if (!is_written && errno == EPIPE) { /* as `simile inspect RUN | head` expects */
        (void)signal(SIGPIPE, SIG_DFL);
        (void)raise(SIGPIPE);
    }
    SIM_CHECK(is_written, SIM_E_IO, "writing to standard output failed: %s",
              strerror(errno ? errno : EIO));
done:
    return st;
}

sim_status sim_cli_print(const sim_comm *c, const char *text)
{
    if (c && c->rank != 0)
        return SIM_OK;
    sim_log_end_progress();
    errno = 0;
    sim_text_put_printable(stdout, text, true);
    return flush_output();
}

sim_status sim_cli_print_line(const char *text)
{
    sim_status st = SIM_OK;
    char *line = NULL;
    const bool is_complete = sim_text_ends_with(text, "\n");

    SIM_TRY(sim_text_copy(text, "cli/text", &line));
    if (is_complete)
        line[strlen(line) - 1] = '\0';
    sim_log_end_progress();
    errno = 0;
    sim_text_put_printable(stdout, line, false);
    (void)fputs(is_complete ? "\n" : "", stdout);
    SIM_TRY(flush_output());
done:
    sim_free(line);
    return st;
}

sim_status sim_cli_print_exact(const char *text)
{
    if (isatty(STDOUT_FILENO))
        return sim_cli_print(NULL, text);
    sim_log_end_progress();
    errno = 0;
    (void)fputs(text, stdout);
    return flush_output();
}

sim_status sim_cli_print_json(const sim_comm *c, const sim_json *j, bool pretty)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    SIM_TRY(sim_json_dump(j, pretty ? 2 : 0, &text));
    SIM_TRY(sim_cli_print(c, text));
    SIM_TRY(sim_cli_print(c, "\n"));
done:
    sim_free(text);
    return st;
}

/* Directory of the results of the run that the checkpoint is in.  false: it is in no run. */
static bool results_directory(const sim_checkpoint *k, char *out, size_t out_bytes)
{
    const char *path = sim_checkpoint_path(k), *name = strrchr(path, '/');
    static const char tail[] = "checkpoints";
    const size_t n_tail = sizeof tail - 1, n = name ? (size_t)(name - path) : 0;

    if (n < n_tail || memcmp(path + n - n_tail, tail, n_tail) != 0 ||
        (n > n_tail && path[n - n_tail - 1] != '/'))
        return false;
    int written = snprintf(out, out_bytes, "%.*sresults", (int)(n - n_tail), path);
    return written > 0 && (size_t)written < out_bytes && sim_path_is_directory(out);
}

static const char *fingerprint_of(const sim_json *result, const char *set)
{
    sim_json *about = NULL;
    const char *fingerprint = "";

    if (sim_json_get_object(result, set, &about))
        (void)sim_json_get_text(about, "fingerprint", &fingerprint);
    return fingerprint;
}

/* Why the result must not replace the file; NULL if it may. */
static const char *find_conflict(const char *path, const sim_json *result)
{
    enum { LIMIT = 1 << 24 };
    static const char *const sets[] = {"train", "test"};
    const char *conflict = NULL, *protocol = NULL;
    sim_json *j = NULL;
    char *text = NULL;
    size_t n = 0;

    if (!sim_path_is_file(path) || sim_file_load(path, LIMIT, &text, &n) != SIM_OK ||
        sim_json_parse(text, n, &j) != SIM_OK ||
        !sim_json_get_text(j, "protocol", &protocol))
        conflict = "not a result of simile";
    for (size_t i = 0; !conflict && i < sizeof sets / sizeof *sets; i++)
        if (strcmp(fingerprint_of(j, sets[i]), fingerprint_of(result, sets[i])) != 0)
            conflict = "the result of another data set";
    sim_error_clear();
    sim_json_destroy(&j);
    sim_free(text);
    return conflict;
}

static sim_status write_result(const char *path, const sim_json *result)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    const char *conflict = sim_path_is_taken(path) ? find_conflict(path, result) : NULL;

    sim_temporary_remove_stale(path);
    if (conflict)
        SIM_TRY(sim_run_set_aside(path, conflict, NULL));
    SIM_TRY(sim_json_dump(result, 2, &text));
    const sim_piece pieces[] = {{text, strlen(text)}, {"\n", 1}};
    SIM_TRY(sim_file_replace(path, pieces, 2));
    sim_log("result stored as %s", path);
done:
    sim_free(text);
    return st;
}

void sim_cli_keep_result(const sim_checkpoint *k, const char *protocol,
                         const char *variant, const sim_json *result)
{
    char directory[4200], path[4500];

    if (!results_directory(k, directory, sizeof directory))
        return;
    (void)snprintf(path, sizeof path, "%s/%s-step-%09lld%.200s.json", directory, protocol,
                   (long long)sim_checkpoint_head_of(k)->step, variant);
    if (write_result(path, result) != SIM_OK) {
        sim_log_warn("the result is not stored: %s", sim_error_message());
        sim_error_clear();
    }
}

/* The words of a command line, one per line. */
static sim_status join_words(int argc, char **argv, char **out)
{
    sim_status st = SIM_OK;
    size_t n = 1, at = 0;

    for (int i = 0; i < argc; i++)
        n += strlen(argv[i]) + 1;
    SIM_TRY(sim_alloc(out, n, "cli/words"));
    for (int i = 0; i < argc; i++)
        at += (size_t)snprintf(*out + at, n - at, "%s\n", argv[i]);
done:
    return st;
}

/* Another build may round differently, and other options are another command. */
static sim_status compare_commands(const sim_comm *c, int argc, char **argv)
{
    sim_status st = SIM_OK;
    char *words = NULL;

    SIM_TRY(
        sim_comm_compare(c, SIM_E_CONFIG, "build", sim_cli_build(),
                         "start the same program on all nodes (see simile --version)"));
    SIM_TRY(sim_comm_agree(c, join_words(argc, argv, &words)));
    SIM_TRY(sim_comm_compare(c, SIM_E_USAGE, "command line", words,
                             "start all ranks with the same command"));
done:
    sim_free(words);
    return st;
}

sim_status sim_cli_compare_kernels(const sim_comm *c)
{
    return sim_comm_compare(
        c, SIM_E_CONFIG, "arithmetic of the kernels", sim_kernels_arithmetic(),
        "set kernels, or SIMILE_KERNELS, to an instruction set of all processors");
}

sim_status sim_cli_compare_job(const sim_comm *c, const char *path, const sim_job *job,
                               const sim_job_texts *texts)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_comm_compare(c, SIM_E_CONFIG, path, texts->of_all_ranks,
                             "all ranks must run the same job"));
    SIM_TRY(sim_comm_compare(c, SIM_E_CONFIG, "run", job->train.run,
                             "all ranks must use the same run directory"));
    SIM_TRY(sim_cli_compare_kernels(c));
done:
    return st;
}

sim_status sim_cli_compare_preprocessing(const sim_comm *c, const sim_preprocessing *p)
{
    sim_status st = SIM_OK;
    char *text = NULL;

    SIM_TRY(sim_comm_agree(c, sim_preprocessing_text(p, &text)));
    SIM_TRY(sim_comm_compare(c, SIM_E_DATA, "preprocessing of the model", text,
                             "all ranks must read the same training set"));
done:
    sim_free(text);
    return st;
}

sim_status sim_cli_with_ranks(int argc, char **argv, sim_cli_body *body, void *ctx)
{
    enum { END_S = 300 };
    const sim_comm *c = NULL;
    sim_status st = sim_comm_begin(&argc, &argv, &c);
    if (st != SIM_OK) {
        if (sim_cli_is_first_rank()) /* all ranks fail alike, or each is a separate job */
            sim_log_failure(st);
        return st;
    }
    sim_comm_deadline_begin(sim_comm_start_seconds(),
                            "the start hangs: not all ranks compared their commands");
    st = compare_commands(c, argc, argv);
    sim_comm_deadline_end();
    if (st == SIM_OK)
        st = sim_comm_agree(c, body(c, ctx));
    sim_comm_deadline_begin(END_S, "the last messages are not written");
    if (st == SIM_E_AGAIN)
        sim_log("%s", sim_error_message());
    else if (st != SIM_OK && c->rank == 0)
        sim_log_failure(st);
    SIM_IGNORE(
        sim_log_file(NULL)); /* closed last, so that the log file ends with the error */
    sim_comm_deadline_end();
    sim_comm_end();
    return st;
}
