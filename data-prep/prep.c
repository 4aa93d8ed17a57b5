/*
 * prep.c - converts a source: detects its format, selects items, completes the data set.
 *
 * transfer.c converts the items.
 */
#include "prep.h"

#include "simile/file.h"
#include "simile/h5.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/tree.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PREP_FORMAT(name) extern const prep_format sim_prep_format_##name;
#include "formats.def"
#undef PREP_FORMAT

static const prep_format *const formats[] = {
#define PREP_FORMAT(name) &sim_prep_format_##name,
#include "formats.def"
#undef PREP_FORMAT
};
enum { N_FORMATS = sizeof formats / sizeof formats[0] };

const char *sim_prep_format_names(void)
{
#define PREP_FORMAT(name) "|" #name
    static const char names[] =
#include "formats.def"
        ;
#undef PREP_FORMAT
    return names + 1;
}

const char *sim_prep_split_name(prep_split split)
{
    static const char *const names[PREP_N_SPLITS] = {"all", "train", "val", "test",
                                                     "unlabeled"};
    return names[split];
}

sim_status sim_prep_is_test(const char *source, prep_split split, bool *test)
{
    sim_status st = SIM_OK;
    SIM_CHECK(split == PREP_DEFAULT_SPLIT || split == PREP_TRAIN || split == PREP_TEST,
              SIM_E_INPUT, "%s has no split %s; its splits are train and test", source,
              sim_prep_split_name(split));
    *test = split == PREP_TEST;
done:
    return st;
}

sim_status sim_prep_check_file_split(const char *path, prep_split split)
{
    static const char *const words[PREP_N_SPLITS][4] = {
        [PREP_TRAIN] = {"train", "data_batch"},
        [PREP_VAL] = {"val"},
        [PREP_TEST] = {"test", "t10k"},
        [PREP_UNLABELED] = {"unlabel"}};
    sim_status st = SIM_OK;
    const char *base = sim_prep_base_name(path);
    bool named = split == PREP_DEFAULT_SPLIT;

    for (size_t i = 0; words[split][i]; i++)
        named |= strstr(base, words[split][i]) != NULL;
    SIM_CHECK(named, SIM_E_INPUT,
              "--split %s: %s is a single file and its name does not contain the split; "
              "omit --split to convert all of it, or use --holdout",
              sim_prep_split_name(split), path);
done:
    return st;
}

/* The content decides before the name. */
static const prep_format *detect_format(const char *source)
{
    for (int i = 0; i < N_FORMATS && !sim_path_is_directory(source); i++)
        if (formats[i]->probe_content && formats[i]->probe_content(source))
            return formats[i];
    for (int i = 0; i < N_FORMATS; i++)
        if (formats[i]->probe && formats[i]->probe(source))
            return formats[i];
    return NULL;
}

static const prep_format *format_by_name(const char *name)
{
    for (int i = 0; i < N_FORMATS; i++)
        if (strcmp(name, formats[i]->name) == 0)
            return formats[i];
    return NULL;
}

static sim_status find_format(const char *source, const prep_options *options,
                              const prep_format **out)
{
    sim_status st = SIM_OK;

    SIM_CHECK(sim_path_exists(source), SIM_E_INPUT, "%s does not exist", source);
    SIM_CHECK(!options->list || !options->format || strcmp(options->format, "list") == 0,
              SIM_E_USAGE, "--list is of the format list, but --format is %s",
              options->format);
    if (options->list) {
        *out = format_by_name("list");
        goto done;
    }
    *out = options->format ? format_by_name(options->format) : detect_format(source);
    if (*out)
        goto done;
    SIM_CHECK(!options->format, SIM_E_USAGE, "--format %s is unknown, expected one of %s",
              options->format, sim_prep_format_names());
    SIM_CHECK(sim_path_kind_of(source) != SIM_PATH_ARCHIVE, SIM_E_DATA,
              "%s is compressed, but is not a tar or zip archive; decompress it first",
              source);
    SIM_FAIL(SIM_E_DATA, "%s: unknown format; specify one of %s with --format", source,
             sim_prep_format_names());
done:
    return st;
}

