/*
 * from_list.c - photos that a table names: their paths, labels, splits and groups.
 *
 * The source is the table, whose paths are relative to its directory; or the directory of the photos,
 * with the table as --list.  Every line that is not used is reported with its number.  The order of
 * the photos is that of the lines.
 */
#include "csv.h"
#include "photo_files.h"

#include "simile/log.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { BAD_REPORTED = 20 };

/* Columns that are read; NO_COLUMN: none. */
typedef enum { PATH_COLUMN, LABEL_COLUMN, GROUP_COLUMN, SPLIT_COLUMN, N_COLUMNS } column;
#define NO_COLUMN ((size_t)-1)

typedef struct {
    char table[PATH_MAX], root[PATH_MAX]; /* root: what paths are relative to */
    const prep_options *options;          /* while the source is opened */
    prep_csv csv;                         /* the same */
    size_t column[N_COLUMNS];
    prep_split split; /* that is selected; PREP_DEFAULT_SPLIT: there are none */
    size_t in_split[PREP_N_SPLITS];
    /* Of every line with a valid path, then of the items. */
    prep_names paths, labels, groups;
    size_t *line;
    bool *selected;
    size_t capacity;
    size_t n_bad;
} list;

extern const prep_format sim_prep_format_list;

/* ---- lines that are not used ---- */

static sim_status skip_line(list *l, size_t line, const char *fmt, ...) SIM_PRINTF(3, 4);
static sim_status skip_line(list *l, size_t line, const char *fmt, ...)
{
    sim_status st = SIM_OK;
    char reason[PATH_MAX + 256];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(reason, sizeof reason, fmt, args);
    va_end(args);
    SIM_CHECK(!l->options->fail_on_bad, SIM_E_DATA, "%s, line %zu: %s", l->table, line,
              reason);
    if (l->n_bad < BAD_REPORTED)
        sim_log_warn("skipped: %s, line %zu: %s%s", l->table, line, reason,
                     l->n_bad + 1 == BAD_REPORTED ? " (others are not listed)" : "");
    l->n_bad++;
done:
    return st;
}

/* ---- columns ---- */

static void list_columns(const list *l, bool ignored_only, char *out, size_t out_bytes)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < l->csv.n_columns && used < out_bytes; i++) {
        bool is_read = false;
        for (size_t k = 0; k < N_COLUMNS; k++)
            is_read |= l->column[k] == i;
        if (ignored_only && is_read)
            continue;
        const int n = snprintf(out + used, out_bytes - used, "%s%s", used ? ", " : "",
                               l->csv.columns[i][0] ? l->csv.columns[i] : "(no name)");
        used += n > 0 ? (size_t)n : 0;
    }
}

/* Finds the column that an option names, which must exist, or the default one. */
static sim_status find_column(list *l, column which, const char *option, const char *key,
                              const char *fallback)
{
    sim_status st = SIM_OK;
    const bool required = key || which == PATH_COLUMN;
    const char *name = key ? key : fallback;
    const size_t at = sim_prep_csv_column(&l->csv, name);
    char all[512];

    if (at < l->csv.n_columns) {
        l->column[which] = at;
        goto done;
    }
    list_columns(l, false, all, sizeof all);
    SIM_CHECK(!required, SIM_E_DATA,
              "%s has no column \"%s\"; its columns are %s: name one with %s", l->table,
              name, all, option);
done:
    return st;
}

static sim_status find_columns(list *l)
{
    sim_status st = SIM_OK;
    const prep_options *o = l->options;
    const bool no_labels = o->labels_key && strcmp(o->labels_key, "none") == 0;
    char ignored[512];

    for (size_t k = 0; k < N_COLUMNS; k++)
        l->column[k] = NO_COLUMN;
    SIM_TRY(find_column(l, PATH_COLUMN, "--images-key", o->images_key, "path"));
    SIM_TRY(find_column(l, GROUP_COLUMN, "--groups-key", o->groups_key, "group"));
    SIM_TRY(find_column(l, SPLIT_COLUMN, "--split", NULL, "split"));
    if (!no_labels)
        SIM_TRY(find_column(l, LABEL_COLUMN, "--labels-key", o->labels_key, "label"));
    list_columns(l, true, ignored, sizeof ignored);
    if (ignored[0])
        sim_log("%s: ignored columns: %s", l->table, ignored);
done:
    return st;
}

static const char *field_of(const list *l, column which)
{
    return l->column[which] == NO_COLUMN ? "" : l->csv.fields[l->column[which]];
}

