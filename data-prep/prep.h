/*
 * prep.h - from somebody's files to a simile data set.
 *
 * A format opens a source as a list of items with labels; prep.c chooses items, transfer.c
 * decodes, resizes and writes.  Called by `simile prepare`; uses core, h5, data and
 * libarchive.
 */
#ifndef SIMILE_PREP_H
#define SIMILE_PREP_H

#include "simile/data.h"
#include "simile/status.h"

typedef struct {
    const char *format; /* NULL: found by looking */
    const char *split;  /* "train", "test", "unlabeled" */
    bool coarse;        /* CIFAR-100's 20 groups as labels */
    size_t limit;       /* keep so many, balanced over classes; 0: all */
    size_t size;        /* photos: shorter side; 0: as they are */
    bool keep_shape;    /* photos: no centre crop, each keeps its own size */
    bool fail_on_bad;   /* else bad files are named, counted and skipped */
    const char *images_key, *labels_key; /* HDF5: names of the data sets, or NULL */
    const char *path;                    /* HDF5: a group with one class a member */
    const char *created_by;
    /* One of several processes that share the work by fixed ranges of items; the first one
     * joins what they made.  `meet` returns the failure of any of them to all.  0: alone. */
    size_t part, n_parts;
    sim_status (*meet)(void *ctx, sim_status mine);
    void *meet_ctx;
} prep_options;

/* What came of it. */
typedef struct {
    size_t n_images, n_bad, n_warned, n_classes;
    char fingerprint[33];
    const char *format;
} prep_result;

/* An open source.  Items are in a fixed order. */
typedef struct {
    size_t n_items;
    bool photos;        /* items are encoded files */
    size_t h, w, c;     /* else: of every item */
    int32_t *labels;    /* [n_items], or NULL */
    char **class_names; /* or NULL */
    size_t n_classes;
    size_t n_bad;        /* items left out while opening */
    char first_bad[256]; /* and the first reason */
    void *own;           /* the format's */
} prep_source;

/* Options that only some formats know. */
enum {
    PREP_UNLABELED = 1, /* --split unlabeled */
    PREP_RESIZE = 2,    /* --size, --crop */
    PREP_COARSE = 4,    /* --labels coarse */
    PREP_KEYS = 8       /* --images-key, --labels-key, --path */
};

typedef struct {
    const char *name, *help;
    bool in_order; /* `read` is called by one thread at a time, with rising items */
    int knows;     /* of the options above */
    /* Does the path look like it? */
    bool (*probe)(const char *path);
    SIM_MUST_USE sim_status (*open)(const char *path, const prep_options *options,
                                    prep_source *out);
    /* Item i: its bytes (pixels or a file), borrowed or in *grown, and its name. */
    SIM_MUST_USE sim_status (*read)(const prep_source *s, size_t i, const uint8_t **bytes,
                                    size_t *n, uint8_t **grown);
    void (*item_name)(const prep_source *s, size_t i, char *out, size_t out_bytes);
    void (*close)(prep_source *s);
} prep_format;

/*
 * Converts on sim_threads() threads, with the same bytes for any number; progress on
 * stderr.  A conversion that was killed goes on where it was, if called alike.
 * Fails: SIM_E_INPUT, SIM_E_DATA, SIM_E_CREATE, SIM_E_IO; no file is half-written.
 */
SIM_MUST_USE sim_status sim_prep_convert(const char *source, const char *out,
                                         const prep_options *options,
                                         prep_result *result);
/* "idx|cifar|folder" */
const char *sim_prep_format_names(void);

/* ---- between prep.c and transfer.c ---- */

/* Puts the items [lo, hi) of a source into a data set, from where the writer had come.
 * `chosen` [n_items], or NULL for all. */
typedef struct {
    const prep_format *format;
    const prep_source *source;
    const prep_options *options;
    const bool *chosen;
    size_t lo, hi;
    const sim_dataset_spec *spec;
    sim_dataset_writer *writer;
} prep_way;
SIM_MUST_USE sim_status sim_prep_transfer(const prep_way *way, prep_result *result);

/* ---- for the formats ---- */

/* Names, one after the other in one block. */
typedef struct {
    char *text;
    uint64_t *at; /* [n] */
    size_t n, room, used, text_room;
} prep_list;
SIM_MUST_USE sim_status sim_prep_list_add(prep_list *l, const char *name);
const char *sim_prep_list_name(const prep_list *l, size_t i);
void sim_prep_list_clear(prep_list *l);

/* A folder or file beside or below: "A/B"; fails when it is too long. */
SIM_MUST_USE sim_status sim_prep_join(const char *a, const char *b, char *out,
                                      size_t out_bytes);
/* What follows the last slash. */
const char *sim_prep_base_name(const char *path);
bool sim_prep_ends_with(const char *text, const char *end);
/* Does the name end as a photo's, and is it no hidden file? */
bool sim_prep_is_photo(const char *name);

/* A whole file, through gzip where its name ends in .gz.  Caller's. */
SIM_MUST_USE sim_status sim_prep_load(const char *path, size_t limit, uint8_t **bytes,
                                      size_t *n);

/* Does the name end as a tar archive's, compressed or not? */
bool sim_prep_is_tar(const char *path);

/* A tar archive (any compression) that is read from front to end; names are only ever
 * looked at. */
typedef struct prep_tar prep_tar;
typedef struct {
    const char *name;  /* borrowed until the next; NULL: that was the last */
    const char *outer; /* name of the tar it lies in within this one, or NULL */
    uint64_t n_bytes;
    bool is_link; /* to another entry: no bytes of its own */
} prep_entry;
/* `enter`: entries named .tar are gone through as well, one deep. */
SIM_MUST_USE sim_status sim_prep_tar_open(const char *path, bool enter, prep_tar **out);
SIM_MUST_USE sim_status sim_prep_tar_next(prep_tar *t, prep_entry *out);
/* The next n bytes of the entry; fails when it has fewer. */
SIM_MUST_USE sim_status sim_prep_tar_take(prep_tar *t, void *data, size_t n);
/* The entry whole, at most `limit` bytes.  Caller's. */
SIM_MUST_USE sim_status sim_prep_tar_load(prep_tar *t, size_t limit, uint8_t **bytes,
                                          size_t *n);
void sim_prep_tar_close(prep_tar **t);

/* Is one of these file names (NULL ends them) among the first entries of the archive? */
bool sim_prep_tar_holds(const char *path, const char *const *names);

/* Splits lines into an array of texts; release with sim_prep_free_lines. */
SIM_MUST_USE sim_status sim_prep_lines(const char *text, size_t n_bytes, char ***lines,
                                       size_t *n);
void sim_prep_free_lines(char **lines, size_t n);

#endif
