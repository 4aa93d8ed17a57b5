/*
 * prep.h - converters from source formats to a simile data set.
 *
 * A format opens a source as a list of items with labels (from_*.c).  prep.c detects the
 * format and selects items; transfer.c reads, decodes, resizes and writes them.
 * Called by `simile prepare`.  Uses core, h5, data and libarchive.
 */
#ifndef SIMILE_PREP_H
#define SIMILE_PREP_H

#include "simile/data.h"
#include "simile/status.h"

#include <limits.h>

/* --split; the order of sim_prep_split_name.  The default is train where a source has splits,
 * and otherwise all of it. */
typedef enum {
    PREP_DEFAULT_SPLIT,
    PREP_TRAIN,
    PREP_VAL,
    PREP_TEST,
    PREP_UNLABELED,
    PREP_N_SPLITS
} prep_split;
const char *sim_prep_split_name(prep_split split);
/* The split that a directory of this name contains, in any of its spellings;
 * PREP_DEFAULT_SPLIT if it is not the name of a split. */
prep_split sim_prep_split_of(const char *name);
/* Copies the next word of a text, letters in lower case, and advances *at behind it; false at the
 * end.  Words are separated by anything but letters. */
bool sim_prep_next_word(const char **at, char *word, size_t word_bytes);
/* The split that is a word of a name, as in seg_train or "Test Set"; PREP_DEFAULT_SPLIT if none is. */
prep_split sim_prep_split_word(const char *name);
/* For a source that is one file: an explicit split must be part of its name.
 * Errors: SIM_E_INPUT. */
SIM_MUST_USE sim_status sim_prep_check_file_split(const char *path, prep_split split);
/* For sources with a train and a test split.  Errors: SIM_E_INPUT for another one. */
SIM_MUST_USE sim_status sim_prep_is_test(const char *source, prep_split split,
                                         bool *test);

/* Order of the dimensions of an image in an array. */
typedef enum { PREP_ANY_LAYOUT, PREP_HWC, PREP_CHW } prep_layout;
/* What is converted: files or directories of one format, in the order of their labels. */
enum { PREP_MAX_SOURCES = 100000 };
typedef struct {
    size_t n, capacity;
    char **paths; /* [n] */
    char **
        labels; /* [n], distinct, without slashes; if n > 1, names of items begin with them */
} prep_sources;
/*
 * Expands patterns [n]: a path that exists is itself; {000..009} and {a,b} are expanded as by a shell, and
 * then *, ? and [ in the last part of a path.
 * Errors: SIM_E_INPUT (no file matches), SIM_E_USAGE (the same source twice).
 */
SIM_MUST_USE sim_status sim_prep_sources_expand(const char *const *patterns, size_t n,
                                                prep_sources *out);
void sim_prep_sources_clear(prep_sources *s);
/* The source whose label is the first component of the name of an item. */
size_t sim_prep_sources_find(const prep_sources *s, const char *item);

typedef struct {
    const char *format; /* name of a row of formats.def; NULL: detect */
    prep_split split;
    bool coarse;    /* CIFAR-100: the 20 coarse labels */
    size_t limit;   /* number of items to keep, balanced over classes; 0: all */
    double holdout; /* fraction of each class to hold out; 0: none */
    bool held_out;  /* keep the part that is held out, instead of the rest */
    uint32_t seed;  /* of the choice */
    double range_lo, range_hi; /* black and white; equal: determined */
    bool has_type;             /* --type; otherwise the type of the source */
    sim_type type;
    prep_layout layout;    /* --layout of arrays */
    sim_image_pages pages; /* --pages of TIFF files */
    size_t n_channels;     /* --channels: those to keep, in this order; 0: all */
    uint8_t channels[SIM_MAX_CHANNELS];
    size_t size;      /* photos: length of the shorter side; 0: unchanged */
    bool keep_shape;  /* photos: no centre crop, stored encoded */
    bool fail_on_bad; /* stop at a bad item; otherwise report, count and skip it */
    /* Names of arrays (HDF5, NumPy), columns (lists) or keys of JSON (archives), or NULL. */
    const char *images_key, *labels_key, *groups_key;
    const char *path;    /* HDF5: a group whose members are the classes */
    const char *list;    /* a list of files in the source, or NULL */
    const char *classes; /* file with the names of the classes to keep, or NULL */
    bool force;          /* replace an existing file whatever it is */
    const char *created_by;
    /* Process `part` of `n_parts` converts a fixed range of items; process 0 joins the
     * parts.  n_parts 0 or 1: one process.  `agree` is collective over the processes: it
     * returns the failure of any of them to all.  `compare` is collective and fails if a text is not
     * that of process 0. */
    size_t part, n_parts;
    sim_status (*agree)(void *ctx, sim_status local);
    sim_status (*compare)(void *ctx, const char *what, const char *text);
    void *agree_ctx;
} prep_options;

