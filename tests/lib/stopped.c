/*
 * stopped.c - a rank that is frozen in MPI (LD_PRELOAD): rank STOPPED_RANK stops itself at the start of the
 * call STOPPED_CALL, a name (the first call of it) or a number (1: the first call of all that are listed
 * below), and is never continued.  With STOPPED_CALL=count it is not stopped, and writes the number of its calls
 * to the file STOPPED_COUNT.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a communicator, type or operation: a pointer or an int, which is passed on. */
typedef void *handle;

static long n_calls;

static void write_count(void)
{
    const char *path = getenv("STOPPED_COUNT");
    FILE *f = path ? fopen(path, "w") : NULL;

    if (!f)
        return;
    (void)fprintf(f, "%ld", n_calls);
    (void)fclose(f);
}

static void stop_at(const char *name)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *victim = getenv("STOPPED_RANK");
    const char *call = getenv("STOPPED_CALL");

    n_calls++;
    if (!rank || !victim || !call || strcmp(rank, victim) != 0)
        return;
    if (strcmp(call, "count") == 0 && strcmp(name, "MPI_Finalize") == 0)
        write_count();
    if (strcmp(call, name) == 0 || strtol(call, NULL, 10) == n_calls)
        (void)raise(SIGSTOP);
}

#define FORWARD(name, parameters, arguments)                                             \
    int name parameters                                                                  \
    {                                                                                    \
        int(*real) parameters;                                                           \
        *(void **)&real = dlsym(RTLD_NEXT, #name);                                       \
        stop_at(#name);                                                                  \
        return real arguments;                                                           \
    }

FORWARD(MPI_Init, (int *argc, char ***argv), (argc, argv))
FORWARD(MPI_Init_thread, (int *argc, char ***argv, int required, int *provided),
        (argc, argv, required, provided))
FORWARD(MPI_Barrier, (handle c), (c))
FORWARD(MPI_Bcast, (void *data, int n, handle type, int root, handle c),
        (data, n, type, root, c))
FORWARD(MPI_Allreduce,
        (const void *data, void *out, int n, handle type, handle op, handle c),
        (data, out, n, type, op, c))
FORWARD(MPI_Finalize, (void), ())