/* ---- paths ---- */

/* The part of an absolute path below the root; NULL if it is elsewhere. */
static const char *below_root(const char *path, const char *root)
{
    char absolute[PATH_MAX];
    const char *base = root[0] == '/' ? root : realpath(root, absolute);
    size_t n = base ? strlen(base) : 0;

    while (n > 0 && base[n - 1] == '/')
        n--;
    return base && strncmp(path, base, n) == 0 && path[n] == '/' ? path + n : NULL;
}

/* Removes empty components, "." and ".."; false if the path leaves its root, or is too long or
 * empty. */
static bool normalize(const char *path, char out[PATH_MAX])
{
    size_t used = 0;

    for (size_t n = 0; *path; path += n) {
        path += strspn(path, "/");
        n = strcspn(path, "/");
        if (n == 0 || (n == 1 && path[0] == '.'))
            continue;
        if (n == 2 && path[0] == '.' && path[1] == '.') {
            if (used == 0)
                return false;
            while (used > 0 && out[--used] != '/') {
            }
            continue;
        }
        if (used + n + 2 > PATH_MAX)
            return false;
        if (used)
            out[used++] = '/';
        memcpy(out + used, path, n);
        used += n;
    }
    out[used] = '\0';
    return used > 0;
}

/* Makes a path relative to the root; *valid is false if the line is skipped. */
static sim_status resolve_path(list *l, char out[PATH_MAX], bool *valid)
{
    sim_status st = SIM_OK;
    const char *given = field_of(l, PATH_COLUMN), *inside = given;

    *valid = false;
    if (!*given) {
        SIM_TRY(skip_line(l, l->csv.line, "the path is empty"));
        goto done;
    }
    if (*given == '/')
        inside = below_root(given, l->root);
    *valid = inside && normalize(inside, out);
    if (!*valid)
        SIM_TRY(skip_line(l, l->csv.line,
                          "%.300s is not below %.300s; give a directory that contains "
                          "all images as SOURCE, with --list",
                          given, l->root));
done:
    return st;
}

/* ---- rows ---- */

static sim_status add_row(list *l, const char *path, bool selected)
{
    sim_status st = SIM_OK;
    const size_t i = l->paths.n;

    if (i == l->capacity) {
        l->capacity = 2 * l->capacity + 1024;
        SIM_TRY(sim_grow(&l->line, l->capacity, "prep/list"));
        SIM_TRY(sim_grow(&l->selected, l->capacity, "prep/list"));
    }
    l->line[i] = l->csv.line;
    l->selected[i] = selected;
    SIM_TRY(sim_prep_names_add(&l->paths, path));
    SIM_TRY(sim_prep_names_add(&l->labels, field_of(l, LABEL_COLUMN)));
    SIM_TRY(sim_prep_names_add(&l->groups, field_of(l, GROUP_COLUMN)));
done:
    return st;
}

/* Whether the row is of the split; *valid is false if the line is skipped. */
static sim_status check_split(list *l, bool *selected, bool *valid)
{
    sim_status st = SIM_OK;
    const char *name = field_of(l, SPLIT_COLUMN);

    *valid = *selected = true;
    if (l->column[SPLIT_COLUMN] == NO_COLUMN)
        goto done;
    const prep_split split = sim_prep_split_of(name);
    *valid = split != PREP_DEFAULT_SPLIT;
    if (!*valid)
        SIM_TRY(skip_line(l, l->csv.line,
                          "the split is \"%.100s\", expected train, val, test or "
                          "unlabeled",
                          name));
    *selected = split == l->split;
    l->in_split[split]++;
done:
    return st;
}

static sim_status read_row(list *l)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];
    bool valid = false, selected = false;

    if (l->csv.problem) {
        SIM_TRY(skip_line(l, l->csv.line, "%s", l->csv.problem));
        goto done;
    }
    SIM_TRY(check_split(l, &selected, &valid));
    if (valid)
        SIM_TRY(resolve_path(l, path, &valid));
    if (valid && selected && l->column[LABEL_COLUMN] != NO_COLUMN &&
        !*field_of(l, LABEL_COLUMN)) {
        SIM_TRY(skip_line(l, l->csv.line,
                          "the label is empty (--labels-key none converts without "
                          "labels)"));
        valid = false;
    }
    if (valid)
        SIM_TRY(add_row(l, path, selected));
done:
    return st;
}