/* The format that all sources have. */
static sim_status find_formats(const prep_sources *s, const prep_options *options,
                               const prep_format **out)
{
    sim_status st = SIM_OK;
    const prep_format *other = NULL;

    SIM_TRY(find_format(s->paths[0], options, out));
    SIM_ASSERT(*out);
    SIM_CHECK(
        s->n == 1 || (*out)->open_several, SIM_E_USAGE,
        "the format %s takes one source, but %zu are given (%s, %s, ...); of several "
        "data sets, a job can train on the union (data.train)",
        (*out)->name, s->n, s->paths[0], s->paths[1]);
    for (size_t k = 1; k < s->n; k++) {
        SIM_TRY(find_format(s->paths[k], options, &other));
        SIM_ASSERT(other);
        SIM_CHECK(
            other == *out, SIM_E_DATA,
            "%s is of the format %s, but %s of %s; sources that are joined must have "
            "one format",
            s->paths[0], (*out)->name, s->paths[k], other->name);
    }
done:
    return st;
}

typedef struct {
    const prep_format *format;
    const prep_sources *sources;
    const char *path;  /* the sources, for messages: that of one, "PATH and N more" */
    const char *out;   /* without links */
    const char *given; /* the output with links */
    const prep_options *options;
    prep_source source;
    uint8_t map[256]; /* of values of 8 bits, if source.scale_bytes */
    bool *selected;   /* [n_items]; NULL: all */
    size_t n_selected;
    sim_dataset_spec spec;
    char text[200]; /* spec.source */
    sim_dataset_writer *writer;
    char *identity; /* describe_identity */
    bool started;   /* the temporary files of this process exist */
} conversion;

/* ---- identity: an interrupted conversion is resumed only by an equal one ---- */

