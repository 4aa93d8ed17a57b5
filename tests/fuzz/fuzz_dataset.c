/*
 * fuzz_dataset.c - libFuzzer target of data sets: a file is opened and read, or refused.
 *
 * The bytes are written to a named file because HDF5 opens files by path.  The system's HDF5
 * is not instrumented, but its crashes are detected.
 */
#include "simile/data.h"
#include "simile/memory.h"

#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void read_some(const sim_dataset *d)
{
    sim_image image = {0};
    size_t n = sim_dataset_about(d)->n_images;
    for (size_t i = 0; i < n && i < 4; i++)
        SIM_IGNORE(sim_dataset_read(d, i, &image));
    (void)sim_dataset_class_name(d, 0);
    sim_free(image.pixels);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static char path[] = "/tmp/fuzz-dataset-XXXXXX";
    static int fd = -1;
    sim_dataset *d = NULL;

    if (fd < 0)
        fd = mkstemp(path);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, bytes, n, 0) != (ssize_t)n)
        return 0;
    if (sim_dataset_open(path, &d) == SIM_OK)
        read_some(d);
    sim_dataset_close(&d);
    return 0;
}
