/*
 * tool_samples.c - decodes image files to their samples, for test_image_formats.py.
 *
 *   tool_samples first|channels FILE...
 * Writes the samples of each file to FILE.raw and prints one line: "0 h w c type more warnings", where
 * `more` is 1 if the file has further pages or frames; or the code and the error message.
 */
#include "simile/data.h"
#include "simile/file.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

enum { LIMIT = 1 << 28, PATH = 4096 };

static int write_samples(const char *path, const sim_image *image)
{
    char raw[PATH];
    const size_t n = image->h * image->w * image->c * sim_type_bytes(image->type);

    (void)snprintf(raw, sizeof raw, "%s.raw", path);
    FILE *f = fopen(raw, "wb");
    const int failed = !f || fwrite(image->pixels, 1, n, f) != n;
    return (f && fclose(f) != 0) || failed;
}

static int decode(const char *path, sim_image_pages pages)
{
    char *bytes = NULL;
    size_t n = 0;
    int failed = 0;
    sim_image image = {0};
    const sim_image_target target = {.as_stored = true, .pages = pages};
    sim_decode_notes notes = {0};
    sim_status st = sim_file_load(path, LIMIT, &bytes, &n);

    if (st == SIM_OK)
        st = sim_image_decode(path, (const uint8_t *)bytes, n, &target, &image, &notes);
    if (st == SIM_OK) {
        failed = write_samples(path, &image);
        printf("0 %zu %zu %zu %s %d %zu %s\n", image.h, image.w, image.c,
               sim_type_name(image.type), notes.has_more, notes.warnings, notes.first);
    } else {
        printf("%d %s\n", (int)st, sim_error_message());
    }
    sim_free(image.pixels);
    sim_free(bytes);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = argc < 2;
    const sim_image_pages pages = argc > 1 && strcmp(argv[1], "channels") == 0
                                      ? SIM_PAGES_CHANNELS
                                      : SIM_PAGES_FIRST;
    for (int i = 2; i < argc; i++)
        failed |= decode(argv[i], pages);
    return failed;
}
