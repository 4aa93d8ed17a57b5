/*
 * photo_files.h - photos that are files of their own, shared by from_folder.c and from_list.c.
 */
#ifndef SIMILE_PREP_PHOTO_FILES_H
#define SIMILE_PREP_PHOTO_FILES_H

#include "prep.h"

enum { PREP_PHOTO_LIMIT = 1 << 28 }; /* bytes of a photo */

/* Reads a photo.  Errors: SIM_E_INPUT if it cannot be opened, whatever the reason, which makes it a
 * bad item; SIM_E_IO if the disk fails. */
SIM_MUST_USE sim_status sim_prep_photo_load(const char *path, uint8_t **bytes, size_t *n);
/* Chooses type, channels and range of a source by those of its items that may have more than 8 bits. */
SIM_MUST_USE sim_status sim_prep_photos_survey(const prep_format *format,
                                               const prep_options *options,
                                               prep_source *s);

#endif
