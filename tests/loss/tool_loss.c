/*
 * tool_loss.c - NT-Xent and its variants on embeddings from a file, on any number of ranks, for
 * test_loss.py.
 *
 *   tool_loss IN.h5 OUT.h5 THREADS auto|all|stream
 * IN:  /options [cases][10]: temperature, factor, decoupled, inside, weighted, weight_flow,
 *      weight_sigma, whether there are labels, inside_mean, weight_group; /z0 ... [views][n][d] unit rows; /labels0
 *      ... int32 [n].
 * OUT: /dz0 ... and /report0 ... [8]: loss, accuracy, positive, negative, embedding_std,
 *      d_log_temperature, anchors_without_positive, loss computed without gradients.
 */
#include "simile/comm.h"
#include "simile/file.h"
#include "simile/h5.h"
#include "simile/loss.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAF = 32, COLUMN_TILE = 512, OPTIONS = 10, REPORT = 8 };

typedef struct {
    sim_rows_shape shape;
    sim_range local;
    sim_ntxent_options options;
    float *z, *dz;             /* [views][n][d] */
    float *z_local, *dz_local; /* [views][local][d] */
    int32_t *labels;
    double report[REPORT];
} one_case;

static void name_of(char name[32], const char *what, size_t i)
{
    (void)snprintf(name, 32, "/%s%zu", what, i);
}

static sim_status read_case(const sim_comm *c, sim_gather gather, const sim_h5 *in,
                            size_t i, one_case *k)
{
    sim_status st = SIM_OK;
    sim_h5_shape s;
    double o[OPTIONS];
    char name[32];
    void *block = NULL, *labels = NULL;

    SIM_TRY(sim_h5_read(in, "/options", SIM_F64, i, 1, o, OPTIONS));
    name_of(name, "z", i);
    SIM_TRY(sim_h5_read_new(in, name, SIM_F32, (size_t)1 << 26, &block, &s));
    k->z = block;
    k->shape = (sim_rows_shape){.views = s.dims[0],
                                .n = s.dims[1],
                                .d = s.dims[2],
                                .unit = LEAF,
                                .gather = gather,
                                .stream_rows = COLUMN_TILE};
    name_of(name, "labels", i);
    if (o[7] != 0)
        SIM_TRY(sim_h5_read_new(in, name, SIM_I32, s.dims[1], &labels, &s));
    k->labels = labels;
    k->options = (sim_ntxent_options){.temperature = o[0],
                                      .factor = o[1],
                                      .decoupled = o[2] != 0,
                                      .inside = o[3] != 0,
                                      .inside_mean = o[8] != 0,
                                      .weighted = o[4] != 0,
                                      .weight_flow = o[5] != 0,
                                      .weight_sigma = o[6],
                                      .weight_group = (size_t)o[9],
                                      .labels = k->labels};
    k->local = sim_rows_local(sim_comm_partition(c), &k->shape);
    size_t n_local = k->shape.views * (k->local.hi - k->local.lo) * k->shape.d;
    SIM_TRY(sim_alloc(&k->z_local, n_local, "test/loss"));
    SIM_TRY(sim_alloc(&k->dz_local, n_local, "test/loss"));
    SIM_TRY(sim_alloc(&k->dz, k->shape.views * k->shape.n * k->shape.d, "test/loss"));
done:
    return st;
}

static void add_bytes_of_tag(void *ctx, const sim_memory_row *row)
{
    if (strcmp(row->tag, "loss/contrast") == 0 || strcmp(row->tag, "comm/stream") == 0)
        *(size_t *)ctx += row->bytes;
}

static void compute(sim_contrast *e, one_case *k)
{
    sim_loss_report r, value;
    const sim_rows_shape *s = &k->shape;
    size_t local = k->local.hi - k->local.lo;

    for (size_t v = 0; v < s->views && local > 0; v++)
        memcpy(k->z_local + v * local * s->d, k->z + (v * s->n + k->local.lo) * s->d,
               local * s->d * sizeof(float));
    sim_ntxent(e, &k->options, k->z_local, NULL, &value);
    sim_ntxent(e, &k->options, k->z_local, k->dz_local, &r);
    const double report[REPORT] = {r.loss,
                                   r.accuracy,
                                   r.positive,
                                   r.negative,
                                   r.embedding_std,
                                   r.d_log_temperature,
                                   (double)r.anchors_without_positive,
                                   value.loss};
    memcpy(k->report, report, sizeof report);
}

