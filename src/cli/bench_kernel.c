/*
 * bench_kernel.c - `simile bench kernel`: the rates of convolutions and of exp.
 */
#include "cli.h"

#include "simile/clock.h"
#include "simile/kernel.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <math.h>

/* ---- convolutions ---- */

typedef struct {
    sim_conv conv;
    float *forward, *backward; /* packed filters */
    float *x, *y, *w;
    size_t images;
} kernel_bench;

enum { PASSES = 3, REPEATS = 5, LEAF_IMAGES = 64 };

static void run_pass(const kernel_bench *b, int pass)
{
    const sim_leaf_layout one_leaf = {
        .n_leaves = 1, .range = {0, 1}, .images_per_leaf = b->images};
    const sim_conv_input x = {.x = b->x};
    if (pass == 0)
        sim_conv_forward(&b->conv, b->forward, b->images, &x, b->y);
    else if (pass == 1)
        sim_conv_backward_data(&b->conv, b->backward, b->images, b->y, b->x);
    else
        sim_conv_backward_weights(&b->conv, &one_leaf, &x, b->y, b->w, 0);
}

static double measure_gflops(const kernel_bench *b, int pass)
{
    double best = 1e9;
    for (int i = 0; i <= REPEATS; i++) {
        double start = sim_clock_s();
        run_pass(b, pass);
        double took = sim_clock_s() - start;
        best = i > 0 && took < best ? took : best;
    }
    return sim_conv_flops(&b->conv) * (double)b->images / best / 1e9;
}

static sim_status bench_conv(sim_json *list, size_t c, size_t h)
{
    sim_status st = SIM_OK;
    static const char *const names[PASSES] = {"forward", "backward_data",
                                              "backward_weights"};
    kernel_bench b = {
        .conv = {.c = c, .k = c, .size = 3, .stride = 1, .pad = 1, .h = h, .w = h},
        .images = LEAF_IMAGES};
    size_t floats = LEAF_IMAGES * h * h * c;

    SIM_TRY(sim_conv_shape(&b.conv));
    SIM_TRY(sim_alloc(&b.x, floats, "cli/bench"));
    SIM_TRY(sim_alloc(&b.y, floats, "cli/bench"));
    SIM_TRY(sim_alloc(&b.w, 9 * c * c, "cli/bench"));
    SIM_TRY(sim_alloc(&b.forward, sim_conv_forward_floats(&b.conv), "cli/bench"));
    SIM_TRY(sim_alloc(&b.backward, sim_conv_backward_floats(&b.conv), "cli/bench"));
    for (size_t i = 0; i < floats; i++)
        b.x[i] = (float)(i % 17) * 0.01f;
    for (size_t i = 0; i < 9 * c * c; i++)
        b.w[i] = (float)(i % 13) * 0.01f;
    sim_conv_pack_forward(&b.conv, b.w, b.forward);
    sim_conv_pack_backward(&b.conv, b.w, b.backward);
    sim_json *j = sim_json_object(list, NULL);
    sim_json_int(j, "channels", (int64_t)c);
    sim_json_int(j, "side", (int64_t)h);
    sim_json_text(j, "path", sim_conv_path(&b.conv));
    for (int p = 0; p < PASSES; p++)
        sim_json_real(j, names[p], measure_gflops(&b, p));
done:
    sim_free(b.forward);
    sim_free(b.backward);
    sim_free(b.x);
    sim_free(b.y);
    sim_free(b.w);
    return st;
}

/* ---- exp ---- */

/* Values per second of sim_row_softmax_two with one exp per value, on this thread; arrays in L1. */
static double measure_exp_rate(void)
{
    enum { VALUES = 4096, CALLS = 64, EXP_REPEATS = 100 };
    float x[VALUES], y[VALUES];
    double best = INFINITY;

    for (int i = 0; i < VALUES; i++)
        x[i] = -20 + 0.01f * (float)i;
    for (int r = 0; r < EXP_REPEATS; r++) {
        const double start = sim_clock_s();
        for (int i = 0; i < CALLS; i++)
            sim_row_softmax_two(VALUES, x, 1, 0, NULL, y);
        best = fmin(best, sim_clock_s() - start);
    }
    return (double)VALUES * CALLS / best;
}

/* ---- the bench ---- */

sim_status sim_bench_kernel(const sim_comm *c)
{
    sim_status st = SIM_OK;
    static const size_t shapes[][2] = {{16, 32},  {32, 16}, {64, 32}, {64, 8},
                                       {128, 16}, {128, 4}, {256, 8}, {512, 4}};
    sim_json *j = NULL;

    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "bench", "kernel");
    sim_json_text(j, "kernels", sim_kernels_name());
    sim_json_int(j, "threads", sim_threads());
    sim_json_text(j, "unit", "effective GF/s of a direct 3x3 convolution, 64 images");
    sim_json *list = sim_json_array(j, "convolutions");
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        SIM_TRY(bench_conv(list, shapes[i][0], shapes[i][1]));
    sim_json_real(j, "exp_per_s_per_thread", measure_exp_rate());
    SIM_TRY(sim_bench_environment(c, j, NULL));
    SIM_TRY(sim_cli_print_json(c, j, true));
done:
    sim_json_destroy(&j);
    return st;
}
