/*
 * without_png.c - replaces decode_png.c in a build without libpng.
 */
#include "private.h"

sim_status sim_decode_png(const char *name, const uint8_t *bytes, size_t n,
                          sim_image *out, sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    (void)bytes, (void)n, (void)out, (void)notes;
    SIM_FAIL(SIM_E_INSTALL,
             "%s is a PNG image; this simile was built without PNG "
             "(cmake -DSIMILE_WITH_PNG=ON)",
             name);
done:
    return st;
}
