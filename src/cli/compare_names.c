/*
 * compare_names.c - names of job files and runs, as parts of paths.
 *
 * The name of a run contains job, keys and seed, so that a value or seed that is added later leaves the
 * names of the others unchanged.
 */
#include "compare.h"

#include "simile/file.h"
#include "simile/hash.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { VALUE_CHARACTERS = 24, NAME_BYTES = 180 };

static bool is_safe(char c)
{
    return isalnum((unsigned char)c) || (c && strchr(".+-", c));
}

/* A value as part of a file name: other characters become dashes, and a hash keeps such names apart. */
static void put_value(FILE *f, const char *value)
{
    char hex[33];
    size_t n = 0;
    bool is_same = strlen(value) <= VALUE_CHARACTERS, is_after_dash = true;

    for (const char *p = value; *p && n < VALUE_CHARACTERS; p++) {
        is_same = is_same && is_safe(*p);
        if (is_safe(*p) || !is_after_dash)
            n += fputc(is_safe(*p) ? *p : '-', f) != EOF;
        is_after_dash = !is_safe(*p);
    }
    if (is_same)
        return;
    sim_hash_hex(sim_hash_bytes(value, strlen(value)), hex);
    (void)fprintf(f, "%s%.8s", is_after_dash ? "" : "-", hex);
}

/* The name of a job file without directory and extension. */
static sim_status copy_stem(const char *path, char **out)
{
    sim_status st = SIM_OK;
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    char *stem = NULL;
    sim_text text = {0};

    SIM_TRY(sim_text_format(
        "cli/compare", &stem, "%.*s",
        (int)(dot && dot > base ? (size_t)(dot - base) : strlen(base)), base));
    SIM_TRY(sim_text_open(&text));
    for (const char *p = stem; *p; p++)
        (void)fputc(is_safe(*p) || *p == '_' ? *p : '-', text.file);
    SIM_TRY(sim_text_finish(&text, "cli/compare", out));
done:
    sim_text_close(&text);
    sim_free(stem);
    return st;
}

static bool is_used(const comparison *c, size_t n, const char *stem)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(c->stems[i], stem) == 0)
            return true;
    return false;
}

/* Sets the stem of job i, with the first number that makes it unique. */
static sim_status name_job(comparison *c, size_t i)
{
    sim_status st = SIM_OK;
    char *stem = NULL;

    SIM_TRY(copy_stem(c->arguments->jobs[i], &stem));
    SIM_TRY(sim_text_copy(stem, "cli/compare", &c->stems[i]));
    for (size_t n = 2; is_used(c, i, c->stems[i]); n++) {
        SIM_FREE(c->stems[i]);
        SIM_TRY(sim_text_format("cli/compare", &c->stems[i], "%s-%zu", stem, n));
    }
done:
    sim_free(stem);
    return st;
}

sim_status sim_compare_name_jobs(comparison *c)
{
    sim_status st = SIM_OK;
    const char *const *jobs = c->arguments->jobs;

    for (size_t i = 0; i < c->arguments->n_jobs; i++) {
        for (size_t k = 0; k < i; k++)
            SIM_CHECK(!sim_path_is_same(jobs[k], jobs[i]), SIM_E_USAGE,
                      "%s and %s are the same job file", jobs[k], jobs[i]);
        SIM_TRY(name_job(c, i));
    }
done:
    return st;
}

static void put_name(FILE *out, const comparison *c, const compare_configuration *f,
                     int64_t seed)
{
    (void)fputs(c->stems[f->job], out);
    for (size_t k = 0; k < c->arguments->n_keys; k++) {
        if ((int)k == c->seed_key)
            continue;
        (void)fprintf(out, "_%s-", c->arguments->keys[k].key);
        put_value(out, sim_compare_value(c, f, k));
    }
    (void)fprintf(out, "_seed-%lld", (long long)seed);
}

sim_status sim_compare_name_run(const comparison *c, const compare_configuration *f,
                                compare_run *r)
{
    sim_status st = SIM_OK;
    sim_text text = {0};
    char *name = NULL, hex[33];

    SIM_TRY(sim_text_open(&text));
    put_name(text.file, c, f, r->seed);
    SIM_TRY(sim_text_finish(&text, "cli/compare", &name));
    sim_hash_hex(sim_hash_bytes(name, strlen(name)), hex);
    SIM_TRY(strlen(name) > NAME_BYTES
                ? sim_text_format("cli/compare", &r->name, "%.*s-%.16s_seed-%lld",
                                  NAME_BYTES - 60, name, hex, (long long)r->seed)
                : sim_text_copy(name, "cli/compare", &r->name));
done:
    sim_text_close(&text);
    sim_free(name);
    return st;
}

sim_status sim_compare_run_word(const char *path, const char *name, char **out)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789/_.+-$~{}";
    sim_status st = SIM_OK;
    sim_text text = {0};
    const bool is_plain = path[strspn(path, plain)] == '\0' && !strchr("-{}", *path);

    SIM_TRY(sim_text_open(&text));
    (void)fputs(is_plain ? "run=" : "run='", text.file);
    for (const char *p = path; *p; p++)
        (void)fputs(*p == '\'' && !is_plain ? "''" : (char[]){*p, '\0'}, text.file);
    (void)fprintf(text.file, "%s%s%s", *name ? "/" : "", name, is_plain ? "" : "'");
    SIM_TRY(sim_text_finish(&text, "cli/compare", out));
done:
    sim_text_close(&text);
    return st;
}
