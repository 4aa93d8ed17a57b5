/*
 * spectrum.c - Gram matrices and eigenvalues in double, by BLAS and LAPACK.
 *
 * OpenBLAS runs on one thread (sim_kernels_pick) and blocks have a constant size, so that the bits
 * do not depend on threads or ranks.
 */
#include "private.h"

#include <cblas.h>

/* LAPACK of OpenBLAS; arrays are in Fortran order, which is irrelevant for symmetric matrices. */
void dsyev_(const char *job, const char *half, const int *n, double *a, const int *lda,
            double *w, double *work, const int *work_size, int *info);

void sim_gram_block(size_t n, size_t d, const double *z, size_t block, double *out)
{
    const size_t first = block * SIM_GRAM_ROWS;
    const size_t rows = sim_min(SIM_GRAM_ROWS, d - first);

    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)rows, (int)d, (int)n, 1,
                z + first, (int)d, z, (int)d, 0, out, (int)d);
}

size_t sim_eigenvalues_work(size_t d)
{
    return 64 * d; /* blocks of up to 62 columns; at least 3 d */
}

sim_status sim_eigenvalues(size_t d, double *matrix, double *work, double *values)
{
    sim_status st = SIM_OK;
    const int n = (int)d, work_size = (int)sim_eigenvalues_work(d);
    int info = 0;

    dsyev_("N", "L", &n, matrix, &n, values, work, &work_size, &info);
    SIM_CHECK(info == 0, SIM_E_BUG,
              "the eigenvalues of a matrix of %zu x %zu do not converge (dsyev: %d)", d,
              d, info);
done:
    return st;
}
