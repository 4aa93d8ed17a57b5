/*
 * cmd_pretrain.c - `simile pretrain JOB.yaml`: the main job.
 */
#include "report.h"

#include "simile/clock.h"
#include "simile/kernel.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    sim_job_source source;
    sim_train_request request;
} arguments;

enum { KEY_RESUME = 256, KEY_ACCEPT, KEY_INIT, KEY_TIME, KEY_STOP, KEY_TRACE };

static const struct argp_option options[] = {
    {"resume", KEY_RESUME, "auto|never|FILE", 0,
     "auto (default): resume from the newest good checkpoint of the run; never: fail if "
     "there is one; FILE: resume from this checkpoint",
     0},
    {"accept", KEY_ACCEPT, "KEY,...", 0,
     "resume although these keys differ from the checkpoint: batch, schedule.epochs, "
     "schedule.steps, optimizer.lr, data, arithmetic",
     0},
    {"init", KEY_INIT, "WEIGHTS", 0,
     "initialize from the encoder (and heads, if present) of a checkpoint, of the newest "
     "checkpoint of a run, of a safetensors file with torchvision's names, or of an HDF5 "
     "file with the names of a checkpoint",
     0},
    {"time-limit", KEY_TIME, "TIME|auto", 0,
     "stop with a checkpoint before this limit: a duration (90s, 45min, 6h, 1d), or as "
     "in Slurm (90 minutes, 12:30:00, 2-12); "
     "auto: the end of the Slurm job (SLURM_JOB_END_TIME), if any",
     0},
    {"stop-after", KEY_STOP, "STEP", 0,
     "stop with a checkpoint (exit 75) after this step", 0},
    {"trace-hash", KEY_TRACE, NULL, 0,
     "write RUN/trace-hash.txt: a hash of every stage of every step", 0},
    {0}};

static void parse_resume(sim_train_request *r, const char *arg)
{
    if (strcmp(arg, "auto") == 0) {
        r->resume = SIM_RESUME_AUTO;
    } else if (strcmp(arg, "never") == 0) {
        r->resume = SIM_RESUME_NEVER;
    } else {
        r->resume = SIM_RESUME_FILE;
        r->resume_file = arg;
    }
}

static void parse_stop(sim_train_request *r, const char *arg,
                       const struct argp_state *state)
{
    char *end = NULL;
    r->stop_after = strtoll(arg, &end, 10);
    if (end == arg || *end || r->stop_after < 0)
        argp_error(state, "--stop-after requires a number of steps, not \"%s\"", arg);
}

/* The key that may be meant by a word; "epochs" is a part of schedule.epochs.  NULL: none. */
static const char *accepted_key(const char *word, char out[64])
{
    for (int i = 0; *word && sim_choices_text(sim_accept_keys, i, out, 64); i++) {
        const char *last = strrchr(out, '.');
        if (last && sim_misspelling(word, last + 1) != SIM_UNRELATED)
            return out;
    }
    int i = sim_choices_suggest(sim_accept_keys, word);
    return sim_choices_text(sim_accept_keys, i, out, 64) ? out : NULL;
}

/* Each word of the list is a key that may be accepted. */
static void parse_accept(sim_train_request *r, const char *arg,
                         const struct argp_state *state)
{
    char word[64], name[64];

    for (const char *p = arg; *p; p += *p == ',') {
        size_t n = strcspn(p, ",");
        (void)snprintf(word, sizeof word, "%.*s", n < 64 ? (int)n : 63, p);
        if (sim_choices_find(sim_accept_keys, word) < 0) {
            const char *meant = accepted_key(word, name);
            argp_error(state,
                       "--accept accepts batch, schedule.epochs, schedule.steps, "
                       "optimizer.lr, data or arithmetic, not \"%s\"%s%s%s",
                       word, meant ? "; did you mean " : "", meant ? meant : "",
                       meant ? "?" : "");
        }
        p += n;
    }
    r->accept = arg;
}

