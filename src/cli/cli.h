/*
 * cli.h - declarations shared by the subcommands.
 */
#ifndef SIMILE_CLI_H
#define SIMILE_CLI_H

#include "simile/comm.h"
#include "simile/config.h"
#include "simile/eval.h"
#include "simile/file.h"
#include "simile/json.h"
#include "simile/train.h"

#include <argp.h>

#define SIM_COMMAND(name, summary) sim_status sim_command_##name(int argc, char **argv);
#include "commands.def"
#undef SIM_COMMAND

/* The version in one line, for file headers and the history of a run; and the text of
 * `--version`, which the caller frees. */
const char *sim_cli_build(void);
sim_status sim_cli_version(char **text);

/* According to the launcher's environment variables; may be called before MPI is started. */
bool sim_cli_is_first_rank(void);

/* Parses with `argp`. On an error the first rank prints it and every rank exits with 64. */
void sim_cli_parse(const struct argp *argp, int argc, char **argv, void *out);

/* For argp parsers: stores the argument JOB.yaml or key=value.  false: neither, or too many
 * arguments. */
bool sim_cli_job_argument(sim_job_source *source, char *arg,
                          const struct argp_state *state);
/* The value of an option --gather. */
sim_gather sim_cli_gather(const struct argp_state *state, const char *arg);

/* As sim_job_load, with the section `evaluate`. */
SIM_MUST_USE sim_status sim_cli_job_load(const sim_job_source *source, sim_job *job,
                                         sim_evaluate_options *evaluate,
                                         sim_job_texts *texts);
/* Parses the job stored in the checkpoint `name`. */
SIM_MUST_USE sim_status sim_cli_job_of_checkpoint(const char *config, const char *name,
                                                  sim_job *job,
                                                  sim_evaluate_options *evaluate);

/* "64G", "512M", "1073741824" -> bytes.  false: not a size. */
bool sim_cli_bytes(const char *text, double *bytes);

/* Prints to stdout on rank 0, with control characters escaped (text.h); `c` may be NULL without MPI.
 * Errors: SIM_E_IO. */
SIM_MUST_USE sim_status sim_cli_print(const sim_comm *c, const char *text);
/* The same of a text that is one line, with or without its line break: others are escaped. */
SIM_MUST_USE sim_status sim_cli_print_line(const char *text);
/* The same without escapes, unless stdout is a terminal: for values that scripts read. */
SIM_MUST_USE sim_status sim_cli_print_exact(const char *text);
SIM_MUST_USE sim_status sim_cli_print_json(const sim_comm *c, const sim_json *j,
                                           bool pretty);

/*
 * Stores a result as RUN/results/PROTOCOL-step-NNNNNNNNN[VARIANT].json, if the checkpoint is in
 * the directory RUN/checkpoints of a run; a failure is only a warning.  An existing result of
 * other data sets (train.fingerprint, test.fingerprint) is kept under another name.  Local.
 *   variant  inputs other than those of the run's job, as "-test-1a2b3c4d-k-20"; or ""
 */
void sim_cli_keep_result(const sim_checkpoint *k, const char *protocol,
                         const char *variant, const sim_json *result);

/*
 * Collective. Each compares something of this rank with that of rank 0, as sim_comm_compare: the
 * arithmetic of the kernels in use; that and the job, whose file is `path`; a preprocessing.
 */
SIM_MUST_USE sim_status sim_cli_compare_kernels(const sim_comm *c);
SIM_MUST_USE sim_status sim_cli_compare_job(const sim_comm *c, const char *path,
                                            const sim_job *job,
                                            const sim_job_texts *texts);
SIM_MUST_USE sim_status sim_cli_compare_preprocessing(const sim_comm *c,
                                                      const sim_preprocessing *p);

/* Starts MPI, refuses ranks of another build or with another command line, runs `body` on every
 * rank, prints an error once, and finalizes MPI. */
typedef sim_status sim_cli_body(const sim_comm *c, void *ctx);
sim_status sim_cli_with_ranks(int argc, char **argv, sim_cli_body *body, void *ctx);

/* `simile bench checkpoint`: a state of this size is saved and loaded in a directory below
 * `dir`. */
typedef struct {
    const char *arch, *width, *dir;
    size_t queue, dim; /* slots (0: no queue) and floats per slot */
    bool momentum_copy;
    int repeats;
} sim_bench_state;
SIM_MUST_USE sim_status sim_bench_checkpoint(const sim_comm *c, const sim_job *job,
                                             const sim_bench_state *state);