static void add_text(sim_hasher *h, const char *text)
{
    sim_hasher_add(h, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void add_numbers(sim_hasher *h, const uint64_t *numbers, size_t n)
{
    sim_hasher_add(h, numbers, n * sizeof *numbers);
}

static void add_options(sim_hasher *h, const prep_options *o)
{
    const uint64_t numbers[] = {o->coarse,      o->limit,      o->size,   o->keep_shape,
                                o->fail_on_bad, o->held_out,   o->seed,   o->has_type,
                                o->type,        o->n_channels, o->layout, o->pages};
    const double reals[] = {o->holdout, o->range_lo, o->range_hi};
    add_numbers(h, numbers, sizeof numbers / sizeof *numbers);
    sim_hasher_add(h, reals, sizeof reals);
    sim_hasher_add(h, o->channels, o->n_channels * sizeof *o->channels);
    add_text(h, sim_prep_split_name(o->split));
    add_text(h, o->classes);
    add_text(h, o->images_key);
    add_text(h, o->labels_key);
    add_text(h, o->groups_key);
    add_text(h, o->path);
    add_text(h, o->list);
    add_text(h, o->created_by);
}

/* Size and time of the last change of a regular file. */
static void add_file(sim_hasher *h, const char *path)
{
    struct stat about;

    if (stat(path, &about) != 0 || !S_ISREG(about.st_mode))
        return;
    const uint64_t numbers[] = {(uint64_t)about.st_size, (uint64_t)about.st_mtim.tv_sec,
                                (uint64_t)about.st_mtim.tv_nsec};
    add_numbers(h, numbers, 3);
}

/* Classes and groups, and those of each item. */
static void add_labels(sim_hasher *h, const prep_source *s)
{
    if (s->labels)
        sim_hasher_add(h, s->labels, s->n_items * sizeof *s->labels);
    for (size_t i = 0; s->class_names && i < s->n_classes; i++)
        add_text(h, s->class_names[i]);
    if (s->groups)
        sim_hasher_add(h, s->groups, s->n_items * sizeof *s->groups);
    for (size_t i = 0; i < s->group_names.n; i++)
        add_text(h, sim_prep_names_get(&s->group_names, i));
}

static void add_names(sim_hasher *h, const conversion *c)
{
    char name[1024];

    for (size_t i = 0; c->source.photos && i < c->source.n_items; i++) {
        c->format->item_name(&c->source, i, name, sizeof name);
        add_text(h, name);
    }
}

/* The source itself, or the files in a directory. */
static void add_files(sim_hasher *h, const conversion *c)
{
    char file[PATH_MAX];

    for (size_t k = 0; k < c->sources->n; k++)
        add_file(h, c->sources->paths[k]);
    for (size_t i = 0; c->format->item_path && i < c->source.n_items; i++)
        if (c->format->item_path(&c->source, i, file) == SIM_OK)
            add_file(h, file);
}

/* The hash of what was added since the last call. */
static void take_hash(sim_hasher *h, char out[33])
{
    sim_hash_hex(sim_hasher_value(h), out);
    sim_hasher_reset(h);
}

/* Lines that are equal for equal conversions; the caller owns *out. */
static sim_status describe_identity(const conversion *c, char **out)
{
    sim_status st = SIM_OK;
    const prep_source *s = &c->source;
    char of_options[33], names[33], labels[33], files[33];
    sim_hasher *h = NULL;

    SIM_TRY(sim_hasher_create(&h));
    add_options(h, c->options);
    take_hash(h, of_options);
    add_names(h, c);
    take_hash(h, names);
    add_labels(h, s);
    take_hash(h, labels);
    add_files(h, c);
    take_hash(h, files);
    SIM_TRY(sim_text_format("prep/identity", out,
                            "format %s, options %s\n%zu images, %zu not readable\n"
                            "photos %d, pixels %zu x %zu x %zu of %s\nnames %s\n"
                            "%zu classes, labels %s\nsizes and times of files %s\n",
                            c->format->name, of_options, s->n_items, s->n_bad, s->photos,
                            s->h, s->w, s->c, sim_type_name(s->type), names, s->n_classes,
                            labels, files));
done:
    sim_hasher_destroy(&h);
    return st;
}

/* ---- one process ---- */

/* The range of the original values that becomes 0 to 255, also if the source was scaled already. */
static sim_value_range original_range(const prep_source *s)
{
    const sim_value_range now = s->range, before = s->original;
    const double unit = (before.hi - before.lo) / 255;

    if (before.lo >= before.hi)
        return now;
    if (now.lo >= now.hi)
        return before;
    return (sim_value_range){before.lo + now.lo * unit, before.lo + now.hi * unit};
}

static sim_value_range given_range(const prep_options *o)
{
    return (sim_value_range){o->range_lo, o->range_hi};
}

static sim_dataset_spec make_spec(const prep_source *s, const prep_options *options,
                                  const char *source)
{
    bool encoded = s->photos && (options->size == 0 || options->keep_shape);
    return (sim_dataset_spec){.encoded = encoded,
                              .h = encoded     ? 0
                                   : s->photos ? options->size
                                               : s->h,
                              .w = encoded     ? 0
                                   : s->photos ? options->size
                                               : s->w,
                              .c = encoded               ? 3
                                   : options->n_channels ? options->n_channels
                                                         : s->c,
                              .type = s->type,
                              .source = source,
                              .created_by = options->created_by,
                              .range = s->type == SIM_U8 ? original_range(s)
                                                         : given_range(options),
                              .keep_existing = !options->force};
}

static void close_source(const prep_format *format, prep_source *s)
{
    format->close(s);
    sim_prep_names_clear(&s->beside);
    sim_free(s->labels);
    sim_prep_free_lines(s->class_names, s->class_names ? s->n_classes : 0);
    sim_free(s->groups);
    sim_prep_names_clear(&s->group_names);
}

/* "FORMAT: NAME (SPLIT, ...)", for the attribute.  NAME is the last component of the path, so
 * that no home directory is published. */
static void source_text(const conversion *c, char out[200])
{
    const prep_options *o = c->options;
    char name[100], part[64] = "", more[32] = "", classes[64] = "", list[48];

    if (o->holdout > 0)
        (void)snprintf(part, sizeof part, ", %s %g%s, seed %u",
                       o->held_out ? "held out" : "without", o->holdout,
                       o->held_out ? "" : " held out", o->seed);
    sim_prep_last_component(c->sources->paths[0], name, sizeof name);
    if (c->sources->n > 1)
        (void)snprintf(more, sizeof more, " and %zu more", c->sources->n - 1);
    if (o->classes) {
        sim_prep_last_component(o->classes, list, sizeof list);
        (void)snprintf(classes, sizeof classes, ", classes %s", list);
    }
    (void)snprintf(out, 200, "%.12s: %.60s%.24s (%.10s%.40s%.40s)", c->format->name, name,
                   more, sim_prep_split_name(c->source.split), part, classes);
}

static void part_path(const conversion *c, size_t k, char out[PATH_MAX])
{
    (void)snprintf(out, PATH_MAX, "%.3900s.rank-%zu-of-%zu", c->out, k,
                   c->options->n_parts);
}

static sim_status add_file_bytes(const char *out, uint64_t *bytes)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];
    uint64_t n = 0;
    int fd = -1;

    (void)snprintf(path, sizeof path, "%.4000s.part", out);
    if (sim_path_exists(path))
        SIM_TRY(sim_file_open_read(path, &fd, &n));
    *bytes += n;
done:
    SIM_IGNORE(sim_file_close(&fd, path));
    return st;
}