static sim_status run_case(const sim_comm *c, one_case *k)
{
    sim_status st = SIM_OK;
    const sim_rows_shape *s = &k->shape;
    sim_contrast *e = NULL;
    size_t allocated = 0, local = k->local.hi - k->local.lo;

    SIM_TRY(sim_contrast_create(c, s, &e));
    sim_memory_report(add_bytes_of_tag, &allocated);
    SIM_ASSERT(allocated == sim_contrast_bytes(sim_comm_partition(c), s));
    compute(e, k);
    for (size_t v = 0; v < s->views; v++)
        sim_comm_collect_rows(c, 0, (s->n + LEAF - 1) / LEAF, LEAF, s->n,
                              s->d * sizeof(float), k->dz_local + v * local * s->d,
                              k->dz + v * s->n * s->d);
done:
    sim_contrast_destroy(&e);
    return st;
}

static sim_status write_case(sim_h5 *out, size_t i, one_case *k)
{
    sim_status st = SIM_OK;
    char name[32];
    const sim_tensor report = {
        .type = SIM_F64, .n_dims = 1, .dims = {REPORT}, .data = k->report};
    const sim_tensor grad = {.type = SIM_F32,
                             .n_dims = 3,
                             .dims = {k->shape.views, k->shape.n, k->shape.d},
                             .data = k->dz};
    name_of(name, "report", i);
    SIM_TRY(sim_h5_write(out, name, &report));
    name_of(name, "dz", i);
    SIM_TRY(sim_h5_write(out, name, &grad));
done:
    return st;
}

static sim_status run_all(const sim_comm *c, sim_gather gather, const sim_h5 *in,
                          sim_h5 *out)
{
    sim_status st = SIM_OK;
    sim_h5_shape options;
    one_case k = {0};

    SIM_TRY(sim_h5_shape_of(in, "/options", &options));
    for (size_t i = 0; i < options.dims[0]; i++) {
        SIM_TRY(read_case(c, gather, in, i, &k));
        SIM_TRY(run_case(c, &k));
        SIM_TRY(write_case(out, i, &k));
        sim_free(k.z), sim_free(k.dz), sim_free(k.z_local), sim_free(k.dz_local),
            sim_free(k.labels);
        k = (one_case){0};
    }
done:
    return st;
}

static sim_status run(const sim_comm *c, char **a)
{
    sim_status st = SIM_OK;
    sim_h5 *in = NULL, *out = NULL;
    const void *image = NULL;
    size_t n_bytes = 0;

    sim_threads_set(atoi(a[3]));
    SIM_TRY(sim_h5_open_read(a[1], &in));
    SIM_TRY(sim_h5_create_image((size_t)1 << 28, &out));
    SIM_TRY(run_all(c, (sim_gather)sim_choices_find(SIM_GATHER_CHOICES, a[4]), in, out));
    if (c->rank == 0) {
        SIM_TRY(sim_h5_image(out, &image, &n_bytes));
        const sim_piece piece = {image, n_bytes};
        SIM_TRY(sim_file_replace(a[2], &piece, 1));
    }
done:
    sim_h5_close(&in);
    sim_h5_close(&out);
    return st;
}

int main(int argc, char **argv)
{
    const sim_comm *c = NULL;
    sim_status st = sim_comm_begin(&argc, &argv, &c);
    if (st != SIM_OK || argc != 5)
        return 64;
    st = run(c, argv);
    if (st != SIM_OK) {
        (void)fprintf(stderr, "tool_loss: %s\n", sim_error_message());
        sim_comm_abort(st);
    }
    sim_comm_end();
    return 0;
}
