/*
 * version.c - versions of the program and its libraries, for --version, file headers and the
 * history of a run.
 */
#include "cli.h"

#include "simile/h5.h"
#include "simile/kernel.h"
#include "simile/memory.h"

#include <build_id.h> /* written by build_id.cmake */

const char *sim_cli_build(void)
{
    return "simile " SIM_VERSION " (" SIM_COMMIT ", sources " SIM_SOURCES
           "), gcc-compatible " __VERSION__;
}

sim_status sim_cli_version(char **text)
{
    return sim_text_format("cli/version", text,
                           "simile    " SIM_VERSION "\n"
                           "commit    " SIM_COMMIT "\n"
                           "sources   " SIM_SOURCES "\n"
                           "compiler  " __VERSION__ "\n"
                           "MPI       %s\n"
                           "BLAS      %s (outside training)\n"
                           "HDF5      %s\n"
                           "kernels   %s\n"
                           "formats   " SIM_FORMATS "\n",
                           sim_comm_library(), sim_kernels_blas(), sim_h5_library(),
                           sim_kernels_name());
}