/* Adds the bytes of images in the temporary files of an interrupted conversion. */
static sim_status add_part_bytes(const conversion *c, uint64_t *bytes)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];

    SIM_TRY(add_file_bytes(c->out, bytes));
    for (size_t k = 0; c->options->n_parts > 1 && k < c->options->n_parts; k++) {
        part_path(c, k, path);
        SIM_TRY(add_file_bytes(path, bytes));
    }
done:
    return st;
}

/*
 * Checks the free disk space.  The size is known in advance only if images are pixels.  Of
 * several processes the first one checks, before any of them writes; while parts are joined,
 * the disk holds the data twice.
 */
static sim_status check_space(const conversion *c, size_t n)
{
    sim_status st = SIM_OK;
    const char *out = c->out;
    const sim_dataset_spec *spec = &c->spec;
    enum { PER_IMAGE = 28, PER_GROUP = 4, SLACK = 1 << 20 };
    const size_t numbers = PER_IMAGE + (c->source.groups ? PER_GROUP : 0);
    char directory[4096];
    uint64_t free_bytes = 0, reused = 0;

    if (spec->encoded || c->options->part > 0)
        goto done;
    const char *base = sim_prep_base_name(out);
    (void)snprintf(directory, sizeof directory, "%.*s",
                   base > out ? (int)(base - out) : 1, base > out ? out : ".");
    SIM_TRY(sim_path_free_bytes(directory, &free_bytes));
    SIM_TRY(add_part_bytes(c, &reused));
    size_t copies = c->options->n_parts > 1 ? 2 : 1;
    const size_t image = spec->h * spec->w * spec->c * sim_type_bytes(spec->type);
    uint64_t need = copies * n * (image + numbers) + SLACK;
    SIM_CHECK(need <= free_bytes + reused, SIM_E_IO,
              "%s needs %.1f MB, but only %.1f MB of disk space are free", out,
              (double)need / 1e6, (double)free_bytes / 1e6);
done:
    return st;
}

/* An option that the format does not support is an error. */
static sim_status check_options(const prep_format *format, const prep_options *o)
{
    sim_status st = SIM_OK;
    const struct {
        int of;
        bool given;
        const char *option;
    } all[] = {{PREP_HAS_UNLABELED, o->split == PREP_UNLABELED, "--split unlabeled"},
               {PREP_HAS_SIZE, o->size > 0, "--size"},
               {PREP_HAS_SIZE, o->keep_shape, "--crop none"},
               {PREP_HAS_COARSE, o->coarse, "--labels coarse"},
               {PREP_HAS_IMAGES, o->images_key != NULL, "--images-key"},
               {PREP_HAS_KEYS, o->labels_key != NULL, "--labels-key"},
               {PREP_HAS_KEYS, o->groups_key != NULL, "--groups-key"},
               {PREP_HAS_PATH, o->path != NULL, "--path"},
               {PREP_HAS_PAGES, o->pages != SIM_PAGES_FIRST, "--pages"},
               {PREP_HAS_LAYOUT, o->layout != PREP_ANY_LAYOUT, "--layout"}};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        SIM_CHECK(!all[i].given || (format->supported & all[i].of), SIM_E_USAGE,
                  "%s is not supported by the format %s (%s)", all[i].option,
                  format->name, format->help);
done:
    return st;
}

