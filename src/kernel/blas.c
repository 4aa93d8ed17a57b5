/*
 * blas.c - the threads and the version of the BLAS; SIM_BLAS_... is defined by SimileBLAS.cmake.
 */
#include "private.h"

#include "simile/kernel.h"

#include <stdio.h>
#include <stdlib.h>

#include <cblas.h>

#if defined(SIM_BLAS_OPENBLAS)

void sim_blas_use_one_thread(void)
{
    openblas_set_num_threads(1);
}

const char *sim_kernels_blas(void)
{
    return openblas_get_config();
}

#elif defined(SIM_BLAS_BLIS)

void bli_thread_set_num_threads(int64_t n);
const char *bli_info_get_version_str(void);

void sim_blas_use_one_thread(void)
{
    bli_thread_set_num_threads(1);
}

const char *sim_kernels_blas(void)
{
    static char text[64];
    (void)snprintf(text, sizeof text, "BLIS %s", bli_info_get_version_str());
    return text;
}

#elif defined(SIM_BLAS_MKL)

void MKL_Set_Num_Threads(int n);
void MKL_Get_Version_String(char *text, int n_bytes);

void sim_blas_use_one_thread(void)
{
    MKL_Set_Num_Threads(1);
}

const char *sim_kernels_blas(void)
{
    static char text[200];
    MKL_Get_Version_String(text, (int)sizeof text - 1);
    return text;
}

#else

void sim_blas_use_one_thread(void)
{
    /* FlexiBLAS and reference implementations have no common call; OMP_NUM_THREADS applies. */
}

const char *sim_kernels_blas(void)
{
    return "CBLAS";
}

#endif
