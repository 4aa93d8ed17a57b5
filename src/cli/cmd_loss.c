/*
 * cmd_loss.c - `simile loss JOB.yaml --in Z.h5 --out G.h5`: a method's loss and gradients on
 * embeddings from a file.
 *
 * The seam for parity checks.  Inputs are what a network would put out, not yet of unit
 * length; gradients are with respect to them.  Files: notes of the README.
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

enum { LEAF = 32, MAX_VIEWS = 8, KEY_IN = 256, KEY_OUT };

typedef struct {
    sim_job_source source;
    const char *in, *out;
} arguments;

static const struct argp_option options[] = {
    {"in", KEY_IN, "Z.h5", 0, "/z1 and /z2 (and /z3 ...): float32 [B][d]", 0},
    {"out", KEY_OUT, "G.h5", 0, "/loss, and /dz1, /dz2 ...", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    arguments *a = state->input;
    switch (key) {
    case KEY_IN:
        a->in = arg;
        return 0;
    case KEY_OUT:
        a->out = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (!sim_cli_job_argument(&a->source, arg, state))
            argp_error(state, "\"%s\" is not key=value", arg);
        return 0;
    case ARGP_KEY_END:
        if (!a->source.path || !a->in || !a->out)
            argp_error(state, "a job file, --in and --out are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The embeddings of this rank: [views][mine][d], raw and of unit length. */
typedef struct {
    sim_rows_shape shape;
    sim_range mine;
    float *raw, *z, *dz, *norm;
} rows;

static sim_status find_views(const sim_h5 *f, const char *path, sim_rows_shape *s)
{
    sim_status st = SIM_OK;
    sim_h5_shape shape;
    char name[32];

    for (s->views = 0; s->views < MAX_VIEWS; s->views++) {
        (void)snprintf(name, sizeof name, "/z%zu", s->views + 1);
        if (!sim_h5_has(f, name))
            break;
        SIM_TRY(sim_h5_shape_of(f, name, &shape));
        SIM_CHECK(shape.n_dims == 2 && shape.type == SIM_F32 && shape.dims[0] >= 2 &&
                      shape.dims[1] >= 1,
                  SIM_E_DATA, "%s: %s is not float32 [B][d] with B from 2 up", path,
                  name);
        SIM_CHECK(s->views == 0 || (shape.dims[0] == s->n && shape.dims[1] == s->d),
                  SIM_E_DATA, "%s: %s is %zu x %zu, but /z1 is %zu x %zu", path, name,
                  shape.dims[0], shape.dims[1], s->n, s->d);
        s->n = shape.dims[0];
        s->d = shape.dims[1];
    }
    SIM_CHECK(s->views >= 2, SIM_E_DATA, "%s needs /z1 and /z2", path);
    s->unit = LEAF;
done:
    return st;
}

static sim_status check_rows(const rows *r, const char *path, size_t view)
{
    sim_status st = SIM_OK;
    size_t mine = r->mine.hi - r->mine.lo;
    for (size_t i = 0; i < mine; i++) {
        const float *x = r->raw + (view * mine + i) * r->shape.d;
        double squares = 0;
        for (size_t k = 0; k < r->shape.d; k++)
            squares += (double)x[k] * (double)x[k];
        SIM_CHECK(isfinite(squares) && squares > 0, SIM_E_DATA,
                  "%s: row %zu of /z%zu is %s", path, r->mine.lo + i, view + 1,
                  isfinite(squares) ? "a zero vector" : "not finite");
    }
done:
    return st;
}

static sim_status read_rows(const sim_comm *c, const char *path, rows *r)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    char name[32];

    SIM_TRY(sim_h5_open_read(path, &f));
    SIM_TRY(find_views(f, path, &r->shape));
    r->mine = sim_rows_mine(c, &r->shape);
    size_t mine = r->mine.hi - r->mine.lo, n = r->shape.views * mine * r->shape.d;
    SIM_TRY(sim_alloc(&r->raw, n, "cli/loss"));
    SIM_TRY(sim_alloc(&r->z, n, "cli/loss"));
    SIM_TRY(sim_alloc(&r->dz, n, "cli/loss"));
    SIM_TRY(sim_alloc(&r->norm, r->shape.views * mine, "cli/loss"));
    for (size_t v = 0; v < r->shape.views; v++) {
        (void)snprintf(name, sizeof name, "/z%zu", v + 1);
        SIM_TRY(sim_h5_read(f, name, SIM_F32, r->mine.lo, mine,
                            r->raw + v * mine * r->shape.d, mine * r->shape.d));
        SIM_TRY(check_rows(r, path, v));
    }
done:
    sim_h5_close(&f);
    return st;
}

