/*
 * tool_momentum.c - the exponential moving average and its factor, for test_momentum.py.
 *
 *   tool_momentum update ONLINE.bin AVERAGE.bin OUT.bin count steps m
 *   tool_momentum factor FIRST LAST PROGRESS...
 * ONLINE: float32 [steps][count]. The factors are printed, one per line.
 */
#include "simile/memory.h"
#include "simile/optim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool load(const char *path, float *to, size_t n)
{
    FILE *f = fopen(path, "rb");
    bool good = f && fread(to, sizeof *to, n, f) == n;
    if (f)
        (void)fclose(f);
    return good;
}

static int update(char **a)
{
    float *online = NULL, *average = NULL;
    size_t n = (size_t)atol(a[5]), steps = (size_t)atol(a[6]);
    if (sim_alloc(&online, n * steps, "test/momentum") != SIM_OK ||
        sim_alloc(&average, n, "test/momentum") != SIM_OK ||
        !load(a[2], online, n * steps) || !load(a[3], average, n))
        return 66;
    for (size_t s = 0; s < steps; s++)
        sim_momentum_update(n, atof(a[7]), online + s * n, average);
    FILE *out = fopen(a[4], "wb");
    bool good = out && fwrite(average, sizeof *average, n, out) == n && fclose(out) == 0;
    sim_free(online);
    sim_free(average);
    return good ? 0 : 74;
}

int main(int argc, char **a)
{
    if (argc == 8 && strcmp(a[1], "update") == 0)
        return update(a);
    if (argc < 5 || strcmp(a[1], "factor") != 0)
        return 64;
    for (int i = 4; i < argc; i++)
        (void)printf("%.17g\n", sim_momentum_factor(atof(a[2]), atof(a[3]), atof(a[i])));
    return 0;
}
