/*
 * tree.h - the photos of a directory or archive by their paths: splits, classes, exclusions.
 *
 * A source adds every file that it contains.  sim_prep_tree_select applies the same rules to a
 * directory and to an archive of it (NAME.tar with the single directory NAME, or its contents):
 *
 *   - A directory that contains all photos, except a minority beside it, is skipped if there are
 *     several directories or a split below.
 *   - If the directories at that level are all names of splits (train, val, test, unlabeled and
 *     their spellings), the photos of one split are selected and those beside them excluded.  Otherwise they are classes.
 *   - The class of a photo is the first directory below.  Deeper photos belong to it.
 *   - Photos beside class directories are excluded; if they are the majority, they are selected
 *     without labels, and the directories are excluded.
 *
 * Everything excluded is counted and reported.
 */
#ifndef SIMILE_PREP_TREE_H
#define SIMILE_PREP_TREE_H

#include "prep.h"

/* Files that are not photos, by extension. */
typedef struct {
    char extension[16]; /* lower case, with its dot; "" for none */
    size_t n;
} prep_extension;

typedef struct {
    prep_names paths; /* of photos, relative, without "." and ".." */
    bool has_labels;  /* the first component of every path is the label of its source */
    bool is_archive;  /* paths may start with the name of the directory in the archive */
    bool is_rooted; /* paths of the archive start with "./", or with the name of a tar */
    prep_extension *others;
    size_t n_others, capacity;
    size_t n_hidden, n_links, n_loops, n_unreadable;
    uint32_t *item; /* [n_items] after selection: index of the photo in `paths` */
} prep_tree;

/* Adds a photo.  `inside` is prepended as a directory unless it is NULL. */
SIM_MUST_USE sim_status sim_prep_tree_add(prep_tree *t, const char *inside,
                                          const char *path);
/* Whether a file without the extension of a photo is one, by its first bytes [n] (SIM_IMAGE_HEAD). */
bool sim_prep_has_photo_content(const char *name, const uint8_t *head, size_t n);
/* Counts a file that is not a photo. */
SIM_MUST_USE sim_status sim_prep_tree_count_other(prep_tree *t, const char *path);

/*
 * Selects the photos of the split, sets n_items, labels and class_names of `out`, and reports
 * what is excluded.
 *
 *   name  path of the source
 *
 * Errors: SIM_E_INPUT (no photo, no such split).
 */
SIM_MUST_USE sim_status sim_prep_tree_select(prep_tree *t, const char *name,
                                             const prep_options *options,
                                             prep_source *out);
void sim_prep_tree_clear(prep_tree *t);

#endif
