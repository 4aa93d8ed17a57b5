/*
 * check.c - the picked kernels against plain loops in double, at every start.
 *
 * Small shapes with tails; a wrong compiler flag or a broken core shows here and not in a
 * result three days later.
 */
#include "private.h"

#include "simile/memory.h"

#include <math.h>
#include <string.h>

/* Numbers in [-1, 1) that do not repeat soon. */
static void fill(float *x, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) * 0x1p-23f - 1.0f;
    }
}

static const float *input_pixel(const sim_conv *v, const float *x, size_t o, size_t t)
{
    size_t y = o / v->ow * v->stride + t / v->size,
           z = o % v->ow * v->stride + t % v->size;
    if (y < v->pad || z < v->pad || y - v->pad >= v->h || z - v->pad >= v->w)
        return NULL;
    return x + ((y - v->pad) * v->w + z - v->pad) * v->c;
}

static double one_output(const sim_conv *v, const float *w, const float *x, size_t o,
                         size_t k)
{
    double sum = 0;
    for (size_t t = 0; t < v->size * v->size; t++) {
        const float *p = input_pixel(v, x, o, t);
        for (size_t c = 0; p && c < v->c; c++)
            sum += (double)p[c] * (double)w[(k * v->c + c) * v->size * v->size + t];
    }
    return sum;
}

static sim_status check_forward(const sim_conv *v, const sim_filters *f, const float *w,
                                const float *x, float *y)
{
    sim_status st = SIM_OK;
    double worst = 0, most = 0;

    sim_conv_forward(f, 1, x, y);
    for (size_t i = 0; i < v->oh * v->ow * v->k; i++) {
        double want = one_output(v, w, x, i / v->k, i % v->k);
        worst = fmax(worst, fabs(want - (double)y[i]));
        most = fmax(most, fabs(want));
    }
    SIM_CHECK(
        worst <= 1e-4 * most, SIM_E_BUG,
        "kernels %s: a %s convolution of size %zu misses a plain loop by %g (largest "
        "output %g); this build or this core is broken, try kernels=portable",
        sim_kernels_name(), sim_conv_path(v), v->size, worst, most);
done:
    return st;
}

static sim_status check_conv(sim_conv v)
{
    sim_status st = SIM_OK;
    sim_filters *f = NULL;
    float *w = NULL, *x = NULL, *y = NULL;
    size_t n_w = v.k * v.c * v.size * v.size;

    SIM_TRY(sim_conv_shape(&v));
    SIM_TRY(sim_filters_create(&v, &f));
    SIM_TRY(sim_alloc(&w, n_w, "kernel/check"));
    SIM_TRY(sim_alloc(&x, v.h * v.w * v.c, "kernel/check"));
    SIM_TRY(sim_alloc(&y, v.oh * v.ow * v.k, "kernel/check"));
    fill(w, n_w, 1);
    fill(x, v.h * v.w * v.c, 2);
    sim_filters_pack(f, w, false);
    SIM_TRY(check_forward(&v, f, w, x, y));
done:
    sim_filters_destroy(&f);
    sim_free(w);
    sim_free(x);
    sim_free(y);
    return st;
}

static sim_status check_exp(void)
{
    sim_status st = SIM_OK;
    for (int i = 0; i < 433; i++) {
        const double x = -80 + 0.37 * i; /* to 80 */
        double want = exp((double)(float)x), got = (double)sim_exp((float)x);
        SIM_CHECK(fabs(got - want) <= 4e-7 * want, SIM_E_BUG,
                  "kernels %s: exp(%g) is %.9g, expected %.9g", sim_kernels_name(), x,
                  got, want);
    }
done:
    return st;
}

sim_status sim_kernels_check(void)
{
    sim_status st = SIM_OK;
    SIM_TRY(check_conv(
        (sim_conv){.c = 24, .k = 40, .size = 3, .stride = 1, .pad = 1, .h = 9, .w = 6}));
    SIM_TRY(check_conv(
        (sim_conv){.c = 3, .k = 17, .size = 3, .stride = 1, .pad = 1, .h = 8, .w = 7}));
    SIM_TRY(check_conv(
        (sim_conv){.c = 16, .k = 32, .size = 3, .stride = 2, .pad = 1, .h = 9, .w = 8}));
    SIM_TRY(check_conv(
        (sim_conv){.c = 33, .k = 65, .size = 1, .stride = 1, .pad = 0, .h = 5, .w = 5}));
    SIM_TRY(check_exp());
done:
    return st;
}
