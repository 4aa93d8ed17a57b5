/*
 * without_jpeg.c - replaces decode_jpeg.c in a build without libjpeg.
 */
#include "private.h"

sim_status sim_decode_jpeg(const char *name, const uint8_t *bytes, size_t n,
                           sim_image *out, sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    (void)bytes, (void)n, (void)out, (void)notes;
    SIM_FAIL(SIM_E_INSTALL,
             "%s is a JPEG image; this simile was built without JPEG "
             "(cmake -DSIMILE_WITH_JPEG=ON)",
             name);
done:
    return st;
}

sim_status sim_image_encode_jpeg(const sim_image *image, int quality, uint8_t **bytes,
                                 size_t *n)
{
    sim_status st = SIM_OK;
    (void)image, (void)quality, (void)bytes, (void)n;
    SIM_FAIL(SIM_E_INSTALL, "images cannot be encoded as JPEG; this simile was built "
                            "without JPEG (cmake -DSIMILE_WITH_JPEG=ON)");
done:
    return st;
}
