/*
 * check.c - the start-up check of the selected kernels.
 *
 * Compares every kernel with the portable one, the convolutions with plain loops, and exp
 * with the C library, on small shapes that include partial vectors.  A wrong compiler flag
 * or a faulty core is reported before it corrupts a run.
 */
#include "cases.h"
#include "private.h"

#include "simile/memory.h"

#include <math.h>

/* Pseudo-random numbers in [-1, 1). */
static void fill_operands(float *x, size_t n)
{
    uint32_t seed = 1;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) * 0x1p-23f - 1.0f;
    }
}

/* ---- kernels ---- */

static const sim_kernel_shape shapes[] = {
    {.m = 31, .n = 52, .k = 37, .act = SIM_ACT_SILU, .scale = 1, .window = {0, 4, 0, 4}},
    {.m = 63,
     .n = 23,
     .k = 19,
     .act = SIM_ACT_RELU,
     .option = true,
     .scale = 20,
     .window = {1, 4, 0, 3}},
    {.m = 5, .n = 32, .k = 64, .alias = true, .scale = 80, .window = {0, 1, 2, 4}},
};

typedef struct {
    float *in, *work;
    double *expected, *actual;
} case_buffers;

enum { N_BUFFERS = 4 };

static void list_buffers(case_buffers *b, sim_buffer list[N_BUFFERS])
{
    list[0] = SIM_BUFFER(b->in, SIM_CASE_FLOATS);
    list[1] = SIM_BUFFER(b->work, SIM_CASE_FLOATS);
    list[2] = SIM_BUFFER(b->expected, SIM_CASE_FLOATS);
    list[3] = SIM_BUFFER(b->actual, SIM_CASE_FLOATS);
}

static sim_case_result run_case(const sim_kernel_case *q, const sim_kernel_table *t,
                                const sim_kernel_shape *s, const case_buffers *b,
                                double *out)
{
    memset(b->work, 0, SIM_CASE_FLOATS * sizeof *b->work);
    return q->run(t, s, b->in, b->work, out);
}

static sim_status check_kernel(const sim_kernel_case *q, const case_buffers *b)
{
    sim_status st = SIM_OK;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        run_case(q, &sim_kernels_portable, &shapes[i], b, b->expected);
        sim_case_result r = run_case(q, sim_kernels(), &shapes[i], b, b->actual);
        SIM_TRY(sim_case_compare(sim_kernels_name(), q->name, r, b->expected, b->actual));
    }
done:
    return st;
}

static sim_status check_kernels(void)
{
    sim_status st = SIM_OK;
    case_buffers b = {0};
    sim_buffer list[N_BUFFERS];

    list_buffers(&b, list);
    SIM_TRY(sim_buffers_create(list, N_BUFFERS, "kernel/check"));
    fill_operands(b.in, SIM_CASE_FLOATS);
    for (size_t i = 0; i < SIM_N_KERNELS; i++)
        SIM_TRY(check_kernel(&sim_kernel_cases[i], &b));
done:
    sim_buffers_destroy(list, N_BUFFERS);
    return st;
}

/* ---- convolutions ---- */

sim_status sim_check_pass(const sim_conv *v, const char *pass, size_t n,
                          const float *expected, const float *actual)
{
    sim_status st = SIM_OK;
    float max = 0;

    for (size_t i = 0; i < n; i++)
        max = fmaxf(max, fabsf(expected[i]));
    for (size_t i = 0; i < n; i++)
        SIM_CHECK(fabsf(expected[i] - actual[i]) <= 1e-4f * max,
                  SIM_E_BUG, /* also if NaN */
                  "kernels %s: %s of a %s convolution of size %zu: output %zu is %g, "
                  "expected %g (largest %g); the build or the processor is faulty, run "
                  "with kernels=portable",
                  sim_kernels_name(), pass, sim_conv_path(v), v->size, i,
                  (double)actual[i], (double)expected[i], (double)max);
done:
    return st;
}

/* Operands and results of a convolution of one image; expected and actual fit any pass. */
typedef struct {
    size_t n_w, n_x, n_y;
    float *w, *x, *dy, *expected, *actual;
} conv_buffers;

