/*
 * compare_table.c - means over seeds, and what differs between configurations.
 */
#include "compare.h"

#include "simile/memory.h"
#include "simile/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- means ---- */

compare_mean sim_compare_mean(const comparison *c, size_t configuration, size_t measure)
{
    const compare_run *runs = c->runs + configuration * c->n_seeds;
    compare_mean m = {.mean = NAN, .deviation = NAN};
    double sum = 0, squares = 0;

    for (size_t i = 0; i < c->n_seeds; i++)
        if (isfinite(runs[i].values[measure])) {
            sum += runs[i].values[measure];
            m.n++;
        }
    if (m.n == 0)
        return m;
    m.mean = sum / (double)m.n;
    for (size_t i = 0; i < c->n_seeds; i++)
        if (isfinite(runs[i].values[measure]))
            squares +=
                (runs[i].values[measure] - m.mean) * (runs[i].values[measure] - m.mean);
    m.deviation = m.n > 1 ? sqrt(squares / (double)(m.n - 1)) : 0;
    return m;
}

compare_counts sim_compare_count(const comparison *c)
{
    compare_counts n = {0};

    for (size_t i = 0; i < c->n_runs; i++) {
        const compare_run *r = &c->runs[i];
        if (r->failure.code)
            n.failed++;
        else if (r->is_trained)
            n.complete++;
        else
            n.missing++;
        n.elsewhere += r->is_elsewhere;
    }
    return n;
}

/* ---- differences ---- */

static bool is_varied(const comparison *c, const char *key, size_t n_key)
{
    if (n_key == 4 && memcmp(key, "seed", 4) == 0)
        return true;
    for (size_t k = 0; k < c->arguments->n_keys; k++)
        if (strlen(c->arguments->keys[k].key) == n_key &&
            memcmp(c->arguments->keys[k].key, key, n_key) == 0)
            return true;
    return false;
}

/* The value of a configuration; "" with *n 0 if it lacks the key. */
static const char *value_of(const comparison *c, size_t configuration, const char *key,
                            size_t *n)
{
    const char *value = sim_compare_line_value(c->configurations[configuration].identity,
                                               key, strlen(key), n);
    if (!value)
        *n = 0;
    return value ? value : "";
}

static bool have_same_value(const comparison *c, const char *key, size_t a, size_t b)
{
    size_t n = 0, m = 0;
    const char *x = value_of(c, a, key, &n), *y = value_of(c, b, key, &m);
    return n == m && memcmp(x, y, n) == 0;
}

/* Numbers of the configurations that have the value of configuration `like`, as "1-4, 7". */
static sim_status list_configurations(const comparison *c, const char *key, size_t like,
                                      char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};
    const char *separator = "";

    SIM_TRY(sim_text_open(&text));
    for (size_t i = 0, last = 0; i < c->n_configurations; i = last + 1) {
        last = i;
        if (!have_same_value(c, key, like, i))
            continue;
        while (last + 1 < c->n_configurations && have_same_value(c, key, like, last + 1))
            last++;
        (void)fprintf(text.file, last > i ? "%s%zu-%zu" : "%s%zu", separator, i + 1,
                      last + 1);
        separator = ", ";
    }
    SIM_TRY(sim_text_finish(&text, "cli/compare", out));
done:
    sim_text_close(&text);
    return st;
}

static sim_status add_difference(const comparison *c, const char *key, size_t first,
                                 compare_differences *d)
{
    sim_status st = SIM_OK;
    size_t n = 0;
    const char *value = value_of(c, first, key, &n);

    SIM_TRY(sim_grow(&d->rows, d->n + 1, "cli/compare"));
    compare_difference *row = &d->rows[d->n++];
    *row = (compare_difference){0};
    SIM_TRY(sim_text_copy(key, "cli/compare", &row->key));
    SIM_TRY(sim_text_format("cli/compare", &row->value, "%.*s", (int)n, value));
    SIM_TRY(list_configurations(c, key, first, &row->configurations));
done:
    return st;
}

/* A row for each value of the key. */
static sim_status add_key(const comparison *c, const char *key, compare_differences *d)
{
    sim_status st = SIM_OK;

    for (size_t i = 0; i < c->n_configurations; i++) {
        bool is_new = true;
        for (size_t k = 0; k < i; k++)
            is_new = is_new && !have_same_value(c, key, k, i);
        if (is_new)
            SIM_TRY(add_difference(c, key, i, d));
    }
done:
    return st;
}

static bool differs(const comparison *c, const char *key)
{
    for (size_t i = 1; i < c->n_configurations; i++)
        if (!have_same_value(c, key, 0, i))
            return true;
    return false;
}

static bool has_key(const compare_differences *d, const char *key)
{
    for (size_t i = 0; i < d->n; i++)
        if (strcmp(d->rows[i].key, key) == 0)
            return true;
    return false;
}

/* Keys of one configuration that are not in the list yet. */
static sim_status add_keys_of(const comparison *c, const char *identity,
                              compare_differences *d)
{
    sim_status st = SIM_OK;
    char key[128];

    for (const char *p = identity; *p;) {
        const size_t n = strcspn(p, "\n"), n_key = strcspn(p, ":\n");
        (void)snprintf(key, sizeof key, "%.*s", (int)n_key, p);
        if (!is_varied(c, p, n_key) && !has_key(d, key) && differs(c, key))
            SIM_TRY(add_key(c, key, d));
        p += n + (p[n] == '\n');
    }
done:
    return st;
}

static int compare_by_key(const void *a, const void *b)
{
    const compare_difference *x = a, *y = b;
    const int order = strcmp(x->key, y->key);
    return order ? order : strcmp(x->value, y->value);
}

sim_status sim_compare_differences(const comparison *c, compare_differences *d)
{
    sim_status st = SIM_OK;

    *d = (compare_differences){0};
    for (size_t i = 0; i < c->n_configurations; i++)
        SIM_TRY(add_keys_of(c, c->configurations[i].identity, d));
    if (d->n > 0)
        qsort(d->rows, d->n, sizeof *d->rows, compare_by_key);
done:
    return st;
}

void sim_compare_differences_clear(compare_differences *d)
{
    for (size_t i = 0; i < d->n; i++) {
        sim_free(d->rows[i].key);
        sim_free(d->rows[i].value);
        sim_free(d->rows[i].configurations);
    }
    sim_free(d->rows);
    *d = (compare_differences){0};
}
