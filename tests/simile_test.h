/*
 * simile_test.h - cmocka with the headers that it requires, and assertions on status codes.
 */
#ifndef SIMILE_TEST_H
#define SIMILE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "simile/status.h"

/* Asserts that the call succeeds; a failure prints its error message. */
#define ASSERT_OK(call)                                                                  \
    do {                                                                                 \
        if ((call) != SIM_OK)                                                            \
            fail_msg("%s: %s", #call, sim_error_message());                              \
    } while (0)

/* Asserts that the call fails with this code and that the error message contains this text. */
#define ASSERT_REFUSED(call, code, text)                                                 \
    do {                                                                                 \
        assert_int_equal((call), (code));                                                \
        if (!strstr(sim_error_message(), (text)))                                        \
            fail_msg("the message \"%s\" does not contain \"%s\"", sim_error_message(),  \
                     (text));                                                            \
    } while (0)

#endif
