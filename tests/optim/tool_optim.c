/*
 * tool_optim.c - steps of an optimizer on gradients from a file, for test_optim.py.
 *
 *   tool_optim W.bin G.bin OUT.bin count steps name lr momentum decay nesterov dialect trust bn
 *              beta1 beta2 eps clip_lr
 * W: float32 [2][count], G: float32 [steps][2][count]; the second tensor is a bias if bn is 1.
 * OUT: the weights, then every float tensor of the state; the names of the tensors are printed.
 */
#include "simile/memory.h"
#include "simile/optim.h"

#include <stdio.h>
#include <stdlib.h>

static bool load(const char *path, float *to, size_t n)
{
    FILE *f = fopen(path, "rb");
    bool good = f && fread(to, sizeof *to, n, f) == n;
    if (f)
        (void)fclose(f);
    return good;
}

static sim_status write_tensor(void *ctx, const char *group, const sim_tensor *t)
{
    sim_status st = SIM_OK;
    if (t->type != SIM_F32)
        goto done;
    (void)printf("%s/%s\n", group, t->name);
    size_t n = sim_tensor_count(t);
    SIM_CHECK(fwrite(t->data, sizeof(float), n, ctx) == n, SIM_E_IO, "cannot be written");
done:
    return st;
}

int main(int argc, char **a)
{
    float *w = NULL, *g = NULL;
    sim_optimizer *o = NULL;
    if (argc != 18)
        return 64;
    size_t n = (size_t)atol(a[4]), steps = (size_t)atol(a[5]);
    const sim_optimizer_options options = {.name = atoi(a[6]),
                                           .encoder_lr_factor = 1,
                                           .momentum = atof(a[8]),
                                           .weight_decay = atof(a[9]),
                                           .nesterov = atoi(a[10]) != 0,
                                           .dialect = atoi(a[11]),
                                           .trust = atof(a[12]),
                                           .beta1 = atof(a[14]),
                                           .beta2 = atof(a[15]),
                                           .eps = atof(a[16]),
                                           .clip_lr = atoi(a[17]) != 0};
    if (sim_alloc(&w, 2 * n, "test/optim") != SIM_OK ||
        sim_alloc(&g, 2 * n * steps, "test/optim") != SIM_OK || !load(a[1], w, 2 * n) ||
        !load(a[2], g, 2 * n * steps))
        return 66;
    const sim_parameter list[] = {{.group = "encoder",
                                   .name = "w",
                                   .weights = w,
                                   .count = n,
                                   .n_dims = 1,
                                   .dims = {n}},
                                  {.group = "encoder",
                                   .name = "b",
                                   .weights = w + n,
                                   .count = n,
                                   .n_dims = 1,
                                   .dims = {n},
                                   .offset = n,
                                   .bn_or_bias = atoi(a[13]) != 0}};
    if (sim_optimizer_create(&options, list, 2, &o) != SIM_OK)
        return 70;
    for (size_t s = 0; s < steps;
         s++) /* the learning rate decreases, so that dialects differ */
        sim_optimizer_step(o, atof(a[7]) * (1 - 0.02 * (double)s), g + s * 2 * n);
    FILE *out = fopen(a[3], "wb");
    bool good = out && fwrite(w, sizeof *w, 2 * n, out) == 2 * n;
    const sim_visitor all = {.visit = write_tensor, .ctx = out};
    good = good && sim_optimizer_visit(o, &all) == SIM_OK && fclose(out) == 0;
    sim_optimizer_destroy(&o);
    sim_free(w);
    sim_free(g);
    return good ? 0 : 74;
}
