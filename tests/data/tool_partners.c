/*
 * tool_partners.c - prints the partners of images for test_partners.py.
 *
 *   tool_partners FILE.h5 FRACTION SEED EPOCHS VIEWS
 * Prints the names of the images of the fraction, and one line per epoch and view with their partners.
 */
#include "simile/data.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>

static sim_status print_names(const sim_dataset *d)
{
    sim_status st = SIM_OK;
    size_t width = 0, n = sim_dataset_about(d)->n_images;
    char *names = NULL;

    SIM_TRY(sim_dataset_read_names(d, &width, &names));
    for (size_t i = 0; i < n; i++)
        printf("%.*s%c", (int)width, names + i * width, i + 1 == n ? '\n' : ' ');
done:
    sim_free(names);
    return st;
}

static void print_partners(const sim_groups *g, uint32_t seed, uint32_t epochs,
                           uint32_t views)
{
    for (uint32_t e = 0; e < epochs; e++)
        for (uint32_t v = 0; v < views; v++)
            for (uint32_t i = 0; i < g->n_images; i++)
                printf("%u%c", sim_groups_partner(g, seed, i, e, v),
                       i + 1 == g->n_images ? '\n' : ' ');
}

int main(int argc, char **argv)
{
    sim_dataset *d = NULL;
    sim_groups g = {0};
    sim_status st = SIM_E_USAGE;

    if (argc == 6)
        st = sim_dataset_open(argv[1], &d);
    if (st == SIM_OK)
        st = sim_dataset_keep_fraction(d, strtod(argv[2], NULL), 0);
    if (st == SIM_OK)
        st = sim_groups_create(d, &g);
    if (st == SIM_OK)
        st = print_names(d);
    if (st == SIM_OK)
        print_partners(&g, (uint32_t)strtoul(argv[3], NULL, 10),
                       (uint32_t)strtoul(argv[4], NULL, 10),
                       (uint32_t)strtoul(argv[5], NULL, 10));
    else
        fprintf(stderr, "%s\n", sim_error_message());
    sim_groups_destroy(&g);
    sim_dataset_close(&d);
    return (int)st;
}
