/*
 * cmd_loss.c - `simile loss JOB.yaml --in Z.h5 --out G.h5`: loss and gradients of a method
 * for embeddings in a file.
 *
 * For comparisons with other implementations.  Inputs are outputs of a network, before they
 * are normalized; gradients are with respect to them.  The help texts of the options below
 * list the arrays.
 */
#include "cli.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/kernel.h"
#include "simile/log.h"
#include "simile/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_RESULTS = 32, MAX_NUMBERS = 4, KEY_IN = 256, KEY_OUT, KEY_FORCE, KEY_GATHER };

/* Limit of an array, so that products of dimensions in methods do not overflow 64 bits. */
static const size_t max_values = (size_t)1 << 48;

typedef struct {
    sim_job_source source;
    const char *in, *out;
    bool force;
    sim_gather gather;
    char target[PATH_MAX]; /* `out` without symbolic links */
} arguments;

static const struct argp_option options[] = {
    {"in", KEY_IN, "Z.h5", 0,
     "/z1, /z2 (and /z3 ...): float32 [B][d]; supcon: also /labels (or /group): int32 "
     "[B]; moco: "
     "/z1, /k2, /queue [K][d] with attribute pointer, if symmetric also /z2, /k1; "
     "mocov3: /p1, /p2, /k1, /k2; nnclr: /z1, /z2, /p1, /p2, /queue; small views of "
     "these: /z_small1, ... or /p_small1, ...; cpc: /context and "
     "/target [B][G][G][d], /predictor [S][d][d], with sampled negatives /negatives: "
     "int32 [S][B][G][G][M], indices of rows of /target",
     0},
    {"out", KEY_OUT, "G.h5", 0,
     "/loss, and /dz1, /dz2 ... or /dp1, /dp2; moco and nnclr: also /queue_after with "
     "attribute pointer; nnclr: /nn1, /nn2; siglip: /dscale, /dbias; cpc: /dcontext, "
     "/dtarget, /dpredictor; with a learned temperature /dlog_temperature; it replaces "
     "an "
     "older file of `simile loss`",
     0},
    {"gather", KEY_GATHER, "MODE", 0,
     "auto (default), all or stream: as the key gather of a job, with equal results", 0},
    {"force", KEY_FORCE, NULL, 0, "replace the file --out whatever it is", 0},
    {0}};

