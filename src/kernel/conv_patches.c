/*
 * conv_patches.c - the patches of output pixels as rows of a matrix.
 *
 * The output pixels of one row of an image read patches that are a constant number of floats
 * apart, so a row of the filter is one copy of a matrix for all of them but those in the padding.
 */
#include "private.h"

#include <string.h>

/* Part of a filter row, for the pixels of a run. */
typedef struct {
    const float *row; /* of the image; NULL: in the padding */
    ptrdiff_t width;  /* floats of it */
    ptrdiff_t first;  /* position in the row of the first pixel's part */
    ptrdiff_t step;   /* from a pixel to the next */
    size_t n;         /* floats of the part */
} patch_part;

/* Floats [from, from + n) of row r of the filter. */
static patch_part patch_part_of(const sim_conv *v, const float *x,
                                const sim_pixel_run *run, size_t r, size_t from, size_t n)
{
    ptrdiff_t y = (ptrdiff_t)(run->y * v->stride + r) - (ptrdiff_t)v->pad;
    ptrdiff_t column = (ptrdiff_t)(run->x * v->stride) - (ptrdiff_t)v->pad;
    bool inside = y >= 0 && y < (ptrdiff_t)v->h;
    return (patch_part){.row = inside ? x + (run->image * v->h + (size_t)y) * v->w * v->c
                                      : NULL,
                        .width = (ptrdiff_t)(v->w * v->c),
                        .first = column * (ptrdiff_t)v->c + (ptrdiff_t)from,
                        .step = (ptrdiff_t)(v->stride * v->c),
                        .n = n};
}

/* The pixels of n whose part is inside the row. */
static sim_range complete_pixels(const patch_part *p, size_t n)
{
    ptrdiff_t last = p->width - (ptrdiff_t)p->n - p->first; /* position of the last */
    size_t lo = p->first < 0 ? (size_t)((p->step - 1 - p->first) / p->step) : 0;
    size_t hi = last < 0 ? 0 : (size_t)(last / p->step) + 1;

    lo = sim_min(lo, n);
    hi = sim_min(hi, n);
    return (sim_range){lo, hi < lo ? lo : hi};
}

/* The part of pixel i, 0 outside the row. */
static void copy_edge(const patch_part *p, size_t i, float *out)
{
    ptrdiff_t from = p->first + (ptrdiff_t)i * p->step;
    for (ptrdiff_t j = 0; j < (ptrdiff_t)p->n; j++)
        out[j] = from + j >= 0 && from + j < p->width ? p->row[from + j] : 0;
}

static void copy_part(const patch_part *p, size_t n, float *out, size_t ld)
{
    if (!p->row) {
        sim_kernels()->copy_columns(n, 0, p->n, NULL, 0, out, ld);
        return;
    }
    const sim_range in = complete_pixels(p, n);
    for (size_t i = 0; i < in.lo; i++)
        copy_edge(p, i, out + i * ld);
    if (in.lo < in.hi)
        sim_kernels()->copy_columns(in.hi - in.lo, p->n, p->n,
                                    p->row + p->first + (ptrdiff_t)in.lo * p->step,
                                    (size_t)p->step, out + in.lo * ld, ld);
    for (size_t i = in.hi; i < n; i++)
        copy_edge(p, i, out + i * ld);
}

static void gather_run(const sim_conv *v, const float *x, const sim_pixel_run *run,
                       size_t m0, size_t m, float *out)
{
    size_t of_row = v->size * v->c;
    for (size_t at = 0, n = 0; at < m; at += n) {
        size_t from = (m0 + at) % of_row;
        n = sim_min(of_row - from, m - at);
        const patch_part part = patch_part_of(v, x, run, (m0 + at) / of_row, from, n);
        copy_part(&part, run->n, out + at, m);
    }
}

void sim_gather_patches(const sim_conv *v, const float *x, size_t p0, size_t n, size_t m0,
                        size_t m, float *out)
{
    sim_pixel_run run = {0};
    for (size_t at = 0; at < n; at += run.n) {
        run = sim_pixel_run_at(v->oh, v->ow, p0 + at, p0 + n);
        gather_run(v, x, &run, m0, m, out + at * m);
    }
}