/* --range applies to images with 8 bits too, unless others in the source have more. */
static void choose_byte_range(conversion *c)
{
    const prep_options *o = c->options;
    prep_source *s = &c->source;
    const bool is_deep = s->range.lo < s->range.hi && !s->scale_bytes;

    if (s->type != SIM_U8)
        return;
    if (o->range_lo < o->range_hi && !is_deep && !s->scale_bytes) {
        if (s->photos && o->size == 0) {
            sim_log_warn("--range %g:%g is ignored, because the photos have 8 bits per "
                         "sample and are stored as files; --size stores pixels",
                         o->range_lo, o->range_hi);
            return;
        }
        s->range = (sim_value_range){o->range_lo, o->range_hi};
        s->scale_bytes = true;
    }
    for (int v = 0; s->scale_bytes && v < 256; v++)
        c->map[v] = sim_prep_scale_value(&s->range, v);
}

/* The output before the source is opened: neither the source nor a file in it. */
static sim_status check_output(const conversion *c)
{
    char target[PATH_MAX];
    const sim_output out = {.path = c->given,
                            .option = "--out",
                            .kind = "a data set",
                            .is_own = sim_path_kind_of(c->out) == SIM_PATH_DATASET,
                            .force = c->options->force,
                            .inputs = (const char *const *)c->sources->paths,
                            .n_inputs = c->sources->n};
    return sim_output_check(&out, target);
}

static sim_status check_input(const conversion *c, const char *input)
{
    sim_status st = SIM_OK;
    SIM_CHECK(!sim_path_is_same(c->out, input), SIM_E_USAGE,
              "%s is read by this command, as %s; choose another output with --out",
              c->given, input);
done:
    return st;
}

/* The files of a directory that is not one of photos. */
static sim_status check_directory(const conversion *c, const char *directory)
{
    sim_status st = SIM_OK;
    sim_names names = {0};
    char path[PATH_MAX];

    if (c->source.photos || !sim_path_is_directory(directory))
        goto done;
    SIM_TRY(sim_directory_list(directory, &names));
    for (size_t i = 0; i < names.n; i++) {
        SIM_TRY(sim_prep_join(directory, names.names[i], path, sizeof path));
        SIM_TRY(check_input(c, path));
    }
done:
    sim_names_clear(&names);
    return st;
}

/* Links in a directory lead to files elsewhere, and labels are in files beside the source. */
static sim_status check_items(const conversion *c)
{
    sim_status st = SIM_OK;
    const prep_source *s = &c->source;
    char path[PATH_MAX];

    if (!sim_path_exists(c->out))
        goto done;
    if (c->options->classes)
        SIM_TRY(check_input(c, c->options->classes));
    for (size_t i = 0; i < s->beside.n; i++)
        SIM_TRY(check_input(c, sim_prep_names_get(&s->beside, i)));
    for (size_t i = 0; c->format->item_path && i < s->n_items; i++) {
        SIM_TRY(c->format->item_path(s, i, path));
        SIM_TRY(check_input(c, path));
    }
    for (size_t k = 0; k < c->sources->n; k++)
        SIM_TRY(check_directory(c, c->sources->paths[k]));
done:
    return st;
}

sim_status sim_prep_check_channels(const prep_options *o, size_t c)
{
    sim_status st = SIM_OK;

    for (size_t k = 0; k < o->n_channels; k++)
        SIM_CHECK(o->channels[k] < c, SIM_E_USAGE,
                  "--channels: the images have no channel %u; theirs are 0 to %zu",
                  o->channels[k], c - 1);
done:
    return st;
}

/* --type, --range and --channels, which formats with samples of 8 bits cannot apply themselves. */
static sim_status check_samples(conversion *c)
{
    sim_status st = SIM_OK;
    const prep_options *o = c->options;
    const prep_source *s = &c->source;
    const bool encoded = s->photos && (o->size == 0 || o->keep_shape);

    SIM_CHECK(!o->has_type || o->type == s->type, SIM_E_USAGE, "--type %s: %s",
              sim_type_name(o->type),
              encoded ? "photos that are stored as files have 8 bits; use --size PIXELS"
                      : "the samples of the source are uint8");
    const sim_value_range range = given_range(o);
    SIM_CHECK(
        s->type == SIM_U8 || range.lo >= range.hi || sim_value_range_is_usable(&range),
        SIM_E_USAGE,
        "--range %g:%g: expected numbers of at most %g in size that differ by %g or more",
        range.lo, range.hi, SIM_MAX_SAMPLE, 1 / SIM_MAX_SAMPLE);
    SIM_CHECK(o->n_channels == 0 || !encoded, SIM_E_USAGE,
              "--channels: photos that are stored as files are RGB; use --size PIXELS");
    SIM_CHECK(
        o->pages == SIM_PAGES_FIRST || !encoded, SIM_E_USAGE,
        "--pages channels: images that are stored as files have one page; use --size "
        "PIXELS");
    SIM_TRY(sim_prep_check_channels(o, s->c));
    SIM_CHECK(!encoded || s->c == 3, SIM_E_DATA,
              "%s: images of %zu channels cannot be stored as files; use --size PIXELS",
              c->path, s->c);
done:
    return st;
}

