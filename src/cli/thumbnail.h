/*
 * thumbnail.h - images of a data set as small pictures.
 */
#ifndef SIMILE_CLI_THUMBNAIL_H
#define SIMILE_CLI_THUMBNAIL_H

#include "simile/data.h"

/* How images are drawn: h x w x c, resized and cropped as in evaluation. */
typedef struct {
    size_t h, w, c, bytes; /* bytes: of a picture */
    sim_augment *plain;    /* owned */
    float *view;           /* workspace, owned */
} thumbnails;

/* At most `most` pixels high and wide. */
SIM_MUST_USE sim_status sim_thumbnails_create(const sim_preprocessing *p, size_t most,
                                              thumbnails *out);
void sim_thumbnails_destroy(thumbnails *t);
/* out  uint8 [h][w][c] */
SIM_MUST_USE sim_status sim_thumbnails_draw(const thumbnails *t, const sim_dataset *d,
                                            size_t i, uint8_t *out);
SIM_MUST_USE sim_status sim_thumbnails_draw_image(const thumbnails *t,
                                                  const sim_image *image, uint8_t *out);

#endif
