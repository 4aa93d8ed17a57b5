/*
 * library.c - the HDF5 library: settings, error messages, version.
 */
#include "private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char reason[1024];

void sim_h5_quiet(void)
{
    static bool done;
    if (done)
        return;
    (void)H5open();
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    (void)H5PLset_loading_state(0);
    done = true;
}

/* H5E_WALK_DOWNWARD visits the innermost error last. */
static herr_t store_description(unsigned n, const H5E_error2_t *e, void *ctx)
{
    (void)n;
    (void)ctx;
    if (e->desc)
        (void)snprintf(reason, sizeof reason, "%s", e->desc);
    return 0;
}

const char *sim_h5_reason(void)
{
    reason[0] = '\0';
    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, store_description, NULL);
    (void)H5Eclear2(H5E_DEFAULT);
    return reason[0] ? reason : "no HDF5 error message";
}

int sim_h5_system_error(const char *message)
{
    static const char mark[] = "errno = ";
    const char *at = strstr(message, mark);
    return at ? (int)strtol(at + strlen(mark), NULL, 10) : 0;
}

const char *sim_h5_library(void)
{
    static char text[32];
    unsigned a = 0, b = 0, c = 0;
    (void)H5get_libversion(&a, &b, &c);
    (void)snprintf(text, sizeof text, "HDF5 %u.%u.%u", a, b, c);
    return text;
}
