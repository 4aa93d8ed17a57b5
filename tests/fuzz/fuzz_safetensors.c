/*
 * fuzz_safetensors.c - libFuzzer target of safetensors files: opened and read completely, or refused.
 */
#include "simile/memory.h"
#include "simile/safetensors.h"

#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* The values of all tensors cover the file after its header; each is read. */
static void read_all(const sim_safetensors *f, size_t file_bytes)
{
    for (size_t i = 0; i < sim_safetensors_count(f); i++) {
        const sim_safetensor *t = sim_safetensors_at(f, i);
        void *data = NULL;
        SIM_ASSERT(t->n_bytes <= file_bytes && t->at <= file_bytes - t->n_bytes);
        if (sim_alloc_bytes(t->n_bytes, 1, "fuzz/data", &data) == SIM_OK)
            SIM_ASSERT(sim_safetensors_read(f, t, data, t->n_bytes) == SIM_OK);
        sim_free(data);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static char path[] = "/tmp/fuzz-safetensors-XXXXXX";
    static int fd = -1;
    sim_safetensors *f = NULL;

    if (fd < 0)
        fd = mkstemp(path);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, bytes, n, 0) != (ssize_t)n)
        return 0;
    if (sim_safetensors_open(path, &f) == SIM_OK) {
        read_all(f, n);
        (void)sim_safetensors_metadata(f, "simile");
    }
    sim_safetensors_close(&f);
    return 0;
}
