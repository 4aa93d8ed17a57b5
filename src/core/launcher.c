/*
 * launcher.c - the cores that the MPI launcher of this process may use.
 *
 * mpirun binds ranks to cores; its own affinity mask is that of the allocation.
 */
#include "simile/file.h"
#include "simile/thread.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Name and parent of a process, from "PID (NAME) STATE PARENT ..."; NAME may have any characters. */
static bool read_process(long pid, char name[32], long *parent)
{
    char path[64], text[512];

    (void)snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    (void)fclose(f);
    const char *open = strchr(text, '(');
    char *close = strrchr(text, ')');
    if (!open || !close || strlen(close) < 5)
        return false;
    *close = '\0';
    (void)snprintf(name, 32, "%s", open + 1);
    *parent = strtol(close + 3, NULL, 10); /* after ") S" */
    return true;
}

/* Open MPI's mpirun and its daemon on other nodes, PRRTE's, and MPICH's. */
static bool is_launcher(const char *name)
{
    static const char *const starts[] = {"mpirun",  "mpiexec", "orterun", "orted",
                                         "prterun", "prted",   "hydra_",  "pmi_proxy"};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        if (strncmp(name, starts[i], strlen(starts[i])) == 0)
            return true;
    return false;
}

int sim_cores_of_launcher(void)
{
    enum { MAX_ANCESTORS = 16 }; /* scripts between mpirun and this process */
    const char *allocated = getenv("SLURM_CPUS_ON_NODE");
    char name[32];
    long pid = (long)getppid(), parent = 0;
    cpu_set_t set;

    for (int i = 0; i < MAX_ANCESTORS && pid > 1; i++) {
        if (!read_process(pid, name, &parent))
            return 0;
        if (is_launcher(name)) {
            if (sched_getaffinity((pid_t)pid, sizeof set, &set) != 0)
                return 0;
            const int cores = CPU_COUNT(&set),
                      most = allocated ? (int)strtol(allocated, NULL, 10) : 0;
            return most > 0 && most < cores ? most : cores;
        }
        pid = parent;
    }
    return 0;
}
