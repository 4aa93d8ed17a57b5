/*
 * evaluate_linear.c - `simile evaluate linear`: a linear classifier on backbone features.
 */
#include "evaluations.h"

#include "simile/log.h"
#include "simile/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_CLASSES = 20 }; /* largest number of classes that are printed */

/* ---- the result for a program ---- */

static void describe_classes(const sim_evaluation_inputs *in, const sim_linear_result *r,
                             sim_json *j)
{
    sim_json *list = sim_json_array(j, "per_class");
    char number[SIM_CLASS_NUMBER_BYTES];

    for (size_t k = 0; k < (size_t)r->classes; k++) {
        sim_json *o = sim_json_object(list, NULL);
        sim_json_text(o, "class",
                      sim_class_match_name(in->match, &in->train, &in->test, k, number));
        sim_json_int(o, "n_test", r->images[k]);
        sim_json_int(o, "n_correct", r->correct[k]);
    }
}

static void describe_confusion(const sim_linear_result *r, sim_json *j)
{
    const size_t n = (size_t)r->classes;

    if (!r->confusion)
        return;
    sim_json *matrix = sim_json_array(j, "confusion");
    for (size_t true_class = 0; true_class < n; true_class++) {
        sim_json *row = sim_json_array(matrix, NULL);
        for (size_t k = 0; k < n; k++)
            sim_json_int(row, NULL, r->confusion[true_class * n + k]);
    }
}

static void describe(const sim_evaluation_inputs *in, const sim_linear_result *r,
                     sim_json *j)
{
    sim_json_real(j, "l2", r->l2);
    if (r->held_out_top1 >= 0)
        sim_json_real(j, "held_out_top1", r->held_out_top1);
    sim_json_real(j, "loss", r->loss);
    sim_json_int(j, "iterations", r->iterations);
    sim_json_real(j, "top1", r->top1);
    sim_json_real(j, "top5", r->top5);
    sim_json_int(j, "n_train", r->n_train);
    sim_json_int(j, "n_test", r->n_test);
    sim_json_int(j, "dim", r->dim);
    sim_json_int(j, "classes", r->classes);
    describe_classes(in, r, j);
    describe_confusion(r, j);
}

/* ---- the result for a person ---- */

typedef struct {
    size_t class;
    int64_t images, correct;
} class_count;

static int by_accuracy(const void *a, const void *b)
{
    const class_count *x = a, *y = b;
    const int64_t left = x->correct * y->images, right = y->correct * x->images;

    if (left != right)
        return left < right ? -1 : 1;
    return x->class < y->class ? -1 : 1;
}

/* The class that images of class k are most often taken for; k itself: none. */
static size_t most_confused(const sim_linear_result *r, size_t k)
{
    const size_t n = (size_t)r->classes;
    size_t most = k;

    for (size_t other = 0; r->confusion && other < n; other++) {
        const int64_t images = r->confusion[k * n + other];
        if (other != k && images > (most == k ? 0 : r->confusion[k * n + most]))
            most = other;
    }
    return most;
}

static void print_class(FILE *out, const sim_evaluation_inputs *in,
                        const sim_linear_result *r, const class_count *count)
{
    char number[SIM_CLASS_NUMBER_BYTES];
    const size_t n = (size_t)r->classes, other = most_confused(r, count->class);

    (void)fprintf(
        out, "  %-20s %6.2f %% of %lld",
        sim_class_match_name(in->match, &in->train, &in->test, count->class, number),
        100 * (double)count->correct / (double)count->images, (long long)count->images);
    if (other != count->class)
        (void)fprintf(
            out, ", %lld taken for %s", (long long)r->confusion[count->class * n + other],
            sim_class_match_name(in->match, &in->train, &in->test, other, number));
    (void)fputc('\n', out);
}

