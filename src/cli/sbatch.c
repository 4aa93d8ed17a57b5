/*
 * sbatch.c - writes a Slurm script for a job: slurm/pretrain.sbatch with its first lines filled
 * in.
 *
 * The program contains the text of the script, so that no other file is needed.
 * Called by cmd_plan.c, with the planned memory and time.
 */
#include "cli.h"

#include "simile/file.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SCRIPT_BYTES = 1 << 20 };
enum { WRITE_BYTES_PER_S = 100000000 }; /* assumed rate of writing a checkpoint */

/* Lines of the script that are replaced, by how they begin. */
enum { NAME, NODES, TASKS, THREADS, MEMORY, TIME, SIGNAL, WORDS, PROGRAM, LINES };
static const char *const starts[LINES] = {[NAME] = "#SBATCH --job-name=",
                                          [NODES] = "#SBATCH --nodes=",
                                          [TASKS] = "#SBATCH --ntasks-per-node=",
                                          [THREADS] = "#SBATCH --cpus-per-task=",
                                          [MEMORY] = "#SBATCH --mem=",
                                          [TIME] = "#SBATCH --time=",
                                          [SIGNAL] = "#SBATCH --signal=",
                                          [WORDS] = "[ $# -gt 0 ] || set --",
                                          [PROGRAM] = "SIMILE=${SIMILE:-"};

typedef struct {
    char *lines[LINES];
} head;

/* Quotes `text` as one word of a shell command. */
static sim_status quote_word(const char *text, char **out)
{
    sim_status st = SIM_OK;
    static const char inside[] = "'\\''"; /* ends the quotes, adds one, opens them */
    char *word = NULL;
    size_t n = 0;

    SIM_TRY(sim_alloc(&word, strlen(inside) * strlen(text) + 3, "cli/sbatch"));
    word[n++] = '\'';
    for (; *text; text++)
        if (*text == '\'')
            n = (size_t)(stpcpy(word + n, inside) - word);
        else
            word[n++] = *text;
    word[n++] = '\'';
    word[n] = '\0';
    *out = word;
done:
    return st;
}

/* The method and the name of the run directory, with characters that Slurm and file names permit. */
static sim_status name_line(const sim_cli_sbatch *s, char **out)
{
    sim_status st = SIM_OK;
    char name[64], directory[4096];
    const char *last = strrchr(s->run, '/');

    const char *run = last && last[1] ? last + 1 : s->run;
    const bool has_method = strstr(run, s->method) != NULL;
    (void)snprintf(name, sizeof name, "%s%s%s", has_method ? "" : s->method,
                   has_method ? "" : "-", run);
    for (char *c = name; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-",
                    *c))
            *c = '-';
    SIM_CHECK(
        getcwd(directory, sizeof directory) && !strpbrk(directory, "\"\\\n"),
        SIM_E_CONFIG,
        "--sbatch: the path of the working directory contains a quote, backslash or line "
        "break, which Slurm does not accept; run simile in another directory");
    SIM_TRY(sim_text_format("cli/sbatch", out, "%s%s\n#SBATCH --chdir=\"%s\"",
                            starts[NAME], name, directory));
done:
    return st;
}

/* The arguments that the script passes to simile pretrain if it is submitted without any. */
static sim_status words_line(const sim_cli_sbatch *s, char **out)
{
    sim_status st = SIM_OK;
    char *word = NULL, *longer = NULL;

    SIM_TRY(sim_text_copy(starts[WORDS], "cli/sbatch", out));
    for (size_t i = 0; i <= s->source->n_overrides; i++) {
        SIM_TRY(quote_word(i ? s->source->overrides[i - 1] : s->source->path, &word));
        SIM_TRY(sim_text_format("cli/sbatch", &longer, "%s %s", *out, word));
        SIM_FREE(word);
        sim_free(*out);
        *out = longer;
    }
done:
    sim_free(word);
    return st;
}

static sim_status program_line(char **out)
{
    sim_status st = SIM_OK;
    char path[4096], *word = NULL;
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

    SIM_CHECK(n > 0, SIM_E_IO,
              "/proc/self/exe cannot be read; the path of simile is unknown");
    path[n] = '\0';
    SIM_TRY(quote_word(path, &word));
    SIM_TRY(sim_text_format("cli/sbatch", out, "%s%s}", starts[PROGRAM], word));
done:
    sim_free(word);
    return st;
}

/* The requested time: 1.25 times the estimate and ten minutes, at most the limit. */
static double requested_seconds(const sim_cli_sbatch *s)
{
    double seconds = 1.25 * s->total_s + 600;
    return s->limit_s > 0 && seconds > s->limit_s ? s->limit_s : seconds;
}

