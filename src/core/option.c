/*
 * option.c - lists of choices, and suggestions for misspelled words.
 */
#include "simile/option.h"

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
    size_t rows[3][MAX_BYTES + 1], n = strnlen(b, MAX_BYTES), m = strnlen(a, MAX_BYTES);
    size_t *row = rows[0], *above = rows[1], *second = rows[2];

    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t *unused = second;
        second = above;
        above = row;
        row = unused;
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t change = above[j - 1] + (a[i - 1] != b[j - 1]);
            size_t other = (above[j] < row[j - 1] ? above[j] : row[j - 1]) + 1;
            row[j] = change < other ? change : other;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                second[j - 2] + 1 < row[j])
                row[j] = second[j - 2] + 1;
        }
    }
    return row[n];
}

static bool is_abbreviation(const char *text, const char *word)
{
    enum { SHORTEST = 3 };
    return strlen(text) >= SHORTEST && strncmp(text, word, strlen(text)) == 0;
}

size_t sim_misspelling(const char *text, const char *word)
{
    enum {
        SHORT = 3
    }; /* of words this short, only an added or missing letter is a slip */
    const size_t n = strlen(text), m = strlen(word);
    const size_t distance = sim_edit_distance(text, word);

    if (n == 0 || text[0] != word[0])
        return SIM_UNRELATED;
    if (is_abbreviation(text, word))
        return 1;
    if (3 * distance > n || (n <= SHORT && distance != (n > m ? n - m : m - n)))
        return SIM_UNRELATED;
    return distance;
}

int sim_choices_suggest(const char *choices, const char *text)
{
    char word[64];
    size_t least = SIM_UNRELATED;
    int best = -1, n_best = 0;

    for (int i = 0; sim_choices_text(choices, i, word, sizeof word); i++) {
        size_t distance = sim_misspelling(text, word);
        if (distance == SIM_UNRELATED || distance > least)
            continue;
        n_best = distance == least ? n_best + 1 : 1;
        least = distance;
        best = i;
    }
    return n_best == 1 ? best : -1;
}
