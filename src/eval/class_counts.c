/*
 * class_counts.c - counts the test images of each class, and those that are classified correctly.
 *
 * Used by the evaluations linear and classifier.
 */
#include "class_counts.h"

#include "simile/memory.h"
#include "simile/text.h"

#include <stdio.h>
#include <stdlib.h>

enum { SHOWN_CLASSES = 20 }; /* largest number of classes that are printed */

sim_status sim_class_counts_create(size_t n_classes, size_t n_test, sim_class_counts *out)
{
    sim_status st = SIM_OK;

    *out = (sim_class_counts){.n_test = (int64_t)n_test, .classes = (int64_t)n_classes};
    SIM_TRY(sim_alloc(&out->images, n_classes, "eval/classes"));
    SIM_TRY(sim_alloc(&out->correct, n_classes, "eval/classes"));
    if (n_classes <= SIM_CONFUSION_CLASSES)
        SIM_TRY(sim_alloc(&out->confusion, n_classes * n_classes, "eval/classes"));
done:
    return st;
}

void sim_class_counts_clear(sim_class_counts *r)
{
    SIM_FREE(r->images);
    SIM_FREE(r->correct);
    SIM_FREE(r->confusion);
}

size_t sim_class_counts_bytes(size_t n_classes)
{
    size_t counts = 2 * n_classes;

    if (n_classes <= SIM_CONFUSION_CLASSES)
        counts += n_classes * n_classes;
    return counts * sizeof(int64_t);
}

void sim_class_counts_add(sim_class_counts *r, size_t class, size_t predicted,
                          size_t rank)
{
    r->images[class]++;
    r->correct[class] += rank == 0;
    r->n_top1 += rank == 0;
    r->n_top5 += rank < 5;
    if (r->confusion)
        r->confusion[class * (size_t)r->classes + predicted]++;
}

void sim_class_counts_sum(const sim_comm *c, sim_class_counts *r)
{
    const size_t n = (size_t)r->classes;

    sim_comm_sum_i64(c, &r->n_top1, 1);
    sim_comm_sum_i64(c, &r->n_top5, 1);
    sim_comm_sum_i64(c, r->images, n);
    sim_comm_sum_i64(c, r->correct, n);
    if (r->confusion)
        sim_comm_sum_i64(c, r->confusion, n * n);
    r->top1 = (double)r->n_top1 / (double)r->n_test;
    r->top5 = (double)r->n_top5 / (double)r->n_test;
}

/* ---- the result for a program ---- */

void sim_class_counts_describe(const sim_class_counts *r, sim_json *j)
{
    sim_json_real(j, "top1", r->top1);
    sim_json_real(j, "top5", r->top5);
}

static void describe_accuracy(const sim_class_counts *r, const sim_evaluation_inputs *in,
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

static void describe_confusion(const sim_class_counts *r, sim_json *j)
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

void sim_class_counts_describe_classes(const sim_class_counts *r,
                                       const sim_evaluation_inputs *in, sim_json *j)
{
    describe_accuracy(r, in, j);
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
static size_t most_confused(const sim_class_counts *r, size_t k)
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
                        const sim_class_counts *r, const class_count *count)
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

/* Only classes with test images. */
static sim_status print_classes(FILE *out, const sim_evaluation_inputs *in,
                                const sim_class_counts *r)
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

sim_status sim_class_counts_format(const sim_class_counts *r,
                                   const sim_evaluation_inputs *in, const char *head,
                                   const char *tail, char **out)
{
    sim_status st = SIM_OK;
    sim_text text = {0};

    SIM_TRY(sim_text_open(&text));
    (void)fprintf(text.file, "%stop-1 %.2f %%, top-5 %.2f %% of %lld test images%s\n",
                  head, 100 * r->top1, 100 * r->top5, (long long)r->n_test, tail);
    SIM_TRY(print_classes(text.file, in, r));
    SIM_TRY(sim_text_finish(&text, "eval/text", out));
done:
    sim_text_close(&text);
    return st;
}
