/*
 * conv_direct.c - convolutions as matrix products of gathered patches (implicit
 * GEMM).
 *
 * An item of sim_for gathers the patches of some output pixels into rows [taps
 * * c] in scratch and multiplies them by the packed filters: each output is one
 * chain of fma over (r, s, c).  Backward-data groups input pixels into residue
 * classes, by their coordinates modulo the stride.  The pixels of a class have
 * the same taps, so strided convolutions multiply no zeros.
 */
#include "private.h"

#include "simile/thread.h"

#include <string.h>

enum { MAX_PIXELS = 192, SCRATCH_FLOATS = 1 << 17 };

/* Pixels per item: a multiple of the register tile's 12 rows that keeps scratch
 * small. */
static size_t pixels_per_item(size_t row)
{
    size_t fit = SCRATCH_FLOATS / (row ? row : 1) / 12 * 12;
    return fit < 12 ? 12 : sim_min(fit, MAX_PIXELS);
}

static bool is_pointwise(const sim_conv *v)
{
    return v->size == 1 && v->stride == 1;
}

/* ---- forward ---- */

static size_t forward_floats(const sim_conv *v)
{
    return sim_panel_floats(v->size * v->size * v->c, v->k);
}

typedef struct {
    const sim_conv *v;
    const float *oihw;
    float *panels;
    const struct residue_class *q;
} pack_call;

/* Row p of panels [rows][n]: its values are at from + j * stride. */
static void pack_row(size_t rows, size_t p, size_t n, const float *from, size_t stride,
                     float *panels)
{
    for (size_t j = 0; j < n; j += PANEL) {
        size_t width = sim_min(PANEL, sim_round_up(n - j, HALF_PANEL));
        float *to = panels + rows * j + p * width;
        for (size_t i = 0; i < width; i++)
            to[i] = j + i < n ? from[(j + i) * stride] : 0;
    }
}

/* The rows of input channel c. */
static void pack_channel(size_t c, void *ctx)
{
    const pack_call *call = ctx;
    const sim_conv *v = call->v;
    size_t taps = v->size * v->size;

    for (size_t t = 0; t < taps; t++)
        pack_row(taps * v->c, t * v->c + c, v->k, call->oihw + c * taps + t, v->c * taps,
                 call->panels);
}

static void pack_forward(const sim_conv *v, const float *oihw, float *panels)
{
    pack_call call = {.v = v, .oihw = oihw, .panels = panels};
    if (is_pointwise(v))
        sim_panel_pack(v->c, v->k, oihw, v->c, true, panels);
    else
        sim_for(v->c, pack_channel, &call);
}

/* Rows of the product for output pixels [lo, lo + m): x itself, or a copy in scratch. */
static const float *product_rows(const sim_conv *v, const sim_conv_input *x, size_t lo,
                                 size_t m)
{
    size_t row = v->size * v->size * v->c;

    if (is_pointwise(v) && !x->scale)
        return x->x + lo * v->c;
    float *rows = sim_scratch(m * row * sizeof *rows);
    if (is_pointwise(v))
        sim_apply_read_norm(v, x, lo, m, 0, v->c, x->x + lo * v->c, rows);
    else
        sim_gather_patches(v, x->x, lo, m, 0, row, rows);
    return rows;
}

static void direct_forward_rows(const sim_conv *v, const float *panels,
                                const sim_conv_input *x, size_t lo, size_t n, float *y)
{
    size_t row = v->size * v->size * v->c, per_item = pixels_per_item(row);
    for (size_t at = 0; at < n; at += per_item) {
        size_t m = sim_min(per_item, n - at);
        sim_product(m, v->k, row, product_rows(v, x, lo + at, m), row, panels,
                    y + (lo + at) * v->k, v->k);
    }
}

typedef struct {
    const sim_conv *v;
    const float *panels;
    const sim_conv_input *x;
    float *y;
    size_t n_pixels, per_item;
} direct_call;

static void forward_item(size_t i, void *ctx)
{
    const direct_call *d = ctx;
    size_t lo = i * d->per_item;
    direct_forward_rows(d->v, d->panels, d->x, lo, sim_min(d->per_item, d->n_pixels - lo),
                        d->y);
}

static void direct_forward(const sim_conv *v, const float *panels, size_t n,
                           const sim_conv_input *x, float *y)
{
    direct_call d = {.v = v, .panels = panels, .x = x, .y = y};
    d.n_pixels = n * v->oh * v->ow;
    d.per_item = pixels_per_item(v->size * v->size * v->c);
    sim_for((d.n_pixels + d.per_item - 1) / d.per_item, forward_item, &d);
}

