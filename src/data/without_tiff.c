/*
 * without_tiff.c - replaces decode_tiff.c and tiff_*.c in a build without libtiff.
 */
#include "private.h"

static sim_status refuse(const char *name)
{
    sim_status st = SIM_OK;
    SIM_FAIL(SIM_E_INSTALL,
             "%s is a TIFF image; this simile was built without TIFF "
             "(cmake -DSIMILE_WITH_TIFF=ON)",
             name);
done:
    return st;
}

sim_status sim_decode_tiff(const char *name, const uint8_t *bytes, size_t n,
                           sim_image *out, sim_decode_notes *notes)
{
    (void)bytes, (void)n, (void)out, (void)notes;
    return refuse(name);
}

sim_status sim_decode_tiff_pages(const char *name, const uint8_t *bytes, size_t n,
                                 sim_image *out, sim_decode_notes *notes)
{
    (void)bytes, (void)n, (void)out, (void)notes;
    return refuse(name);
}
