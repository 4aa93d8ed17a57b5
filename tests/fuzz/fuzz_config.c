/*
 * fuzz_config.c - job files under libFuzzer: parsed, taken, resolved, or refused.
 */
#include "simile/config.h"
#include "simile/data.h"
#include "simile/memory.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    sim_config *c = NULL, *again = NULL;
    sim_augment_options options;
    char *yaml = NULL;

    if (sim_config_parse((const char *)bytes, n, "fuzz", &c) == SIM_OK) {
        (void)sim_config_peek(c, "method.name");
        if (sim_config_fill(c, &sim_augment_table, &options) == SIM_OK &&
            sim_config_finish(c) == SIM_OK && sim_config_resolved(c, &yaml) == SIM_OK)
            /* What is written is read again. */
            SIM_ASSERT(sim_config_parse(yaml, strlen(yaml), "again", &again) == SIM_OK);
    }
    sim_free(yaml);
    sim_config_destroy(&again);
    sim_config_destroy(&c);
    return 0;
}
