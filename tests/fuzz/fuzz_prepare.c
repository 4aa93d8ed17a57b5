/*
 * fuzz_prepare.c - libFuzzer target of the source formats: a file is read or refused.
 *
 * The first byte selects the format; the rest is the file.  HDF5 is excluded because HDF5
 * 1.10.8 itself crashes on such files within seconds.
 */
#include "prep.h"

#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define PREP_FORMAT(name) extern const prep_format sim_prep_format_##name;
#include "formats.def"
#undef PREP_FORMAT

static const prep_format *const formats[] = {
    &sim_prep_format_tar, &sim_prep_format_stl10, &sim_prep_format_cifar,
    &sim_prep_format_idx, &sim_prep_format_list,  &sim_prep_format_numpy};

static void read_some(const prep_format *format, const prep_source *s)
{
    char name[256];
    for (size_t i = 0; i < s->n_items && i < 8; i++) {
        const uint8_t *data = NULL;
        uint8_t *buffer = NULL;
        size_t n = 0;
        format->item_name(s, i, name, sizeof name);
        SIM_IGNORE(format->read(s, i, &data, &n, &buffer));
        sim_free(buffer);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static char path[] = "/tmp/fuzz-prepare-XXXXXX";
    static int fd = -1;
    const prep_options options = {.split = PREP_TRAIN};
    prep_source s = {0};

    if (fd < 0)
        fd = mkstemp(path);
    if (n == 0 || ftruncate(fd, 0) != 0 ||
        pwrite(fd, bytes + 1, n - 1, 0) != (ssize_t)(n - 1))
        return 0;
    const prep_format *format = formats[bytes[0] % (sizeof formats / sizeof *formats)];
    char *paths[] = {path}, *labels[] = {path};
    const prep_sources sources = {.n = 1, .paths = paths, .labels = labels};
    const sim_status st = format->open_several
                              ? format->open_several(&sources, &options, &s)
                              : format->open(path, &options, &s);
    if (st == SIM_OK)
        read_some(format, &s);
    format->close(&s);
    sim_prep_names_clear(&s.beside);
    sim_free(s.labels);
    sim_prep_free_lines(s.class_names, s.class_names ? s.n_classes : 0);
    sim_free(s.groups);
    sim_prep_names_clear(&s.group_names);
    return 0;
}
