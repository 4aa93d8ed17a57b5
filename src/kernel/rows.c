/*
 * rows.c - L2 normalization and rows of similarities.
 */
#include "private.h"

#include "simile/thread.h"

#include <math.h>
#include <string.h>

enum { LANES = 16, ROWS = 64 };

/* Products of floats are exact in double. */
double sim_dot(size_t d, const float *a, const float *b)
{
    double lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= d; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lane[l] += (double)a[i + l] * (double)b[i + l];
    for (size_t l = 0; i + l < d; l++)
        lane[l] += (double)a[i + l] * (double)b[i + l];
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

typedef struct {
    size_t rows, d;
    const float *x, *z, *dz;
    float *out, *norm;
    const float *norms;
} unit_call;

static const double tiny = 1e-12; /* eps of torch.nn.functional.normalize */

static void unit_item(size_t item, void *ctx)
{
    const unit_call *q = ctx;
    for (size_t r = item * ROWS; r < (item + 1) * ROWS && r < q->rows; r++) {
        const float *x = q->x + r * q->d;
        double norm = sqrt(sim_dot(q->d, x, x));
        double inverse = 1 / (norm > tiny || norm != norm ? norm : tiny);
        q->norm[r] = (float)norm;
        for (size_t i = 0; i < q->d; i++)
            q->out[r * q->d + i] = (float)((double)x[i] * inverse);
    }
}

void sim_unit_rows(size_t rows, size_t d, const float *x, float *z, float *norm)
{
    unit_call q = {.rows = rows, .d = d, .x = x, .out = z, .norm = norm};
    sim_for((rows + ROWS - 1) / ROWS, unit_item, &q);
}

static void unit_backward_item(size_t item, void *ctx)
{
    const unit_call *q = ctx;
    for (size_t r = item * ROWS; r < (item + 1) * ROWS && r < q->rows; r++) {
        const float *z = q->z + r * q->d, *dz = q->dz + r * q->d;
        double inner = sim_dot(q->d, z, dz), norm = (double)q->norms[r];
        double inverse = 1 / (norm > tiny || norm != norm ? norm : tiny);
        for (size_t i = 0; i < q->d; i++)
            q->out[r * q->d + i] =
                (float)(((double)dz[i] - (double)z[i] * inner) * inverse);
    }
}

void sim_unit_rows_backward(size_t rows, size_t d, const float *z, const float *norm,
                            const float *dz, float *dx)
{
    unit_call q = {.rows = rows, .d = d, .z = z, .dz = dz, .norms = norm, .out = dx};
    sim_for((rows + ROWS - 1) / ROWS, unit_backward_item, &q);
}

float sim_row_max(size_t n, const float *s)
{
    return sim_kernels()->row_max(n, s);
}

float sim_row_exp_sum(size_t n, const float *s, float scale, float shift)
{
    return sim_kernels()->row_exp_sum(n, s, scale, shift);
}

void sim_row_softmax_two(size_t n, const float *s, float scale, float row,
                         const float *column, float *p)
{
    sim_kernels()->row_softmax_two(n, s, scale, row, column, p);
}

void sim_row_shares(size_t n, const float *s, float scale, float shift, float row,
                    const float *column, float *p)
{
    sim_kernels()->row_shares(n, s, scale, shift, row, column, p);
}

void sim_row_sigmoid(size_t n, const float *s, float scale, float bias, float *p)
{
    sim_kernels()->row_sigmoid(n, s, scale, bias, p);
}

float sim_row_softplus_sum(size_t n, const float *s, float scale, float bias)
{
    return sim_kernels()->row_softplus_sum(n, s, scale, bias);
}

float sim_exp(float x)
{
    float y;
    sim_kernels()->row_softmax_two(1, &x, 1, 0, NULL, &y);
    return y;
}
