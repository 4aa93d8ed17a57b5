/*
 * option.c - lists of choices, and the edit distance of two words.
 */
#include "simile/option.h"

#include <stdio.h>
#include <string.h>

size_t sim_choices_count(const char *choices)
{
    size_t n = *choices ? 1 : 0;
    for (const char *p = choices; *p; p++)
        n += *p == '|';
    return n;
}

/* Choice i and its length; NULL if there is none. */
static const char *choice_at(const char *choices, int i, size_t *length)
{
    const char *p = choices;
    for (; i > 0; i--) {
        p = strchr(p, '|');
        if (!p)
            return NULL;
        p++;
    }
    *length = strcspn(p, "|");
    return *length ? p : NULL;
}

bool sim_choices_text(const char *choices, int i, char *out, size_t out_bytes)
{
    size_t n = 0;
    const char *p = i >= 0 ? choice_at(choices, i, &n) : NULL;
    if (!p || n >= out_bytes)
        return false;
    memcpy(out, p, n);
    out[n] = '\0';
    return true;
}

int sim_choices_find(const char *choices, const char *text)
{
    size_t n = 0;
    const char *p = NULL;
    for (int i = 0; (p = choice_at(choices, i, &n)) != NULL; i++)
        if (strlen(text) == n && memcmp(p, text, n) == 0)
            return i;
    return -1;
}

size_t sim_edit_distance(const char *a, const char *b)
{
    enum { MAX_BYTES = 127 };
    size_t row[MAX_BYTES + 1], n = strnlen(b, MAX_BYTES), m = strnlen(a, MAX_BYTES);
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            size_t other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = change < other ? change : other;
        }
    }
    return row[n];
}
