/*
 * main.c - `simile COMMAND ...`: dispatches to the row of commands.def and returns its exit code.
 */
#include "cli.h"

#include "simile/log.h"
#include "simile/memory.h"
#include "simile/option.h"

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
        "the versions of the program and its libraries.\n"
        "Exit codes: 0 done, 64 usage, 65 bad data, 66 input missing, 69 not installed,\n"
        "70 bug or guard, 73 run in use, 74 I/O error, 75 stopped with a checkpoint "
        "(run\n"
        "the same command again), 77 no permission, 78 configuration.\n",
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

static const command *nearest_command(const char *name)
{
    const command *best = &commands[0];
    for (int i = 1; i < N_COMMANDS; i++)
        if (sim_edit_distance(name, commands[i].name) <
            sim_edit_distance(name, best->name))
            best = &commands[i];
    return best;
}

static int reject_command(const char *name)
{
    if (!sim_cli_is_first_rank())
        return SIM_E_USAGE;
    (void)fprintf(stderr,
                  "simile: unknown command \"%s\"; did you mean \"%s\"?  simile --help "
                  "lists the commands\n",
                  name, nearest_command(name)->name);
    return SIM_E_USAGE;
}

/* Only the first rank prints a usage error. Without this the launcher could kill it first. */
static void leave_together(int code, void *ctx)
{
    (void)ctx;
    if (code == SIM_E_USAGE)
        sim_comm_leave_together();
}

int main(int argc, char **argv)
{
    (void)on_exit(leave_together, NULL);
    /* A file that reaches the size limit is then a write error, like a full disk. */
    (void)signal(SIGXFSZ, SIG_IGN);
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
