/*
 * sidecars.h - labels and groups in files beside the photos of an archive, as in WebDataset.
 *
 * The key of a file is its path up to the first dot of its name.  The photo KEY.jpg has its label in
 * KEY.cls, a number or a name, or in KEY.json, an object; its group is in KEY.json.
 */
#ifndef SIMILE_PREP_SIDECARS_H
#define SIMILE_PREP_SIDECARS_H

#include "prep.h"
#include "tree.h"

/* What the files of one key say; numbers of texts, or PREP_NO_TEXT. */
#define PREP_NO_TEXT UINT32_MAX
typedef struct {
    uint32_t cls, label, group; /* label: of the .json file */
} prep_sidecar;

/* Zeroed before use. */
typedef struct {
    prep_set keys;
    prep_names texts;
    prep_sidecar *of_key; /* [keys.names.n] */
    size_t capacity;
    size_t n_invalid;        /* .json files that are not an object */
    char first_invalid[256]; /* name of the first of them, and why */
} prep_sidecars;

/* Whether an entry of an archive is such a file, by its name and size. */
bool sim_prep_is_sidecar(const prep_entry *e);
/*
 * Reads such a file.  *is_used is false if it has neither a label nor a group: it is an ordinary file.
 * Errors: SIM_E_DATA if a .cls file is empty or not a text, or, with options->fail_on_bad, if a .json
 * file is invalid.
 */
SIM_MUST_USE sim_status sim_prep_sidecars_add(prep_sidecars *s, prep_tar *t,
                                              const prep_entry *e, const char *archive,
                                              const prep_options *options, bool *is_used);
/*
 * Sets the labels and groups of the items of an archive.  Labels are used if the photos are in no
 * directories of classes, if every photo has one, or if the user named their key; photos without a label
 * are then excluded.
 * Errors: SIM_E_DATA if no photo has a key that the user named.
 */
SIM_MUST_USE sim_status sim_prep_sidecars_apply(prep_sidecars *s, prep_tree *tree,
                                                const char *archive,
                                                const prep_options *options,
                                                prep_source *out);
void sim_prep_sidecars_clear(prep_sidecars *s);

#endif
