/*
 * compare_words.c - words of the command line of `simile compare`: lists of values, the launcher.
 */
#include "compare.h"

#include "simile/memory.h"

#include <stdio.h>
#include <string.h>

/* End of the value at `text`: a comma outside brackets and quotes, or the end of the text.  NULL: a
 * bracket or quote is not closed. */
static const char *end_of_value(const char *text)
{
    int depth = 0;
    char quote = '\0';

    for (; *text; text++) {
        if (quote) {
            quote = *text == quote ? '\0' : quote;
            continue;
        }
        if (*text == '"' || *text == '\'')
            quote = *text;
        depth += (*text == '[' || *text == '{') - (*text == ']' || *text == '}');
        if (*text == ',' && depth == 0)
            break;
    }
    return depth == 0 && !quote ? text : NULL;
}

static bool has_value(const compare_key *k, const char *text, size_t n)
{
    for (size_t i = 0; i < k->n; i++)
        if (strlen(k->values[i]) == n && memcmp(k->values[i], text, n) == 0)
            return true;
    return false;
}

/* Appends a value.  Returns what is wrong with it, or NULL. */
static const char *add_value(compare_key *k, const char *text, size_t n)
{
    if (n == 0)
        return "a value is empty";
    if (has_value(k, text, n))
        return "a value is listed twice";
    if (sim_grow(&k->values, k->n + 1, "cli/compare") != SIM_OK ||
        sim_text_format("cli/compare", &k->values[k->n], "%.*s", (int)n, text) != SIM_OK)
        return "no memory";
    k->n++;
    return NULL;
}

static const char *add_values(compare_key *k, const char *text)
{
    const char *problem = NULL;

    for (;;) {
        const char *end = end_of_value(text);
        if (!end)
            return "a bracket or a quote is not closed";
        problem = add_value(k, text, (size_t)(end - text));
        if (problem || *end == '\0')
            return problem;
        text = end + 1;
    }
}

bool sim_compare_parse_key(compare_arguments *a, const char *arg, int number,
                           const char **problem)
{
    const size_t n = strspn(arg, "abcdefghijklmnopqrstuvwxyz0123456789_.");

    *problem = NULL;
    if (n == 0 || arg[n] != '=') {
        *problem = "expected KEY=V1,V2,...";
        return false;
    }
    for (size_t i = 0; i < a->n_keys; i++)
        if (strlen(a->keys[i].key) == n && memcmp(a->keys[i].key, arg, n) == 0)
            *problem = "the key is already varied; list all values once";
    if (a->n_keys == COMPARE_MAX_KEYS)
        *problem = "there are too many keys (16 at most)";
    if (*problem)
        return false;
    compare_key *k = &a->keys[a->n_keys++];
    k->number = number;
    if (sim_text_format("cli/compare", &k->key, "%.*s", (int)n, arg) != SIM_OK)
        *problem = "no memory";
    else
        *problem = add_values(k, arg + n + 1);
    return *problem == NULL;
}

/* ---- the launcher ---- */

/* Copies the word at *text without its quotes and moves *text behind it; false: a quote is not
 * closed. */
static bool take_word(const char **text, char *out)
{
    char quote = '\0';
    const char *p = *text;

    for (; *p && (quote || *p != ' '); p++) {
        if (quote ? *p == quote : *p == '"' || *p == '\'')
            quote = quote ? '\0' : *p;
        else
            *out++ = *p;
    }
    *out = '\0';
    *text = p;
    return !quote;
}

bool sim_compare_parse_launcher(compare_arguments *a, const char *arg,
                                const char **problem)
{
    char *word = NULL;
    const char *p = arg;

    *problem = NULL;
    while (!*problem && *(p += strspn(p, " "))) {
        if (a->n_launcher == COMPARE_MAX_LAUNCHER)
            *problem = "there are too many words (64 at most)";
        else if (sim_alloc(&word, strlen(p) + 1, "cli/compare") != SIM_OK)
            *problem = "no memory";
        else
            a->launcher[a->n_launcher++] = word;
        if (!*problem && !take_word(&p, word))
            *problem = "a quote is not closed";
    }
    if (!*problem && a->n_launcher == 0)
        *problem = "expected a command such as \"mpirun -np 4\"";
    return *problem == NULL;
}

void sim_compare_arguments_clear(compare_arguments *a)
{
    for (size_t i = 0; i < a->n_keys; i++) {
        for (size_t k = 0; k < a->keys[i].n; k++)
            sim_free(a->keys[i].values[k]);
        sim_free(a->keys[i].values);
        sim_free(a->keys[i].key);
    }
    for (size_t i = 0; i < a->n_launcher; i++)
        sim_free(a->launcher[i]);
}
