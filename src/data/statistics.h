/*
 * statistics.h - mean, deviation and scale of the images of a writer.
 */
#ifndef SIMILE_DATA_STATISTICS_H
#define SIMILE_DATA_STATISTICS_H

#include "writer.h"

/*
 * Reads all images back; their bytes must be in PATH.part and have another type than SIM_U8.
 *   mean, std, scale  [c]; the scale is that of the specification or the extremes of each channel
 * Calls sim_for.  Errors: SIM_E_IO.
 */
SIM_MUST_USE sim_status sim_writer_statistics(const sim_dataset_writer *w, double *mean,
                                              double *std, sim_value_range *scale);

#endif
