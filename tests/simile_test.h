/*
 * simile_test.h - cmocka with its prerequisites in the right order.
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

/* The call succeeds; otherwise its error message is the test's failure. */
#define ASSERT_OK(call)                                                                  \
    do {                                                                                 \
        if ((call) != SIM_OK)                                                            \
            fail_msg("%s: %s", #call, sim_error_message());                              \
    } while (0)

/* The call fails with this code, and its message contains this text. */
#define ASSERT_REFUSED(call, code, text)                                                 \
    do {                                                                                 \
        assert_int_equal((call), (code));                                                \
        if (!strstr(sim_error_message(), (text)))                                        \
            fail_msg("the message \"%s\" lacks \"%s\"", sim_error_message(), (text));          \
    } while (0)

#endif