static size_t forward_unit(const sim_conv *v)
{
    (void)v;
    return 1;
}

/* ---- backward-data ---- */

/* The input pixels (y, x) = (py, px) modulo the stride, and the taps that read
 * them. */
typedef struct residue_class {
    size_t py, px, rows, cols; /* pixels of the class in one image */
    size_t n_r, n_s;
    size_t r[8], s[8]; /* rows and columns of the taps, ascending */
    size_t at;         /* offset of the class in the panels, floats */
} residue_class;

static size_t taps_of(const sim_conv *v, size_t position, size_t taps[8])
{
    size_t n = 0;
    for (size_t r = 0; r < v->size; r++)
        if ((position + v->pad + v->size * v->stride - r) % v->stride == 0)
            taps[n++] = r;
    return n;
}

static size_t residue_classes(const sim_conv *v, residue_class out[4])
{
    size_t n = 0, at = 0;
    for (size_t py = 0; py < v->stride; py++)
        for (size_t px = 0; px < v->stride; px++) {
            residue_class k = {.py = py, .px = px, .at = at};
            k.rows = py < v->h ? (v->h - py + v->stride - 1) / v->stride : 0;
            k.cols = px < v->w ? (v->w - px + v->stride - 1) / v->stride : 0;
            k.n_r = taps_of(v, py, k.r);
            k.n_s = taps_of(v, px, k.s);
            at += sim_panel_floats(k.n_r * k.n_s * v->k, v->c);
            out[n++] = k;
        }
    return n;
}

static size_t backward_floats(const sim_conv *v)
{
    residue_class k[4];
    size_t n = residue_classes(v, k);
    const residue_class *last = &k[n - 1];
    return last->at + sim_panel_floats(last->n_r * last->n_s * v->k, v->c);
}

/* The rows of output channel k. */
static void pack_class_channel(size_t k, void *ctx)
{
    const pack_call *call = ctx;
    const sim_conv *v = call->v;
    const residue_class *q = call->q;
    size_t taps = v->size * v->size, rows = q->n_r * q->n_s * v->k;

    for (size_t i = 0; i < q->n_r; i++)
        for (size_t j = 0; j < q->n_s; j++)
            pack_row(rows, (i * q->n_s + j) * v->k + k, v->c,
                     call->oihw + k * v->c * taps + q->r[i] * v->size + q->s[j], taps,
                     call->panels + q->at);
}

static void pack_backward(const sim_conv *v, const float *oihw, float *panels)
{
    residue_class q[4];
    size_t n = residue_classes(v, q);
    for (size_t i = 0; i < n; i++) {
        pack_call call = {.v = v, .oihw = oihw, .panels = panels, .q = &q[i]};
        sim_for(v->k, pack_class_channel, &call);
    }
}

/* Outputs that read the first pixel of a class through tap t of a dimension, before it. */
static ptrdiff_t output_before(const sim_conv *v, size_t position, size_t t)
{
    return ((ptrdiff_t)t - (ptrdiff_t)(position + v->pad)) / (ptrdiff_t)v->stride;
}

/* out [run->n][k], row stride ld: dy of the outputs that read the pixels of a run through tap
 * (r, s), 0 where there is none. */
static void gather_tap(const sim_conv *v, const residue_class *q, const float *dy,
                       const sim_pixel_run *run, size_t r, size_t s, float *out,
                       size_t ld)
{
    const sim_kernel_table *t = sim_kernels();
    ptrdiff_t y = (ptrdiff_t)run->y - output_before(v, q->py, r);
    ptrdiff_t x = (ptrdiff_t)run->x - output_before(v, q->px, s);
    bool inside = y >= 0 && y < (ptrdiff_t)v->oh;
    size_t lo = x < 0 ? sim_min((size_t)-x, run->n) : 0;
    size_t hi = inside && x < (ptrdiff_t)v->ow
                    ? sim_min((size_t)((ptrdiff_t)v->ow - x), run->n)
                    : 0;

    if (hi <= lo)
        lo = hi = run->n;
    else
        t->copy_columns(hi - lo, v->k, v->k,
                        dy + ((run->image * v->oh + (size_t)y) * v->ow +
                              (size_t)(x + (ptrdiff_t)lo)) *
                                 v->k,
                        v->k, out + lo * ld, ld);
    t->copy_columns(lo, 0, v->k, NULL, 0, out, ld);
    t->copy_columns(run->n - hi, 0, v->k, NULL, 0, out + hi * ld, ld);
}

