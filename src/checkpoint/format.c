/*
 * format.c - what a file must satisfy before its values are read: its format, the version of
 * the format, and the dims of its tensors.
 *
 * Called by write.c, part.c and read.c.
 */
#include "private.h"

#include <stdio.h>
#include <string.h>

/* Of main files and part files; src/DESIGN.md states when it is increased. */
enum { FORMAT_VERSION = 1 };

sim_status sim_checkpoint_write_format(sim_h5 *f, const char *format)
{
    sim_status st = SIM_OK;
    int64_t version = FORMAT_VERSION;
    const sim_tensor t = {.type = SIM_I64, .data = &version};

    SIM_TRY(sim_h5_write_attribute_text(f, "format", format));
    SIM_TRY(sim_h5_write_attribute(f, "format_version", &t));
done:
    return st;
}

sim_status sim_checkpoint_check_format(const sim_h5 *f, const char *path,
                                       const char *format)
{
    sim_status st = SIM_OK;
    char found[64];
    int64_t version = 0;

    SIM_TRY(sim_h5_read_attribute_text(f, "format", found, sizeof found));
    SIM_CHECK(strcmp(found, format) == 0, SIM_E_DATA, "%s is a %s, expected a %s", path,
              found, format);
    SIM_TRY(sim_h5_check_version(f, path, FORMAT_VERSION, &version));
done:
    return st;
}

static void format_dims(int n_dims, const size_t *dims, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "%s", n_dims ? "" : "scalar");
    for (int i = 0; i < n_dims; i++) {
        size_t at = strlen(out);
        (void)snprintf(out + at, out_bytes - at, "%s%zu", i ? " x " : "", dims[i]);
    }
}

sim_status sim_checkpoint_check_dims(const char *path, const char *name, int n_dims,
                                     const size_t *dims, const sim_tensor *expected)
{
    sim_status st = SIM_OK;
    char found_text[128], expected_text[128];
    bool same = n_dims == expected->n_dims;

    for (int i = 0; same && i < n_dims; i++)
        same = dims[i] == expected->dims[i];
    format_dims(n_dims, dims, found_text, sizeof found_text);
    format_dims(expected->n_dims, expected->dims, expected_text, sizeof expected_text);
    SIM_CHECK(same, SIM_E_DATA, "%s: %s has another shape: %s, expected %s", path, name,
              found_text, expected_text);
done:
    return st;
}
