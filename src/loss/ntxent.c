/*
 * ntxent.c - NT-Xent and its decoupled form over the global batch.
 *
 * In: unit rows of this rank.  Out: the loss and the gradient of the global mean.
 * L_i = -(mean over positives p of s_ip) / T + log sum_{j in D(i)} exp(s_ij / T); D(i) is
 * all but i, and when decoupled all but i and its positives.  With P_ij = exp(s_ij / T -
 * lse_i) the gradient is dz_i = (sum_j (P_ij + P_ji) z_j - 2 mean_p z_p) / (T rows).
 * Chen et al. 2020, arXiv 2002.05709, equation 1; Yeh et al. 2022, arXiv 2110.06848.
 */
#include "contrast.h"

#include "simile/kernel.h"
#include "simile/thread.h"

#include <math.h>
#include <string.h>

typedef struct {
    sim_contrast *e;
    const sim_ntxent_options *options;
    float inverse; /* 1 / T */
    bool fixed;    /* the shift 1 / T serves every row */
    float *dz;     /* [views][mine][d] */
} ntxent;

static double factor_of(const sim_ntxent_options *o)
{
    return o->factor > 0 ? o->factor : 1;
}

/*
 * exp(s/T - 1/T) stays in fp32's range while 2/T < 80; below T = 0.025 the running maximum
 * shifts.  A matter of T alone.
 */
static bool shift_is_fixed(double temperature)
{
    return 2 / temperature < 80;
}

/* ---- one tile of similarities ---- */

typedef struct {
    size_t view, lo, n; /* columns [lo, lo + n) of a view */
} column_tile;

/* Panels and similarities of a tile: s [rows][COLUMN_TILE]. */
static void multiply(const sim_contrast *e, row_tile r, column_tile c, float *panel,
                     float *s)
{
    const sim_rows_shape *shape = &e->shape;
    size_t d = shape->d;
    sim_panel_pack(d, c.n, e->z + (c.view * shape->n + c.lo) * d, d, true, panel);
    sim_product(r.hi - r.lo, c.n, d, e->z + (r.view * shape->n + r.lo) * d, d, panel,
                false, s, COLUMN_TILE);
}

/* The column of row i's own slot in the tile; false when it is not there. */
static bool own_column(column_tile c, size_t i, size_t *at)
{
    *at = i - c.lo;
    return i >= c.lo && i < c.lo + c.n;
}

/* ---- first pass: log-sum-exp, loss ---- */

/* Running state of a row over the column tiles: positives stand apart, in double, so that
 * nothing is lost where one of them takes nearly all of the sum. */
typedef struct {
    double shift, sum; /* of the negatives: sum of exp(s / T - shift) */
    double *positives; /* similarities, by view */
    size_t n_positives;
    float weakest, negative; /* least positive, largest negative */
} row_state;

static void add_to_sum(const ntxent *q, row_state *r, float most, double tile_sum)
{
    if (q->fixed) {
        r->sum += tile_sum;
        return;
    }
    double shift = (double)most * (double)q->inverse;
    if (shift > r->shift) {
        r->sum = r->sum * sim_exp_double(r->shift - shift) + tile_sum;
        r->shift = shift;
    } else {
        r->sum += tile_sum * sim_exp_double(shift - r->shift);
    }
}

/* One row of a tile; s is changed. */
static void see_row(const ntxent *q, size_t view, size_t i, column_tile c, float *s,
                    row_state *r)
{
    size_t at = 0;

    if (own_column(c, i, &at)) { /* the anchor itself, or a positive */
        if (c.view != view) {
            r->positives[r->n_positives++] = (double)s[at];
            r->weakest = s[at] < r->weakest ? s[at] : r->weakest;
        }
        s[at] = -INFINITY;
    }
    float most = sim_row_max(c.n, s);
    if (most == -INFINITY)
        return; /* a tile without negatives */
    r->negative = most > r->negative ? most : r->negative;
    float shift = q->fixed ? q->inverse : most * q->inverse;
    add_to_sum(q, r, most, (double)sim_row_exp_sum(c.n, s, q->inverse, shift));
}

static void record_row(const ntxent *q, const row_state *r, row_record *out)
{
    double t = q->options->temperature, mean = 0, total = r->sum;
    double shift = q->fixed ? (double)q->inverse : r->shift;

    for (size_t p = 0; p < r->n_positives; p++) {
        mean += r->positives[p];
        if (!q->options->decoupled)
            total += sim_exp_double(r->positives[p] / t - shift);
    }
    out->positive = mean / (double)r->n_positives;
    out->lse = shift + sim_ln(total);
    out->loss = out->lse - out->positive / t;
    out->hit = r->weakest > r->negative ? 1 : 0;
    out->negative = r->sum / total;
}

static size_t scratch_floats(size_t d)
{
    return sim_panel_floats(d, COLUMN_TILE) + ROW_TILE * COLUMN_TILE +
           sim_panel_floats(COLUMN_TILE, d);
}

size_t sim_ntxent_scratch(size_t d)
{
    return scratch_floats(d) * sizeof(float);
}

