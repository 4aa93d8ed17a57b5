/*
 * embed_npy.c - embeddings as NumPy arrays: E.npy with the features, and files beside it.
 *
 * E.projections.npy, E.labels.npy (int32) and E.names.npy (bytes) exist if the model or the data set
 * has them; E.json names model, data set and classes and is written last.  An existing set is
 * recognized by E.json.  Format of the arrays: version 1.0,
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */
#include "embed.h"

#include "simile/file.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <stdio.h>
#include <string.h>

/* An array of the set. */
typedef struct {
    const char *part; /* of the file name, "labels"; "" for the features */
    char descr[32];   /* type: "<f4" */
    int n_dims;
    size_t dims[2];
    size_t item_bytes;
    const void *data; /* NULL: the array does not exist */
} npy_array;

enum { FEATURES, PROJECTIONS, LABELS, NAMES, N_ARRAYS };

static void list_floats(const sim_tensor *t, npy_array *a)
{
    (void)snprintf(a->descr, sizeof a->descr, "<f4");
    a->n_dims = 2;
    a->dims[0] = t->dims[0];
    a->dims[1] = t->dims[1];
    a->item_bytes = sizeof(float);
    a->data = t->data;
}

static void list_arrays(const embed_content *e, npy_array out[N_ARRAYS])
{
    const size_t n = e->features->dims[0];

    memset(out, 0, N_ARRAYS * sizeof *out);
    out[FEATURES].part = "";
    list_floats(e->features, &out[FEATURES]);
    out[PROJECTIONS].part = "projections";
    if (e->projections)
        list_floats(e->projections, &out[PROJECTIONS]);
    out[LABELS] = (npy_array){.part = "labels",
                              .descr = "<i4",
                              .n_dims = 1,
                              .dims = {n},
                              .item_bytes = sizeof(int32_t),
                              .data = e->labels};
    out[NAMES] = (npy_array){.part = "names",
                             .n_dims = 1,
                             .dims = {n},
                             .item_bytes = e->name_width,
                             .data = e->names};
    (void)snprintf(out[NAMES].descr, sizeof out[NAMES].descr, "|S%zu", e->name_width);
}

/* Writes "E.PART.ENDING" for the output "E.npy"; part "": "E.ENDING". */
static sim_status path_beside(const char *path, const char *part, const char *ending,
                              char out[PATH_MAX])
{
    sim_status st = SIM_OK;
    const size_t n = strlen(path);
    const bool has_ending = sim_text_ends_with(path, ".npy");

    const int length =
        snprintf(out, PATH_MAX, "%.*s%s%s%s", (int)(has_ending ? n - 4 : n), path,
                 *part ? "." : "", part, ending);
    SIM_CHECK(length > 0 && length < PATH_MAX, SIM_E_CREATE,
              "the path %.100s... is too long", path);
done:
    return st;
}

/* The features are stored at the path itself. */
static sim_status path_of_array(const char *path, const char *part, char out[PATH_MAX])
{
    if (*part)
        return path_beside(path, part, ".npy", out);
    (void)snprintf(out, PATH_MAX, "%s", path);
    return SIM_OK;
}

/* ---- an array ---- */

enum { HEADER_BYTES = 128 }; /* a multiple of 64 */

