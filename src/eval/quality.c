/*
 * quality.c - measures of an embedding that need no labels: effective rank, uniformity, alignment.
 *
 * In: features of this rank's images.  Every rank gathers all rows.  The blocks of the Gram matrix and
 * the rows of the pairwise similarities are divided over ranks; sums over images are added in the order
 * of the images, so the result has the same bits on any number of ranks.
 * Called by `simile evaluate quality`.
 */
#include "simile/eval.h"
#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

enum { TILE = 1024, UNIT = 32 }; /* UNIT: of sim_embed_local */

typedef struct {
    const sim_comm *comm;
    size_t m, dim; /* images */
    float *rows;   /* [m][dim] of all ranks */
    float *norms;  /* [m] */
    double *wide;  /* [m][dim] the rows in double */
    double *gram;  /* [dim][dim] */
    double *work, *values;
    float *panel;          /* unit rows [TILE], packed */
    double *potential;     /* [m] sum over j > i of exp(-2 |z_i - z_j|^2) */
    double *sum, *squares; /* [m] of the similarities of image i */
    int64_t *histogram;    /* [m][SIM_SIMILARITY_BINS] of this rank's rows */
    size_t tile_lo, tile_n;
    sim_range local; /* rows of this rank in the pairwise pass */
} quality;

enum { BUFFERS = 10 };

static void list_buffers(quality *q, sim_buffer list[BUFFERS])
{
    list[0] = SIM_BUFFER(q->rows, q->m * q->dim);
    list[1] = SIM_BUFFER(q->norms, q->m);
    list[2] = SIM_BUFFER(q->wide, q->m * q->dim);
    list[3] = SIM_BUFFER(q->gram, q->dim * q->dim);
    list[4] = SIM_BUFFER(q->work, sim_eigenvalues_work(q->dim));
    list[5] = SIM_BUFFER(q->values, q->dim);
    list[6] = SIM_BUFFER(q->panel, sim_panel_floats(q->dim, TILE));
    list[7] = SIM_BUFFER(q->potential, q->m);
    list[8] = SIM_BUFFER(q->sum, 2 * q->m);
    list[9] = SIM_BUFFER(q->histogram, q->m * SIM_SIMILARITY_BINS);
}

size_t sim_quality_bytes(size_t n, size_t dim)
{
    quality q = {.m = n, .dim = dim};
    sim_buffer list[BUFFERS];

    list_buffers(&q, list);
    return sim_buffers_bytes(list, BUFFERS);
}

static sim_status check_finite(const quality *q)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; i < q->m * q->dim; i++)
        SIM_CHECK(isfinite(q->rows[i]), SIM_E_DATA,
                  "the features of row %zu are not finite numbers", i / q->dim);
done:
    return st;
}

/* ---- effective rank ---- */

static void gram_block(size_t item, void *ctx)
{
    const quality *q = ctx;
    const size_t n_blocks = (q->dim + SIM_GRAM_ROWS - 1) / SIM_GRAM_ROWS;
    const size_t block =
        sim_partition_range(sim_comm_partition(q->comm), n_blocks).lo + item;

    sim_gram_block(q->m, q->dim, q->wide, block,
                   q->gram + block * SIM_GRAM_ROWS * q->dim);
}

/* exp of the entropy of the singular values, the square roots of the largest eigenvalues of the Gram
 * matrix.  Rows have as many as images or dimensions, whichever is less. */
static double effective_rank(const double *ascending, size_t dim, size_t m)
{
    const size_t n = m < dim ? m : dim;
    const double *eigenvalues = ascending + (dim - n);
    double sum = 0, entropy = 0;

    for (size_t i = 0; i < n; i++)
        sum += eigenvalues[i] > 0 ? sqrt(eigenvalues[i]) : 0;
    for (size_t i = 0; i < n; i++) {
        const double sigma = eigenvalues[i] > 0 ? sqrt(eigenvalues[i]) : 0;
        const double p = (sum > 0 ? sigma / sum : 0) + 1e-7;
        entropy -= p * sim_ln(p);
    }
    return sim_exp_double(entropy);
}

/* Collective. */
static sim_status compute_rank(quality *q, double *out)
{
    sim_status st = SIM_OK;
    const size_t n_blocks = (q->dim + SIM_GRAM_ROWS - 1) / SIM_GRAM_ROWS;
    const sim_range blocks = sim_partition_range(sim_comm_partition(q->comm), n_blocks);

    for (size_t i = 0; i < q->m * q->dim; i++)
        q->wide[i] = (double)q->rows[i];
    memset(q->gram, 0, q->dim * q->dim * sizeof *q->gram);
    sim_for(blocks.hi - blocks.lo, gram_block, q);
    sim_comm_or_bytes(q->comm, q->gram, q->dim * q->dim * sizeof *q->gram);
    if (q->comm->rank == 0)
        st = sim_eigenvalues(q->dim, q->gram, q->work, q->values);
    SIM_TRY(sim_comm_agree(q->comm, st));
    sim_comm_broadcast(q->comm, 0, q->values, q->dim * sizeof *q->values);
    *out = effective_rank(q->values, q->dim, q->m);
done:
    return st;
}

/* ---- similarities ---- */

