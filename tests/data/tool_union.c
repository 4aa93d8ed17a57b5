/*
 * tool_union.c - prints a data set or a union, and the order of an epoch, for test_union.py.
 *
 *   tool_union SHARES|- CLASSES|- FRACTION SEED EPOCH FILE...
 * Prints a JSON object, or exits with the code of the failure and its message on stderr.
 */
#include "simile/data.h"
#include "simile/memory.h"
#include "simile/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sim_status open_sets(int n, char **paths, const char *shares, sim_dataset **out)
{
    double values[SIM_MAX_SETS];
    const char *list[SIM_MAX_SETS];
    char *end = NULL;

    for (int k = 0; k < n; k++)
        list[k] = paths[k];
    if (n == 1)
        return sim_dataset_open(paths[0], out);
    for (int k = 0; *shares != '-' && k < n; k++) {
        values[k] = strtod(shares, &end);
        shares = end + (*end == ',');
    }
    return sim_dataset_open_union((size_t)n, list, *shares == '-' ? NULL : values, out);
}

static sim_status restrict_set(sim_dataset *d, const char *classes, double fraction,
                               uint32_t seed)
{
    sim_status st = SIM_OK;
    if (*classes != '-')
        SIM_TRY(sim_dataset_keep_classes(d, classes));
    if (fraction < 1)
        SIM_TRY(sim_dataset_keep_fraction(d, fraction, seed));
done:
    return st;
}

static void print_reals(const char *name, const double *values, size_t n)
{
    printf("\"%s\":[", name);
    for (size_t c = 0; c < n; c++)
        printf("%s%.17g", c ? "," : "", values[c]);
    printf("],");
}

static sim_status print_images(const sim_dataset *d)
{
    sim_status st = SIM_OK;
    sim_image image = {0};
    const sim_dataset_info *a = sim_dataset_about(d);
    const int32_t *labels = sim_dataset_labels(d);

    printf("\"images\":[");
    for (size_t i = 0; i < a->n_images; i++) {
        SIM_TRY(sim_dataset_read(d, i, &image));
        printf("%s\"", i ? "," : "");
        for (size_t k = 0; k < image.h * image.w * image.c; k++)
            printf("%02x", ((const uint8_t *)image.pixels)[k]);
        printf("\"");
    }
    printf("],\"labels\":[");
    for (size_t i = 0; labels && i < a->n_images; i++)
        printf("%s%d", i ? "," : "", labels[i]);
    printf("],");
done:
    sim_free(image.pixels);
    return st;
}

static sim_status print_names(const sim_dataset *d)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *a = sim_dataset_about(d);
    char *names = NULL;
    size_t width = 0;

    printf("\"classes\":[");
    for (size_t k = 0; k < a->n_classes && sim_dataset_class_name(d, k); k++)
        printf("%s\"%s\"", k ? "," : "", sim_dataset_class_name(d, k));
    printf("],\"names\":[");
    SIM_TRY(sim_dataset_read_names(d, &width, &names));
    for (size_t i = 0; names && i < a->n_images; i++)
        printf("%s\"%.*s\"", i ? "," : "", (int)width, names + i * width);
    printf("],");
done:
    sim_free(names);
    return st;
}

static sim_status print_order(const sim_dataset *d, uint32_t seed, uint32_t epoch)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *a = sim_dataset_about(d);
    const size_t n = sim_dataset_epoch_images(a);
    sim_order_key *keys = NULL;
    uint32_t *order = NULL, *passes = NULL;

    SIM_TRY(sim_alloc(&keys, sim_order_keys(a), "test"));
    SIM_TRY(sim_alloc(&order, n, "test"));
    SIM_TRY(sim_alloc(&passes, n, "test"));
    if (a->mixture.weighted)
        sim_order_mixture(seed, epoch, &a->mixture, keys, passes, order);
    else
        sim_order_epoch(seed, epoch, n, keys, order);
    printf("\"order\":[");
    for (size_t i = 0; i < n; i++)
        printf("%s%u", i ? "," : "", order[i]);
    printf("],");
done:
    sim_free(keys);
    sim_free(order);
    sim_free(passes);
    return st;
}

int main(int argc, char **argv)
{
    sim_status st = SIM_OK;
    sim_dataset *d = NULL;
    char *explained = NULL;

    if (argc < 7)
        return 64;
    const uint32_t seed = (uint32_t)strtoul(argv[4], NULL, 10);
    SIM_TRY(open_sets(argc - 6, argv + 6, argv[1], &d));
    SIM_TRY(restrict_set(d, argv[2], strtod(argv[3], NULL), seed));
    const sim_dataset_info *a = sim_dataset_about(d);
    printf(
        "{\"n\":%zu,\"n_classes\":%zu,\"h\":%zu,\"w\":%zu,\"encoded\":%d,\"varied\":%d,"
        "\"fingerprint\":\"%s\",",
        a->n_images, a->n_classes, a->h, a->w, a->encoded, a->varied, a->fingerprint);
    print_reals("mean", a->mean, a->c);
    print_reals("std", a->std, a->c);
    SIM_TRY(print_images(d));
    SIM_TRY(print_names(d));
    SIM_TRY(print_order(d, seed, (uint32_t)strtoul(argv[5], NULL, 10)));
    SIM_TRY(sim_dataset_explain(d, &explained));
    for (char *p = explained; (p = strchr(p, '\n')) != NULL;)
        *p = '|';
    printf("\"explain\":\"%s\"}\n", explained);
done:
    if (st != SIM_OK)
        fprintf(stderr, "%s\n", sim_error_message());
    sim_free(explained);
    sim_dataset_close(&d);
    return (int)st;
}