/* out [run->n][n_r][n_s][k] */
static void gather_gradient(const sim_conv *v, const residue_class *q, const float *dy,
                            const sim_pixel_run *run, float *out)
{
    size_t row = q->n_r * q->n_s * v->k;
    for (size_t i = 0; i < q->n_r; i++)
        for (size_t j = 0; j < q->n_s; j++)
            gather_tap(v, q, dy, run, q->r[i], q->s[j], out + (i * q->n_s + j) * v->k,
                       row);
}

/* Writes the pixels of a run to dx; from [run->n][c], or 0 if it is NULL. */
static void scatter_run(const sim_conv *v, const residue_class *q,
                        const sim_pixel_run *run, const float *from, float *dx)
{
    size_t y = q->py + run->y * v->stride, x = q->px + run->x * v->stride;
    sim_kernels()->copy_columns(run->n, from ? v->c : 0, v->c, from, v->c,
                                dx + ((run->image * v->h + y) * v->w + x) * v->c,
                                v->stride * v->c);
}

typedef struct {
    const sim_conv *v;
    const residue_class *q;
    const float *panels, *dy;
    float *dx;
    size_t n_pixels, per_item;
} residue_call;

static void backward_item(size_t i, void *ctx)
{
    const residue_call *d = ctx;
    const sim_conv *v = d->v;
    const residue_class *q = d->q;
    size_t lo = i * d->per_item, m = sim_min(d->per_item, d->n_pixels - lo);
    size_t row = q->n_r * q->n_s * v->k;
    float *gathered = sim_scratch(m * (row + v->c) * sizeof *gathered);
    float *result = gathered + m * row;
    sim_pixel_run run = {0};

    for (size_t at = 0; row && at < m; at += run.n) {
        run = sim_pixel_run_at(q->rows, q->cols, lo + at, lo + m);
        gather_gradient(v, q, d->dy, &run, gathered + at * row);
    }
    if (row)
        sim_product(m, v->c, row, gathered, row, d->panels + q->at, result, v->c);
    for (size_t at = 0; at < m; at += run.n) {
        run = sim_pixel_run_at(q->rows, q->cols, lo + at, lo + m);
        scatter_run(v, q, &run, row ? result + at * v->c : NULL, d->dx);
    }
}

static void direct_backward_data(const sim_conv *v, const float *panels, size_t n,
                                 const float *dy, float *dx)
{
    residue_class q[4];
    size_t n_classes = residue_classes(v, q);

    if (is_pointwise(v)) {
        sim_product_for(n * v->h * v->w, v->c, v->k, dy, v->k, panels, dx, v->c);
        return;
    }
    for (size_t i = 0; i < n_classes; i++) {
        residue_call d = {.v = v, .q = &q[i], .panels = panels, .dy = dy, .dx = dx};
        d.n_pixels = n * q[i].rows * q[i].cols;
        d.per_item = pixels_per_item(q[i].n_r * q[i].n_s * v->k + v->c);
        sim_for((d.n_pixels + d.per_item - 1) / d.per_item, backward_item, &d);
    }
}

static size_t data_unit(const sim_conv *v)
{
    return is_pointwise(v) ? 1 : 0;
}

static void direct_data_rows(const sim_conv *v, const float *panels, const float *dy,
                             size_t row, size_t n, float *dx)
{
    sim_product(n, v->c, v->k, dy + row * v->k, v->k, panels, dx + row * v->c, v->c);
}

static void direct_workspace(const sim_conv *v, size_t n, sim_workspace_size *size)
{
    residue_class q[4];
    size_t n_classes = residue_classes(v, q), row = v->size * v->size * v->c;

    size_t m = sim_min(pixels_per_item(row), n * v->oh * v->ow);
    sim_raise(&size->thread, m * row * sizeof(float));
    if (is_pointwise(v))
        return;
    for (size_t i = 0; i < n_classes; i++) {
        size_t both = q[i].n_r * q[i].n_s * v->k + v->c;
        m = sim_min(pixels_per_item(both), n * q[i].rows * q[i].cols);
        sim_raise(&size->thread, m * both * sizeof(float));
    }
}

const sim_conv_algorithm sim_conv_direct = {
    .forward_floats = forward_floats,
    .backward_floats = backward_floats,
    .pack_forward = pack_forward,
    .pack_backward = pack_backward,
    .reads_norm = is_pointwise,
    .forward = direct_forward,
    .backward_data = direct_backward_data,
    .backward_weights = sim_direct_weights,
    .forward_unit = forward_unit,
    .forward_rows = direct_forward_rows,
    .data_unit = data_unit,
    .data_rows = direct_data_rows,
    .workspace = direct_workspace,
    .weights_workspace = sim_direct_weights_workspace,
};