static void first_pass(size_t item, void *ctx)
{
    const ntxent *q = ctx;
    const sim_rows_shape *shape = &q->e->shape;
    row_tile r = contrast_row_tile(q->e, item);
    row_state rows[ROW_TILE];
    float *panel = sim_scratch(scratch_floats(shape->d) * sizeof *panel);
    float *s = panel + sim_panel_floats(shape->d, COLUMN_TILE);

    for (size_t i = 0; i < r.hi - r.lo; i++)
        rows[i] =
            (row_state){.shift = -INFINITY,
                        .weakest = INFINITY,
                        .negative = -INFINITY,
                        .positives = q->e->positives +
                                     (r.view * shape->n + r.lo + i) * (shape->views - 1)};
    for (size_t v = 0; v < shape->views; v++)
        for (size_t lo = 0; lo < shape->n; lo += COLUMN_TILE) {
            size_t n = shape->n - lo < COLUMN_TILE ? shape->n - lo : COLUMN_TILE;
            column_tile c = {v, lo, n};
            multiply(q->e, r, c, panel, s);
            for (size_t i = 0; i < r.hi - r.lo; i++)
                see_row(q, r.view, r.lo + i, c, s + i * COLUMN_TILE, &rows[i]);
        }
    for (size_t i = 0; i < r.hi - r.lo; i++)
        record_row(q, &rows[i], &q->e->records[r.view * shape->n + r.lo + i]);
}

/* ---- second pass: the gradient ---- */

/* Weight of a positive, P_ij + P_ji - 2 / positives.  With one positive it is taken from the
 * negatives' shares: P itself is too close to 1. */
static float pull(const ntxent *q, size_t row, size_t column, float both)
{
    const row_record *records = q->e->records;
    size_t positives = q->e->shape.views - 1;
    if (q->options->decoupled)
        return -2.0f / (float)positives;
    if (positives == 1)
        return (float)-(records[row].negative + records[column].negative);
    return both - 2.0f / (float)positives;
}

/* Similarities of row i to its weights P_ij + P_ji, less the pull of a positive. */
static void weigh_row(const ntxent *q, size_t view, size_t i, column_tile c, float *s)
{
    const sim_rows_shape *shape = &q->e->shape;
    size_t at = 0;
    bool here = own_column(c, i, &at);

    sim_row_softmax_two(c.n, s, q->inverse, q->e->lse[view * shape->n + i],
                        q->e->lse + c.view * shape->n + c.lo, s);
    if (here)
        s[at] = c.view == view
                    ? 0
                    : pull(q, view * shape->n + i, c.view * shape->n + i, s[at]);
}

static void second_pass(size_t item, void *ctx)
{
    const ntxent *q = ctx;
    const sim_rows_shape *shape = &q->e->shape;
    row_tile r = contrast_row_tile(q->e, item);
    size_t d = shape->d, m = r.hi - r.lo, mine = q->e->mine.hi - q->e->mine.lo;
    float *dz = q->dz + (r.view * mine + r.lo - q->e->mine.lo) * d;
    float *panel = sim_scratch(scratch_floats(d) * sizeof *panel);
    float *s = panel + sim_panel_floats(d, COLUMN_TILE);
    float *back = s + ROW_TILE * COLUMN_TILE;
    bool first = true;

    for (size_t v = 0; v < shape->views; v++)
        for (size_t lo = 0; lo < shape->n; lo += COLUMN_TILE) {
            size_t n = shape->n - lo < COLUMN_TILE ? shape->n - lo : COLUMN_TILE;
            column_tile c = {v, lo, n};
            multiply(q->e, r, c, panel, s);
            for (size_t i = 0; i < m; i++)
                weigh_row(q, r.view, r.lo + i, c, s + i * COLUMN_TILE);
            sim_panel_pack(n, d, q->e->z + (v * shape->n + lo) * d, d, false, back);
            sim_product(m, d, n, s, COLUMN_TILE, back, !first, dz, d);
            first = false;
        }
    float scale = (float)(factor_of(q->options) /
                          (q->options->temperature * (double)(shape->views * shape->n)));
    for (size_t i = 0; i < m * d; i++)
        dz[i] *= scale;
}

/* ---- the door ---- */

size_t sim_ntxent_negatives(const sim_rows_shape *shape)
{
    return shape->views * shape->n - shape->views;
}

static void fill_report(sim_contrast *e, const sim_ntxent_options *options,
                        sim_loss_report *report)
{
    const sim_rows_shape *s = &e->shape;
    double rows = (double)(s->views * s->n), pairs = 0;
    double positives = (double)(s->views - 1),
           negatives = (double)sim_ntxent_negatives(s);

    report->loss = contrast_mean(e, offsetof(row_record, loss));
    report->loss *= factor_of(options);
    report->accuracy = contrast_mean(e, offsetof(row_record, hit));
    report->positive = contrast_mean(e, offsetof(row_record, positive));
    contrast_geometry(e, &report->spread, &pairs);
    report->negative = (pairs / rows - positives * report->positive) / negatives;
}

void sim_ntxent(sim_contrast *e, const sim_ntxent_options *options, const float *z,
                float *dz, sim_loss_report *report)
{
    ntxent q = {.e = e,
                .options = options,
                .inverse = (float)(1 / options->temperature),
                .fixed = shift_is_fixed(options->temperature),
                .dz = dz};

    SIM_ASSERT(e->shape.views >= 2 && e->shape.n >= 2);
    contrast_gather(e, z);
    sim_for(contrast_row_tiles(e), first_pass, &q);
    contrast_gather_records(e);
    fill_report(e, options, report);
    if (dz)
        sim_for(contrast_row_tiles(e), second_pass, &q);
}