typedef struct {
    size_t n_images, n_bad, n_warned, n_excluded, n_classes;
    size_t n_clipped;   /* images with values outside of the range */
    size_t n_paged;     /* images of files with further pages or frames */
    unsigned largest;   /* value of images with 8 bits */
    size_t least, most; /* images per class */
    size_t n_used;      /* classes with images */
    size_t n_groups;    /* with images */
    char fingerprint[33];
    const char *format;
} prep_result;

/* A list of names in one block of memory. */
typedef struct {
    char *text;
    uint64_t *at; /* [n], offsets in `text` */
    size_t n, capacity, used, text_capacity;
} prep_names;
SIM_MUST_USE sim_status sim_prep_names_add(prep_names *l, const char *name);
const char *sim_prep_names_get(const prep_names *l, size_t i);
void sim_prep_names_clear(prep_names *l);

/* An open source.  The order of the items is fixed. */
typedef struct {
    size_t n_items;
    bool photos;        /* items are image files */
    size_t h, w;        /* otherwise: the shape of every item */
    size_t c;           /* channels of every item; of photos, those to decode to */
    sim_type type;      /* of the samples of an item; of photos, the one to decode to */
    int32_t *labels;    /* [n_items], or NULL */
    char **class_names; /* [n_classes], or NULL */
    size_t n_classes;
    int32_t *groups;        /* [n_items], or NULL */
    prep_names group_names; /* "": of an image without a group */
    prep_split split; /* that was selected; PREP_DEFAULT_SPLIT: there are no splits */
    sim_value_range
        range; /* that becomes 0 to 255 of SIM_U8; zeros: values of 8 bits as they are */
    sim_value_range
        original;        /* of a data set of simile: what became its 0 to 255; or zeros */
    bool scale_bytes;    /* the values have 8 bits, and transfer.c applies the range */
    size_t n_excluded;   /* images of the source that are not items; reported by `open` */
    size_t n_bad;        /* items skipped while opening */
    char first_bad[256]; /* reason for the first of them; "": each was reported */
    prep_names beside;   /* files beside the items that are read: labels, names, a list */
    void *state;         /* private to the format */
} prep_source;

/* Options that only some formats support. */
enum {
    PREP_HAS_UNLABELED = 1, /* --split unlabeled */
    PREP_HAS_SIZE = 2,      /* --size, --crop */
    PREP_HAS_COARSE = 4,    /* --labels coarse */
    PREP_HAS_KEYS = 8,      /* --labels-key, --groups-key */
    PREP_HAS_IMAGES = 16,   /* --images-key */
    PREP_HAS_PATH = 32,     /* --path */
    PREP_HAS_LAYOUT = 64,   /* --layout */
    PREP_HAS_PAGES = 128    /* --pages */
};

typedef struct {
    const char *name, *help;
    bool sequential; /* `read` is called by one thread at a time, with increasing items */
    int supported;   /* PREP_HAS_... */
    /* Whether the content of a file is of this format; NULL: it cannot be recognized.  The path is
     * not a directory. */
    bool (*probe_content)(const char *path);
    /* Whether the path is named as a source of this format, or is a directory with such names. */
    bool (*probe)(const char *path);
    /* Opens one source.  NULL: open_several does. */
    SIM_MUST_USE sim_status (*open)(const char *path, const prep_options *options,
                                    prep_source *out);
    /* Opens any number of sources as one; NULL: the format takes one.  Borrowed until close. */
    SIM_MUST_USE sim_status (*open_several)(const prep_sources *sources,
                                            const prep_options *options,
                                            prep_source *out);
    /* Reads item i, pixels or a file.  *bytes [*n] is borrowed from the source, or equals
     * *buffer, which the caller releases with sim_free. */
    SIM_MUST_USE sim_status (*read)(const prep_source *s, size_t i, const uint8_t **bytes,
                                    size_t *n, uint8_t **buffer);
    /* Path of item i in the source, or "FILE[i]", as stored in the data set; of several sources
     * "LABEL/path". */
    void (*item_name)(const prep_source *s, size_t i, char *out, size_t out_bytes);
    /* Path of the file that is item i.  NULL: the items are parts of the source. */
    SIM_MUST_USE sim_status (*item_path)(const prep_source *s, size_t i,
                                         char out[PATH_MAX]);
    void (*close)(prep_source *s);
} prep_format;