static sim_status open_source(conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    const prep_source *s = &c->source;

    SIM_ASSERT(c->format);
    SIM_TRY(check_options(c->format, c->options));
    SIM_TRY(check_output(c));
    c->source.type = SIM_U8;
    SIM_TRY(c->format->open_several
                ? c->format->open_several(c->sources, c->options, &c->source)
                : c->format->open(c->path, c->options, &c->source));
    SIM_TRY(check_items(c));
    if (c->options->classes)
        SIM_TRY(sim_prep_keep_classes(c->options->classes, c->path, &c->source));
    if (s->n_bad && s->first_bad[0])
        sim_log_warn("skipped: %s (%zu in total)", s->first_bad, s->n_bad);
    result->n_bad = s->n_bad;
    result->n_excluded = s->n_excluded;
    result->format = c->format->name;
    result->n_classes = s->labels ? s->n_classes : 0;
    SIM_TRY(check_samples(c));
    choose_byte_range(c);
    SIM_TRY(sim_prep_select_items(s, c->options, &c->selected, &c->n_selected));
    source_text(c, c->text);
    c->spec = make_spec(s, c->options, c->text);
    SIM_TRY(describe_identity(c, &c->identity));
    c->spec.identity = sim_hash_bytes(c->identity, strlen(c->identity));
    SIM_TRY(check_space(c, c->n_selected));
done:
    return st;
}

/* The items of part k. */
static sim_range part_items(const conversion *c, size_t k, size_t n_parts)
{
    const size_t n = c->source.n_items;
    return (sim_range){n / n_parts * k + n % n_parts * k / n_parts,
                       n / n_parts * (k + 1) + n % n_parts * (k + 1) / n_parts};
}

static sim_status transfer_part(const conversion *c, size_t k, size_t n_parts,
                                prep_result *result)
{
    const sim_range items = part_items(c, k, n_parts);
    const prep_transfer transfer = {.format = c->format,
                                    .source = &c->source,
                                    .path = c->sources->n > 1 ? NULL : c->path,
                                    .options = c->options,
                                    .selected = c->selected,
                                    .lo = items.lo,
                                    .hi = items.hi,
                                    .spec = &c->spec,
                                    .map = c->source.scale_bytes ? c->map : NULL,
                                    .writer = c->writer};
    return sim_prep_transfer(&transfer, result);
}

static void item_name(const void *ctx, size_t item, char *out, size_t out_bytes)
{
    const conversion *c = ctx;
    c->format->item_name(&c->source, item, out, out_bytes);
}

static void group_name(const void *ctx, size_t group, char *out, size_t out_bytes)
{
    const conversion *c = ctx;
    (void)snprintf(out, out_bytes, "%s",
                   sim_prep_names_get(&c->source.group_names, group));
}

/* The least and the most images of a class; a class may have none. */
static sim_status count_per_class(const conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    size_t n = 0, *count = NULL;
    const int32_t *labels = sim_dataset_written_labels(c->writer, &n);

    if (result->n_classes == 0)
        goto done;
    SIM_TRY(sim_alloc(&count, result->n_classes, "prep/classes"));
    for (size_t i = 0; i < n; i++)
        count[labels[i]]++;
    result->least = n;
    for (size_t k = 0; k < result->n_classes; k++) {
        result->n_used += count[k] > 0;
        result->least = count[k] < result->least ? count[k] : result->least;
        result->most = count[k] > result->most ? count[k] : result->most;
    }
done:
    sim_free(count);
    return st;
}

/* Groups with images. */
static sim_status count_groups(const conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    size_t n = 0;
    bool *used = NULL;
    const int32_t *groups = sim_dataset_written_groups(c->writer, &n);

    if (!c->source.groups)
        goto done;
    SIM_TRY(sim_alloc(&used, c->source.group_names.n, "prep/groups"));
    for (size_t i = 0; i < n; i++) {
        result->n_groups += !used[groups[i]];
        used[groups[i]] = true;
    }
done:
    sim_free(used);
    return st;
}