/* The classes with test images, the least accurate first. */
static sim_status print_classes(FILE *out, const sim_evaluation_inputs *in,
                                const sim_linear_result *r)
{
    sim_status st = SIM_OK;
    class_count *counts = NULL;
    size_t n = 0;

    SIM_TRY(sim_alloc(&counts, (size_t)r->classes, "eval/text"));
    for (size_t k = 0; k < (size_t)r->classes; k++)
        if (r->images[k] > 0)
            counts[n++] = (class_count){k, r->images[k], r->correct[k]};
    qsort(counts, n, sizeof *counts, by_accuracy);
    if (n > SHOWN_CLASSES)
        (void)fprintf(out, "the %d least accurate of %zu classes:\n", SHOWN_CLASSES, n);
    for (size_t i = 0; i < n && i < SHOWN_CLASSES; i++)
        print_class(out, in, r, &counts[i]);
done:
    sim_free(counts);
    return st;
}

static sim_status format_result(const sim_evaluation_inputs *in,
                                const sim_linear_result *r, char **text)
{
    sim_status st = SIM_OK;
    char *buffer = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&buffer, &n);

    SIM_CHECK(out, SIM_E_IO, "no memory for the result");
    (void)fprintf(
        out,
        "linear (l2 %.3g): top-1 %.2f %%, top-5 %.2f %% of %lld test images, %lld "
        "training images\n",
        r->l2, 100 * r->top1, 100 * r->top5, (long long)r->n_test, (long long)r->n_train);
    SIM_TRY(print_classes(out, in, r));
    SIM_CHECK(fflush(out) == 0, SIM_E_IO, "no memory for the result");
    SIM_TRY(sim_text_copy(buffer, "eval/text", text));
done:
    if (out)
        (void)fclose(out);
    free(buffer);
    return st;
}

/* ---- the evaluation ---- */

/* Reports the memory of this rank, before the features are computed. */
static void log_memory(const sim_comm *c, const sim_evaluation_inputs *in)
{
    const size_t dim = sim_evaluation_dim(in);
    const sim_range train = sim_embed_local(sim_comm_partition(c), in->train.n),
                    test = sim_embed_local(sim_comm_partition(c), in->test.n);
    const double features =
        (double)((train.hi - train.lo + test.hi - test.lo) * dim * sizeof(float));

    sim_log("memory    %.1f MB per rank for features, %.1f MB for the linear classifier",
            features / 1e6,
            (double)sim_linear_bytes(c, dim, in->match->n_classes, in->train.n) / 1e6);
}

static sim_status evaluate_linear(const sim_comm *c, const void *options,
                                  const sim_evaluation_inputs *in, sim_json *result,
                                  char **text)
{
    sim_status st = SIM_OK;
    float *train = NULL, *test = NULL;
    sim_linear_result r = {0};

    log_memory(c, in);
    SIM_TRY(sim_evaluation_features(c, in, &in->train, NULL, &train));
    SIM_TRY(sim_evaluation_features(c, in, &in->test, NULL, &test));
    SIM_TRY(sim_linear(c, options, sim_evaluation_dim(in), in->match->n_classes,
                       &(sim_labelled_features){in->train.n, train, in->train.labels},
                       &(sim_labelled_features){in->test.n, test, in->match->labels},
                       &r));
    describe(in, &r, result);
    SIM_TRY(sim_comm_agree(c, format_result(in, &r, text)));
done:
    sim_linear_result_clear(&r);
    sim_free(train);
    sim_free(test);
    return st;
}

static const sim_option options[] = {
    {.name = "l2",
     .type = SIM_OPTION_REAL,
     .offset = offsetof(sim_linear_options, l2),
     .max = 1e9,
     .fallback = "0",
     .unit = "",
     .help =
         "weight of the penalty l2/2 |W|^2 beside the mean cross-entropy; 0: the best of "
         "a grid on a fifth of the training images"},
};

const sim_evaluation sim_evaluation_linear = {
    .name = "linear",
    .summary = "logistic regression on the features of the training images",
    .options = {.rows = options,
                .n_rows = sizeof options / sizeof options[0],
                .struct_bytes = SIM_OPTION_BYTES(sim_linear_options, sim_option_storage)},
    .run = evaluate_linear,
};
