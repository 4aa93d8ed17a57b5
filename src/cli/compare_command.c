/*
 * compare_command.c - the commands that a comparison runs: `simile pretrain` and `simile evaluate`.
 */
#include "compare.h"

#include "simile/file.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <stdio.h>
#include <string.h>

static void add_word(compare_command *k, const char *word)
{
    SIM_ASSERT(k->n < COMPARE_MAX_ARGV);
    k->words[k->n++] = word;
}

/* Adds a word that the command then owns. */
static void add_owned(compare_command *k, char *word)
{
    SIM_ASSERT(k->n_owned < sizeof k->owned / sizeof *k->owned);
    k->owned[k->n_owned++] = word;
    add_word(k, word);
}

void sim_compare_command_clear(compare_command *k)
{
    for (size_t i = 0; i < k->n_owned; i++)
        sim_free(k->owned[i]);
    *k = (compare_command){0};
}

/* The launcher and this program. */
static sim_status begin_command(const comparison *c, compare_command *k)
{
    sim_status st = SIM_OK;
    char program[PATH_MAX], *copy = NULL;

    *k = (compare_command){0};
    for (size_t i = 0; i < c->arguments->n_launcher; i++)
        add_word(k, c->arguments->launcher[i]);
    SIM_TRY(sim_process_program(program));
    SIM_TRY(sim_text_copy(program, "cli/compare", &copy));
    add_owned(k, copy);
done:
    return st;
}

static sim_status add_time_limit(const comparison *c, double time_left_s,
                                 compare_command *k)
{
    sim_status st = SIM_OK;
    char *word = NULL;

    if (!c->arguments->time_limit)
        goto done;
    SIM_TRY(time_left_s > 0
                ? sim_text_format("cli/compare", &word, "%.0fs", time_left_s)
                : sim_text_copy(c->arguments->time_limit, "cli/compare", &word));
    add_word(k, "--time-limit");
    add_owned(k, word);
done:
    return st;
}

sim_status sim_compare_pretrain_command(const comparison *c, const compare_run *r,
                                        double time_left_s, compare_command *k)
{
    sim_status st = SIM_OK;
    const sim_job_source *given = &c->arguments->given;

    SIM_TRY(begin_command(c, k));
    add_word(k, "pretrain");
    add_word(k, c->arguments->jobs[c->configurations[r->configuration].job]);
    for (size_t i = 0; i < given->n_overrides; i++)
        if (strncmp(given->overrides[i], "seed=", 5) != 0)
            add_word(k, given->overrides[i]);
    for (size_t i = 0; i < r->n_words; i++)
        add_word(k, r->words[i]);
    if (c->arguments->init && sim_run_last_step(r->path) < 0) {
        add_word(k, "--init");
        add_word(k, c->arguments->init);
    }
    SIM_TRY(add_time_limit(c, time_left_s, k));
done:
    return st;
}

/* The options that the evaluation would take from the job in the checkpoint. */
static sim_status add_options(const compare_run *r, const sim_evaluation *e,
                              compare_command *k)
{
    sim_status st = SIM_OK;
    sim_option_storage options;
    char value[SIM_OPTION_TEXT_BYTES], *word = NULL;

    if (!e->take_defaults)
        goto done;
    memset(&options, 0, sizeof options);
    e->take_defaults(&r->evaluate, &options);
    for (size_t i = 0; i < e->options.n_rows; i++) {
        sim_config_format_option(&e->options.rows[i], &options, value, sizeof value);
        SIM_TRY(sim_text_format("cli/compare", &word, "--%s", e->options.rows[i].name));
        add_owned(k, word);
        SIM_TRY(sim_text_copy(value, "cli/compare", &word));
        add_owned(k, word);
    }
done:
    return st;
}

sim_status sim_compare_evaluate_command(const comparison *c, const compare_run *r,
                                        const sim_evaluation *e, int64_t step,
                                        compare_command *k)
{
    sim_status st = SIM_OK;
    char *checkpoint = NULL;

    SIM_TRY(begin_command(c, k));
    add_word(k, "evaluate");
    add_word(k, e->name);
    SIM_TRY(sim_text_format("cli/compare", &checkpoint, "%s/checkpoints/step-%09lld.h5",
                            r->path, (long long)step));
    add_owned(k, checkpoint);
    SIM_TRY(add_options(r, e, k));
    add_word(k, "--json");
done:
    return st;
}

/* A word with quotes, if a shell needs them. */
static void put_quoted(FILE *f, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789/_.,:=+-@%";
    if (*word && word[strspn(word, plain)] == '\0') {
        (void)fputs(word, f);
        return;
    }
    (void)fputc('\'', f);
    for (; *word; word++)
        (void)fputs(*word == '\'' ? "'\\''" : (char[]){*word, '\0'}, f);
    (void)fputc('\'', f);
}

sim_status sim_compare_command_text(const compare_command *k, char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};

    SIM_TRY(sim_text_open(&text));
    for (size_t i = 0; i < k->n; i++) {
        (void)fputs(i ? " " : "", text.file);
        put_quoted(text.file, k->words[i]);
    }
    SIM_TRY(sim_text_finish(&text, "cli/compare", out));
done:
    sim_text_close(&text);
    return st;
}
