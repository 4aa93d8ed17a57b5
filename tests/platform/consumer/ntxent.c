/*
 * ntxent.c - a program that links the installed libsimile: NT-Xent of two views, compared with a plain
 * loop in double.
 */
#include <simile/comm.h>
#include <simile/kernel.h>
#include <simile/loss.h>

#include <math.h>
#include <stdio.h>

enum { N = 5, D = 4 };
static const double T = 0.5;

static double dot(const float *a, const float *b)
{
    double s = 0;
    for (int i = 0; i < D; i++)
        s += (double)a[i] * b[i];
    return s;
}

/* Chen et al. 2020, equation 1: the positive of row i is row i + N, modulo 2 N. */
static double plain(float (*z)[D])
{
    double sum = 0;
    for (int i = 0; i < 2 * N; i++) {
        double all = 0;
        for (int j = 0; j < 2 * N; j++)
            if (j != i)
                all += exp(dot(z[i], z[j]) / T);
        sum += log(all) - dot(z[i], z[(i + N) % (2 * N)]) / T;
    }
    return sum / (2 * N);
}

int main(int argc, char **argv)
{
    const sim_comm *comm = NULL;
    sim_contrast *engine = NULL;
    const sim_rows_shape shape = {.n = N, .unit = 32, .views = 2, .d = D};
    const sim_ntxent_options options = {.temperature = T};
    sim_loss_report report = {0};
    float z[2 * N][D];

    for (int i = 0; i < 2 * N; i++) {
        for (int k = 0; k < D; k++)
            z[i][k] = (float)sin(1 + i + 3 * k + i * k);
        const float length = (float)sqrt(dot(z[i], z[i]));
        for (int k = 0; k < D; k++)
            z[i][k] /= length;
    }
    if (sim_comm_begin(&argc, &argv, &comm) != SIM_OK ||
        sim_contrast_create(comm, &shape, &engine) != SIM_OK) {
        fprintf(stderr, "%s\n", sim_error_message());
        return 1;
    }
    sim_ntxent(engine, &options, &z[0][0], NULL, &report);
    printf("kernels %s: loss %.7f, expected %.7f\n", sim_kernels_name(), report.loss, plain(z));
    const int wrong = !(fabs(report.loss - plain(z)) < 1e-6);
    sim_contrast_destroy(&engine);
    sim_comm_end();
    return wrong;
}
