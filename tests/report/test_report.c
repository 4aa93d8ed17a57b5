/*
 * test_report.c - tables, plots and pages.
 */
#include "simile_test.h"

#include "simile/memory.h"
#include "simile/report.h"
#include "simile/text.h"

#include <math.h>

static size_t count(const char *text, const char *word)
{
    size_t n = 0;
    for (; (text = strstr(text, word)) != NULL; text += strlen(word))
        n++;
    return n;
}

/* ---- tables ---- */

static const sim_report_column two_columns[] = {{"name", false}, {"top-1", true}};

static void columns_are_aligned_by_characters(void **state)
{
    (void)state;
    static const char *const cells[] = {"é", "1.0 ± 0.5", "long", "2"};
    const sim_report_table t = {2, 2, two_columns, cells};
    char *text = NULL;

    ASSERT_OK(sim_table_text(&t, &text));
    assert_string_equal(text, "name      top-1\n"
                              "é     1.0 ± 0.5\n"
                              "long          2\n");
    sim_free(text);
}

static void control_characters_do_not_reach_the_terminal(void **state)
{
    (void)state;
    static const char *const cells[] = {"a\nb", "\033[31m"};
    const sim_report_table t = {2, 1, two_columns, cells};
    char *text = NULL;

    ASSERT_OK(sim_table_text(&t, &text));
    assert_string_equal(text, "name     top-1\na\\nb  \\x1b[31m\n");
    sim_free(text);
}

static void fields_are_quoted_as_in_rfc_4180(void **state)
{
    (void)state;
    static const char *const cells[] = {"a,b", "say \"x\"", "two\nlines", "plain"};
    const sim_report_table t = {2, 2, two_columns, cells};
    char *text = NULL;

    ASSERT_OK(sim_table_csv(&t, &text));
    assert_string_equal(text,
                        "name,top-1\n\"a,b\",\"say \"\"x\"\"\"\n\"two\nlines\",plain\n");
    sim_free(text);
}

static void markup_in_a_text_is_escaped(void **state)
{
    (void)state;
    sim_text text = {0};
    char *out = NULL;

    ASSERT_OK(sim_text_open(&text));
    sim_text_put_escaped(text.file, "<a b=\"c\">&'\x01\xff\xc3 \xe2\x82\xac");
    ASSERT_OK(sim_text_finish(&text, "test/text", &out));
    assert_string_equal(out, "&lt;a b=&quot;c&quot;&gt;&amp;&#39;??? \xe2\x82\xac");
    sim_text_close(&text);
    sim_free(out);
}

/* ---- plots ---- */

enum { MAX_POINTS = 64 };
typedef struct {
    size_t n;
    double x[MAX_POINTS], y[MAX_POINTS];
} markers;

/* Positions of the elements of class "point". */
static markers find_markers(const char *svg)
{
    markers m = {0};

    for (const char *p = svg; (p = strstr(p, "class=\"point ")) != NULL; p++) {
        assert_true(m.n < MAX_POINTS);
        const char *path = strstr(p, "d=\"M");
        assert_non_null(path);
        assert_int_equal(sscanf(path, "d=\"M%lf %lf", &m.x[m.n], &m.y[m.n]), 2);
        m.n++;
    }
    return m;
}

static char *draw(size_t n_x, const char *const *x, size_t n_series,
                  const char *const *series, const sim_plot_point *points)
{
    const sim_plot_panel panel = {"kNN top-1 %", points};
    const sim_plot plot = {.x_title = "batch",
                           .n_x = n_x,
                           .n_series = n_series,
                           .n_panels = 1,
                           .x = x,
                           .series = series,
                           .panels = &panel};
    char *svg = NULL;

    ASSERT_OK(sim_plot_svg(&plot, &svg));
    return svg;
}

static const char *const one_series[] = {"only"};

/* Positions of the points of one series. */
static markers place(size_t n, const char *const *x, const sim_plot_point *points)
{
    char *svg = draw(n, x, 1, one_series, points);
    const markers m = find_markers(svg);

    assert_int_equal(m.n, n);
    sim_free(svg);
    return m;
}

static const sim_plot_point three_points[] = {{10, 0}, {20, 0}, {50, 0}};

static void powers_of_two_are_equidistant(void **state)
{
    (void)state;
    static const char *const x[] = {"32", "64", "128"};
    const markers m = place(3, x, three_points);
    assert_true(fabs((m.x[1] - m.x[0]) - (m.x[2] - m.x[1])) <= 0.2 && m.x[1] > m.x[0]);
}

static void evenly_spaced_numbers_are_on_a_linear_axis_in_any_order(void **state)
{
    (void)state;
    static const char *const x[] = {"0.5", "0.1", "0.2"};
    const markers m = place(3, x, three_points);
    /* 0.1, 0.2 and 0.5: logarithms are 0.69 and 0.92 apart, the numbers 0.1 and 0.3. */
    const double expected = (log(0.2) - log(0.1)) / (log(0.5) - log(0.1));
    assert_true(fabs((m.x[2] - m.x[1]) / (m.x[0] - m.x[1]) - expected) < 2e-3);
    static const char *const even[] = {"3", "1", "2"};
    const markers e = place(3, even, three_points);
    assert_true(fabs((e.x[2] - e.x[1]) / (e.x[0] - e.x[1]) - 0.5) < 2e-3);
}

