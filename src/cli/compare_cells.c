/*
 * compare_cells.c - the cells of the tables of a comparison.
 */
#include "compare_cells.h"

#include "simile/memory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

sim_report_table sim_compare_table_of(const compare_cells *t)
{
    return (sim_report_table){.n_columns = t->n_columns,
                              .n_rows = t->n_rows,
                              .columns = t->columns,
                              .cells = (const char *const *)t->cells};
}

void sim_compare_cells_clear(compare_cells *t)
{
    for (size_t i = 0; t->cells && i < t->n_rows * t->n_columns; i++)
        sim_free(t->cells[i]);
    sim_free(t->cells);
    *t = (compare_cells){0};
}

static void add_column(compare_cells *t, const char *title, bool right)
{
    SIM_ASSERT(t->n_columns < COMPARE_MAX_COLUMNS);
    t->columns[t->n_columns++] = (sim_report_column){title, right};
}

static sim_status add_rows(compare_cells *t, size_t n)
{
    t->n_rows = n;
    return sim_alloc(&t->cells, n * t->n_columns, "cli/compare");
}

/* Fills the next cell of a row. */
static sim_status put(compare_cells *t, size_t row, size_t *column, const char *fmt, ...)
    SIM_PRINTF(4, 5);
static sim_status put(compare_cells *t, size_t row, size_t *column, const char *fmt, ...)
{
    char text[4400];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return sim_text_copy(text, "cli/compare",
                         &t->cells[row * t->n_columns + (*column)++]);
}

/* ---- job and keys ---- */

static void add_key_columns(const comparison *c, compare_cells *t)
{
    if (c->arguments->n_jobs > 1)
        add_column(t, "job", false);
    for (size_t k = 0; k < c->arguments->n_keys; k++)
        if ((int)k != c->seed_key)
            add_column(t, c->arguments->keys[k].key, false);
}

static sim_status put_keys(const comparison *c, const compare_configuration *f,
                           compare_cells *t, size_t row, size_t *column)
{
    sim_status st = SIM_OK;

    if (c->arguments->n_jobs > 1)
        SIM_TRY(put(t, row, column, "%s", c->stems[f->job]));
    for (size_t k = 0; k < c->arguments->n_keys; k++)
        if ((int)k != c->seed_key)
            SIM_TRY(put(t, row, column, "%s", sim_compare_value(c, f, k)));
done:
    return st;
}

/* ---- configurations ---- */

static sim_status put_mean(const compare_measure *m, const compare_mean *v,
                           compare_cells *t, size_t row, size_t *column)
{
    if (v->n == 0)
        return put(t, row, column, "-");
    if (v->n == 1)
        return put(t, row, column, "%.*f", m->decimals, m->scale * v->mean);
    return put(t, row, column, "%.*f ± %.*f", m->decimals, m->scale * v->mean,
               m->decimals, m->scale * v->deviation);
}

static size_t count_complete(const comparison *c, size_t configuration)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_seeds; i++)
        n += c->runs[configuration * c->n_seeds + i].is_trained;
    return n;
}

static sim_status put_configuration(const comparison *c, size_t i, compare_cells *t)
{
    sim_status st = SIM_OK;
    size_t column = 0;
    const size_t n = count_complete(c, i);

    SIM_TRY(put(t, i, &column, "%zu", i + 1));
    SIM_TRY(put_keys(c, &c->configurations[i], t, i, &column));
    SIM_TRY(n == c->n_seeds ? put(t, i, &column, "%zu", n)
                            : put(t, i, &column, "%zu of %zu", n, c->n_seeds));
    for (size_t m = 0; m < c->n_measures; m++) {
        const compare_mean mean = sim_compare_mean(c, i, m);
        if (c->measures[m].is_shown)
            SIM_TRY(put_mean(&c->measures[m], &mean, t, i, &column));
    }
done:
    return st;
}

