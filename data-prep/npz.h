/*
 * npz.h - a file of NumPy as a file of arrays: .npz, or .npy with the single array /images.
 */
#ifndef SIMILE_PREP_NPZ_H
#define SIMILE_PREP_NPZ_H

#include "arrays.h"

/* Whether a file is an archive of arrays: named .npz, and its first entry .npy. */
bool sim_npz_is_archive(const char *path);
/* Whether a file has the signature of .npy. */
bool sim_npz_is_array(const char *path);
/* Errors: SIM_E_INPUT, SIM_E_DATA, SIM_E_INSTALL (archives). */
SIM_MUST_USE sim_status sim_npz_open(const char *path, prep_arrays *out);

#endif
