/*
 * without_webp.c - replaces decode_webp.c in a build without its library.
 */
#include "private.h"

sim_status sim_decode_webp(const char *name, const uint8_t *bytes, size_t n,
                           sim_image *out, sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    (void)bytes, (void)n, (void)out, (void)notes;
    SIM_FAIL(SIM_E_INSTALL,
             "%s is a WebP image; this simile was built without WebP "
             "(cmake -DSIMILE_WITH_WEBP=ON)",
             name);
done:
    return st;
}
