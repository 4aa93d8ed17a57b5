/*
 * option.h - option tables: every key of a job is a row in the file of its owner.
 *
 * Module: core
 * Parsing, range checks, `plan --keys`, the resolved job and its identity are derived from the
 * rows. A table belongs to a section of the job ("encoder"; "" is the top level). Names may be
 * dotted ("projector.layers").
 */
#ifndef SIMILE_OPTION_H
#define SIMILE_OPTION_H

#include "simile/status.h"

#include <stddef.h>
#include <stdint.h>

typedef enum {
    SIM_OPTION_INT,     /* int64_t */
    SIM_OPTION_REAL,    /* double; must be finite */
    SIM_OPTION_BOOL,    /* bool */
    SIM_OPTION_ENUM,    /* int: index into choices */
    SIM_OPTION_TEXT,    /* char[SIM_OPTION_TEXT_BYTES] */
    SIM_OPTION_TEXTS,   /* sim_option_texts: one text or a list */
    SIM_OPTION_NUMBERS, /* sim_option_numbers: a list "1,10,20", each in the range */
    SIM_OPTION_ITEMS    /* sim_option_items: a YAML sequence of mappings */
} sim_option_type;

enum { SIM_OPTION_TEXT_BYTES = 1024, SIM_OPTION_MAX_ITEMS = 16 };

/*
 * Storage for an option struct whose type is private to the owner of its table: the options of
 * a method, and those of one list item. It is aligned for every type and is passed as
 * void *. Because of the byte member, a copy of a storage may alias any type.
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

/* sizeof(type), for the struct_bytes of a table; does not compile if it exceeds `storage`. */
#define SIM_OPTION_BYTES(type, storage)                                                  \
    (sizeof(type) + 0 * sizeof(struct {                                                  \
                        _Static_assert(sizeof(type) <= sizeof(storage),                  \
                                       #type " exceeds " #storage);                      \
                        char unused;                                                     \
                    }))

typedef enum {
    SIM_IDENTITY, /* determines the result of the run */
    SIM_FREE_KEY, /* may change between the segments of a run */
    SIM_RANK_KEY  /* may also differ between ranks */
} sim_option_kind;

struct sim_option_table;

typedef struct sim_option {
    const char *name;
    sim_option_type type;
    size_t offset;        /* in the owner's struct */
    double min, max;      /* inclusive range of INT, REAL and NUMBERS */
    const char *fallback; /* default as text; NULL: the key is required */
    /* ENUM and ITEMS: "sgd|lars|adamw"; INT: a word for the value 0, or NULL; NUMBERS:
     * SIM_WHOLE_NUMBERS or NULL; REAL: NULL */
    const char *choices;
    const char *unit; /* "images", "epochs" ...; "" if none */
    const char *help; /* one sentence */
    sim_option_kind kind;
    /* ITEMS: the table of an item whose `op` has this index in `choices`. */
    const struct sim_option_table *item_tables;
    /* The value that applies to jobs saved before this key existed; NULL: the default. */
    const char *before;
} sim_option;

typedef struct sim_option_table {
    const char *section; /* "optimizer"; for a list item the name of its `op` */
    const sim_option *rows;
    size_t n_rows;
    size_t struct_bytes; /* size of the owner's struct */
} sim_option_table;

/* Value of a NUMBERS key; `choices` of a row for whole numbers only. */
#define SIM_WHOLE_NUMBERS "whole"
enum { SIM_OPTION_MAX_NUMBERS = 16 };
typedef struct {
    size_t n; /* >= 1; 0 only if the default is "", the empty list */
    double values[SIM_OPTION_MAX_NUMBERS];
} sim_option_numbers;

/* Value of a TEXTS key: a YAML sequence, or a text without quotes that is divided at its commas. */
enum { SIM_OPTION_MAX_TEXTS = 16 };
typedef struct {
    size_t n;
    char text[SIM_OPTION_MAX_TEXTS][SIM_OPTION_TEXT_BYTES];
} sim_option_texts;

/* Value of an ITEMS key: values[i] holds the option struct of item_tables[op[i]]. */
typedef struct {
    bool given; /* the key is present in the job; its list may be empty */
    size_t n;
    int op[SIM_OPTION_MAX_ITEMS];
    sim_option_item_storage values[SIM_OPTION_MAX_ITEMS];
} sim_option_items;

/* Choices such as "a|b|c": their number, the text of choice i (false if there is none or `out`
 * is too small), and the index of a text (-1 if there is none). */
size_t sim_choices_count(const char *choices);
bool sim_choices_text(const char *choices, int i, char *out, size_t out_bytes);
int sim_choices_find(const char *choices, const char *text);

/* Insertions, deletions, substitutions and swaps of neighbours that turn the first 127 bytes of
 * `a` into those of `b` (optimal string alignment). */
size_t sim_edit_distance(const char *a, const char *b);
/*
 * How far `text` is from `word` if it is likely a misspelling of it: they begin with the same
 * letter, and at most a third of the letters differ.  1 for an abbreviation of three letters or
 * more.  Otherwise SIM_UNRELATED: a suggestion would be a guess.
 */
#define SIM_UNRELATED ((size_t)-1)
size_t sim_misspelling(const char *text, const char *word);
/* The only choice of which `text` is a misspelling, or the nearest of several; -1: none, or
 * several are equally near. */
int sim_choices_suggest(const char *choices, const char *text);

#endif