static size_t bin_of(double similarity)
{
    const double at = (similarity + 1) / 2 * SIM_SIMILARITY_BINS;
    return at <= 0 ? 0
                   : (at >= SIM_SIMILARITY_BINS ? SIM_SIMILARITY_BINS - 1 : (size_t)at);
}

/* Adds the pairs (i, j), j > i, of a local row and the tile. */
static void pair_row(size_t item, void *ctx)
{
    const quality *q = ctx;
    const size_t i = q->local.lo + item;
    float *s = sim_scratch(TILE * sizeof *s);

    if (q->tile_lo + q->tile_n <= i + 1)
        return;
    sim_product(1, q->tile_n, q->dim, q->rows + i * q->dim, q->dim, q->panel, s, TILE);
    for (size_t j = i + 1 > q->tile_lo ? i + 1 - q->tile_lo : 0; j < q->tile_n; j++) {
        const double x = (double)s[j];
        q->potential[i] += sim_exp_double(4 * x - 4);
        q->sum[i] += x;
        q->squares[i] += x * x;
        q->histogram[i * SIM_SIMILARITY_BINS + bin_of(x)]++;
    }
}

static double sum_of(const double *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    return sum;
}

static void fill_similarities(double sum, double squares, int64_t n,
                              sim_similarities *out)
{
    out->n = n;
    out->mean = n ? sum / (double)n : 0;
    const double variance = n ? squares / (double)n - out->mean * out->mean : 0;
    out->std = variance > 0 ? sqrt(variance) : 0;
}

/* All pairs of images.  The rows are of unit length from here.  Collective. */
static void compute_uniformity(quality *q, sim_quality_result *r)
{
    const int64_t m = (int64_t)q->m, n_pairs = m * (m - 1) / 2;

    q->squares = q->sum + q->m;
    q->local = sim_partition_range(sim_comm_partition(q->comm), q->m);
    sim_unit_rows(q->m, q->dim, q->rows, q->rows, q->norms);
    for (q->tile_lo = 0; q->tile_lo < q->m; q->tile_lo += TILE) {
        q->tile_n = q->m - q->tile_lo < TILE ? q->m - q->tile_lo : TILE;
        sim_panel_pack(q->dim, q->tile_n, q->rows + q->tile_lo * q->dim, q->dim, true,
                       q->panel);
        sim_for(q->local.hi - q->local.lo, pair_row, q);
    }
    sim_comm_or_bytes(q->comm, q->potential, q->m * sizeof *q->potential);
    sim_comm_or_bytes(q->comm, q->sum, 2 * q->m * sizeof *q->sum);
    for (size_t i = 0; i < q->m; i++)
        for (size_t b = 0; b < SIM_SIMILARITY_BINS; b++)
            r->negatives.histogram[b] += q->histogram[i * SIM_SIMILARITY_BINS + b];
    sim_comm_sum_i64(q->comm, r->negatives.histogram, SIM_SIMILARITY_BINS);
    fill_similarities(sum_of(q->sum, q->m), sum_of(q->squares, q->m), n_pairs,
                      &r->negatives);
    r->uniformity = n_pairs ? sim_ln(sum_of(q->potential, q->m) / (double)n_pairs) : 0;
}

/* Similarities of two views of each image, of which this rank has some.  Collective. */
static void compute_alignment(quality *q, const float *view1, const float *view2,
                              sim_quality_result *r)
{
    const sim_range local = sim_embed_local(sim_comm_partition(q->comm), q->m);
    double *s = q->sum;

    memset(s, 0, q->m * sizeof *s);
    for (size_t i = local.lo; i < local.hi; i++) {
        const float *a = view1 + (i - local.lo) * q->dim,
                    *b = view2 + (i - local.lo) * q->dim;
        const double norms = sqrt(sim_dot(q->dim, a, a) * sim_dot(q->dim, b, b));
        s[i] = norms > 0 ? sim_dot(q->dim, a, b) / norms : 0;
    }
    sim_comm_or_bytes(q->comm, s, q->m * sizeof *s);
    for (size_t i = 0; i < q->m; i++) {
        q->squares[i] = s[i] * s[i];
        r->positives.histogram[bin_of(s[i])]++;
    }
    fill_similarities(sum_of(s, q->m), sum_of(q->squares, q->m), (int64_t)q->m,
                      &r->positives);
    r->alignment = 2 - 2 * r->positives.mean;
}

sim_status sim_quality(const sim_comm *c, size_t n, size_t dim, const float *features,
                       const float *view1, const float *view2, sim_quality_result *out)
{
    sim_status st = SIM_OK;
    quality q = {.comm = c, .m = n, .dim = dim};
    sim_quality_result r = {.n_images = (int64_t)n, .dim = (int64_t)dim};
    sim_buffer list[BUFFERS];

    list_buffers(&q, list);
    SIM_TRY(sim_comm_agree(c, sim_buffers_create(list, BUFFERS, "eval/quality")));
    sim_comm_gather_rows(c, (n + UNIT - 1) / UNIT, UNIT, n, dim * sizeof *q.rows,
                         features, q.rows);
    SIM_TRY(check_finite(&q));
    SIM_TRY(compute_rank(&q, &r.rankme));
    compute_uniformity(&q, &r);
    if (view1 && view2)
        compute_alignment(&q, view1, view2, &r);
    *out = r;
done:
    sim_buffers_destroy(list, BUFFERS);
    return st;
}