/*
 * Converts on sim_threads() threads; the result has the same bytes for any number of them.
 * Progress is printed on stderr.  An interrupted conversion is resumed by the same call.
 * Errors: SIM_E_USAGE, SIM_E_INPUT, SIM_E_DATA, SIM_E_CREATE, SIM_E_IO; `out` is then
 * unchanged.
 */
SIM_MUST_USE sim_status sim_prep_convert(const prep_sources *sources, const char *out,
                                         const prep_options *options,
                                         prep_result *result);
/* Whether a path is named as a list of files. */
bool sim_prep_is_list(const char *path);
/* Names of the formats, separated by '|'. */
const char *sim_prep_format_names(void);

/* ---- between prep.c and the other steps ---- */

/* Applies --classes: images of the listed classes have their numbers in the list as labels, the others
 * -1.  `where` is the name of the source. */
SIM_MUST_USE sim_status sim_prep_keep_classes(const char *list_path, const char *where,
                                              prep_source *s);

/*
 * Leaves out items with the label -1 and applies --holdout and --limit.  *out [n_items] marks the items to keep; it is unchanged if
 * all are kept.  The caller owns *out.
 */
SIM_MUST_USE sim_status sim_prep_select_items(const prep_source *s,
                                              const prep_options *options, bool **out,
                                              size_t *n_selected);

/* Items [lo, hi) of a source to convert. */
typedef struct {
    const prep_format *format;
    const prep_source *source;
    const char *path; /* of the source, for messages; NULL: several */
    const prep_options *options;
    const bool *selected; /* [n_items]; NULL: all */
    size_t lo, hi;
    const sim_dataset_spec *spec;
    const uint8_t *map;         /* [256]: output of each value of 8 bits; NULL: itself */
    sim_dataset_writer *writer; /* may have recovered items */
} prep_transfer;
/* Appends the items that the writer has not recovered. */
SIM_MUST_USE sim_status sim_prep_transfer(const prep_transfer *transfer,
                                          prep_result *result);

/* ---- for the formats ---- */

/* Extremes of the values of a set of images with more than 8 bits. */
typedef struct {
    double lo, hi;
    bool any, integers;
} prep_extremes;
void sim_prep_extremes_add(prep_extremes *e, double lo, double hi, bool integers);
/*
 * The range of values that becomes 0 to 255: that of the options, or the one that fits the extremes (of
 * integers the bits in use; of floats 0 to 1, 0 to 255, or the extremes).  Reports it, unless
 * it is obvious.
 */
sim_value_range sim_prep_choose_range(const prep_extremes *e,
                                      const prep_options *options);
/* The value of 0 to 255 for v; values outside of the range are clipped. */
uint8_t sim_prep_scale_value(const sim_value_range *r, double v);

/* The images of a source that may have more than 8 bits. */
typedef struct {
    size_t n_others; /* files of formats that always have 8 bits; not read */
    size_t n;        /* that were read */
    size_t n_bytes;  /* with 8 bits, of these */
    sim_type type;   /* the largest */
    size_t first_c, least_c, most_c; /* channels */
    prep_extremes extremes;          /* of images with more than 8 bits */
} prep_survey;
/* Adds an image file; one that cannot be decoded is not counted. */
void sim_prep_survey_add(prep_survey *s, const prep_options *o, const char *name,
                         const uint8_t *bytes, size_t n);
/* Adds the images of another survey. */
void sim_prep_survey_merge(prep_survey *s, const prep_survey *more);
/* Chooses type, channels and range of a source of image files. */
void sim_prep_survey_apply(const prep_survey *s, const prep_options *o,
                           prep_source *source);
/* first [l->n]: of every name the number of the first one that is equal. */
SIM_MUST_USE sim_status sim_prep_names_first(const prep_names *l, uint32_t *first);

/* A set of names, numbered in the order in which they are added. */
typedef struct {
    prep_names names;
    uint32_t *sorted; /* [names.n]: numbers in the order of the names */
    size_t capacity;
} prep_set;
SIM_MUST_USE sim_status sim_prep_set_add(prep_set *s, const char *name, uint32_t *number);
void sim_prep_set_clear(prep_set *s);

