/*
 * observe.h - the stream of named scalars, histograms and pictures that a run publishes, and its
 * observers.
 *
 * Module: observe
 * Whoever computes a value publishes it in a record; every observer of the stream receives
 * the record and selects what it needs by name or format.  A new metric therefore needs no
 * change in an observer, and a new observer no change where values are computed.
 */
#ifndef SIMILE_OBSERVE_H
#define SIMILE_OBSERVE_H

#include "simile/tensor.h"

#include <stdint.h>

/* ---- scalars ---- */

typedef enum {
    SIM_FORMAT_INT,    /* %lld; an integer in JSON */
    SIM_FORMAT_FIXED,  /* %.*f with `digits` */
    SIM_FORMAT_GENERAL /* %.*g with `digits` */
} sim_scalar_format;

/* Where the log line of an interval shows a scalar. */
typedef enum {
    SIM_LOG_OMIT,
    SIM_LOG_MEAN, /* before the speed; only if a step of the interval updated the weights */
    SIM_LOG_NOTE,   /* at the end */
    SIM_LOG_NONZERO /* at the end, unless it is 0 */
} sim_log_place;

/* The description of a scalar; texts outlive the record. */
typedef struct {
    const char *name;  /* key in metrics.jsonl and in checkpoints */
    const char *label; /* in log lines, before the value; NULL: none */
    const char *unit;  /* in log lines, after the value; NULL: none */
    sim_scalar_format format;
    int digits;
    sim_log_place place;
    bool log_only; /* not stored in metrics.jsonl */
} sim_metric;

typedef struct {
    sim_metric about;
    double value;
    int64_t total; /* > 0: the value is a part of it; log lines show "value/total" */
} sim_scalar;

/* The value with label and unit, as in "acc 0.512", "512 images/s" or "queue 32/96". */
void sim_scalar_text(const sim_scalar *s, char *out, size_t out_bytes);

/* ---- histograms and pictures ---- */

enum { SIM_HISTOGRAM_BINS = 64 };

/* Counts of values in n_bins <= SIM_HISTOGRAM_BINS bins of equal width from lo to hi. */
typedef struct {
    const char *name; /* as that of a scalar */
    double lo, hi, mean, std;
    size_t n_bins;
    int64_t counts[SIM_HISTOGRAM_BINS];
} sim_histogram;

/* A PNG file of w x h pixels in RGB; borrowed. */
typedef struct {
    const char *name;
    size_t w, h, n_bytes;
    const uint8_t *png;
} sim_picture;

/* ---- records ---- */

typedef enum {
    SIM_RECORD_PROGRESS,   /* after a step: the log interval so far */
    SIM_RECORD_INTERVAL,   /* after the last step of a log interval */
    SIM_RECORD_EVALUATION, /* results of an evaluation */
    SIM_RECORD_PICTURE     /* a picture alone */
} sim_record_kind;

enum { SIM_MAX_RECORD = 32, SIM_MAX_HISTOGRAMS = 2, SIM_RECORD_TEXT_BYTES = 256 };

/* What is published at once.  PROGRESS and INTERVAL contain the scalars `epoch` (epochs done,
 * with fraction) and `images_per_s`. */
typedef struct {
    sim_record_kind kind;
    const char *protocol; /* EVALUATION: its name, as "knn"; otherwise NULL */
    const char *test;     /* EVALUATION: fingerprint of the test set; otherwise NULL */
    int64_t step, total_steps;
    bool updated;   /* a step of the interval updated the weights */
    double eta_s;   /* until the end of the run */
    double limit_s; /* until the nearest time limit; 0: none */
    sim_scalar scalars[SIM_MAX_RECORD];
    size_t n_scalars;
    sim_histogram histograms[SIM_MAX_HISTOGRAMS];
    size_t n_histograms;
    const sim_picture *picture;       /* or NULL */
    char text[SIM_RECORD_TEXT_BYTES]; /* EVALUATION: its line in the log */
} sim_record;

