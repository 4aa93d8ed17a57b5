/*
 * check.c - the picked kernels' convolutions, both ways, against plain loops, and their exp
 * against the library's, at every start.
 *
 * Small shapes with tails; a wrong compiler flag or a broken core shows here and not in a
 * result three days later.
 */
#include "private.h"

#include "simile/memory.h"

#include <math.h>

/* Numbers in [-1, 1) that do not repeat soon. */
static void fill(float *x, size_t n)
{
    uint32_t seed = 1;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) * 0x1p-23f - 1.0f;
    }
}

sim_status sim_check_pass(const sim_conv *v, const char *pass, size_t n,
                          const float *want, const float *got)
{
    sim_status st = SIM_OK;
    float most = 0;

    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(want[i]));
    for (size_t i = 0; i < n; i++)
        SIM_CHECK(fabsf(want[i] - got[i]) <= 1e-4f * most, SIM_E_BUG, /* not for NaN */
                  "kernels %s: %s of a %s convolution of size %zu is %g where a plain "
                  "loop has %g (largest %g); this build or this core is broken, try "
                  "kernels=portable",
                  sim_kernels_name(), pass, sim_conv_path(v), v->size, (double)got[i],
                  (double)want[i], (double)most);
done:
    return st;
}

/* Numbers of a convolution of one image; want and got have room for any of them. */
typedef struct {
    size_t n_w, n_x, n_y;
    float *w, *x, *dy, *want, *got;
} numbers;

static sim_status make_numbers(const sim_conv *v, numbers *a)
{
    sim_status st = SIM_OK;
    size_t room = 0;

    a->n_w = v->k * v->c * v->size * v->size;
    a->n_x = v->h * v->w * v->c;
    a->n_y = v->oh * v->ow * v->k;
    room = a->n_w + a->n_x + a->n_y;
    SIM_TRY(sim_alloc(&a->w, room, "kernel/check"));
    SIM_TRY(sim_alloc(&a->want, room, "kernel/check"));
    SIM_TRY(sim_alloc(&a->got, room, "kernel/check"));
    a->x = a->w + a->n_w;
    a->dy = a->x + a->n_x;
    fill(a->w, room);
done:
    return st;
}

static sim_status check_passes(const sim_conv *v, const sim_filters *f, const numbers *a)
{
    sim_status st = SIM_OK;
    const sim_leaf_layout one = {.n_leaves = 1, .range = {0, 1}, .images_per_leaf = 1};

    sim_plain_forward(v, a->w, 1, a->x, a->want);
    sim_conv_forward(f, 1, a->x, a->got);
    SIM_TRY(sim_check_pass(v, "forward", a->n_y, a->want, a->got));
    sim_plain_backward_data(v, a->w, 1, a->dy, a->want);
    sim_conv_backward_data(f, 1, a->dy, a->got);
    SIM_TRY(sim_check_pass(v, "the input's gradient", a->n_x, a->want, a->got));
    sim_plain_weights(v, 1, a->x, a->dy, a->want);
    sim_conv_backward_weights(v, &one, a->x, a->dy, a->got, a->n_w);
    SIM_TRY(sim_check_pass(v, "the weights' gradient", a->n_w, a->want, a->got));
done:
    return st;
}

static sim_status check_conv(sim_conv v)
{
    sim_status st = SIM_OK;
    sim_filters *f = NULL;
    numbers a = {0};

    SIM_TRY(sim_conv_shape(&v));
    SIM_TRY(sim_filters_create(&v, &f));
    SIM_TRY(make_numbers(&v, &a));
    sim_filters_pack(f, a.w, true);
    SIM_TRY(check_passes(&v, f, &a));
done:
    sim_filters_destroy(&f);
    sim_free(a.w);
    sim_free(a.want);
    sim_free(a.got);
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
