/*
 * option.h - option tables: every key of a job is a row in its owner's file.
 *
 * Module: core
 * From the rows come parsing, range checks, --help, the resolved job, its identity and
 * the README's tables.  Names may be dotted ("projector.layers"): a table stands under
 * a section of the job ("encoder"), "" being the top level.
 */
#ifndef SIMILE_OPTION_H
#define SIMILE_OPTION_H

#include "simile/status.h"

#include <stddef.h>
#include <stdint.h>

typedef enum {
    SIM_OPTION_INT,  /* int64_t */
    SIM_OPTION_REAL, /* double; nan and inf are refused */
    SIM_OPTION_BOOL, /* bool */
    SIM_OPTION_ENUM, /* int: index into choices */
    SIM_OPTION_TEXT, /* char[SIM_OPTION_TEXT_BYTES] */
    SIM_OPTION_ITEMS /* sim_option_items: a sequence of mappings */
} sim_option_type;

enum { SIM_OPTION_TEXT_BYTES = 1024, SIM_OPTION_MAX_ITEMS = 16 };

/*
 * Storage for an option struct that only the owner of its table can name: the options of
 * a method, and those of one list item.  It is aligned for every type and is passed as
 * void *.  Because of the byte member, a copy of a storage may alias any type.
 */
enum { SIM_OPTION_STORAGE_BYTES = 512, SIM_OPTION_ITEM_BYTES = 128 };
typedef union {
    max_align_t align;
    unsigned char bytes[SIM_OPTION_STORAGE_BYTES];
} sim_option_storage;
typedef union {
    max_align_t align;
    unsigned char bytes[SIM_OPTION_ITEM_BYTES];
} sim_option_item_storage;

/* The struct_bytes of a table that fills `type`; does not compile if it exceeds `storage`. */
#define SIM_OPTION_BYTES(type, storage)                                                  \
    (sizeof(type) + 0 * sizeof(struct {                                                  \
                        _Static_assert(sizeof(type) <= sizeof(storage),                  \
                                       #type " exceeds " #storage);                      \
                        char unused;                                                     \
                    }))

/* Whether a key is part of what the run is, or may differ between its segments. */
typedef enum { SIM_IDENTITY, SIM_FREE_KEY } sim_option_kind;

struct sim_option_table;

typedef struct sim_option {
    const char *name;
    sim_option_type type;
    size_t offset; /* in the owner's struct */
    double min, max;
    const char *fallback; /* default as text; NULL: the key is required */
    /* ENUM: "sgd|lars|adamw"; INT: a word that stands for 0, or NULL; REAL: NULL */
    const char *choices;
    const char *unit; /* "images", "epochs" ...; "" where none */
    const char *help; /* one sentence */
    sim_option_kind kind;
    /* ITEMS: the table of an item whose `op` has this index in `choices`. */
    const struct sim_option_table *item_tables;
    /* The value that describes jobs written before this key existed; NULL: the default. */
    const char *before;
} sim_option;

typedef struct sim_option_table {
    const char *section; /* "optimizer"; for an item its op's name */
    const sim_option *rows;
    size_t n_rows;
    size_t struct_bytes;
} sim_option_table;

/* Parsed ITEMS: items[i] is a zeroed struct of item_tables[op[i]], filled. */
typedef struct {
    bool given; /* an empty list was written, or items */
    size_t n;
    int op[SIM_OPTION_MAX_ITEMS];
    sim_option_item_storage values[SIM_OPTION_MAX_ITEMS];
} sim_option_items;

/* Number of choices in "a|b|c", the i-th one's text, and the index of a text (-1). */
size_t sim_choices_count(const char *choices);
bool sim_choices_text(const char *choices, int i, char *out, size_t out_bytes);
int sim_choices_find(const char *choices, const char *text);

/* Edit distance, for "did you mean". */
size_t sim_edit_distance(const char *a, const char *b);

#endif
