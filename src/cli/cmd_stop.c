/*
 * cmd_stop.c - `simile stop RUN`: asks a running job to checkpoint and stop.
 */
#include "cli.h"

#include "simile/checkpoint.h"
#include "simile/log.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
    const char **run = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        if (*run)
            argp_error(state, "one run directory at a time");
        *run = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a run directory is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

sim_status sim_command_stop(int argc, char **argv)
{
    static const struct argp argp = {.parser = parse,
                                     .args_doc = "RUN",
                                     .doc = "Asks the job that trains in the directory "
                                            "RUN to write a checkpoint and stop "
                                            "(exit code 75) after its present step."};
    const char *run = NULL;

    sim_cli_parse(&argp, argc, argv, &run);
    sim_status st = sim_run_request_stop(run);
    if (st != SIM_OK)
        sim_log_failure(st);
    else
        sim_log("asked %s to stop", run);
    return st;
}
