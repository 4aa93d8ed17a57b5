/*
 * archive_photos.h - the photos of an archive in the order of their paths.
 */
#ifndef SIMILE_PREP_ARCHIVE_PHOTOS_H
#define SIMILE_PREP_ARCHIVE_PHOTOS_H

#include "prep.h"

typedef struct {
    uint8_t *bytes;
    size_t n;
} prep_bytes;

/* The photos of an archive; zeros at first. */
typedef struct {
    size_t n, capacity;
    uint32_t *entry;    /* [n]: number of the photo among all entries of the archive */
    uint64_t n_bytes;   /* of all */
    bool is_sorted;     /* their order is not that of the archive */
    size_t at;          /* entries that were passed in reading */
    prep_bytes *loaded; /* [n_loaded] items, if sorted */
    size_t n_loaded;
} prep_photos;

/* Adds the next photo of the archive. */
SIM_MUST_USE sim_status sim_prep_photos_add(prep_photos *p, uint32_t entry,
                                            uint64_t n_bytes);
/* Sorts the photos and their `paths` [p->n], if needed and if they fit in memory.
 * name: of the archive, for the log. */
SIM_MUST_USE sim_status sim_prep_photos_sort(prep_photos *p, prep_names *paths,
                                             const char *name);

typedef struct {
    prep_tar *tar;
    const char *path;
    const uint32_t *item;  /* [n_items]: the photo of an item */
    size_t n_items, limit; /* limit: bytes of a photo */
} prep_archive_reader;
/* Reads item i; items are read once, in increasing order.  The caller owns *buffer, which is
 * *bytes [*n]. */
SIM_MUST_USE sim_status sim_prep_photos_read(prep_photos *p, const prep_archive_reader *r,
                                             size_t i, const uint8_t **bytes, size_t *n,
                                             uint8_t **buffer);
void sim_prep_photos_clear(prep_photos *p);

#endif
