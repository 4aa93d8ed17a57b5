/*
 * class_counts.h - accuracy of a classifier on a test set, in total and per class.
 */
#ifndef SIMILE_EVAL_CLASS_COUNTS_H
#define SIMILE_EVAL_CLASS_COUNTS_H

#include "simile/eval.h"

/* The caller clears *out by sim_class_counts_clear, also after a failure. */
SIM_MUST_USE sim_status sim_class_counts_create(size_t n_classes, size_t n_test,
                                                sim_class_counts *out);
/* Counts an image of this rank.  rank: number of classes that are more probable than `class`;
 * SIZE_MAX if the classifier does not have it. */
void sim_class_counts_add(sim_class_counts *r, size_t class, size_t predicted,
                          size_t rank);
/* Sums the counts of all ranks, and computes the accuracy.  Collective. */
void sim_class_counts_sum(const sim_comm *c, sim_class_counts *r);
size_t sim_class_counts_bytes(size_t n_classes);

/* Adds top1 and top5; per_class and the confusion matrix. */
void sim_class_counts_describe(const sim_class_counts *r, sim_json *j);
void sim_class_counts_describe_classes(const sim_class_counts *r,
                                       const sim_evaluation_inputs *in, sim_json *j);
/* Writes "HEAD top-1 ... of N test images TAIL" and a line per class, the least accurate first.  The
 * caller frees *text. */
SIM_MUST_USE sim_status sim_class_counts_format(const sim_class_counts *r,
                                                const sim_evaluation_inputs *in,
                                                const char *head, const char *tail,
                                                char **text);

#endif