/* Values of 8 bits that are all small are probably the numbers of gray levels or of classes in
 * masks. */
static void warn_of_values(const conversion *c, const prep_result *r)
{
    enum { SMALL = 16 };
    const sim_value_range *range = &c->source.range;
    const bool stores_files = c->source.photos && c->options->size == 0;
    char values[32] = "0 and 1";

    if (r->n_clipped)
        sim_log_warn("%zu images have values that are clipped to the range %g:%g",
                     r->n_clipped, range->lo, range->hi);
    if (c->source.type != SIM_U8 || range->lo < range->hi || r->largest >= SMALL)
        return;
    if (r->largest == 0) {
        sim_log_warn("all images are black");
        return;
    }
    if (r->largest > 1)
        (void)snprintf(values, sizeof values, "0 to %u", r->largest);
    sim_log_warn("all images use only the values %s of 255; %s--range 0:%u spreads them",
                 values, stores_files ? "--size PIXELS with " : "", r->largest);
}

static void report_pages(const prep_result *r)
{
    if (r->n_paged)
        sim_log("%zu images are the first page or frame of files with several; "
                "--pages channels reads the pages of TIFF files as channels",
                r->n_paged);
}

static void warn_of_one_class(const prep_result *r)
{
    if (r->n_used == 1)
        sim_log_warn("all images are of one class; evaluate knn and the method supcon "
                     "need at least two classes");
}

/* Whether a file is the journal of a part of `base`, on any number of processes. */
static bool is_part_journal(const char *name, const char *base)
{
    const size_t n = strlen(base);
    size_t part = 0, n_parts = 0;
    int end = 0;

    return strncmp(name, base, n) == 0 &&
           sscanf(name + n, ".rank-%zu-of-%zu%n", &part, &n_parts, &end) == 2 &&
           strcmp(name + n + end, ".journal") == 0;
}

/* Removes the parts of killed conversions to the same file on other numbers of processes. */
static void remove_old_parts(const conversion *c)
{
    const char *slash = strrchr(c->out, '/'), *base = slash ? slash + 1 : c->out;
    char directory[PATH_MAX] = ".", path[2 * PATH_MAX];
    sim_names names = {0};

    if (slash)
        (void)snprintf(directory, sizeof directory, "%.*s", (int)(base - c->out), c->out);
    SIM_IGNORE(sim_directory_list(directory, &names));
    for (size_t i = 0; i < names.n; i++) {
        const char *name = names.names[i];
        if (!is_part_journal(name, base))
            continue;
        (void)snprintf(path, sizeof path, "%s/%.*s", directory,
                       (int)(strlen(name) - strlen(".journal")), name);
        SIM_IGNORE(sim_dataset_discard_stale(path));
    }
    sim_error_clear();
    sim_names_clear(&names);
}

static sim_status finish_dataset(conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    const prep_source *s = &c->source;
    const sim_dataset_names names = {
        .name = item_name, .group = s->groups ? group_name : NULL, .ctx = c};

    SIM_CHECK(result->n_images > 0, SIM_E_DATA, "%s: none of its %zu images is valid",
              c->path, s->n_items);
    SIM_TRY(count_per_class(c, result));
    SIM_TRY(count_groups(c, result));
    warn_of_values(c, result);
    warn_of_one_class(result);
    report_pages(result);
    SIM_TRY(sim_dataset_finish(&c->writer, (const char *const *)s->class_names,
                               s->class_names ? s->n_classes : 0, &names,
                               result->fingerprint));
    remove_old_parts(c);
done:
    return st;
}

static sim_status convert_alone(conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    SIM_TRY(find_formats(c->sources, c->options, &c->format));
    SIM_TRY(open_source(c, result));
    SIM_TRY(sim_dataset_create(c->out, &c->spec, &c->writer));
    SIM_TRY(transfer_part(c, 0, 1, result));
    SIM_TRY(finish_dataset(c, result));
done:
    return st;
}

/* ---- several processes: each writes a part, the first one joins them ---- */

static sim_status open_part(conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    SIM_TRY(find_formats(c->sources, c->options, &c->format));
    SIM_TRY(open_source(c, result));
done:
    return st;
}

