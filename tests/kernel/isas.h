/*
 * isas.h - the names of the instruction sets of this build: the rows of isa.def.
 */
#ifndef SIMILE_TEST_KERNEL_ISAS_H
#define SIMILE_TEST_KERNEL_ISAS_H

static const char *const isas[] = {
#define SIM_ISA(name, flags, runs) #name,
#include "isa.def"
#undef SIM_ISA
};
enum { N_ISAS = sizeof isas / sizeof isas[0] };

#endif
