/*
 * tool_decode.c - decodes image files for test_photos.py.
 *
 *   tool_decode FILE...
 * Prints one line per file: "code w h warnings", followed for code 0 by the means of red,
 * green and blue over the image and over its upper left quarter, otherwise by the error
 * message.
 */
#include "simile/data.h"
#include "simile/file.h"
#include "simile/memory.h"

#include <stdio.h>

enum { LIMIT = 1 << 28 };

/* Means over the first h rows and w columns. */
static void print_means(const sim_image *image, size_t h, size_t w)
{
    double sum[3] = {0};
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++)
            for (size_t c = 0; c < 3; c++)
                sum[c] += ((const uint8_t *)image->pixels)[(y * image->w + x) * 3 + c];
    for (size_t c = 0; c < 3; c++)
        printf(" %.3f", sum[c] / (double)(h * w));
}

static size_t half(size_t n)
{
    return n > 1 ? n / 2 : 1;
}

static void decode(const char *path)
{
    char *bytes = NULL;
    size_t n = 0;
    sim_image image = {0};
    const sim_image_target rgb = {.type = SIM_U8, .c = 3};
    sim_decode_notes notes = {0};
    sim_status st = sim_file_load(path, LIMIT, &bytes, &n);

    if (st == SIM_OK)
        st = sim_image_decode(path, (const uint8_t *)bytes, n, &rgb, &image, &notes);
    if (st == SIM_OK) {
        printf("0 %zu %zu %zu", image.w, image.h, notes.warnings);
        print_means(&image, image.h, image.w);
        print_means(&image, half(image.h), half(image.w));
        printf("\n");
    } else {
        printf("%d 0 0 %zu %s\n", (int)st, notes.warnings, sim_error_message());
    }
    sim_free(image.pixels);
    sim_free(bytes);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        decode(argv[i]);
    return 0;
}