static sim_status convert_part(conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];

    part_path(c, c->options->part, path);
    SIM_TRY(sim_dataset_create(path, &c->spec, &c->writer));
    c->started = true;
    SIM_TRY(transfer_part(c, c->options->part, c->options->n_parts, result));
done:
    sim_dataset_suspend(&c->writer);
    return st;
}

/* A part in another directory, or of another conversion, is not complete here. */
static sim_status absorb_part(conversion *c, size_t k, sim_dataset_mark *mark)
{
    sim_status st = SIM_OK;
    const sim_range items = part_items(c, k, c->options->n_parts);
    char path[PATH_MAX];

    part_path(c, k, path);
    SIM_TRY(sim_dataset_absorb(c->writer, path, c->spec.identity, mark));
    SIM_CHECK(
        items.lo == items.hi || mark->next == items.hi, SIM_E_DATA,
        "%s.part has images up to number %llu, expected %zu; all ranks must write to "
        "the same directory",
        path, (unsigned long long)mark->next, items.hi);
done:
    return st;
}

/* The counts of skipped items are in the journals of the parts. */
static sim_status join_parts(conversion *c, prep_result *result)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];
    sim_dataset_mark mark;
    sim_dataset_spec spec = c->spec;

    spec.identity = (sim_hash){0}; /* an interrupted join restarts from the parts */
    result->n_bad = c->source.n_bad;
    result->n_warned = result->n_clipped = result->n_paged = 0;
    SIM_TRY(sim_dataset_create(c->out, &spec, &c->writer));
    for (size_t k = 0; k < c->options->n_parts; k++) {
        SIM_TRY(absorb_part(c, k, &mark));
        result->n_bad += mark.n_bad;
        result->n_warned += mark.n_warned;
        result->n_clipped += mark.n_clipped;
        result->n_paged += mark.n_paged;
        result->largest =
            mark.largest > result->largest ? (unsigned)mark.largest : result->largest;
    }
    (void)sim_dataset_resumed(c->writer, &result->n_images);
    SIM_TRY(finish_dataset(c, result));
    for (size_t k = 0; k < c->options->n_parts; k++) {
        part_path(c, k, path);
        SIM_TRY(sim_dataset_discard(path));
    }
done:
    return st;
}

static sim_status convert_together(conversion *c, prep_result *result)
{
    char path[PATH_MAX];
    const prep_options *o = c->options;
    sim_status st = o->agree(o->agree_ctx, open_part(c, result));

    if (st == SIM_OK)
        st = o->compare(o->agree_ctx, c->path, c->identity);
    if (st == SIM_OK)
        st = o->agree(o->agree_ctx, convert_part(c, result));
    if (st == SIM_OK && c->options->part == 0)
        st = join_parts(c, result);
    if (st != SIM_OK && st != SIM_E_IO && c->started) { /* resuming would fail again */
        part_path(c, c->options->part, path);
        SIM_IGNORE(sim_dataset_discard(path));
    }
    return st;
}

sim_status sim_prep_convert(const prep_sources *sources, const char *out,
                            const prep_options *options, prep_result *result)
{
    sim_status st = SIM_OK;
    bool alone = options->n_parts < 2;
    char target[PATH_MAX], path[PATH_MAX];
    conversion c = {.sources = sources,
                    .path = path,
                    .out = target,
                    .given = out,
                    .options = options};

    memset(result, 0, sizeof *result);
    (void)snprintf(path, sizeof path, "%s", sources->paths[0]);
    if (sources->n > 1)
        (void)snprintf(path, sizeof path, "%.3900s and %zu more", sources->paths[0],
                       sources->n - 1);
    SIM_TRY(sim_path_follow(out, target));
    st = alone ? convert_alone(&c, result) : convert_together(&c, result);
    if (st == SIM_E_IO && alone && result->n_images > 0)
        st = sim_error_begin(st, __FILE__, __LINE__,
                             "%s; once this is fixed, the same command resumes after "
                             "%zu images",
                             sim_error_message(), result->n_images);
    if (st == SIM_E_IO)
        sim_dataset_suspend(&c.writer);
    sim_dataset_abandon(&c.writer);
    if (c.format)
        close_source(c.format, &c.source);
    sim_free(c.selected);
    sim_free(c.identity);
done:
    return st;
}
