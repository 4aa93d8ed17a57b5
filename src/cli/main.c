/*
 * main.c - `simile COMMAND ...`: dispatches to the row of commands.def and returns its exit code.
 */
#include "cli.h"

#include "simile/log.h"
#include "simile/memory.h"
#include "simile/option.h"
#include "simile/text.h"
#include "simile/thread.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name, *summary;
    sim_status (*run)(int argc, char **argv);
} command;

static const command commands[] = {
#define SIM_COMMAND(name, summary) {#name, summary, sim_command_##name},
#include "commands.def"
#undef SIM_COMMAND
};

enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *to)
{
    if (!sim_cli_is_first_rank())
        return;
    (void)fputs(
        "simile pre-trains image encoders by contrastive learning on CPU clusters.\n\n"
        "  simile prepare cifar-10-binary.tar.gz --out train.h5\n"
        "  simile plan job.yaml --ranks 4\n"
        "  mpirun -np 4 simile pretrain job.yaml\n\n"
        "Commands:\n",
        to);
    for (int i = 0; i < N_COMMANDS; i++)
        (void)fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    (void)fputs(
        "\n`simile COMMAND --help` lists the options of a command; `simile --version` "
        "lists\n"
        "the versions of the program and its libraries.  With --quiet, every command "
        "prints\nresults, warnings and errors only.\n"
        "Exit codes: 0 done, 64 usage, 65 bad data, 66 input missing, 69 not installed,\n"
        "70 bug or guard, 73 run or output in use, 74 I/O error, 75 stopped with a\n"
        "checkpoint (run the same command again), 77 no permission, 78 configuration.\n",
        to);
}

static sim_status print_version(void)
{
    sim_status st = SIM_OK;
    char *text = NULL;
    SIM_TRY(sim_cli_version(&text));
    SIM_TRY(sim_cli_print(NULL, text));
done:
    sim_free(text);
    return st;
}

#define SIM_COMMAND(name, summary) #name "|"
static const char command_names[] =
#include "commands.def"
    ;
#undef SIM_COMMAND

/* Names of these commands in other programs. */
static const struct {
    const char *name, *here;
} other_names[] = {
    {"train", "pretrain"},    {"fit", "pretrain"},    {"run", "pretrain"},
    {"resume", "pretrain"},   {"convert", "prepare"}, {"import", "prepare"},
    {"eval", "evaluate"},     {"test", "evaluate"},   {"knn", "evaluate knn"},
    {"extract", "embed"},     {"features", "embed"},  {"encode", "embed"},
    {"info", "inspect"},      {"show", "inspect"},    {"describe", "inspect"},
    {"status", "inspect"},    {"check", "plan"},      {"dry-run", "plan"},
    {"keys", "plan --keys"},  {"cancel", "stop"},     {"benchmark", "bench"},
    {"version", "--version"}, {"list", "runs"},       {"ls", "runs"},
    {"sweep", "compare"},     {"grid", "compare"},
};

static const char *command_meant(const char *name, char out[64])
{
    for (size_t i = 0; i < sizeof other_names / sizeof other_names[0]; i++)
        if (strcmp(name, other_names[i].name) == 0)
            return other_names[i].here;
    int i = sim_choices_suggest(command_names, name);
    return sim_choices_text(command_names, i, out, 64) ? out : NULL;
}

static void print_names(FILE *to)
{
    for (int i = 0; i < N_COMMANDS; i++)
        (void)fprintf(to, "%s%s", i ? ", " : "", commands[i].name);
}

static int reject_command(const char *given)
{
    char word[64], name[256];
    const char *meant = command_meant(given, word);

    sim_text_escape(given, false, name, sizeof name);

    if (!sim_cli_is_first_rank())
        return SIM_E_USAGE;
    if (meant)
        (void)fprintf(stderr,
                      "simile %s: there is no such command; the command is simile %s\n",
                      name, meant);
    else {
        (void)fprintf(stderr, "simile %s: there is no such command; the commands are ",
                      name);
        print_names(stderr);
        (void)fputs("; simile --help describes them\n", stderr);
    }
    return SIM_E_USAGE;
}

/* Only the first rank prints a usage error. Without this the launcher could kill it first. */
static void leave_together(int code, void *ctx)
{
    (void)ctx;
    if (code == SIM_E_USAGE)
        sim_comm_leave_together();
}

/* Removes --quiet, which every command accepts. */
static int take_quiet(int argc, char **argv)
{
    int n = 0;

    for (int i = 0; i < argc; i++)
        if (i > 0 && strcmp(argv[i], "--quiet") == 0)
            sim_log_set_quiet();
        else
            argv[n++] = argv[i];
    argv[n] = NULL;
    return n;
}

int main(int argc, char **argv)
{
    sim_threads_limit_spinning(argv);
    (void)on_exit(leave_together, NULL);
    /* A file that reaches the size limit is then a write error, like a full disk. */
    (void)signal(SIGXFSZ, SIG_IGN);
    /* A log whose reader has ended stops neither a conversion nor a training; sim_cli_print raises
     * the signal for results. */
    (void)signal(SIGPIPE, SIG_IGN);
    argc = take_quiet(argc, argv);
    if (argc < 2) {
        print_help(stderr);
        return SIM_E_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return SIM_OK;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        sim_status st = print_version();
        if (st != SIM_OK)
            sim_log_failure(st);
        return (int)st;
    }
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return (int)commands[i].run(argc - 1, argv + 1);
    return reject_command(argv[1]);
}
