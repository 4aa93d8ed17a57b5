/*
 * tool_augment.c - one view of an image from a file, for test_augment.py.
 *
 *   tool_augment IN.bin OUT.bin h w c size seed sample view ITEM...
 * IN: uint8 [h][w][c].  OUT: float32 view, not normalised.  An item is an operation's name
 * and its numbers in the order of its options: "crop=1=0.2=1=0.75=1.33=0" (the last of crop
 * is the interpolation's index).
 */
#include "simile/data.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char names[] = "crop|flip|jitter|gray|blur";

static void parse(const char *text, sim_option_items *items)
{
    char word[256];
    size_t at = items->n++, k = 0;
    (void)snprintf(word, sizeof word, "%s", text);
    char *part = strtok(word, "=");
    items->op[at] = sim_choices_find(names, part);
    while ((part = strtok(NULL, "=")) != NULL) {
        if (items->op[at] == 0 && k == 5)
            memcpy(&items->values[at][k], &(int){atoi(part)}, sizeof(int));
        else
            items->values[at][k] = atof(part);
        k++;
    }
}

int main(int argc, char **a)
{
    static const double zero[3] = {0, 0, 0}, one[3] = {1, 1, 1};
    sim_augment_options o = {0};
    sim_augment *augment = NULL;
    size_t vh = 0, vw = 0, vc = 0;
    float *view = NULL;

    if (argc < 10)
        return 64;
    sim_image image = {
        .h = (size_t)atol(a[3]), .w = (size_t)atol(a[4]), .c = (size_t)atol(a[5])};
    const sim_dataset_info about = {
        .n_images = 1, .h = image.h, .w = image.w, .c = image.c};
    size_t n = image.h * image.w * image.c;
    o.size = atol(a[6]);
    o.view1.given = true;
    for (int i = 10; i < argc; i++)
        parse(a[i], &o.view1);
    if (sim_alloc(&image.pixels, n, "test/augment") != SIM_OK ||
        sim_augment_create(&o, &about, zero, one, &augment) != SIM_OK)
        return 70;
    FILE *in = fopen(a[1], "rb"), *out = fopen(a[2], "wb");
    if (!in || !out || fread(image.pixels, 1, n, in) != n)
        return 66;
    (void)fclose(in);
    sim_augment_shape(augment, &vh, &vw, &vc);
    if (sim_alloc(&view, vh * vw * vc, "test/augment") != SIM_OK ||
        sim_augment_view(augment, (uint32_t)atol(a[7]), (uint32_t)atol(a[8]), 0,
                         (uint32_t)atol(a[9]), &image, view) != SIM_OK)
        return 70;
    bool good = fwrite(view, sizeof *view, vh * vw * vc, out) == vh * vw * vc;
    good = fclose(out) == 0 && good;
    sim_augment_destroy(&augment);
    sim_free(view);
    sim_free(image.pixels);
    return good ? 0 : 74;
}
