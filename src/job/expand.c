/*
 * expand.c - expands ~, $NAME and ${NAME} in the paths of a job, as a shell does.
 *
 * The resolved job keeps the text as it was written, so that a run can move to another home.
 */
#include "expand.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *key;
    char text[SIM_OPTION_TEXT_BYTES];
    size_t used;
} expansion;

static sim_status append(expansion *e, const char *text, size_t n)
{
    sim_status st = SIM_OK;
    SIM_CHECK(e->used + n < sizeof e->text, SIM_E_CONFIG,
              "%s: the expanded path is longer than %zu bytes", e->key,
              sizeof e->text - 1);
    memcpy(e->text + e->used, text, n);
    e->used += n;
    e->text[e->used] = '\0';
done:
    return st;
}

static sim_status append_variable(expansion *e, const char *name, size_t n)
{
    sim_status st = SIM_OK;
    char copy[128];

    SIM_CHECK(
        n > 0 && n < sizeof copy, SIM_E_CONFIG,
        "%s: \"$\" is not followed by the name of a variable; write $NAME or ${NAME}",
        e->key);
    (void)snprintf(copy, sizeof copy, "%.*s", (int)n, name);
    const char *value = getenv(copy);
    SIM_CHECK(value && *value, SIM_E_CONFIG, "%s: the environment variable %s is not set",
              e->key, copy);
    SIM_TRY(append(e, value, strlen(value)));
done:
    return st;
}

static size_t name_length(const char *p)
{
    size_t n = 0;
    while (isalnum((unsigned char)p[n]) || p[n] == '_')
        n++;
    return n;
}

/* Expands the variable at "$"; returns the number of characters that it takes. */
static sim_status expand_variable(expansion *e, const char *p, size_t *taken)
{
    sim_status st = SIM_OK;
    bool braces = p[1] == '{';
    size_t n = name_length(p + 1 + braces);

    SIM_CHECK(!braces || p[2 + n] == '}', SIM_E_CONFIG,
              "%s: \"%s\" lacks a closing brace", e->key, p);
    SIM_TRY(append_variable(e, p + 1 + braces, n));
    *taken = n + 1 + (braces ? 2 : 0);
done:
    return st;
}

sim_status sim_job_expand_path(const char *key, char path[SIM_OPTION_TEXT_BYTES])
{
    sim_status st = SIM_OK;
    expansion e = {.key = key};
    const char *p = path;
    size_t taken = 0;

    if (p[0] == '~') {
        SIM_CHECK(p[1] == '/' || p[1] == '\0', SIM_E_CONFIG,
                  "%s: \"%s\": only ~/ is expanded, not the home of another user", key,
                  path);
        SIM_TRY(append_variable(&e, "HOME", 4));
        p++;
    }
    while (*p) {
        if (*p == '$')
            SIM_TRY(expand_variable(&e, p, &taken));
        else
            SIM_TRY(append(&e, p, taken = strcspn(p, "$")));
        p += taken;
    }
    memcpy(path, e.text, e.used + 1);
done:
    return st;
}