static error_t parse_loss_option(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case KEY_IN:
        a->in = arg;
        return 0;
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_FORCE:
        a->force = true;
        return 0;
    case KEY_GATHER:
        a->gather = sim_cli_gather(state, arg);
        return 0;
    case ARGP_KEY_ARG:
        if (!sim_cli_job_argument(&a->source, arg, state))
            argp_error(state, "\"%s\" is not key=value", arg);
        return 0;
    case ARGP_KEY_END:
        if (!a->source.path || !a->in || !a->out)
            argp_error(state, "a job file, --in and --out are required");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The input file, and the results, whose data is on rank 0. */
typedef struct {
    const sim_comm *comm;
    const char *path;
    sim_h5 *in;
    sim_tensor results[MAX_RESULTS];
    char names[MAX_RESULTS][40];
    size_t n_results;
    struct {
        char name[40];
        const char *attribute;
        int64_t value;
    } numbers[MAX_NUMBERS];
    size_t n_numbers;
    bool read_unit, varied; /* unit rows were read; they differ from row to row */
} files;

/* ---- arrays that methods read ---- */

static void array_path(const char *name, char out[40])
{
    (void)snprintf(out, 40, "/%s", name);
}

static bool has_array(void *ctx, const char *name)
{
    const files *f = ctx;
    char path[40];
    array_path(name, path);
    return sim_h5_has(f->in, path);
}

static sim_status read_dims(void *ctx, const char *name, int n_dims,
                            size_t dims[SIM_MAX_DIMS])
{
    sim_status st = SIM_OK;
    const files *f = ctx;
    sim_h5_shape shape;
    char path[40];
    size_t count = 1;

    array_path(name, path);
    SIM_CHECK(sim_h5_has(f->in, path), SIM_E_DATA, "%s has no %s", f->path, path);
    SIM_TRY(sim_h5_shape_of(f->in, path, &shape));
    SIM_CHECK(shape.n_dims == n_dims, SIM_E_DATA, "%s: %s has %d dimensions, expected %d",
              f->path, path, shape.n_dims, n_dims);
    for (int i = 0; i < n_dims; i++) {
        SIM_CHECK(count == 0 || shape.dims[i] <= max_values / count, SIM_E_DATA,
                  "%s: %s has more than %zu values", f->path, path, max_values);
        count *= shape.dims[i];
    }
    memcpy(dims, shape.dims, sizeof shape.dims);
done:
    return st;
}

/* The defaults of NumPy are float64 and int64; a silent conversion would lose digits. */
static sim_status check_type(const files *f, const char *path, const sim_h5_shape *shape,
                             sim_type type)
{
    sim_status st = SIM_OK;
    SIM_CHECK(shape->type == type, SIM_E_DATA,
              "%s: %s is %s, expected %s; in Python: f[\"%s\"] = x.astype(\"%s\")",
              f->path, path, sim_type_name(shape->type), sim_type_name(type), path,
              sim_type_name(type));
done:
    return st;
}

/* Every row must be finite, and not zero if it will be normalized. */
static sim_status check_rows(const files *f, const char *path, size_t lo, size_t n,
                             size_t d, bool unit, const float *x)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; i < n; i++) {
        double squares = 0;
        for (size_t k = 0; k < d; k++)
            squares += (double)x[i * d + k] * (double)x[i * d + k];
        SIM_CHECK(isfinite(squares) && (squares > 0 || !unit), SIM_E_DATA,
                  "%s: row %zu of %s is %s", f->path, lo + i, path,
                  isfinite(squares) ? "zero and cannot be normalized" : "not finite");
    }
done:
    return st;
}

/* Notes whether a row differs from the first row of the array. */
static sim_status note_variation(files *f, const char *path, size_t n, size_t d,
                                 const float *x)
{
    sim_status st = SIM_OK;
    float *first = NULL;

    f->read_unit = true;
    if (f->varied)
        goto done;
    SIM_TRY(sim_alloc(&first, d, "cli/loss"));
    SIM_TRY(sim_h5_read(f->in, path, SIM_F32, 0, 1, first, d));
    for (size_t i = 0; i < n && !f->varied; i++)
        f->varied = memcmp(first, x + i * d, d * sizeof *first) != 0;
done:
    sim_free(first);
    return st;
}

static sim_status read_floats(void *ctx, const char *name, size_t lo, size_t n, bool unit,
                              float *out)
{
    sim_status st = SIM_OK;
    files *f = ctx;
    sim_h5_shape shape;
    char path[40];
    size_t row = 1, d = 1;

    array_path(name, path);
    SIM_TRY(sim_h5_shape_of(f->in, path, &shape));
    SIM_TRY(check_type(f, path, &shape, SIM_F32));
    for (int i = 1; i < shape.n_dims; i++)
        row *= shape.dims[i];
    d = shape.n_dims > 1 ? shape.dims[shape.n_dims - 1] : 1;
    SIM_TRY(sim_h5_read(f->in, path, SIM_F32, lo, n, out, n * row));
    SIM_TRY(check_rows(f, path, lo * (row / d), n * (row / d), d, unit, out));
    if (unit)
        SIM_TRY(note_variation(f, path, n, d, out));
done:
    return st;
}

static sim_status read_ints(void *ctx, const char *name, size_t lo, size_t n,
                            int32_t *out)
{
    sim_status st = SIM_OK;
    const files *f = ctx;
    sim_h5_shape shape;
    char path[40];
    size_t row = 1;

    array_path(name, path);
    SIM_TRY(sim_h5_shape_of(f->in, path, &shape));
    SIM_TRY(check_type(f, path, &shape, SIM_I32));
    for (int i = 1; i < shape.n_dims; i++)
        row *= shape.dims[i];
    SIM_TRY(sim_h5_read(f->in, path, SIM_I32, lo, n, out, n * row));
done:
    return st;
}

