/*
 * cli.h - what the subcommands share.
 */
#ifndef SIMILE_CLI_H
#define SIMILE_CLI_H

#include "simile/comm.h"
#include "simile/config.h"
#include "simile/eval.h"
#include "simile/json.h"
#include "simile/train.h"

#include <argp.h>

#define SIM_COMMAND(name, summary) sim_status sim_command_##name(int argc, char **argv);
#include "commands.def"
#undef SIM_COMMAND

/* The version in one line (headers, history), and the whole block of --version. */
const char *sim_cli_build(void);
sim_status sim_cli_version(char **text);

/* Does the launcher say so?  Works before MPI is started. */
bool sim_cli_is_first_rank(void);

/* Parses with `argp`; errors exit 64, and only the first rank of a launch prints them. */
void sim_cli_parse(const struct argp *argp, int argc, char **argv, void *out);

/* For argp parsers: takes JOB.yaml, then key=value.  false: not of that form. */
bool sim_cli_job_argument(sim_job_source *source, char *arg,
                          const struct argp_state *state);

/* Fills the job; texts are the caller's, and may be NULL when not wanted. */
SIM_MUST_USE sim_status sim_cli_job_load(const sim_job_source *source, sim_job *job,
                                         sim_evaluate_options *evaluate, char **resolved,
                                         char **identity);
/* The job inside a checkpoint. */
SIM_MUST_USE sim_status sim_cli_job_of_checkpoint(const char *config, const char *name,
                                                  sim_job *job);

/* "90", "12:30:00", "2-00:00:00" (Slurm), "45m", "6h" -> seconds.  false: not a time. */
bool sim_cli_seconds(const char *text, double *seconds);
/* "64G", "512M", "1073741824" -> bytes. */
bool sim_cli_bytes(const char *text, double *bytes);

/* Prints to stdout on rank 0; a failed write is SIM_E_IO. */
SIM_MUST_USE sim_status sim_cli_print(const sim_comm *c, const char *text);
SIM_MUST_USE sim_status sim_cli_print_json(const sim_comm *c, const sim_json *j,
                                           bool pretty);

/* Begins MPI for a command, runs it, prints a failure once, ends MPI. */
typedef sim_status sim_cli_body(const sim_comm *c, void *ctx);
sim_status sim_cli_with_ranks(int argc, char **argv, sim_cli_body *body, void *ctx);

/* `simile bench checkpoint`: a state of this size, saved and loaded below `dir`. */
typedef struct {
    const char *arch, *width, *dir;
    size_t queue, dim; /* slots, 0: none; floats of one */
    bool momentum_copy;
    int repeats;
} sim_bench_state;
SIM_MUST_USE sim_status sim_bench_checkpoint(const sim_comm *c, const sim_job *job,
                                             const sim_bench_state *ask);

/* ---- job scripts ---- */

/* What a script is fitted to. */
typedef struct {
    const char *path;             /* of the script to write */
    const sim_job_source *source; /* what it runs */
    const char *run;              /* names the job */
    size_t nodes, ranks, threads; /* ranks: a multiple of nodes; threads of a rank */
    size_t rank_bytes, checkpoint_bytes;
    double step_s, total_s; /* as estimated */
    double limit_s;         /* longest time a job may ask for; 0: any */
} sim_cli_sbatch;

/* slurm/pretrain.sbatch, as the build found it. */
extern const char sim_cli_sbatch_script[];

/* Writes that script with its head filled in.  Fails: SIM_E_CONFIG (the folder's name), I/O. */
SIM_MUST_USE sim_status sim_cli_sbatch_write(const sim_cli_sbatch *s);

/* ---- observers of pretrain ---- */

/* A line an interval in the log, a line in place on a terminal. */
sim_observer sim_observe_log(void *state);
size_t sim_observe_log_bytes(void);
/* metrics.jsonl in the run directory: one object an interval. */
sim_observer sim_observe_metrics(void *state);
size_t sim_observe_metrics_bytes(void);
/* The last step that stands in a run's metrics; -1 when there is none; and the last rate. */
int64_t sim_observe_metrics_last(const char *run_path, double *images_per_s);
void sim_observe_metrics_clear(void *memory); /* before it is freed */
/* A kNN result as a line of its own there; `state` is the metrics observer's. */
sim_knn_log sim_observe_metrics_knn;

#endif