enum { PREP_MAX_CLASSES = 1 << 20 };
/*
 * Sets labels, and class names where needed, from whole numbers.  Numbers from 0 on are classes as
 * they are, also if some of them occur in no image; so are numbers from 1 on if the source names
 * n_named classes, and all numbers are below.  Others (from 1 on, negative, or
 * PREP_MAX_CLASSES and above) become classes named by the values that occur, in ascending order.
 *
 *   where   source of the labels, for the log
 *   values  [n]
 */
SIM_MUST_USE sim_status sim_prep_set_numbers(const char *where, const int64_t *values,
                                             size_t n, size_t n_named, prep_source *out);
/* Numbers the classes in the order of their names; out->labels [n] hold their numbers in the set. */
SIM_MUST_USE sim_status sim_prep_set_names(const prep_set *names, size_t n,
                                           prep_source *out);
/*
 * Sets labels, and class names where needed, from texts: whole numbers, if all of them are, or names.
 *
 *   where   source of the labels, for messages
 *   texts   one of each item
 *
 * Errors: SIM_E_DATA if there are too many classes.
 */
SIM_MUST_USE sim_status sim_prep_set_texts(const char *where, const prep_names *texts,
                                           prep_source *out);
/*
 * Sets groups and their names from one text of each item, in the order of their first items.  An item
 * with an empty text is a group of its own, and a log line counts those.
 */
SIM_MUST_USE sim_status sim_prep_set_groups(const char *where, const prep_names *texts,
                                            prep_source *out);
/* The distinct values [*n_distinct] in ascending order.  The caller owns *out. */
SIM_MUST_USE sim_status sim_prep_distinct(const int64_t *values, size_t n, int64_t **out,
                                          size_t *n_distinct);

/* "A/B".  Errors: SIM_E_INPUT if it is too long. */
SIM_MUST_USE sim_status sim_prep_join(const char *a, const char *b, char *out,
                                      size_t out_bytes);
/* The text after the last slash. */
const char *sim_prep_base_name(const char *path);
/* The last component of a path, without slashes at its end. */
void sim_prep_last_component(const char *path, char *out, size_t out_bytes);
/* Errors: SIM_E_USAGE if --channels names another channel than 0 to c - 1. */
SIM_MUST_USE sim_status sim_prep_check_channels(const prep_options *o, size_t c);
/* Whether a name has the extension of a photo and is not hidden. */
bool sim_prep_is_photo(const char *name);

/* Reads a file, through gzip if its content is compressed.  The caller owns *bytes [n]. */
SIM_MUST_USE sim_status sim_prep_load(const char *path, size_t limit, uint8_t **bytes,
                                      size_t *n);

/* Whether a file is a tar or zip archive, compressed or not, by its content. */
bool sim_prep_is_tar(const char *path);

/* A tar or zip archive with any compression, read from start to end.  Names of entries are never
 * used as paths. */
typedef struct prep_tar prep_tar;
typedef struct {
    const char *name;  /* borrowed until the next call; NULL: end of the archive */
    const char *outer; /* name of the inner tar that contains the entry, or NULL */
    size_t archive;    /* number of the archive */
    uint64_t n_bytes;
    bool is_link; /* hard or symbolic, without data */
} prep_entry;
/* With `nested`, the entries of inner tars (*.tar) are listed too, one level deep. */
SIM_MUST_USE sim_status sim_prep_tar_open(const char *path, bool nested, prep_tar **out);
SIM_MUST_USE sim_status sim_prep_tar_next(prep_tar *t, prep_entry *out);
/* The same of several archives, whose entries follow each other.  paths [n] is borrowed until close. */
SIM_MUST_USE sim_status sim_prep_tar_open_all(char *const *paths, size_t n, bool nested,
                                              prep_tar **out);
/* Reads the next n bytes of the entry.  Errors: SIM_E_DATA if it has fewer. */
SIM_MUST_USE sim_status sim_prep_tar_read(prep_tar *t, void *data, size_t n);
/* Reads the entry, at most `limit` bytes.  The caller owns *bytes [n]. */
SIM_MUST_USE sim_status sim_prep_tar_load(prep_tar *t, size_t limit, uint8_t **bytes,
                                          size_t *n);
void sim_prep_tar_close(prep_tar **t);

/* Whether the path is a tar archive with one of these names (NULL-terminated) among its
 * first entries. */
bool sim_prep_tar_contains(const char *path, const char *const *names);

/* Splits text into its non-empty lines; release with sim_prep_free_lines. */
SIM_MUST_USE sim_status sim_prep_lines(const char *text, size_t n_bytes, char ***lines,
                                       size_t *n);
void sim_prep_free_lines(char **lines, size_t n);

#endif
