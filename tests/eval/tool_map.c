/*
 * tool_map.c - prints a map of features: `tool_map pca|tsne|unit-tsne|clusters N DIM PERPLEXITY < float32`, one line per row;
 * unit-tsne is t-SNE of the rows divided by their lengths; PERPLEXITY is the number of clusters.
 */
#include "simile_test.h"

#include "simile/eval.h"
#include "simile/kernel.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc != 5)
        return 64;
    const size_t n = strtoul(argv[2], NULL, 10), dim = strtoul(argv[3], NULL, 10);
    float *x = NULL, *norms = NULL;
    double *y = NULL;
    int32_t *clusters = NULL;

    ASSERT_OK(sim_kernels_pick("auto"));
    ASSERT_OK(sim_alloc(&x, n * dim, "test"));
    ASSERT_OK(sim_alloc(&norms, n, "test"));
    ASSERT_OK(sim_alloc(&y, 2 * n, "test"));
    if (fread(x, sizeof *x, n * dim, stdin) != n * dim)
        return 65;
    if (strcmp(argv[1], "unit-tsne") == 0)
        sim_unit_rows(n, dim, x, x, norms);
    if (strcmp(argv[1], "clusters") == 0) {
        ASSERT_OK(sim_alloc(&clusters, n, "test"));
        ASSERT_OK(sim_map_clusters(n, dim, x, strtoul(argv[4], NULL, 10), clusters));
        for (size_t i = 0; i < n; i++)
            y[2 * i] = clusters[i];
    } else if (strcmp(argv[1], "pca") == 0)
        ASSERT_OK(sim_map_pca(n, dim, x, y));
    else
        ASSERT_OK(sim_map_tsne(n, dim, x, strtod(argv[4], NULL), y));
    for (size_t i = 0; i < n; i++)
        (void)printf("%.17g %.17g\n", y[2 * i], y[2 * i + 1]);
    sim_free(x);
    sim_free(norms);
    sim_free(clusters);
    sim_free(y);
    return 0;
}