static void two_numbers_are_logarithmic_from_a_ratio_of_ten(void **state)
{
    (void)state;
    static const char *const x[] = {"-1", "0", "10"}; /* not positive: linear */
    const markers m = place(3, x, three_points);
    assert_true(fabs((m.x[1] - m.x[0]) / (m.x[2] - m.x[0]) - 1.0 / 11) < 2e-3);
}

static void words_and_repeated_numbers_are_categories(void **state)
{
    (void)state;
    static const char *const lists[][3] = {{"simclr", "dcl", "3"},
                                           {"1", "1.0", "100"},
                                           {"0", "0.9", "0.99"},
                                           {"0", "0.9", "0.98"},
                                           {"0", "0.99", "0.999"}};
    for (int i = 0; i < 5; i++) {
        const markers m = place(3, lists[i], three_points);
        if (i == 2 || i == 3) {
            assert_true(m.x[1] - m.x[0] > 5 * (m.x[2] - m.x[1]));
            continue;
        }
        assert_true(fabs((m.x[1] - m.x[0]) - (m.x[2] - m.x[1])) <= 0.2);
    }
}

static void heights_are_proportional_to_values(void **state)
{
    (void)state;
    static const char *const x[] = {"a", "b", "c"};
    const markers m = place(3, x, three_points);
    assert_true(fabs((m.y[0] - m.y[1]) / (m.y[0] - m.y[2]) - 0.25) < 5e-3);
    assert_true(m.y[0] > m.y[2]); /* y of SVG points down */
}

static void absent_points_and_deviations_are_not_drawn(void **state)
{
    (void)state;
    static const char *const x[] = {"16", "32"}, *const series[] = {"simclr", "a<b"};
    const sim_plot_point points[] = {{1, 0.5}, {NAN, 0}, {2, 0}, {3, 0.25}};
    char *svg = draw(2, x, 2, series, points);

    assert_int_equal(find_markers(svg).n, 3);
    assert_int_equal(count(svg, "class=\"bar "), 2);
    assert_int_equal(count(svg, "a&lt;b"), 1);
    assert_int_equal(count(svg, "a<b"), 0);
    sim_free(svg);
}

static void equal_large_and_no_values_have_finite_coordinates(void **state)
{
    (void)state;
    static const char *const x[] = {"1", "2"};
    const sim_plot_point cases[][2] = {{{5, 0}, {5, 0}},
                                       {{0, 0}, {0, 0}},
                                       {{NAN, 0}, {NAN, 0}},
                                       {{1e12, 0}, {-1e12, 0}},
                                       {{1e-9, 0}, {2e-9, 1e-9}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *svg = draw(2, x, 1, one_series, cases[i]);
        assert_int_equal(count(svg, "nan"), 0);
        assert_int_equal(count(svg, "inf"), 0);
        assert_true(count(svg, "class=\"grid\"") < 12);
        sim_free(svg);
    }
}

/* ---- pages ---- */

static void a_page_refers_to_no_other_file(void **state)
{
    (void)state;
    static const char *const cells[] = {"<b>", "1"};
    const sim_report_table t = {2, 1, two_columns, cells};
    const sim_page_part parts[] = {
        {.kind = SIM_PAGE_TEXT, .heading = "Head & line", .text = "5 < 6"},
        {.kind = SIM_PAGE_TABLE, .table = &t},
        {.kind = SIM_PAGE_SVG, .text = "<svg></svg>"},
        {.kind = SIM_PAGE_CODE, .heading = "Commands", .text = "a 'b'"}};
    static const char *const forbidden[] = {"<script", "src=",    "href",
                                            "url(",    "@import", "<b>"};
    char *page = NULL;

    ASSERT_OK(sim_page_html("runs/a&b", parts, 4, 0, &page));
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        assert_int_equal(count(page, forbidden[i]), 0);
    static const char *const expected[] = {"runs/a&amp;b", "Head &amp; line",
                                           "5 &lt; 6",     "&lt;b&gt;",
                                           "<svg></svg>",  "a &#39;b&#39;"};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_true(count(page, expected[i]) >= 1);
    sim_free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_aligned_by_characters),
        cmocka_unit_test(control_characters_do_not_reach_the_terminal),
        cmocka_unit_test(fields_are_quoted_as_in_rfc_4180),
        cmocka_unit_test(markup_in_a_text_is_escaped),
        cmocka_unit_test(powers_of_two_are_equidistant),
        cmocka_unit_test(evenly_spaced_numbers_are_on_a_linear_axis_in_any_order),
        cmocka_unit_test(two_numbers_are_logarithmic_from_a_ratio_of_ten),
        cmocka_unit_test(words_and_repeated_numbers_are_categories),
        cmocka_unit_test(heights_are_proportional_to_values),
        cmocka_unit_test(absent_points_and_deviations_are_not_drawn),
        cmocka_unit_test(equal_large_and_no_values_have_finite_coordinates),
        cmocka_unit_test(a_page_refers_to_no_other_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
