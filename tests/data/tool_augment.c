/*
 * tool_augment.c - views of an image from a file, for test_augment.py.
 *
 *   tool_augment IN.bin OUT.bin h w c size seed sample count view [stats=MEAN=STD] \
 *                ITEM...|preset=NAME
 * IN: uint8 [h][w][c].  OUT: float32 views of samples [sample, sample + count), normalized by
 * stats, mean and standard deviation of every channel; without it not normalized.  An item is an
 * operation's name and its numbers in the order of its options:
 * "crop=1=0.2=1=0.75=1.33=0" (the last of crop is the interpolation's index).
 */
#include "simile/data.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sim_option *key(const char *name)
{
    for (size_t i = 0; i < sim_augment_table.n_rows; i++)
        if (strcmp(sim_augment_table.rows[i].name, name) == 0)
            return &sim_augment_table.rows[i];
    abort();
}

static void set(const sim_option *row, const char *text, void *options)
{
    void *to = (char *)options + row->offset;
    if (row->type == SIM_OPTION_ENUM)
        *(int *)to = atoi(text);
    else if (row->type == SIM_OPTION_INT)
        *(int64_t *)to = atol(text);
    else
        *(double *)to = atof(text);
}

static void parse(const char *text, sim_option_items *items)
{
    char word[256];
    size_t at = items->n++, k = 0;
    (void)snprintf(word, sizeof word, "%s", text);
    char *part = strtok(word, "=");
    items->op[at] = sim_choices_find(key("view1")->choices, part);
    const sim_option_table *table = &key("view1")->item_tables[items->op[at]];
    while ((part = strtok(NULL, "=")) != NULL && k < table->n_rows)
        set(&table->rows[k++], part, &items->values[at]);
}

static sim_status write_views(const sim_augment *augment, const sim_image *image,
                              char **a, FILE *out)
{
    sim_status st = SIM_OK;
    float *view = NULL;
    size_t h, w, c;
    uint32_t seed = (uint32_t)atol(a[7]), first = (uint32_t)atol(a[8]);

    sim_augment_shape(augment, 0, &h, &w, &c);
    SIM_TRY(sim_alloc(&view, h * w * c, "test/augment"));
    for (uint32_t i = 0; i < (uint32_t)atol(a[9]); i++) {
        SIM_TRY(sim_augment_view(augment, seed, first + i, 0, (uint32_t)atol(a[10]),
                                 image, view));
        SIM_CHECK(fwrite(view, sizeof *view, h * w * c, out) == h * w * c, SIM_E_IO,
                  "not written");
    }
done:
    sim_free(view);
    return st;
}

/* Reads "stats=MEAN=STD" into the preprocessing; false if the argument is another. */
static bool parse_stats(const char *text, sim_preprocessing *p)
{
    double mean, std;

    if (sscanf(text, "stats=%lf=%lf", &mean, &std) != 2)
        return false;
    for (size_t c = 0; c < 3; c++) {
        p->mean[c] = mean;
        p->std[c] = std;
    }
    return true;
}

int main(int argc, char **a)
{
    static sim_augment_options o;
    sim_augment *augment = NULL;

    if (argc < 12)
        return 64;
    sim_image image = {.h = (size_t)atol(a[3]),
                       .w = (size_t)atol(a[4]),
                       .c = (size_t)atol(a[5]),
                       .type = SIM_U8};
    const size_t side = (size_t)atol(a[6]);
    sim_preprocessing p = {.h = side ? side : image.h,
                           .w = side ? side : image.w,
                           .c = image.c,
                           .type = SIM_U8,
                           .std = {1, 1, 1}};
    size_t n = image.h * image.w * image.c;
    const int first = parse_stats(a[11], &p) ? 12 : 11;
    if (first >= argc)
        return 64;
    o.view1.given = strncmp(a[first], "preset=", 7) != 0;
    if (!o.view1.given)
        o.preset = sim_choices_find(key("preset")->choices, a[first] + 7);
    for (int i = first; o.view1.given && i < argc; i++)
        parse(a[i], &o.view1);
    if (o.preset < 0 || sim_alloc_bytes(n, 1, "test/augment", &image.pixels) != SIM_OK ||
        sim_augment_create(&o, &p, &augment) != SIM_OK)
        return 70;
    FILE *in = fopen(a[1], "rb"), *out = fopen(a[2], "wb");
    if (!in || !out || fread(image.pixels, 1, n, in) != n)
        return 66;
    (void)fclose(in);
    bool good = write_views(augment, &image, a, out) == SIM_OK;
    good = fclose(out) == 0 && good;
    sim_augment_destroy(&augment);
    sim_free(image.pixels);
    return good ? 0 : 74;
}