static sim_status time_line(const sim_cli_sbatch *s, char **out)
{
    long minutes = (long)(requested_seconds(s) / 60 + 0.999);
    return sim_text_format("cli/sbatch", out, "%s%ld-%02ld:%02ld:00", starts[TIME],
                           minutes / 1440, minutes / 60 % 24, minutes % 60);
}

/* Lead time of the signal: two checkpoints, two steps, and a minute, by which Slurm may be
 * late. */
static sim_status signal_line(const sim_cli_sbatch *s, char **out)
{
    double lead = 60 + 2 * ((double)s->checkpoint_bytes / WRITE_BYTES_PER_S + s->step_s);
    double limit = requested_seconds(s) / 4;
    return sim_text_format("cli/sbatch", out, "%sUSR1@%ld", starts[SIGNAL],
                           (long)(lead < limit ? lead : limit) + 1);
}

/* A process uses at most 15 % and 100 MB more than planned. */
static sim_status memory_line(const sim_cli_sbatch *s, char **out)
{
    double rank = 1.15 * (double)s->rank_bytes + 100e6;
    size_t ranks_of_node = s->ranks / s->nodes;
    double node = rank * (double)ranks_of_node;
    return sim_text_format("cli/sbatch", out, "%s%ldM", starts[MEMORY],
                           (long)(node / 0x1p20) + 1);
}

static sim_status number_line(int line, size_t n, char **out)
{
    return sim_text_format("cli/sbatch", out, "%s%zu", starts[line], n);
}

static sim_status fill_head(const sim_cli_sbatch *s, head *h)
{
    sim_status st = SIM_OK;
    SIM_TRY(name_line(s, &h->lines[NAME]));
    SIM_TRY(number_line(NODES, s->nodes, &h->lines[NODES]));
    SIM_TRY(number_line(TASKS, s->ranks / s->nodes, &h->lines[TASKS]));
    SIM_TRY(number_line(THREADS, s->threads, &h->lines[THREADS]));
    SIM_TRY(memory_line(s, &h->lines[MEMORY]));
    SIM_TRY(time_line(s, &h->lines[TIME]));
    SIM_TRY(signal_line(s, &h->lines[SIGNAL]));
    SIM_TRY(words_line(s, &h->lines[WORDS]));
    SIM_TRY(program_line(&h->lines[PROGRAM]));
done:
    return st;
}

/* The replacement of the line that begins at `at`; NULL if it is not replaced. */
static const char *replacement_of(const head *h, const char *at)
{
    for (int i = 0; i < LINES; i++)
        if (strncmp(at, starts[i], strlen(starts[i])) == 0)
            return h->lines[i];
    return NULL;
}

/* Whether both files have the same text. */
static bool same_text(const char *a, const char *b)
{
    char *text[2] = {NULL, NULL};
    size_t n[2] = {0, 0};
    bool is = sim_file_load(a, MAX_SCRIPT_BYTES, &text[0], &n[0]) == SIM_OK &&
              sim_file_load(b, MAX_SCRIPT_BYTES, &text[1], &n[1]) == SIM_OK &&
              n[0] == n[1] && memcmp(text[0], text[1], n[0]) == 0;
    sim_error_clear();
    sim_free(text[0]);
    sim_free(text[1]);
    return is;
}

static sim_status write_script(const head *h, const sim_cli_sbatch *s)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];
    sim_replacement file = {.fd = -1};
    sim_output out = s->out;

    SIM_TRY(sim_path_follow(out.path, path));
    SIM_TRY(sim_file_replace_begin(path, &file));
    for (const char *at = sim_cli_sbatch_script; *at;) {
        size_t n = strcspn(at, "\n");
        const char *line = replacement_of(h, at);
        SIM_TRY(sim_file_replace_add(&file, line ? line : at, line ? strlen(line) : n));
        SIM_TRY(sim_file_replace_add(&file, "\n", 1));
        at += n + (at[n] == '\n');
    }
    out.is_own = same_text(path, file.temporary);
    SIM_TRY(sim_output_check(&out, path));
    SIM_TRY(sim_file_replace_end(&file));
done:
    sim_file_replace_cancel(&file);
    return st;
}

sim_status sim_cli_sbatch_write(const sim_cli_sbatch *s)
{
    sim_status st = SIM_OK;
    head h = {0};

    SIM_TRY(fill_head(s, &h));
    SIM_TRY(write_script(&h, s));
done:
    for (int i = 0; i < LINES; i++)
        sim_free(h.lines[i]);
    return st;
}
