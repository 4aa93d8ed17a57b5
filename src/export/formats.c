/*
 * formats.c - the table of formats, and the files that every export has: load_encoder.py and
 * encoder.json.
 *
 * Files are replaced only if an export wrote them. load_encoder.py has a hash of its text in its
 * second line, so that a script that the user has changed is not replaced.
 */
#include "private.h"

#include "simile/file.h"
#include "simile/hash.h"
#include "simile/json.h"
#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

enum { MAX_TEXT_BYTES = 16 << 20 };

static const char script_name[] = "load_encoder.py", metadata_name[] = "encoder.json";
static const char hash_line[] = "# Written by simile export; hash of the text below: ";

#define SIM_EXPORT(name) extern const sim_export_format sim_export_##name;
#include "exports.def"
#undef SIM_EXPORT

static const sim_export_format *const rows[] = {
#define SIM_EXPORT(name) &sim_export_##name,
#include "exports.def"
#undef SIM_EXPORT
};

size_t sim_export_formats_count(void)
{
    return sizeof rows / sizeof rows[0];
}

const sim_export_format *sim_export_formats_at(size_t i)
{
    SIM_ASSERT(i < sim_export_formats_count());
    return rows[i];
}

const sim_export_format *sim_export_formats_find(const char *name)
{
    for (size_t i = 0; i < sim_export_formats_count(); i++)
        if (strcmp(rows[i]->name, name) == 0)
            return rows[i];
    return NULL;
}

sim_status sim_export_path(const char *directory, const char *name, char out[PATH_MAX])
{
    sim_status st = SIM_OK;
    char path[PATH_MAX];

    int n = snprintf(path, sizeof path, "%s/%s", directory, name);
    SIM_CHECK(n > 0 && n < PATH_MAX, SIM_E_CREATE, "the path %.100s... is too long",
              directory);
    SIM_TRY(sim_path_follow(path, out));
done:
    return st;
}

/* ---- load_encoder.py ---- */

/* The first line of the script, the line with the hash of the rest, and the rest. */
static sim_status write_script(const char *directory)
{
    sim_status st = SIM_OK;
    const char *rest = strchr(sim_export_script, '\n') + 1;
    char path[PATH_MAX], hex[33], line[128];

    sim_hash_hex(sim_hash_bytes(rest, strlen(rest)), hex);
    (void)snprintf(line, sizeof line, "%s%s\n", hash_line, hex);
    SIM_TRY(sim_export_path(directory, script_name, path));
    const sim_piece pieces[] = {{sim_export_script, (size_t)(rest - sim_export_script)},
                                {line, strlen(line)},
                                {rest, strlen(rest)}};
    SIM_TRY(sim_file_replace(path, pieces, 3));
done:
    return st;
}

/* Whether the second line has the hash of the lines after it. */
static bool has_own_hash(const char *text)
{
    const char *line = strchr(text, '\n'), *rest = line ? strchr(line + 1, '\n') : NULL;
    char hex[33];

    if (!rest || strncmp(line + 1, hash_line, sizeof hash_line - 1) != 0)
        return false;
    rest++;
    sim_hash_hex(sim_hash_bytes(rest, strlen(rest)), hex);
    return strncmp(line + sizeof hash_line, hex, 32) == 0;
}

static bool is_own_script(const char *text, size_t n_bytes)
{
    return strlen(text) == n_bytes && has_own_hash(text);
}

/* ---- encoder.json ---- */

static sim_status write_metadata(const char *directory, const char *metadata)
{
    sim_status st = SIM_OK;
    sim_json *j = NULL;
    char *text = NULL, path[PATH_MAX];

    SIM_TRY(sim_json_parse(metadata, strlen(metadata), &j));
    SIM_TRY(sim_json_dump(j, 2, &text));
    SIM_TRY(sim_export_path(directory, metadata_name, path));
    const sim_piece pieces[] = {{text, strlen(text)}, {"\n", 1}};
    SIM_TRY(sim_file_replace(path, pieces, 2));
done:
    sim_json_destroy(&j);
    sim_free(text);
    return st;
}

/* ---- all files ---- */

/* Whether the content of a file passes a test; false if it cannot be read. */
static bool file_passes(const char *path, bool (*test)(const char *text, size_t n_bytes))
{
    char *text = NULL;
    size_t n = 0;
    bool passes =
        sim_file_load(path, MAX_TEXT_BYTES, &text, &n) == SIM_OK && test(text, n);

    sim_error_clear();
    sim_free(text);
    return passes;
}

sim_status sim_export_check(const sim_export_format *format, const char *directory,
                            sim_output out)
{
    sim_status st = SIM_OK;
    char path[PATH_MAX], target[PATH_MAX];

    if (!sim_path_exists(directory))
        goto done;
    out.path = path;
    out.kind = "a file of an export";
    for (const char *const *name = format->files; *name; name++) {
        SIM_TRY(sim_export_path(directory, *name, path));
        out.is_own = format->is_own(path);
        SIM_TRY(sim_output_check(&out, target));
    }
    SIM_TRY(sim_export_path(directory, script_name, path));
    out.is_own = file_passes(path, is_own_script);
    SIM_TRY(sim_output_check(&out, target));
    SIM_TRY(sim_export_path(directory, metadata_name, path));
    out.is_own = file_passes(path, sim_export_is_metadata);
    SIM_TRY(sim_output_check(&out, target));
done:
    return st;
}

sim_status sim_export_write(const sim_export *e, const char *directory)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_directory_create(directory));
    SIM_TRY(e->format->write(e, directory));
    SIM_TRY(write_script(directory));
    SIM_TRY(write_metadata(directory, e->metadata));
done:
    return st;
}
