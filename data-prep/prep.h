/*
 * prep.h - from somebody's files to a simile data set.
 *
 * A format opens a source as a list of items with labels; prep.c chooses items, decodes,
 * resizes, and writes.  Called by `simile prepare`; uses core, h5, data and libarchive.
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
    const char *created_by;
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

typedef struct {
    const char *name, *help;
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

/* Converts; progress on a terminal.  Fails: SIM_E_INPUT, SIM_E_DATA, SIM_E_IO. */
SIM_MUST_USE sim_status prep_convert(const char *source, const char *out,
                                     const prep_options *options, prep_result *result);
/* "idx|cifar|folder" */
const char *prep_format_names(void);

/* ---- for the formats ---- */

/* A whole file, through gzip where its name ends in .gz.  Caller's. */
SIM_MUST_USE sim_status prep_load(const char *path, size_t limit, uint8_t **bytes,
                                  size_t *n);

/* Calls `see` with each regular entry of a tar archive (any compression) whose size is at
 * most `limit`; its name is only ever looked at. */
SIM_MUST_USE sim_status prep_each_entry(const char *path, size_t limit,
                                        sim_status (*see)(void *ctx, const char *name,
                                                          const uint8_t *bytes, size_t n),
                                        void *ctx);

/* Splits lines into an array of texts; release with prep_free_lines. */
SIM_MUST_USE sim_status prep_lines(const char *text, size_t n_bytes, char ***lines,
                                   size_t *n);
void prep_free_lines(char **lines, size_t n);

bool prep_ends_with(const char *text, const char *end);

#endif
