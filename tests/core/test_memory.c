/*
 * test_memory.c - allocation and its accounting by tag, on several threads.
 *
 * simile-test: labels tsan
 */
#include "simile_test.h"

#include "simile/memory.h"
#include "simile/thread.h"

static void large_and_small_blocks_are_zeroed_and_aligned(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,    1,       63,      64,      65,
                                   4096, 1048511, 1048512, 1048513, (4 << 20) + 1};
    for (int round = 0; round < 2; round++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            unsigned char *p = NULL;
            ASSERT_OK(sim_alloc(&p, sizes[s], "test/sizes"));
            assert_int_equal((uintptr_t)p % 64, 0);
            for (size_t i = 0; i < sizes[s]; i++)
                assert_int_equal(p[i], 0);
            memset(p, 0xff, sizes[s]); /* the next round may receive this block */
            sim_free(p);
        }
    sim_free(NULL);
}

/* Pages in the address space of this process. */
static long pages_mapped(void)
{
    long pages = -1;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld", &pages), 1);
    (void)fclose(f);
    return pages;
}

static void freeing_a_large_block_unmaps_it(void **state)
{
    (void)state;
    enum { BYTES = 256 << 20, PAGES = BYTES / 4096 };
    char *p = NULL;
    long before = pages_mapped();
    ASSERT_OK(sim_alloc(&p, BYTES, "test/mapped"));
    assert_true(pages_mapped() - before >= PAGES);
    sim_free(p);
    assert_true(pages_mapped() - before < PAGES / 2);
}

static void a_block_larger_than_the_address_space_is_refused(void **state)
{
    (void)state;
    char *p = NULL;
    for (size_t less = 0; less < (size_t)8 << 20; less += 2000)
        ASSERT_REFUSED(sim_alloc(&p, SIZE_MAX - less, "test/most"), SIM_E_IO,
                       "out of memory");
    assert_null(p);
}

static void a_failed_grow_keeps_the_old_block(void **state)
{
    (void)state;
    int *p = NULL;
    ASSERT_OK(sim_grow(&p, 3, "test/grow"));
    p[2] = 5;
    sim_memory_fail_at(1);
    ASSERT_REFUSED(sim_grow(&p, 1000000, "test/grow"), SIM_E_IO, "test/grow");
    assert_int_equal(p[2], 5);
    ASSERT_REFUSED(sim_grow(&p, SIZE_MAX / 2, "test/grow"), SIM_E_IO, "out of memory");
    ASSERT_OK(sim_grow(&p, 1000000, "test/grow"));
    assert_true(p[2] == 5 && p[999999] == 0);
    ASSERT_OK(sim_grow(&p, 3, "test/grow"));
    assert_int_equal(p[2], 5);
    sim_free(p);
}

static void a_failed_allocation_leaks_nothing(void **state)
{
    (void)state;
    size_t before = sim_memory_bytes();
    for (uint64_t k = 1; k <= 2; k++) {
        char *text = NULL;
        sim_memory_fail_at(k);
        sim_status st = sim_text_format("test/text", &text, "%s-%d", "abc", 12);
        assert_int_equal(st, k == 1 ? SIM_E_IO : SIM_OK);
        sim_memory_fail_at(0);
        if (st == SIM_OK)
            assert_string_equal(text, "abc-12");
        else
            assert_null(text);
        sim_free(text);
    }
    assert_int_equal(sim_memory_bytes(), before);
}

enum { N_TAGS = 300 };
static char tags[N_TAGS][24];

typedef struct {
    size_t n, bytes, blocks;
    char last[64];
    bool ordered;
} totals;

static void add_row(void *ctx, const sim_memory_row *row)
{
    totals *t = ctx;
    t->ordered &= strcmp(t->last, row->tag) < 0;
    (void)snprintf(t->last, sizeof t->last, "%s", row->tag);
    if (strncmp(row->tag, "many/", 5) != 0)
        return;
    t->n++;
    t->bytes += row->bytes;
    t->blocks += row->n_blocks;
    assert_int_equal(row->peak_bytes, 2 * 10);
}

static void hundreds_of_tags_have_separate_sorted_rows(void **state)
{
    (void)state;
    char *held[N_TAGS], *other = NULL;
    for (size_t i = 0; i < N_TAGS; i++) {
        (void)snprintf(tags[i], sizeof tags[i], "many/%03zu", i * 7 % N_TAGS);
        ASSERT_OK(sim_alloc(&held[i], 10, tags[i]));
        ASSERT_OK(sim_alloc(&other, 10, tags[i]));
        sim_free(other);
    }
    totals t = {.ordered = true};
    sim_memory_report(add_row, &t);
    assert_true(t.ordered);
    assert_int_equal(t.n, N_TAGS);
    assert_int_equal(t.bytes, 10 * N_TAGS);
    assert_int_equal(t.blocks, N_TAGS);
    for (size_t i = 0; i < N_TAGS; i++)
        sim_free(held[i]);
    t = (totals){.ordered = true};
    sim_memory_report(add_row, &t);
    assert_int_equal(t.bytes + t.blocks, 0);
}

static void peak_and_calls_are_recorded(void **state)
{
    (void)state;
    char *p = NULL;
    uint64_t calls = sim_memory_calls();
    ASSERT_OK(sim_alloc(&p, 32 << 20, "test/peak"));
    size_t held = sim_memory_bytes();
    SIM_FREE(p);
    assert_null(p);
    assert_true(sim_memory_peak_bytes() >= held);
    assert_int_equal(sim_memory_calls() - calls, 1);
    assert_true(sim_memory_process_peak() > 1 << 20);
}

static void allocate_and_free(size_t i, void *ctx)
{
    (void)ctx;
    char *p = NULL;
    if (sim_alloc(&p, 1 + i % 1000, i % 2 ? "test/odd" : "test/even") != SIM_OK)
        return;
    p[0] = 1;
    (void)sim_memory_bytes();
    sim_free(p);
}

static void accounting_is_thread_safe(void **state)
{
    (void)state;
    sim_threads_set(4);
    size_t before = sim_memory_bytes();
    uint64_t calls = sim_memory_calls();
    sim_for(20000, allocate_and_free, NULL);
    assert_int_equal(sim_memory_bytes(), before);
    assert_int_equal(sim_memory_calls() - calls, 20000);
    sim_threads_set(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_and_small_blocks_are_zeroed_and_aligned),
        cmocka_unit_test(freeing_a_large_block_unmaps_it),
        cmocka_unit_test(a_block_larger_than_the_address_space_is_refused),
        cmocka_unit_test(a_failed_grow_keeps_the_old_block),
        cmocka_unit_test(a_failed_allocation_leaks_nothing),
        cmocka_unit_test(hundreds_of_tags_have_separate_sorted_rows),
        cmocka_unit_test(peak_and_calls_are_recorded),
        cmocka_unit_test(accounting_is_thread_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
