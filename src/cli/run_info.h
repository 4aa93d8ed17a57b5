/*
 * run_info.h - what `simile runs` reports of a run directory.
 */
#ifndef SIMILE_CLI_RUN_INFO_H
#define SIMILE_CLI_RUN_INFO_H

#include "simile/json.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    RUN_UNKNOWN,
    RUN_RUNNING,
    RUN_STOPPED,
    RUN_COMPLETED,
    RUN_CRASHED
} run_state;

/* Numbers are -1 and texts empty if they are unknown. */
typedef struct {
    char *path;
    char method[32], data[256];
    int64_t images, batch; /* of the last segment or job */
    int64_t step; /* that a resume continues from; last logged if it is running */
    int64_t total_steps,
        n_epochs; /* of the job; 0: the run has the length of the other */
    double epoch; /* at `step` */
    run_state state;
    char ended[160]; /* reason of the last end, as in RUN/segments.json */
    double top1;     /* the best evaluation, 0 to 1 */
    char protocol[32];
    int64_t top1_step;
    double images_per_s; /* of the last log interval */
    bool is_damaged;     /* a file could not be read */
} run_info;

/* True for a directory that contains checkpoints/ or a config.yaml written by the program. */
bool sim_run_info_is_run(const char *path);
/* The last log interval in metrics.jsonl; NULL if there is none.  The caller destroys it. */
sim_json *sim_run_info_last_interval(const char *path);
/* Reads what is known of the run; warns of damaged files.  Takes no lock and changes nothing.
 * out->path is not set. */
void sim_run_info_read(const char *path, run_info *out);

#endif