static sim_status read_number(void *ctx, const char *name, const char *attribute,
                              int64_t fallback, int64_t *out)
{
    const files *f = ctx;
    char path[40];
    array_path(name, path);
    *out = fallback;
    return sim_h5_has_attribute_of(f->in, path, attribute)
               ? sim_h5_read_attribute_of(f->in, path, attribute, SIM_I64, out, 1)
               : SIM_OK;
}

/* ---- results ---- */

static sim_tensor *next_result(files *f, const sim_tensor *like)
{
    SIM_ASSERT(f->n_results < MAX_RESULTS);
    sim_tensor *t = &f->results[f->n_results];
    *t = *like;
    array_path(like->name, f->names[f->n_results]);
    t->name = f->names[f->n_results++];
    t->data = NULL;
    t->row_lo = t->row_hi = 0;
    return t;
}

/* Gathers the rows of all ranks, or copies a scalar, to rank 0. */
static sim_status gather_result(void *ctx, const sim_tensor *local, size_t unit)
{
    sim_status st = SIM_OK;
    files *f = ctx;
    sim_tensor *t = next_result(f, local);
    size_t n = sim_tensor_count(t), rows = local->n_dims ? local->dims[0] : 1;
    char *data = NULL;

    if (f->comm->rank == 0)
        st = sim_alloc(&data, n * sim_type_bytes(t->type), "cli/loss");
    t->data = data;
    SIM_TRY(sim_comm_agree(f->comm, st));
    if (local->n_dims)
        sim_comm_collect_rows(f->comm, 0, (rows + unit - 1) / unit, unit, rows,
                              n / rows * sim_type_bytes(t->type), local->data, data);
    else if (data)
        memcpy(data, local->data, sim_type_bytes(t->type));
done:
    return st;
}

static sim_status store_number(void *ctx, const char *name, const char *attribute,
                               int64_t value)
{
    files *f = ctx;
    SIM_ASSERT(f->n_numbers < MAX_NUMBERS);
    array_path(name, f->numbers[f->n_numbers].name);
    f->numbers[f->n_numbers].attribute = attribute;
    f->numbers[f->n_numbers++].value = value;
    return SIM_OK;
}

static sim_status write_numbers(const files *f, sim_h5 *h5)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; i < f->n_numbers; i++) {
        int64_t value = f->numbers[i].value;
        const sim_tensor t = {.type = SIM_I64, .data = &value};
        SIM_TRY(sim_h5_write_attribute_of(h5, f->numbers[i].name, f->numbers[i].attribute,
                                          &t));
    }
done:
    return st;
}

static sim_status write_loss_file(const files *f, const char *out, const sim_job *job,
                                  double loss)
{
    sim_status st = SIM_OK;
    sim_h5 *h5 = NULL;
    const void *image = NULL;
    size_t n_bytes = 0, reserve = 0;
    int64_t ranks = f->comm->size;
    const sim_tensor value = {.type = SIM_F64, .data = &loss};
    const sim_tensor size = {.type = SIM_I64, .data = &ranks};

    for (size_t i = 0; i < f->n_results; i++)
        reserve += sim_tensor_count(&f->results[i]) * sim_type_bytes(f->results[i].type);
    SIM_TRY(sim_h5_create_image(reserve, &h5));
    SIM_TRY(sim_h5_write_attribute_text(h5, "method", job->method->name));
    SIM_TRY(sim_h5_write_attribute_text(h5, "reduction",
                                        job->method->reduction(&job->method_options)));
    SIM_TRY(sim_h5_write_attribute(h5, "ranks", &size));
    SIM_TRY(sim_h5_write(h5, "/loss", &value));
    for (size_t i = 0; i < f->n_results; i++)
        SIM_TRY(sim_h5_write(h5, f->results[i].name, &f->results[i]));
    SIM_TRY(write_numbers(f, h5));
    SIM_TRY(sim_h5_image(h5, &image, &n_bytes));
    const sim_piece piece = {image, n_bytes};
    SIM_TRY(sim_file_replace(out, &piece, 1));
done:
    sim_h5_close(&h5);
    return st;
}

