/*
 * cmd_stop.c - `simile stop RUN`: requests that a running job write a checkpoint and stop.
 */
#include "cli.h"

#include "simile/checkpoint.h"
#include "simile/log.h"

static error_t parse_stop_option(int key, char *arg, struct argp_state *state)
{
    const char **run = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        if (*run)
            argp_error(state, "expected one run directory");
        *run = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "the argument RUN (a run directory) is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

sim_status sim_command_stop(int argc, char **argv)
{
    static const struct argp argp = {.parser = parse_stop_option,
                                     .args_doc = "RUN",
                                     .doc =
                                         "Requests that the job which trains in the "
                                         "run directory RUN write a checkpoint and "
                                         "stop (exit code 75) after its current step."};
    const char *run = NULL;

    sim_cli_parse(&argp, argc, argv, &run);
    sim_status st = sim_run_request_stop(run);
    if (st != SIM_OK)
        sim_log_failure(st);
    else
        sim_log("%s: stop requested", run);
    return st;
}
