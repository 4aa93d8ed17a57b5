/*
 * metadata.c - job and preprocessing of a safetensors file.
 *
 * In: the texts in the header of a file, and the network that was recognized.  Out: a job and a
 * preprocessing as they are stored in checkpoints.
 */
#include "private.h"

#include "simile/data.h"
#include "simile/log.h"
#include "simile/memory.h"
#include "simile/model.h"

#include <stdio.h>
#include <string.h>

static const char preprocessing_key[] = "preprocessing";

sim_status sim_import_read_metadata(const char *path, const sim_safetensors *file,
                                    sim_json **out)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    const char *text = sim_safetensors_metadata(file, SIM_MODEL_FILE_KEY), *format = "";
    int64_t version = 0;

    if (!text)
        goto done;
    st = sim_json_parse(text, strlen(text), &j);
    SIM_CHECK(st == SIM_OK && sim_json_get_text(j, "format", &format) &&
                  strcmp(format, SIM_MODEL_FILE_FORMAT) == 0 &&
                  sim_json_get_int(j, "format_version", &version) && version >= 1,
              SIM_E_DATA, "%s: the text \"%s\" of its metadata is not that of an export",
              path, SIM_MODEL_FILE_KEY);
    SIM_CHECK(version <= SIM_MODEL_FILE_VERSION, SIM_E_INSTALL,
              "%s: an export of version %lld needs a newer simile", path,
              (long long)version);
    *out = j;
    j = NULL;
done:
    sim_json_destroy(&j);
    return st;
}

sim_status sim_import_width(const import_file *f, double *width)
{
    sim_status st = SIM_OK;

    *width = 0;
    if (!f->metadata)
        goto done;
    SIM_CHECK(
        sim_json_get_real(f->metadata, "width", width) && *width >= 0.05 && *width <= 8,
        SIM_E_DATA, "%s: width of its metadata is not a number from 0.05 to 8", f->path);
done:
    return st;
}

/* ---- the job ---- */

/* Lines of YAML, nested by the sections of dotted keys. */
typedef struct {
    const char *path;
    const sim_json *identity; /* of an export */
    char *text, last[128];    /* last: key */
} yaml_lines;

static sim_status append_line(yaml_lines *y, size_t depth, const char *key, size_t n_key,
                              const char *value)
{
    sim_status st = SIM_OK;
    char *longer = NULL;

    SIM_TRY(sim_text_format("import/config", &longer, "%s%*s%.*s:%s%s\n", y->text,
                            (int)(2 * depth), "", (int)n_key, key, *value ? " " : "",
                            value));
    sim_free(y->text);
    y->text = longer;
done:
    return st;
}

/* Opens the sections of `key` in which the last key is not, then adds the key. */
static sim_status append_key(yaml_lines *y, const char *key, const char *value)
{
    sim_status st = SIM_OK;
    size_t same = 0, depth = 0;

    while (y->last[same] && y->last[same] == key[same])
        same++;
    while (same > 0 && key[same - 1] != '.')
        same--;
    for (size_t at = 0; key[at]; depth++) {
        const size_t n = strcspn(key + at, ".");
        if (at >= same)
            SIM_TRY(append_line(y, depth, key + at, n, key[at + n] ? "" : value));
        at += key[at + n] ? n + 1 : n;
    }
    (void)snprintf(y->last, sizeof y->last, "%s", key);
done:
    return st;
}

/* The value of a member as it is written in a job; `text` has n_bytes for numbers.  NULL: none. */
static const char *format_value(const sim_json *identity, const char *key, char *text,
                                size_t n_bytes)
{
    const char *word = NULL;
    int64_t number = 0;
    double real = 0;
    bool truth = false;

    if (sim_json_get_text(identity, key, &word))
        return *word && !strpbrk(word, "\r\n") ? word : NULL;
    if (sim_json_get_bool(identity, key, &truth))
        return truth ? "true" : "false";
    if (sim_json_get_int(identity, key, &number))
        (void)snprintf(text, n_bytes, "%lld", (long long)number);
    else if (sim_json_get_real(identity, key, &real))
        (void)snprintf(text, n_bytes, "%.17g", real);
    else
        return NULL;
    return text;
}

/* A member of the object "identity" of an export. */
static sim_status append_member(void *ctx, const char *key, const sim_json *value)
{
    sim_status st = SIM_OK;
    yaml_lines *y = ctx;
    char number[64];

    (void)value;

    if (strcmp(key, "arithmetic") == 0 || strcmp(key, "fingerprint") == 0 ||
        strncmp(key, "data.", strlen("data.")) == 0)
        goto done; /* not of the model */
    const char *text = format_value(y->identity, key, number, sizeof number);
    SIM_CHECK(text && strlen(key) < sizeof y->last, SIM_E_DATA,
              "%s: %.60s of its metadata is not a key with a number or a line of text",
              y->path, key);
    SIM_TRY(append_key(y, key, text));
done:
    return st;
}

