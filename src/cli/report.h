/*
 * report.h - what `simile report` shows of a run.
 */
#ifndef SIMILE_CLI_REPORT_H
#define SIMILE_CLI_REPORT_H

#include "cli.h"
#include "run_info.h"
#include "segment.h"

#include "simile/report.h"

/* Values of one scalar of metrics.jsonl over the steps. */
typedef struct {
    char group[40]; /* "train", or the protocol of an evaluation */
    char name[64];
    sim_chart_point *points;
    size_t n, capacity;
} report_curve;

/* Counts of one histogram of metrics.jsonl at the steps of evaluations. */
typedef struct {
    char name[64];
    size_t n_bins, n;
    double *counts; /* [n][n_bins] */
    int64_t *steps; /* [n] */
} report_histogram;

typedef struct {
    char *path;
    run_info info;
    report_curve *curves;
    size_t n_curves;
    report_histogram *histograms;
    size_t n_histograms;
    size_t n_lines, n_bad; /* of metrics.jsonl */
    bool by_epoch;         /* x is the epoch, not the step */
    sim_json *segments;    /* {"segments": [...]} with their ends */
    sim_json *cost;        /* results/pretrain.json; NULL: there is none */
    char *job;             /* the resolved job; NULL: there is none */
} report_run;

/* Errors: SIM_E_INPUT if a path is not the directory of a run. */
SIM_MUST_USE sim_status sim_report_check(const char *path);

/*
 * Reads a run, which a job may be writing.  Files that are missing are not an error; lines that cannot be
 * read are counted.  The caller clears *out also after a failure.
 *   by_epoch  x of the curves is the epoch
 */
SIM_MUST_USE sim_status sim_report_read(const char *path, bool by_epoch, report_run *out);
void sim_report_clear(report_run *r);
/* NULL: the run has no such curve. */
const report_curve *sim_report_curve(const report_run *r, const char *group,
                                     const char *name);

/*
 * SVG elements of the curves of some runs, one after the other; NULL if there are none.  The caller frees
 * *out.  Of several runs every chart has one curve per run.
 *   evaluations  those of evaluations, otherwise those of training
 */
SIM_MUST_USE sim_status sim_report_charts(const report_run *runs, size_t n,
                                          bool evaluations, char **out);
/* Heat maps of the histograms of a run over its steps; NULL if there are none. */
SIM_MUST_USE sim_status sim_report_histograms(const report_run *r, char **out);

/* Images of the test set, or training set, as the newest checkpoint embeds them. */
typedef struct {
    sim_picture neighbours; /* a row per query; `png` owns it */
    uint8_t *png, *jpeg;
    size_t n_jpeg;
    char *map;   /* scatter plots, whose images are `jpeg`; NULL: there are none */
    char *about; /* which images and checkpoint */
} report_images;
/* Without a checkpoint or its data there are none, which is logged.  Clear it. */
void sim_report_images(const report_run *r, size_t n_images, report_images *out);
void sim_report_images_clear(report_images *i);

typedef struct {
    int refresh_s;   /* as sim_page_html */
    size_t n_images; /* of the map and the neighbours; 0: none */
} report_options;
enum { REPORT_IMAGES = 500 };

/* The page of some runs. */
SIM_MUST_USE sim_status sim_report_page(const report_run *runs, size_t n,
                                        const report_options *options, char **out);

/* Writes the page of some runs to `target`.  Local. */
SIM_MUST_USE sim_status sim_report_write(char *const *paths, size_t n,
                                         const report_options *options,
                                         const char *target);
/* Writes the metrics of a run as CSV.  Local. */
SIM_MUST_USE sim_status sim_report_write_csv(const char *run, const char *target);
bool sim_report_is_csv(const char *path);
/* Writes RUN/report.html.  Local. */
SIM_MUST_USE sim_status sim_report_write_own(const char *run);
/* Whether a file is a page that was written here. */
bool sim_report_is_page(const char *path);

#endif
