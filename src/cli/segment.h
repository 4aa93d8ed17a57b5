/*
 * segment.h - a segment of a run, as RUN/segments.json and checkpoints record it.
 */
#ifndef SIMILE_CLI_SEGMENT_H
#define SIMILE_CLI_SEGMENT_H

#include "simile/json.h"

/* Texts are borrowed from the object; "?" if unknown, `changed` and `job` then "". */
typedef struct {
    const char *start, *ended, *changed, *job;
    int64_t nodes, ranks, threads, batch, from, to, last, restart;
    double images_per_s;
    const char *host;
} run_segment;

run_segment sim_segment_read(const sim_json *j);

#endif