static sim_status config_of_export(const import_file *f, char **text)
{
    sim_status st = SIM_OK;
    sim_json *identity = NULL;
    yaml_lines y = {.path = f->path};

    SIM_CHECK(sim_json_get_object(f->metadata, "identity", &identity) &&
                  !sim_json_is_array(identity),
              SIM_E_DATA, "%s: its metadata has no identity", f->path);
    SIM_TRY(sim_text_copy("run: none\ndata: {train: \"\"}\n", "import/config", &y.text));
    y.identity = identity;
    SIM_TRY(sim_json_each(identity, append_member, &y));
    *text = y.text;
    y.text = NULL;
done:
    sim_free(y.text);
    return st;
}

/* Without metadata, the method only matters to networks that the file does not have. */
sim_status sim_import_config(const import_file *f, char **text)
{
    const bool imagenet = f->encoder.stem == SIM_STEM_IMAGENET;
    char arch[64] = "";

    if (f->metadata)
        return config_of_export(f, text);
    (void)sim_choices_text(sim_encoder_table.rows[0].choices, f->encoder.arch, arch,
                           sizeof arch);
    return sim_text_format(
        "import/config", text,
        "run: none\ndata: {train: \"\"}\nmethod: {name: simclr}\n"
        "encoder: {arch: %s, stem: %s, width: %.17g}\naugment: {preset: %s}\n",
        arch, imagenet ? "imagenet" : "cifar", f->encoder.width,
        imagenet ? "simclr" : "simclr-cifar");
}

/* ---- the preprocessing ---- */

/* That of torchvision's ImageNet weights: Resize(256), CenterCrop(224) and Normalize. */
static const sim_preprocessing imagenet_preprocessing = {.h = 224,
                                                         .w = 224,
                                                         .c = 3,
                                                         .type = SIM_U8,
                                                         .resize = 256,
                                                         .mean = {0.485, 0.456, 0.406},
                                                         .std = {0.229, 0.224, 0.225}};

/* Adds what a user may leave out. */
static sim_status complete_given(const import_file *f, const char *given, char **text)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    const char *word = NULL;
    int64_t channels = 0;

    st = sim_json_parse(given, strlen(given), &j);
    SIM_CHECK(
        st == SIM_OK && !sim_json_is_array(j), SIM_E_DATA,
        "%s: the text \"preprocessing\" of its metadata is not a JSON object: %.200s",
        f->path, given);
    if (!sim_json_get_int(j, "channels", &channels))
        sim_json_int(j, "channels", (int64_t)f->channels);
    if (!sim_json_get_text(j, "resize", &word))
        sim_json_text(j, "resize", "shorter side, bilinear, antialiased");
    if (!sim_json_get_text(j, "crop", &word))
        sim_json_text(j, "crop", "centre");
    SIM_TRY(sim_json_dump(j, 0, text));
done:
    sim_json_destroy(&j);
    return st;
}

static sim_status preprocessing_of_export(const import_file *f, char **text)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;

    SIM_CHECK(sim_json_get_object(f->metadata, preprocessing_key, &j), SIM_E_DATA,
              "%s: its metadata has no preprocessing", f->path);
    SIM_TRY(sim_json_dump(j, 0, text));
done:
    return st;
}

static sim_status assume_preprocessing(const import_file *f, char **text)
{
    if (f->encoder.stem != SIM_STEM_IMAGENET || f->channels != 3)
        return SIM_OK;
    sim_log("%s: no preprocessing in its metadata; assumed is that of torchvision's "
            "ImageNet weights: shorter side to 256, centre crop of 224 x 224, mean 0.485 "
            "0.456 0.406, std 0.229 0.224 0.225",
            f->path);
    return sim_preprocessing_text(&imagenet_preprocessing, text);
}

sim_status sim_import_preprocessing(const import_file *f, char **text)
{
    sim_status st = SIM_OK;
    const char *given = sim_safetensors_metadata(f->file, preprocessing_key);
    sim_preprocessing p = {.c = f->channels};

    if (f->metadata)
        SIM_TRY(preprocessing_of_export(f, text));
    else if (given)
        SIM_TRY(complete_given(f, given, text));
    else
        SIM_TRY(assume_preprocessing(f, text));
    if (*text)
        SIM_TRY(sim_preprocessing_parse(*text, f->path, &p));
    SIM_CHECK(
        p.c == f->channels, SIM_E_DATA,
        "%s: its preprocessing is for images of %zu channels, but conv1.weight is for "
        "%zu",
        f->path, p.c, f->channels);
done:
    if (st != SIM_OK)
        SIM_FREE(*text);
    return st;
}