/* Seconds until Slurm ends this job; 0: unknown. */
static double job_left(void)
{
    const char *text = getenv("SLURM_JOB_END_TIME");
    char *end = NULL;
    double left = text ? strtod(text, &end) - sim_clock_wall_s() : 0;
    return text && end != text && *end == '\0' && left > 0 ? left : 0;
}

static void parse_time(sim_train_request *r, const char *arg,
                       const struct argp_state *state)
{
    if (strcmp(arg, "auto") == 0)
        r->time_limit_s = r->job_left_s;
    else if (!sim_clock_limit(arg, &r->time_limit_s))
        argp_error(
            state,
            "--time-limit requires a time such as 45min, 12:00:00 or 90 (minutes, as "
            "in Slurm), or auto, not \"%s\"",
            arg);
    if (r->job_left_s > 0 && r->time_limit_s > r->job_left_s)
        r->time_limit_s = r->job_left_s; /* later, Slurm kills the run */
    r->time_limit_text = arg;
}

static error_t parse_pretrain_option(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case KEY_RESUME:
        parse_resume(&a->request, arg);
        return 0;
    case KEY_ACCEPT:
        parse_accept(&a->request, arg, state);
        return 0;
    case KEY_INIT:
        a->request.init = arg;
        return 0;
    case KEY_TIME:
        parse_time(&a->request, arg, state);
        return 0;
    case KEY_STOP:
        parse_stop(&a->request, arg, state);
        return 0;
    case KEY_TRACE:
        a->request.trace_hash = true;
        return 0;
    case ARGP_KEY_ARG:
        if (!sim_cli_job_argument(&a->source, arg, state))
            argp_error(state, "\"%s\" is not key=value", arg);
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a job file is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- observers and callbacks ---- */

/* On rank 0: a stream to the observers that the job selects. */
static sim_status create_stream(const sim_comm *c, const sim_job *job, sim_stream **out)
{
    static const sim_observer *const all[] = {
#define SIM_OBSERVER(name, condition) &sim_observe_##name,
#include "observers.def"
#undef SIM_OBSERVER
    };
    const bool selected[] = {
#define SIM_OBSERVER(name, condition) condition,
#include "observers.def"
#undef SIM_OBSERVER
    };
    const sim_observer *observers[sizeof all / sizeof all[0]];
    size_t n = 0;

    if (c->rank != 0)
        return SIM_OK;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (selected[i])
            observers[n++] = all[i];
    return sim_stream_create(observers, n, out);
}

/* A callback: publishes a picture of views after the first step of this segment.  An image that cannot be
 * read ends the run only when it is trained on. */
static sim_status publish_views(void *ctx, const sim_train_state *t, sim_stream *stream)
{
    sim_status st = SIM_OK;
    bool *is_published = ctx;
    uint8_t *png = NULL;
    sim_picture picture;
    sim_record record = {.kind = SIM_RECORD_PICTURE, .step = sim_train_step(t)};

    if (*is_published || !stream)
        goto done;
    *is_published = true;
    if (sim_cli_draw_views(sim_train_job(t), sim_train_data(t), &png, &picture) !=
        SIM_OK) {
        sim_log_warn("no picture of views for TensorBoard: %s", sim_error_message());
        sim_error_clear();
        goto done;
    }
    record.picture = &picture;
    SIM_TRY(sim_stream_publish(stream, &record));
done:
    sim_free(png);
    return st;
}

/* A failure is only a warning; the error message of a stopped run stays. */
static void write_report(const char *run)
{
    char message[4096];

    (void)snprintf(message, sizeof message, "%s", sim_error_message());
    if (sim_report_write_own(run) != SIM_OK)
        sim_log_warn("no report: %s", sim_error_message());
    sim_error_set(message);
}

static sim_status pretrain_on_rank(const sim_comm *c, void *ctx)
{
    sim_status st = SIM_OK;
    arguments *a = ctx;
    sim_job *job = NULL;
    sim_evaluate_options evaluate;
    sim_online_eval *online = NULL;
    sim_job_texts texts = {0};
    sim_stream *stream = NULL;
    bool views_published = false;
    sim_train_callback callbacks[2];
    double unused = 0;

    sim_comm_deadline_begin(sim_comm_start_seconds(),
                            "the start hangs: not all ranks compared their jobs");
    st = sim_new(&job, "cli/job");
    if (st == SIM_OK)
        st = sim_cli_job_load(&a->source, job, &evaluate, &texts);
    if (st == SIM_OK)
        st = sim_kernels_pick(job->train.kernels);
    if (st == SIM_OK)
        st = sim_kernels_check();
    if (st == SIM_OK)
        st = create_stream(c, job, &stream);
    if (st == SIM_OK)
        st = sim_online_eval_create(job, &evaluate, &online);
    SIM_TRY(sim_comm_agree(c, st));
    SIM_TRY(sim_cli_compare_job(c, a->source.path, job, &texts));
    if (online)
        SIM_TRY(sim_online_eval_compare(c, online));
    if (online)
        SIM_TRY(sim_comm_agree(c, sim_online_eval_plan(online, sim_comm_partition(c),
                                                       &a->request.callback_bytes,
                                                       &a->request.callback_peak_bytes,
                                                       &a->request.callback_workspace)));
    a->request.job = job;
    a->request.texts = &texts;
    a->request.job_path = a->source.path;
    a->request.build = sim_cli_build();
    a->request.kernels = sim_kernels_name();
    a->request.arithmetic = sim_kernels_arithmetic();
    a->request.last_logged =
        c->rank == 0 ? sim_metrics_last_step(job->train.run, &unused) : -1;
    a->request.stream = stream;
    a->request.callbacks = callbacks;
    if (online)
        callbacks[a->request.n_callbacks++] = sim_online_eval_callback(online);
    if (job->train.tensorboard)
        callbacks[a->request.n_callbacks++] =
            (sim_train_callback){.ctx = &views_published, .after_step = publish_views};
    st = sim_train(c, &a->request);
    sim_comm_deadline_begin(
        job->train.hang_seconds,
        "the end of the run hangs: not all ranks ended, or the report is not written");
    if (c->rank == 0 && job->train.report && (st == SIM_OK || st == SIM_E_AGAIN))
        write_report(job->train.run);
done:
    sim_online_eval_destroy(&online);
    sim_free(job);
    sim_job_texts_clear(&texts);
    sim_stream_destroy(&stream);
    return st;
}

sim_status sim_command_pretrain(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_pretrain_option,
        .args_doc = "JOB.yaml [key=value ...]",
        .doc =
            "Pre-trains an encoder.  The same job produces the same bits on any number "
            "of "
            "ranks, and an interrupted job resumes.\v"
            "Examples:\n"
            "  simile pretrain jobs/quickstart.yaml\n"
            "  mpirun -np 4 simile pretrain job.yaml optimizer.lr=0.2\n"
            "  srun --mpi=pmix simile pretrain job.yaml --time-limit 11:50:00\n\n"
            "USR1 stops with a checkpoint and exit code 75 under any launcher; so do "
            "TERM "
            "and INT when started alone or by srun.  `simile plan --keys` lists every "
            "key "
            "of a job.\n\n"
            "--accept: with another batch the schedule continues by samples, the "
            "learning rate follows optimizer.scale, optimizer and queue are kept, and "
            "the rest of the epoch continues from the position rounded down to the "
            "batch.  Steps in schedule.steps and warmup_steps stay steps of the batch "
            "that the run began with.  schedule.epochs (schedule.steps where the run is "
            "measured in steps) also extends a completed run.  With "
            "other data the present epoch restarts on the new images.  With another "
            "arithmetic (of the kernels) the result differs within rounding.  Later "
            "starts "
            "need no --accept once a checkpoint was written.  Every other difference is "
            "an error."};
    arguments a = {.request = {.stop_after = -1, .accept = "", .job_left_s = job_left()}};

    sim_train_watch_signals();
    sim_cli_parse(&argp, argc, argv, &a);
    return sim_cli_with_ranks(argc, argv, pretrain_on_rank, &a);
}