/* Magic, version, length of the rest, and a Python dictionary padded with spaces. */
static void format_header(const npy_array *a, char out[HEADER_BYTES])
{
    enum { PREFIX_BYTES = 10 };
    char text[HEADER_BYTES - PREFIX_BYTES + 1], shape[64];

    if (a->n_dims == 2)
        (void)snprintf(shape, sizeof shape, "%zu, %zu", a->dims[0], a->dims[1]);
    else
        (void)snprintf(shape, sizeof shape, "%zu,", a->dims[0]);
    const int n = snprintf(text, sizeof text,
                           "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                           a->descr, shape);
    SIM_ASSERT(n > 0 && n < HEADER_BYTES - PREFIX_BYTES);
    memset(out, ' ', HEADER_BYTES);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = HEADER_BYTES - PREFIX_BYTES;
    out[9] = 0;
    memcpy(out + PREFIX_BYTES, text, (size_t)n);
    out[HEADER_BYTES - 1] = '\n';
}

static sim_status write_array(const npy_array *a, const char *path)
{
    sim_status st = SIM_OK;
    char file[PATH_MAX], header[HEADER_BYTES];
    const size_t count = a->dims[0] * (a->n_dims == 2 ? a->dims[1] : 1);

    SIM_TRY(path_of_array(path, a->part, file));
    if (!a->data) { /* one of an earlier set */
        SIM_TRY(sim_file_remove(file));
        goto done;
    }
    format_header(a, header);
    const sim_piece pieces[] = {{header, sizeof header},
                                {a->data, count * a->item_bytes}};
    SIM_TRY(sim_file_replace(file, pieces, 2));
done:
    return st;
}

/* ---- the set ---- */

static sim_status write_description(const embed_content *e, const char *path)
{
    sim_status st = SIM_OK;
    const sim_dataset_info *about = sim_dataset_about(e->data);
    sim_json *j = NULL, *classes = NULL;
    char *text = NULL, file[PATH_MAX];

    SIM_TRY(sim_json_create(&j));
    sim_json_text(j, "format", "simile-embeddings");
    sim_json_text(j, "checkpoint", e->checkpoint);
    sim_json_text(j, "fingerprint", about->fingerprint);
    if (about->n_classes && sim_dataset_class_name(e->data, 0))
        classes = sim_json_array(j, "classes");
    for (size_t k = 0; classes && k < about->n_classes; k++)
        sim_json_text(classes, NULL, sim_dataset_class_name(e->data, k));
    SIM_TRY(sim_json_dump(j, 2, &text));
    SIM_TRY(path_beside(path, "", ".json", file));
    const sim_piece pieces[] = {{text, strlen(text)}, {"\n", 1}};
    SIM_TRY(sim_file_replace(file, pieces, 2));
done:
    sim_json_destroy(&j);
    sim_free(text);
    return st;
}

static sim_status write_npy(const embed_content *e, const char *path)
{
    sim_status st = SIM_OK;
    npy_array arrays[N_ARRAYS];

    list_arrays(e, arrays);
    for (int i = 0; i < N_ARRAYS; i++)
        SIM_TRY(write_array(&arrays[i], path));
    SIM_TRY(write_description(e, path));
done:
    return st;
}

static bool is_own_set(const char *description)
{
    enum { LIMIT = 1 << 26 };
    char *text = NULL;
    size_t n = 0;
    sim_json *j = NULL;
    const char *format = "";
    bool is = sim_path_is_file(description) &&
              sim_file_load(description, LIMIT, &text, &n) == SIM_OK &&
              sim_json_parse(text, n, &j) == SIM_OK &&
              sim_json_get_text(j, "format", &format) &&
              strcmp(format, "simile-embeddings") == 0;

    sim_error_clear();
    sim_json_destroy(&j);
    sim_free(text);
    return is;
}

/* Whether the file is an array as this format writes it. */
static bool is_own_array(const char *path)
{
    static const char start[] = "\x93NUMPY\x01\x00\x76\x00{'descr': '";
    char head[HEADER_BYTES];
    uint64_t n = 0;
    int fd = -1;
    bool is = sim_file_open_read(path, &fd, &n) == SIM_OK && n >= sizeof head &&
              sim_file_read_at(fd, path, 0, head, sizeof head) == SIM_OK &&
              memcmp(head, start, sizeof start - 1) == 0;

    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    return is;
}

static sim_status check_npy(sim_output out, char target[PATH_MAX])
{
    static const char *const parts[] = {"", "projections", "labels", "names"};
    sim_status st = SIM_OK;
    char file[PATH_MAX], unused[PATH_MAX];

    SIM_TRY(sim_path_follow(out.path, target));
    out.path = file;
    SIM_TRY(path_beside(target, "", ".json", file));
    const bool is_own = is_own_set(file);
    out.kind = "the description of embeddings";
    out.is_own = is_own;
    SIM_TRY(sim_output_check(&out, unused));
    out.kind = "an array of embeddings";
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        SIM_TRY(path_of_array(target, parts[i], file));
        out.is_own = is_own && is_own_array(file);
        SIM_TRY(sim_output_check(&out, unused));
    }
done:
    return st;
}

const embed_format sim_embed_npy = {
    .name = "npy",
    .ending = ".npy",
    .summary = "E.npy, and E.projections.npy, E.labels.npy, E.names.npy, E.json",
    .check = check_npy,
    .write = write_npy};