sim_status sim_compare_cells_of_configurations(const comparison *c, compare_cells *t)
{
    sim_status st = SIM_OK;

    add_column(t, "", true);
    add_key_columns(c, t);
    add_column(t, "n", true);
    for (size_t m = 0; m < c->n_measures; m++)
        if (c->measures[m].is_shown)
            add_column(t, c->measures[m].title, true);
    SIM_TRY(add_rows(t, c->n_configurations));
    for (size_t i = 0; i < c->n_configurations; i++)
        SIM_TRY(put_configuration(c, i, t));
done:
    return st;
}

/* ---- runs ---- */

static sim_status put_run(const comparison *c, size_t i, compare_cells *t)
{
    sim_status st = SIM_OK;
    const compare_run *r = &c->runs[i];
    const compare_configuration *f = &c->configurations[r->configuration];
    size_t column = 0;

    SIM_TRY(put(t, i, &column, "%s", r->path));
    SIM_TRY(put_keys(c, f, t, i, &column));
    SIM_TRY(put(t, i, &column, "%lld", (long long)r->seed));
    SIM_TRY(put(t, i, &column, "%lld", (long long)r->n_steps));
    SIM_TRY(put(t, i, &column, "%s",
                r->failure.code ? "failed"
                : r->is_trained ? "complete"
                                : "missing"));
    SIM_TRY(r->failure.code ? put(t, i, &column, "%d", r->failure.code)
                            : put(t, i, &column, "%s", ""));
    for (size_t m = 0; m < c->n_measures; m++)
        SIM_TRY(isfinite(r->values[m]) ? put(t, i, &column, "%.17g", r->values[m])
                                       : put(t, i, &column, "%s", ""));
done:
    return st;
}

sim_status sim_compare_cells_of_runs(const comparison *c, compare_cells *t)
{
    sim_status st = SIM_OK;

    add_column(t, "run", false);
    add_key_columns(c, t);
    add_column(t, "seed", true);
    add_column(t, "steps", true);
    add_column(t, "state", false);
    add_column(t, "exit", true);
    for (size_t m = 0; m < c->n_measures; m++)
        add_column(t, c->measures[m].key, true);
    SIM_TRY(add_rows(t, c->n_runs));
    for (size_t i = 0; i < c->n_runs; i++)
        SIM_TRY(put_run(c, i, t));
done:
    return st;
}

/* ---- differences and failures ---- */

/* Values that exist; the configurations of a value list those that have the key. */
static size_t count_values(const compare_differences *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++)
        n += *d->rows[i].value != '\0';
    return n;
}

sim_status sim_compare_cells_of_differences(const compare_differences *d,
                                            compare_cells *t)
{
    sim_status st = SIM_OK;
    const char *last = "";
    size_t row = 0;

    add_column(t, "key", false);
    add_column(t, "value", false);
    add_column(t, "configurations", false);
    SIM_TRY(add_rows(t, count_values(d)));
    for (size_t i = 0; i < d->n; i++) {
        const compare_difference *x = &d->rows[i];
        size_t column = 0;
        if (!*x->value)
            continue;
        SIM_TRY(put(t, row, &column, "%s", strcmp(x->key, last) == 0 ? "" : x->key));
        SIM_TRY(put(t, row, &column, "%s", x->value));
        SIM_TRY(put(t, row, &column, "%s", x->configurations));
        last = x->key;
        row++;
    }
done:
    return st;
}

sim_status sim_compare_cells_of_failures(const comparison *c, compare_cells *t)
{
    sim_status st = SIM_OK;
    size_t row = 0;

    add_column(t, "failed run", false);
    add_column(t, "exit", true);
    add_column(t, "error", false);
    SIM_TRY(add_rows(t, sim_compare_count(c).failed));
    for (size_t i = 0; i < c->n_runs; i++) {
        const compare_run *r = &c->runs[i];
        size_t column = 0;
        if (!r->failure.code)
            continue;
        SIM_TRY(put(t, row, &column, "%s", r->name));
        SIM_TRY(put(t, row, &column, "%d", r->failure.code));
        SIM_TRY(put(t, row, &column, "%s", r->failure.text));
        row++;
    }
done:
    return st;
}
