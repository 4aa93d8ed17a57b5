/*
 * fuzz_config.c - libFuzzer target of job files: parsed, filled in and resolved, or refused.
 */
#include "simile/config.h"
#include "simile/data.h"
#include "simile/memory.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    sim_config *c = NULL, *reparsed = NULL;
    sim_augment_options options;
    char *yaml = NULL;

    if (sim_config_parse((const char *)bytes, n, "fuzz", &c) == SIM_OK) {
        (void)sim_config_peek(c, "method.name");
        if (sim_config_fill(c, &sim_augment_table, &options) == SIM_OK &&
            sim_config_finish(c) == SIM_OK && sim_config_resolved(c, &yaml) == SIM_OK)
            /* The resolved job is a valid job file. */
            SIM_ASSERT(sim_config_parse(yaml, strlen(yaml), "resolved", &reparsed) ==
                       SIM_OK);
    }
    sim_free(yaml);
    sim_config_destroy(&reparsed);
    sim_config_destroy(&c);
    return 0;
}