static sim_status read_rows(list *l)
{
    sim_status st = SIM_OK;

    for (bool any = true; any;) {
        SIM_TRY(sim_prep_csv_next(&l->csv, &any));
        if (any)
            SIM_TRY(read_row(l));
    }
done:
    return st;
}

/* ---- duplicates ---- */

static sim_status item_path(const list *l, size_t i, char out[PATH_MAX])
{
    const char *root = strcmp(l->root, "/") == 0 ? "" : l->root;
    return sim_prep_join(root, sim_prep_names_get(&l->paths, i), out, PATH_MAX);
}

/* The paths of the files without links, so that a link to an image is that image. */
static sim_status resolve_paths(const list *l, prep_names *out)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX], real[PATH_MAX];

    for (size_t i = 0; i < l->paths.n; i++) {
        SIM_TRY(item_path(l, i, path));
        SIM_TRY(sim_prep_names_add(out, realpath(path, real) ? real : path));
    }
done:
    return st;
}

/* The first line of a file counts, also if it is of another split: an image is then not both in the
 * training and in the test set. */
static sim_status skip_duplicates(list *l)
{
    sim_status st = SIM_OK;
    uint32_t *first = NULL;
    prep_names real = {0};
    const size_t n = l->paths.n;

    SIM_TRY(sim_alloc(&first, n, "prep/list"));
    SIM_TRY(resolve_paths(l, &real));
    SIM_TRY(sim_prep_names_first(&real, first));
    for (size_t i = 0; i < n; i++) {
        if (!l->selected[i] || first[i] == i)
            continue;
        l->selected[i] = false;
        SIM_TRY(skip_line(l, l->line[i], "%.300s is in line %zu already",
                          sim_prep_names_get(&l->paths, i), l->line[first[i]]));
    }
done:
    sim_free(first);
    sim_prep_names_clear(&real);
    return st;
}

/* ---- items ---- */

static sim_status skip_missing(list *l)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];
    struct stat about;

    for (size_t i = 0; i < l->paths.n; i++) {
        if (!l->selected[i])
            continue;
        SIM_TRY(item_path(l, i, path));
        const bool exists = stat(path, &about) == 0;
        if (exists && S_ISREG(about.st_mode))
            continue;
        l->selected[i] = false;
        SIM_TRY(skip_line(l, l->line[i], "%.300s: %s", path,
                          exists ? "not a regular file" : strerror(errno)));
    }
done:
    return st;
}

static sim_status keep_selected(prep_names *names, const bool *selected)
{
    sim_status st = SIM_OK;
    prep_names kept = {0};

    for (size_t i = 0; i < names->n; i++)
        if (selected[i])
            SIM_TRY(sim_prep_names_add(&kept, sim_prep_names_get(names, i)));
    sim_prep_names_clear(names);
    *names = kept;
    kept = (prep_names){0};
done:
    sim_prep_names_clear(&kept);
    return st;
}

static sim_status set_items(list *l, prep_source *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(keep_selected(&l->paths, l->selected));
    SIM_TRY(keep_selected(&l->labels, l->selected));
    SIM_TRY(keep_selected(&l->groups, l->selected));
    out->n_items = l->paths.n;
    out->n_bad = l->n_bad;
    SIM_CHECK(out->n_items > 0, SIM_E_DATA, "%s: no line names an image that can be read",
              l->table);
    if (l->column[LABEL_COLUMN] != NO_COLUMN)
        SIM_TRY(sim_prep_set_texts(l->table, &l->labels, out));
    if (l->column[GROUP_COLUMN] != NO_COLUMN)
        SIM_TRY(sim_prep_set_groups(l->table, &l->groups, out));
done:
    return st;
}

/* ---- the split ---- */

static sim_status choose_split(list *l, prep_source *out)
{
    sim_status st = SIM_OK;
    const prep_split requested = l->options->split;

    if (l->column[SPLIT_COLUMN] == NO_COLUMN)
        SIM_TRY(sim_prep_check_file_split(l->table, requested));
    else
        l->split = requested == PREP_DEFAULT_SPLIT ? PREP_TRAIN : requested;
    out->split = l->split;
done:
    return st;
}

