/*
 * compare_plot.c - the plot of a varied key: accuracy over its values.
 *
 * A line is drawn for each combination of job file and other varied keys.
 */
#include "compare_cells.h"

#include "simile/memory.h"
#include "simile/text.h"

#include <math.h>
#include <string.h>

typedef struct {
    const comparison *comparison;
    size_t key;
    size_t *first; /* [n_series] the first configuration of each line; owned */
    char **names;  /* [n_series]; owned */
    size_t n_series;
} series_list;

/* Whether two configurations differ at most in the plotted key. */
static bool are_of_one_line(const series_list *s, size_t a, size_t b)
{
    const comparison *c = s->comparison;
    const compare_configuration *x = &c->configurations[a], *y = &c->configurations[b];

    for (size_t k = 0; k < c->arguments->n_keys; k++)
        if (k != s->key && x->choice[k] != y->choice[k])
            return false;
    return x->job == y->job;
}

static sim_status format_name(const series_list *s, size_t configuration, bool with_keys,
                              char **out)
{
    sim_status st = SIM_OK;
    const comparison *c = s->comparison;
    const compare_configuration *f = &c->configurations[configuration];
    const char *separator = "";
    sim_text text = {0};

    SIM_TRY(sim_text_open(&text));
    if (c->arguments->n_jobs > 1) {
        (void)fputs(c->stems[f->job], text.file);
        separator = ", ";
    }
    for (size_t k = 0; k < c->arguments->n_keys; k++) {
        const compare_key *key = &c->arguments->keys[k];
        if (k == s->key || (int)k == c->seed_key || key->n < 2)
            continue;
        (void)fprintf(text.file, "%s%s%s%s", separator, with_keys ? key->key : "",
                      with_keys ? " " : "", sim_compare_value(c, f, k));
        separator = ", ";
    }
    SIM_TRY(sim_text_finish(&text, "cli/compare", out));
done:
    sim_text_close(&text);
    return st;
}

/* The keys are left out where they do not fit in the legend. */
static sim_status name_series(const series_list *s, size_t configuration, char **out)
{
    enum { LEGEND_CHARACTERS = 50 };
    sim_status st = SIM_OK;
    char *name = NULL;

    SIM_TRY(format_name(s, configuration, true, &name));
    if (sim_text_width(name) > LEGEND_CHARACTERS) {
        SIM_FREE(name);
        SIM_TRY(format_name(s, configuration, false, &name));
    }
    *out = name;
done:
    return st;
}

static sim_status list_series(series_list *s)
{
    sim_status st = SIM_OK;
    const size_t n = s->comparison->n_configurations;

    SIM_TRY(sim_alloc(&s->first, n, "cli/compare"));
    SIM_TRY(sim_alloc(&s->names, n, "cli/compare"));
    for (size_t i = 0; i < n; i++) {
        bool is_new = true;
        for (size_t k = 0; k < s->n_series; k++)
            is_new = is_new && !are_of_one_line(s, s->first[k], i);
        if (!is_new)
            continue;
        s->first[s->n_series] = i;
        SIM_TRY(name_series(s, i, &s->names[s->n_series]));
        s->n_series++;
    }
done:
    return st;
}

static void clear_series(series_list *s)
{
    for (size_t i = 0; i < s->n_series; i++)
        sim_free(s->names[i]);
    sim_free(s->names);
    sim_free(s->first);
}

/* points [n_series][n_x] */
static void fill_points(const series_list *s, size_t measure, sim_plot_point *points)
{
    const comparison *c = s->comparison;
    const size_t n_x = c->arguments->keys[s->key].n;
    const double scale = c->measures[measure].scale;

    for (size_t i = 0; i < c->n_configurations; i++)
        for (size_t k = 0; k < s->n_series; k++)
            if (are_of_one_line(s, s->first[k], i)) {
                const compare_mean m = sim_compare_mean(c, i, measure);
                points[k * n_x + c->configurations[i].choice[s->key]] =
                    (sim_plot_point){scale * m.mean, m.n > 1 ? scale * m.deviation : 0};
            }
}

/* The accuracies of the final checkpoint; without evaluations the loss. */
static size_t list_plotted(const comparison *c, size_t measures[COMPARE_MAX_MEASURES])
{
    size_t n = 0;

    for (size_t i = 0; i < c->n_measures; i++)
        if (c->measures[i].is_accuracy)
            measures[n++] = i;
    for (size_t i = 0; i < c->n_measures && n == 0; i++)
        if (strcmp(c->measures[i].key, "loss") == 0)
            measures[n++] = i;
    return n;
}

sim_status sim_compare_plot(const comparison *c, size_t key, char **svg)
{
    sim_status st = SIM_OK;
    series_list s = {.comparison = c, .key = key};
    const compare_key *x = &c->arguments->keys[key];
    size_t measures[COMPARE_MAX_MEASURES];
    const size_t n = list_plotted(c, measures);
    sim_plot_panel *panels = NULL;
    sim_plot_point *points = NULL;

    *svg = NULL;
    if (x->n < 2 || (int)key == c->seed_key)
        goto done;
    SIM_TRY(list_series(&s));
    const size_t n_points = s.n_series * x->n;
    SIM_TRY(sim_alloc(&panels, n, "cli/compare"));
    SIM_TRY(sim_alloc(&points, n * n_points, "cli/compare"));
    for (size_t i = 0; i < n; i++) {
        fill_points(&s, measures[i], points + i * n_points);
        panels[i] =
            (sim_plot_panel){c->measures[measures[i]].title, points + i * n_points};
    }
    const sim_plot plot = {.x_title = x->key,
                           .n_x = x->n,
                           .n_series = s.n_series,
                           .n_panels = n,
                           .x = (const char *const *)x->values,
                           .series = (const char *const *)s.names,
                           .panels = panels};
    SIM_TRY(sim_plot_svg(&plot, svg));
done:
    clear_series(&s);
    sim_free(panels);
    sim_free(points);
    return st;
}
