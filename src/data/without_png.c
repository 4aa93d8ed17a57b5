/*
 * without_png.c - replaces decode_png.c in a build without libpng.
 */
#include "private.h"

static sim_status refuse(const char *name)
{
    sim_status st = SIM_OK;
    SIM_FAIL(SIM_E_INSTALL,
             "%s is a PNG image; this simile was built without PNG "
             "(cmake -DSIMILE_WITH_PNG=ON)",
             name);
done:
    return st;
}

sim_status sim_decode_png(const char *name, const uint8_t *bytes, size_t n,
                          const sim_value_range *range, sim_image *out,
                          sim_decode_notes *notes)
{
    (void)bytes, (void)n, (void)range, (void)out, (void)notes;
    return refuse(name);
}

sim_status sim_png_extremes(const char *name, const uint8_t *bytes, size_t n,
                            unsigned *lo, unsigned *hi)
{
    (void)bytes, (void)n, (void)lo, (void)hi;
    return refuse(name);
}