/* Appends a scalar.  At most SIM_MAX_RECORD per record. */
void sim_record_add(sim_record *r, const sim_metric *about, double value);
/* Appends a part of `total`. */
void sim_record_add_part(sim_record *r, const sim_metric *about, int64_t part,
                         int64_t total);
/* Appends a copy.  At most SIM_MAX_HISTOGRAMS per record. */
void sim_record_add_histogram(sim_record *r, const sim_histogram *h);
/* Value of the scalar `name`; NaN if the record has none. */
double sim_record_value(const sim_record *r, const char *name);

/* ---- observers ---- */

/* The run that is observed. */
typedef struct {
    const char *path;      /* of the run directory */
    const char *abandoned; /* directory of the branch that --resume FILE left; or "" */
    bool is_fresh;         /* it did not start from a checkpoint */
    int64_t step;          /* of the start; observers discard what they have beyond it */
    bool is_foreign;       /* it started from a checkpoint in another directory */
    int64_t published;     /* last step of the last interval that was published before */
} sim_observed_run;

/*
 * An observer.  Each stream allocates a state of `state_bytes`, filled with zeros.  Functions
 * may be NULL.  A failure of begin, publish or end ends the run.
 */
typedef struct {
    const char *name;
    size_t state_bytes;
    sim_status (*begin)(void *state, const sim_observed_run *run);
    sim_status (*publish)(void *state, const sim_record *record);
    /* Before a checkpoint: what was published is made durable.  A failure ends the run. */
    sim_status (*sync)(void *state);
    sim_status (*end)(void *state); /* after a run that did not fail */
    void (*clear)(void *state);     /* releases what the state owns; always called */
} sim_observer;

typedef struct sim_stream sim_stream;

/* A stream to the observers, which must outlive it.  Only rank 0 has one: on other ranks the
 * stream is NULL and the functions below do nothing. */
SIM_MUST_USE sim_status sim_stream_create(const sim_observer *const *observers, size_t n,
                                          sim_stream **out);
void sim_stream_destroy(sim_stream **s);
/* These call the observers in their order, up to the first that fails. */
SIM_MUST_USE sim_status sim_stream_begin(sim_stream *s, const sim_observed_run *run);
SIM_MUST_USE sim_status sim_stream_publish(sim_stream *s, const sim_record *record);
SIM_MUST_USE sim_status sim_stream_sync(sim_stream *s);
SIM_MUST_USE sim_status sim_stream_end(sim_stream *s);

/* ---- metrics of an interval ---- */

typedef enum {
    SIM_REDUCE_MEAN, /* over the steps that updated the weights; NaN without one */
    SIM_REDUCE_SUM,
    SIM_REDUCE_LAST
} sim_reduce;

typedef struct {
    sim_metric about;
    sim_reduce reduce;
} sim_interval_metric;

enum { SIM_MAX_METRICS = 16 };

/* Values accumulated since the start of the log interval. */
typedef struct {
    const sim_interval_metric *metrics; /* borrowed; at most SIM_MAX_METRICS */
    size_t n;
    double steps; /* that were counted */
    double values[SIM_MAX_METRICS];
} sim_interval;

void sim_interval_begin(sim_interval *i, const sim_interval_metric *metrics, size_t n);
/* Starts the next interval. */
void sim_interval_reset(sim_interval *i);
/* Counts a step in the means. */
void sim_interval_count(sim_interval *i);
/* Adds a value to a sum or mean, or replaces the last value. */
void sim_interval_add(sim_interval *i, const char *name, double value);
/* Appends the reduced values to a record, in the order of the metrics. */
void sim_interval_publish(const sim_interval *i, sim_record *r);

/*
 * Visits the number of steps and the sums as float64 scalars, by name and optional: a metric
 * that a checkpoint lacks starts at 0, and one that only the checkpoint has is ignored.
 */
SIM_MUST_USE sim_status sim_interval_visit(sim_interval *i, const char *group,
                                           const sim_visitor *v);

#endif