/* `simile bench loader`: two views of each of `batch` images are loaded per step and rank. */
typedef struct {
    const char *data; /* NULL: generated images, in a temporary file below `dir` */
    const char *dir;
    size_t batch;
    int threads, steps; /* of the loader of each rank; timed steps */
} sim_bench_loading;
/* job: with the augmentations.  Collective. */
SIM_MUST_USE sim_status sim_bench_loader(const sim_comm *c, const sim_job *job,
                                         const sim_bench_loading *spec);

/* `simile bench kernel`: effective GF/s of 3 x 3 convolutions at the shapes of a CIFAR ResNet, and
 * the rate of exp.  Collective. */
SIM_MUST_USE sim_status sim_bench_kernel(const sim_comm *c);

/* `simile bench loss`: NT-Xent of `batch` pairs of random unit rows of d floats. */
typedef struct {
    size_t batch, dim;
    int steps;
    sim_gather gather;
    sim_range rows; /* pairs that are anchors; {0, 0}: all */
} sim_bench_loss_spec;
SIM_MUST_USE sim_status sim_bench_loss(const sim_comm *c,
                                       const sim_bench_loss_spec *spec);

/* `simile bench scaling`: steps on the first 1, 2, 4, ... ranks, and predictions. */
typedef struct {
    const char *arch, *stem, *width;
    size_t size; /* pixels */
    size_t
        batch; /* per rank or node of weak scaling; measured strong scaling divides it */
    size_t global_batch; /* of predicted strong scaling */
    int steps;
    double latency_us, bandwidth_gbits; /* of the nodes; 0: measured, or the default */
} sim_bench_scaling_spec;
/* job: of the encoder of `spec`; its batch and block are overwritten.  Collective. */
SIM_MUST_USE sim_status sim_bench_scaling(const sim_comm *c, sim_job *job,
                                          const sim_bench_scaling_spec *spec);

/* Multiply-adds per second of products of rows x terms and terms x columns, on all threads of this
 * rank. */
SIM_MUST_USE sim_status sim_bench_product_rate(size_t rows, size_t columns, size_t terms,
                                               double *rate);

/* Adds "environment": the processor, cores, kernels, and the GF/s of multiply-adds on rank 0 with all
 * its threads, from products that stay in L1.  *peak: the same in multiply-adds per second, of this
 * rank; may be NULL.  Collective. */
SIM_MUST_USE sim_status sim_bench_environment(const sim_comm *c, sim_json *j,
                                              double *peak);

/*
 * The name of a temporary file or run directory of a bench below `dir`, and on rank 0 the removal of those
 * that killed benches left there.  Collective.
 */
SIM_MUST_USE sim_status sim_bench_temporary_path(const sim_comm *c, const char *dir,
                                                 char *out, size_t out_bytes);

/* Removes a run directory of sim_bench_checkpoint, complete or not. */
void sim_bench_remove_run(const char *path);

/* Sorts seconds, ascending. */
void sim_bench_sort(double *seconds, size_t n);

/* ---- job scripts ---- */

/* The values written into the head of a job script. */
typedef struct {
    sim_output out;               /* the script to write */
    const sim_job_source *source; /* the job that it starts */
    const char *method, *run;     /* their names are the name of the Slurm job */
    size_t nodes, ranks, threads; /* ranks: a multiple of nodes; threads per rank */
    size_t rank_bytes, checkpoint_bytes;
    double step_s, total_s; /* estimates */
    double limit_s;         /* longest time limit of a Slurm job; 0: no bound */
} sim_cli_sbatch;

/* Contents of slurm/pretrain.sbatch at build time. */
extern const char sim_cli_sbatch_script[];

/* Writes that script with its head filled in.  Errors: SIM_E_CONFIG if the name of a directory
 * cannot be written into the script; SIM_E_IO. */
SIM_MUST_USE sim_status sim_cli_sbatch_write(const sim_cli_sbatch *s);

/* ---- pictures of views ---- */

/* A picture of up to 8 images, one per row: the original, then both views of two epochs.  The caller
 * frees png. */
SIM_MUST_USE sim_status sim_cli_draw_views(const sim_job *job, const sim_dataset *data,
                                           uint8_t **png, sim_picture *out);

/* ---- observers of pretrain ---- */

#define SIM_OBSERVER(name, condition) extern const sim_observer sim_observe_##name;
#include "observers.def"
#undef SIM_OBSERVER

/* The last step in the metrics of a run, or -1 if there is none; and the last rate. */
int64_t sim_metrics_last_step(const char *run_path, double *images_per_s);

#endif
