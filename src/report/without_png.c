/*
 * without_png.c - replaces grid.c in a build without libpng.
 */
#include "simile/report.h"

sim_status sim_grid_check(void)
{
    sim_status st = SIM_OK;
    SIM_FAIL(SIM_E_INSTALL, "pictures cannot be drawn: this simile was built without PNG "
                            "(cmake -DSIMILE_WITH_PNG=ON)");
done:
    return st;
}

sim_status sim_grid_encode(const sim_grid *g, uint8_t **png, size_t *n_png, size_t *w,
                           size_t *h)
{
    (void)g, (void)png, (void)n_png, (void)w, (void)h;
    return sim_grid_check();
}

sim_status sim_grid_write(const char *path, const sim_grid *g)
{
    (void)path, (void)g;
    return sim_grid_check();
}
