/*
 * without_gif.c - replaces decode_gif.c in a build without its library.
 */
#include "private.h"

sim_status sim_decode_gif(const char *name, const uint8_t *bytes, size_t n,
                          sim_image *out, sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    (void)bytes, (void)n, (void)out, (void)notes;
    SIM_FAIL(SIM_E_INSTALL,
             "%s is a GIF image; this simile was built without GIF "
             "(cmake -DSIMILE_WITH_GIF=ON)",
             name);
done:
    return st;
}