static sim_status report_splits(const list *l)
{
    sim_status st = SIM_OK;
    char text[200] = "";
    size_t used = 0;

    if (l->split == PREP_DEFAULT_SPLIT)
        goto done;
    for (prep_split s = PREP_TRAIN; s < PREP_N_SPLITS; s++)
        if (l->in_split[s])
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s %zu",
                                     used ? ", " : "", sim_prep_split_name(s),
                                     l->in_split[s]);
    SIM_CHECK(l->in_split[l->split], SIM_E_INPUT,
              "%s has no line of split %s; its splits are %s: select one with --split",
              l->table, sim_prep_split_name(l->split), used ? text : "empty");
    sim_log("split %s of %s (lines by split: %s)", sim_prep_split_name(l->split),
            l->table, text);
done:
    return st;
}

/* ---- the format ---- */

bool sim_prep_is_list(const char *path)
{
    const size_t n = strlen(path);
    return n > 4 && (strcasecmp(path + n - 4, ".csv") == 0 ||
                     strcasecmp(path + n - 4, ".tsv") == 0);
}

/* The table and the directory of its paths. */
static sim_status find_files(const char *source, const prep_options *o, list *l)
{
    sim_status st = SIM_OK;
    struct stat about;
    const char *base = sim_prep_base_name(source);
    const bool is_directory = stat(source, &about) == 0 && S_ISDIR(about.st_mode);

    SIM_CHECK(!o->list || is_directory, SIM_E_INPUT,
              "%s is not a directory; with --list, SOURCE is the directory that contains "
              "the images",
              source);
    SIM_CHECK(o->list || !is_directory, SIM_E_INPUT,
              "%s is a directory; give its list of files with --list FILE.csv", source);
    (void)snprintf(l->table, sizeof l->table, "%s", o->list ? o->list : source);
    if (o->list)
        (void)snprintf(l->root, sizeof l->root, "%s", source);
    else
        (void)snprintf(l->root, sizeof l->root, "%.*s",
                       base > source ? (int)(base - source) : 1,
                       base > source ? source : ".");
    while (strlen(l->root) > 1 && sim_text_ends_with(l->root, "/"))
        l->root[strlen(l->root) - 1] = '\0';
done:
    return st;
}

static sim_status list_open_source(const char *path, const prep_options *options,
                                   prep_source *out)
{
    sim_status st = SIM_OK;
    list *l = NULL;

    SIM_TRY(sim_new(&l, "prep/list"));
    out->state = l;
    out->photos = true;
    l->options = options;
    SIM_TRY(find_files(path, options, l));
    SIM_TRY(sim_prep_names_add(&out->beside, l->table));
    SIM_TRY(sim_prep_csv_open(l->table, &l->csv));
    SIM_TRY(find_columns(l));
    SIM_TRY(choose_split(l, out));
    SIM_TRY(read_rows(l));
    SIM_TRY(report_splits(l));
    SIM_TRY(skip_duplicates(l));
    SIM_TRY(skip_missing(l));
    SIM_TRY(set_items(l, out));
    SIM_TRY(sim_prep_photos_survey(&sim_prep_format_list, options, out));
done:
    if (l)
        sim_prep_csv_close(&l->csv);
    return st;
}

static sim_status list_item_path(const prep_source *s, size_t i, char out[PATH_MAX])
{
    return item_path(s->state, i, out);
}

static void list_item_name(const prep_source *s, size_t i, char *out, size_t out_bytes)
{
    const list *l = s->state;
    (void)snprintf(out, out_bytes, "%s", sim_prep_names_get(&l->paths, i));
}

static sim_status list_read_item(const prep_source *s, size_t i, const uint8_t **bytes,
                                 size_t *n, uint8_t **buffer)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];

    SIM_TRY(list_item_path(s, i, path));
    SIM_TRY(sim_prep_photo_load(path, buffer, n));
    *bytes = *buffer;
done:
    return st;
}

static void list_close_source(prep_source *s)
{
    list *l = s->state;
    if (!l)
        return;
    sim_prep_csv_close(&l->csv);
    sim_prep_names_clear(&l->paths);
    sim_prep_names_clear(&l->labels);
    sim_prep_names_clear(&l->groups);
    sim_free(l->line);
    sim_free(l->selected);
    sim_free(l);
}

const prep_format sim_prep_format_list = {
    .name = "list",
    .help = "a CSV or TSV file of paths, labels, splits and groups",
    .supported = PREP_HAS_UNLABELED | PREP_HAS_SIZE | PREP_HAS_KEYS | PREP_HAS_IMAGES |
                 PREP_HAS_PAGES,
    .probe = sim_prep_is_list,
    .open = list_open_source,
    .read = list_read_item,
    .item_name = list_item_name,
    .item_path = list_item_path,
    .close = list_close_source};