static sim_status write_result(const sim_comm *c, const arguments *a, const sim_job *job,
                               const rows *r, float *const *all, double loss)
{
    sim_status st = SIM_OK;
    sim_h5 *f = NULL;
    const void *image = NULL;
    size_t n_bytes = 0;
    char name[32];
    int64_t ranks = c->size;
    const sim_tensor value = {.type = SIM_F64, .data = &loss};
    const sim_tensor size = {.type = SIM_I64, .data = &ranks};

    SIM_TRY(sim_h5_create_image(r->shape.views * r->shape.n * r->shape.d * sizeof(float),
                                &f));
    SIM_TRY(sim_h5_write_attribute_text(f, "method", job->method->name));
    SIM_TRY(sim_h5_write_attribute_text(f, "reduction", "mean over anchors"));
    SIM_TRY(sim_h5_write_attribute(f, "ranks", &size));
    SIM_TRY(sim_h5_write(f, "/loss", &value));
    for (size_t v = 0; v < r->shape.views; v++) {
        const sim_tensor t = {.type = SIM_F32,
                              .n_dims = 2,
                              .dims = {r->shape.n, r->shape.d},
                              .data = all[v]};
        (void)snprintf(name, sizeof name, "/dz%zu", v + 1);
        SIM_TRY(sim_h5_write(f, name, &t));
    }
    SIM_TRY(sim_h5_image(f, &image, &n_bytes));
    const sim_piece piece = {image, n_bytes};
    SIM_TRY(sim_file_replace(a->out, &piece, 1));
done:
    sim_h5_close(&f);
    return st;
}

static sim_status collect(const sim_comm *c, const rows *r, float *all[MAX_VIEWS])
{
    sim_status st = SIM_OK;
    const sim_rows_shape *s = &r->shape;
    size_t mine = r->mine.hi - r->mine.lo;

    for (size_t v = 0; v < s->views && c->rank == 0 && st == SIM_OK; v++)
        st = sim_alloc(&all[v], s->n * s->d, "cli/loss");
    SIM_TRY(sim_comm_agree(c, st));
    for (size_t v = 0; v < s->views; v++)
        sim_comm_collect_rows(c, 0, (s->n + LEAF - 1) / LEAF, LEAF, s->n,
                              s->d * sizeof(float), r->dz + v * mine * s->d, all[v]);
done:
    return st;
}

static sim_status compute(const sim_comm *c, const sim_job *job, rows *r, double *loss)
{
    sim_status st = SIM_OK;
    sim_contrast *e = NULL;
    sim_loss_report report;
    size_t n = r->shape.views * (r->mine.hi - r->mine.lo);
    sim_ntxent_options o = {0};

    job->method->loss_options(job->method_options, &o);
    SIM_TRY(sim_comm_agree(c, sim_contrast_create(c, &r->shape, &e)));
    sim_unit_rows(n, r->shape.d, r->raw, r->z, r->norm);
    sim_ntxent(e, &o, r->z, r->dz, &report);
    sim_unit_rows_backward(n, r->shape.d, r->z, r->norm, r->dz, r->dz);
    *loss = report.loss;
done:
    sim_contrast_destroy(&e);
    return st;
}

static sim_status run(const sim_comm *c, void *ctx)
{
    sim_status st = SIM_OK;
    arguments *a = ctx;
    sim_job *job = NULL;
    rows r = {0};
    float *all[MAX_VIEWS] = {NULL};
    double loss = 0;

    st = sim_new(&job, "cli/job");
    if (st == SIM_OK)
        st = sim_cli_job_method(&a->source, job);
    if (st == SIM_OK)
        st = sim_kernels_pick("auto");
    if (st == SIM_OK)
        st = read_rows(c, a->in, &r);
    SIM_TRY(sim_comm_agree(c, st));
    SIM_TRY(compute(c, job, &r, &loss));
    SIM_TRY(collect(c, &r, all));
    if (c->rank == 0)
        st = write_result(c, a, job, &r, all, loss);
    SIM_TRY(sim_comm_agree(c, st));
    if (c->rank == 0)
        sim_log("%s: loss %.9g over %zu x %zu rows of %zu", job->method->name, loss,
                r.shape.views, r.shape.n, r.shape.d);
done:
    for (size_t v = 0; v < MAX_VIEWS; v++)
        sim_free(all[v]);
    sim_free(r.raw);
    sim_free(r.z);
    sim_free(r.dz);
    sim_free(r.norm);
    sim_free(job);
    return st;
}

sim_status sim_command_loss(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "JOB.yaml [key=value ...] --in Z.h5 --out G.h5",
        .doc = "Computes a method's loss and its gradients on embeddings from a file, on "
               "any "
               "number of ranks; of the job only `method` is read."};
    arguments a = {0};

    sim_cli_parse(&argp, argc, argv, &a);
    return sim_cli_with_ranks(argc, argv, run, &a);
}