static bool is_loss_file(const char *path)
{
    sim_h5 *h5 = NULL;
    bool is = sim_h5_open_read(path, &h5) == SIM_OK && sim_h5_has(h5, "/loss") &&
              sim_h5_has_attribute(h5, "method") && sim_h5_has_attribute(h5, "reduction");
    sim_h5_close(&h5);
    sim_error_clear();
    return is;
}

static sim_status check_output(arguments *a)
{
    const char *const inputs[] = {a->source.path, a->in};
    const sim_output out = {.path = a->out,
                            .option = "--out",
                            .kind = "a file of simile loss",
                            .is_own = is_loss_file(a->out),
                            .force = a->force,
                            .inputs = inputs,
                            .n_inputs = 2};

    return sim_output_check(&out, a->target);
}

/* The loss of equal embeddings is correct but has no useful gradient.  Collective. */
static void warn_of_collapse(const files *f)
{
    int64_t varied = f->varied || !f->read_unit;
    sim_comm_max_i64(f->comm, &varied, 1);
    if (!varied && f->comm->rank == 0)
        sim_log_warn("%s: all rows of each embedding array are equal; the encoder has "
                     "collapsed, or "
                     "the same row was written for every image",
                     f->path);
}

static sim_status run_loss(const sim_comm *c, void *ctx)
{
    sim_status st = SIM_OK;
    arguments *a = ctx;
    sim_job *job = NULL;
    files f = {.comm = c, .path = a->in};
    sim_arrays arrays = {.ctx = &f,
                         .has = has_array,
                         .dims = read_dims,
                         .floats = read_floats,
                         .ints = read_ints,
                         .number = read_number,
                         .put = gather_result,
                         .put_number = store_number};
    double loss = 0;

    if (c->rank == 0)
        st = check_output(a);
    if (st == SIM_OK)
        st = sim_new(&job, "cli/job");
    if (st == SIM_OK)
        st = sim_path_explain(sim_job_load_method(&a->source, job), a->source.path,
                              SIM_USE_JOB);
    if (st == SIM_OK)
        st = sim_method_check_gather(job->method, &job->method_options, "--gather",
                                     a->gather);
    if (st == SIM_OK)
        st = sim_kernels_pick("auto");
    if (st == SIM_OK)
        st = sim_path_explain(sim_h5_open_read(a->in, &f.in), a->in, SIM_USE_ARRAYS);
    SIM_TRY(sim_comm_agree(c, st));
    SIM_TRY(sim_cli_compare_kernels(c));
    SIM_TRY(sim_comm_compare_file(c, a->in));
    SIM_ASSERT(job);
    arrays.gather = sim_method_gather(job->method, &job->method_options, a->gather);
    st = job->method->compute(c, &job->method_options, &arrays, &loss);
    if (st == SIM_E_DATA &&
        !strstr(sim_error_message(), a->in)) /* the method does not have the path */
        sim_error_prefix("%s: ", a->in);
    SIM_TRY(sim_path_explain(st, a->in, SIM_USE_ARRAYS));
    warn_of_collapse(&f);
    if (c->rank == 0)
        st = write_loss_file(&f, a->target, job, loss);
    SIM_TRY(sim_comm_agree(c, st));
    if (c->rank == 0)
        sim_log("%s: loss %.9g, %s", job->method->name, loss,
                job->method->reduction(&job->method_options));
done:
    for (size_t i = 0; i < f.n_results; i++)
        sim_free(f.results[i].data);
    sim_h5_close(&f.in);
    sim_free(job);
    return st;
}

sim_status sim_command_loss(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse_loss_option,
        .args_doc = "JOB.yaml [key=value ...] --in Z.h5 --out G.h5",
        .doc = "Computes the loss of a method and its gradients for the embeddings in a "
               "file, "
               "on any number of ranks.  Only the section `method` of the job is used."};
    arguments a = {0};

    sim_cli_parse(&argp, argc, argv, &a);
    return sim_cli_with_ranks(argc, argv, run_loss, &a);
}