static sim_status conv_buffers_create(const sim_conv *v, conv_buffers *a)
{
    sim_status st = SIM_OK;
    size_t floats = 0;

    a->n_w = v->k * v->c * v->size * v->size;
    a->n_x = v->h * v->w * v->c;
    a->n_y = v->oh * v->ow * v->k;
    floats = a->n_w + a->n_x + a->n_y;
    SIM_TRY(sim_alloc(&a->w, floats, "kernel/check"));
    SIM_TRY(sim_alloc(&a->expected, floats, "kernel/check"));
    SIM_TRY(sim_alloc(&a->actual, floats, "kernel/check"));
    a->x = a->w + a->n_w;
    a->dy = a->x + a->n_x;
    fill_operands(a->w, floats);
done:
    return st;
}

static sim_status check_passes(const sim_conv *v, float *panels, const conv_buffers *a)
{
    sim_status st = SIM_OK;
    const sim_leaf_layout one = {.n_leaves = 1, .range = {0, 1}, .images_per_leaf = 1};
    const sim_conv_input x = {.x = a->x};

    sim_plain_forward(v, a->w, 1, a->x, a->expected);
    sim_conv_pack_forward(v, a->w, panels);
    sim_conv_forward(v, panels, 1, &x, a->actual);
    SIM_TRY(sim_check_pass(v, "forward", a->n_y, a->expected, a->actual));
    sim_plain_backward_data(v, a->w, 1, a->dy, a->expected);
    sim_conv_pack_backward(v, a->w, panels);
    sim_conv_backward_data(v, panels, 1, a->dy, a->actual);
    SIM_TRY(sim_check_pass(v, "input gradient", a->n_x, a->expected, a->actual));
    sim_plain_weights(v, 1, a->x, a->dy, a->expected);
    sim_conv_backward_weights(v, &one, &x, a->dy, a->actual, a->n_w);
    SIM_TRY(sim_check_pass(v, "weight gradient", a->n_w, a->expected, a->actual));
done:
    return st;
}

static sim_status check_conv(sim_conv v)
{
    sim_status st = SIM_OK;
    conv_buffers a = {0};
    float *panels = NULL;

    SIM_TRY(sim_conv_shape(&v));
    SIM_TRY(conv_buffers_create(&v, &a));
    SIM_TRY(sim_alloc(&panels, sim_conv_forward_floats(&v) + sim_conv_backward_floats(&v),
                      "kernel/check"));
    SIM_TRY(check_passes(&v, panels, &a));
done:
    sim_free(panels);
    sim_free(a.w);
    sim_free(a.expected);
    sim_free(a.actual);
    return st;
}

static sim_status check_convs(void)
{
    sim_status st = SIM_OK;
    static const sim_conv convs[] = {
        {.c = 24, .k = 40, .size = 3, .stride = 1, .pad = 1, .h = 9, .w = 6},
        {.c = 3, .k = 17, .size = 3, .stride = 1, .pad = 1, .h = 8, .w = 7},
        {.c = 16, .k = 32, .size = 3, .stride = 2, .pad = 1, .h = 9, .w = 8},
        {.c = 33, .k = 65, .size = 1, .stride = 1, .pad = 0, .h = 5, .w = 5},
    };
    for (size_t i = 0; i < sizeof convs / sizeof convs[0]; i++)
        SIM_TRY(check_conv(convs[i]));
done:
    return st;
}

/* ---- exp ---- */

static sim_status check_exp(void)
{
    sim_status st = SIM_OK;
    for (int i = 0; i < 433; i++) {
        const double x = -80 + 0.37 * i; /* to 80 */
        double expected = exp((double)(float)x), actual = (double)sim_exp((float)x);
        SIM_CHECK(fabs(actual - expected) <= 4e-7 * expected, SIM_E_BUG,
                  "kernels %s: exp(%g) is %.9g, expected %.9g", sim_kernels_name(), x,
                  actual, expected);
    }
done:
    return st;
}

sim_status sim_kernels_check(void)
{
    sim_status st = SIM_OK;
    SIM_TRY(check_kernels());
    SIM_TRY(check_convs());
    SIM_TRY(check_exp());
done:
    return st;
}
