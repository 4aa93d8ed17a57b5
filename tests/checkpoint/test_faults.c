/*
 * simile-test: timeout 480
 * test_faults.c - saves interrupted at any system call by a crash, a power cut, a full disk
 * or a disk that ignores syncs; and faults in the run directory and its lock.
 *
 * After each fault the newest good checkpoint is the new one or the previous one, never a
 * corrupted one, and the next save succeeds.  A simulated disk replaces the table of file
 * calls.  It records which bytes and renames were synced; a power cut reverts, truncates or
 * overwrites those that were not.  Checkpoints with and without part files are tested.
 */
#include "simile_test.h"

#include "simile/checkpoint.h"
#include "simile/file.h"
#include "simile/memory.h"
#include "simile/random.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const sim_comm alone = {.rank = 0, .size = 1, .host = "testhost"};
static char directory[64], checkpoints[128];
static sim_run run;

/* ---- state: 300 weights, and 90 rows of a queue, which may be stored in part files ---- */

enum { ROWS = 90, WIDTH = 4 };

typedef struct {
    float weights[300], rows[ROWS * WIDTH];
} example_state;

static sim_status visit_example(void *object, const sim_visitor *v)
{
    example_state *s = object;
    sim_status st = SIM_OK;
    const sim_tensor rows = {.name = "rows",
                             .type = SIM_F32,
                             .n_dims = 2,
                             .dims = {ROWS, WIDTH},
                             .data = s->rows,
                             .sharded = true,
                             .row_hi = ROWS};
    SIM_TRY(sim_visit_f32(v, "weights/encoder", "w", 300, s->weights));
    SIM_TRY(sim_visit(v, "queue", &rows));
done:
    return st;
}

static example_state state_at(int64_t step)
{
    example_state s;
    sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = (uint32_t)step};
    for (size_t i = 0; i < 300; i++)
        s.weights[i] = sim_random_normal(&r);
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        s.rows[i] = sim_random_normal(&r);
    return s;
}

static sim_status save_as(int64_t step, const char *identity, int64_t keep)
{
    example_state s = state_at(step);
    const sim_state_source source = {visit_example, &s};
    const sim_checkpoint_options options = {.keep = keep};
    const sim_checkpoint_head head = {.step = step,
                                      .config = "run: x\n",
                                      .identity = identity,
                                      .history = "[]",
                                      .fingerprint = "0123456789abcdef0123456789abcdef"};
    return sim_checkpoint_write(&alone, &run, &options, &head, &source, 1);
}

static sim_status save(int64_t step)
{
    return save_as(step, "seed: 0\n", 100);
}

/* The step of the newest good checkpoint; -1 if its values are not those of that step. */
static int64_t newest(void)
{
    sim_checkpoint *k = NULL;
    example_state s = {0};
    const sim_state_source source = {visit_example, &s};
    ASSERT_OK(sim_checkpoint_newest(&alone, directory, &k));
    assert_non_null(k);
    int64_t step = sim_checkpoint_head_of(k)->step;
    example_state expected = state_at(step);
    ASSERT_OK(sim_checkpoint_load(k, &source, 1));
    sim_checkpoint_close(&k);
    return memcmp(&s, &expected, sizeof s) == 0 ? step : -1;
}

static void path_of(const char *name, char out[256])
{
    (void)snprintf(out, 256, "%s/%s", checkpoints, name);
}

static void write_bytes(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Removes all files whose names contain `part`; returns their number. */
static size_t remove_named(const char *part)
{
    sim_names names = {0};
    char path[256];
    size_t n = 0;
    ASSERT_OK(sim_directory_list(checkpoints, &names));
    for (size_t i = 0; i < names.n; i++) {
        if (!strstr(names.names[i], part))
            continue;
        path_of(names.names[i], path);
        ASSERT_OK(sim_file_remove(path));
        n++;
    }
    sim_names_clear(&names);
    return n;
}

/* ---- the simulated disk ---- */

enum { FILES = 32, RENAMES = 32 };

typedef struct {
    int fd;         /* -1: closed */
    char path[256]; /* current path */
    off_t synced, written;
} disk_file;

typedef struct {
    char from[256], to[256];
    char *before; /* previous content of `to`; NULL if it did not exist */
    size_t n_before;
} disk_rename;

static struct {
    disk_file files[FILES];
    disk_rename renames[RENAMES]; /* not synced yet */
    size_t n_files, n_renames;
    int calls, crash_at; /* number of the last call, of which half or nothing is done */
    bool dead;
    int error_number, error_at; /* errno, and the number of the call that fails with it */
    bool permanent;             /* all calls from error_at on fail */
    bool ignores_syncs;         /* syncs succeed and do nothing */
    size_t write_limit;         /* bytes per write; 0: no limit */
} disk;

static void forget_renames(void)
{
    for (size_t i = 0; i < disk.n_renames; i++)
        free(disk.renames[i].before);
    disk.n_renames = 0;
}

static void new_disk(void)
{
    forget_renames();
    memset(&disk, 0, sizeof disk);
}

/* Counts a call.  True, with errno set, if it must fail. */
static bool must_fail(void)
{
    disk.calls++;
    if (disk.dead || disk.calls == disk.crash_at) {
        disk.dead = true;
        errno = ENXIO;
        return true;
    }
    if (disk.error_at == 0 || disk.calls < disk.error_at ||
        (disk.calls > disk.error_at && !disk.permanent))
        return false;
    errno = disk.error_number;
    return true;
}

static disk_file *find_disk_file(int fd)
{
    for (size_t i = 0; i < disk.n_files; i++)
        if (disk.files[i].fd == fd)
            return &disk.files[i];
    return NULL;
}

static int disk_open(const char *path, int flags, mode_t mode)
{
    bool making = (flags & O_CREAT) != 0;
    if (making ? must_fail() : disk.dead)
        return -1;
    int fd = sim_file_posix.open(path, flags, mode);
    if (fd >= 0 && making) {
        assert_true(disk.n_files < FILES);
        disk_file *f = &disk.files[disk.n_files++];
        *f = (disk_file){.fd = fd};
        (void)snprintf(f->path, sizeof f->path, "%s", path);
    }
    return fd;
}

static ssize_t disk_write(int fd, const void *p, size_t n)
{
    bool was_dead = disk.dead;
    disk_file *f = find_disk_file(fd);
    n = disk.write_limit && n > disk.write_limit ? disk.write_limit : n;
    if (must_fail()) {
        if (!was_dead && disk.dead &&
            write(fd, p, n / 2) > 0) /* half of the bytes were written */
            f->written += (off_t)(n / 2);
        errno = disk.dead ? ENXIO : disk.error_number;
        return -1;
    }
    ssize_t n_written = write(fd, p, n);
    f->written += n_written > 0 ? n_written : 0;
    return n_written;
}

static int disk_fsync(int fd)
{
    disk_file *f = find_disk_file(fd);
    if (must_fail())
        return -1;
    if (f && !disk.ignores_syncs)
        f->synced = f->written;
    if (!f && !disk.ignores_syncs)
        forget_renames(); /* fd is the only directory */
    return 0;
}

static int disk_close(int fd)
{
    disk_file *f = find_disk_file(fd);
    if (f)
        f->fd = -1;
    return close(fd);
}

/* Saves the file that a rename replaces, without the table of file calls, which is in use. */
static void save_replaced_file(disk_rename *r)
{
    struct stat about;
    FILE *f = fopen(r->to, "rb");
    if (!f)
        return;
    assert_int_equal(fstat(fileno(f), &about), 0);
    r->n_before = S_ISREG(about.st_mode) ? (size_t)about.st_size : 0;
    r->before = malloc(r->n_before + 1);
    assert_int_equal(fread(r->before, 1, r->n_before, f), r->n_before);
    assert_int_equal(fclose(f), 0);
}

static int disk_rename_call(const char *from, const char *to)
{
    if (must_fail())
        return -1;
    assert_true(disk.n_renames < RENAMES);
    disk_rename *r = &disk.renames[disk.n_renames++];
    *r = (disk_rename){.before = NULL};
    (void)snprintf(r->from, sizeof r->from, "%s", from);
    (void)snprintf(r->to, sizeof r->to, "%s", to);
    save_replaced_file(r);
    for (size_t i = 0; i < disk.n_files; i++)
        if (strcmp(disk.files[i].path, from) == 0)
            (void)snprintf(disk.files[i].path, sizeof disk.files[i].path, "%s", to);
    return rename(from, to);
}

static int disk_unlink(const char *path)
{
    return must_fail() ? -1 : unlink(path);
}

static sim_file_calls disk_calls; /* set in main */

/* ---- power cuts ---- */

/* What happens to bytes and renames that were not synced. */
enum { KEEP, REVERT, TRUNCATE, NOISE, ZEROS, N_OUTCOMES };

/* Applies a power cut to the bytes of a file that were not synced. */
static void lose_bytes(const disk_file *f, int how, sim_random *r)
{
    off_t left = f->written - f->synced;
    int fd = left > 0 && how != KEEP ? open(f->path, O_WRONLY) : -1;
    if (fd < 0)
        return;
    if (how == REVERT)
        assert_int_equal(ftruncate(fd, f->synced), 0);
    if (how == TRUNCATE)
        assert_int_equal(
            ftruncate(fd, f->synced + (off_t)sim_random_below(r, (uint32_t)left + 1)), 0);
    for (off_t i = 0; (how == NOISE || how == ZEROS) && i < left; i++) {
        char byte = how == ZEROS ? 0 : (char)sim_random_below(r, 256);
        if (how == ZEROS || sim_random_below(r, 8) == 0)
            assert_int_equal(pwrite(fd, &byte, 1, f->synced + i), 1);
    }
    assert_int_equal(close(fd), 0);
}

/* Reverts none, all, or the last few of the renames that were not synced. */
static void revert_renames(int how, sim_random *r)
{
    size_t keep = how == KEEP     ? disk.n_renames
                  : how == REVERT ? 0
                                  : sim_random_below(r, (uint32_t)disk.n_renames + 1);
    for (size_t i = disk.n_renames; i-- > keep;) {
        const disk_rename *n = &disk.renames[i];
        (void)rename(n->to, n->from);
        if (n->before)
            write_bytes(n->to, n->before, n->n_before);
    }
    forget_renames();
}

static void power_cut(int how, uint32_t seed)
{
    sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = seed};
    sim_file_use(NULL);
    for (size_t i = 0; i < disk.n_files; i++)
        lose_bytes(&disk.files[i], how, &r);
    revert_renames(how, &r);
}

/* ---- the tests ---- */

static int set_up(void **state)
{
    (void)state;
    /* In memory where possible: the simulated disk needs no real one. */
    (void)snprintf(directory, sizeof directory, "%s/simile-test-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(directory) || sim_run_open(&alone, directory, &run) != SIM_OK)
        return -1;
    (void)snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", directory);
    new_disk();
    return save(1) == SIM_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    sim_file_use(NULL);
    forget_renames();
    sim_checkpoint_part_bytes(0, 0);
    sim_run_close(&alone, &run);
    (void)snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

/* Ten parts of nine rows. */
static void use_parts(void)
{
    sim_checkpoint_part_bytes(100, 9 * WIDTH * sizeof(float));
}

/* Saves step 2 with a crash at call k.  False if the save makes fewer calls. */
static bool save_with_crash_at(int k, int how, uint32_t seed, bool ignores_syncs)
{
    (void)remove_named("step-000000002");
    new_disk();
    disk.crash_at = k;
    disk.write_limit = 1500;
    disk.ignores_syncs = ignores_syncs;
    sim_file_use(&disk_calls);
    sim_status st = save(2);
    bool crashed = disk.dead;
    power_cut(how, seed);
    int64_t found = newest();
    if (!crashed)
        assert_int_equal(st, SIM_OK);
    if (found != 2 && (st == SIM_OK || found != 1))
        fail_msg("call %d, outcome %d, seed %u: status %d, but step %lld", k, how, seed,
                 (int)st, (long long)found);
    return crashed;
}

static void sweep_crashes(void)
{
    for (int how = 0; how < N_OUTCOMES; how++)
        for (uint32_t seed = 0; seed < (how == TRUNCATE || how == NOISE ? 2 : 1);
             seed++) {
            int k = 1;
            while (save_with_crash_at(k, how, seed, false))
                k++;
            assert_true(k > 10);
            (void)remove_named("step-000000002");
            ASSERT_OK(save(2));
            assert_int_equal(newest(), 2);
        }
}

static void a_crash_or_power_cut_at_any_call_leaves_a_good_checkpoint(void **state)
{
    (void)state;
    sweep_crashes();
}

static void a_crash_or_power_cut_during_part_files_leaves_a_good_checkpoint(void **state)
{
    (void)state;
    use_parts();
    sweep_crashes();
    assert_int_equal(remove_named("step-000000002.part-"), 10);
}

/* Verifies the simulated disk: without syncs a power cut does lose the new checkpoint, and
 * the loss is detected. */
static void without_syncs_a_power_cut_loses_the_new_checkpoint(void **state)
{
    (void)state;
    int64_t found[N_OUTCOMES];
    for (int how = 0; how < N_OUTCOMES; how++) {
        (void)remove_named("step-000000002");
        new_disk();
        disk.ignores_syncs = true;
        sim_file_use(&disk_calls);
        ASSERT_OK(save(2));
        power_cut(how, 1);
        found[how] = newest();
    }
    assert_int_equal(found[KEEP], 2);
    assert_int_equal(found[REVERT], 1);
    assert_int_equal(found[ZEROS], 1);
}

/* Saves step 2 with call k failing.  False if the save makes fewer calls. */
static bool save_with_error_at(int k, int number, bool permanent, sim_status code)
{
    (void)remove_named("step-000000002");
    new_disk();
    disk.error_at = k;
    disk.error_number = number;
    disk.permanent = permanent;
    disk.write_limit = 1500;
    sim_file_use(&disk_calls);
    sim_status st = save(2);
    bool failed = disk.calls >= k;
    sim_file_use(NULL);
    forget_renames();
    int64_t found = newest();
    if (st != SIM_OK && st != code)
        fail_msg("%s at call %d: status %d", strerror(number), k, (int)st);
    if (st == SIM_OK ? found != 2 : !strstr(sim_error_message(), strerror(number)))
        fail_msg("%s at call %d: step %lld, message \"%s\"", strerror(number), k,
                 (long long)found, sim_error_message());
    if (found != 1 && found != 2)
        fail_msg("%s at call %d: step %lld", strerror(number), k, (long long)found);
    /* Where files can be removed, no temporary or part file is left. */
    size_t left = remove_named(".tmp."), parts = 0;
    if (found == 1)
        parts = remove_named("step-000000002.part-");
    if (!permanent && (left || parts))
        fail_msg("%s at call %d: %zu temporary and %zu part files left", strerror(number),
                 k, left, parts);
    return failed;
}

static void sweep_errors(void)
{
    static const struct {
        int number;
        sim_status code;
    } errors[] = {{ENOSPC, SIM_E_IO},
                  {EDQUOT, SIM_E_IO},
                  {ENXIO, SIM_E_IO},
                  {EROFS, SIM_E_ACCESS},
                  {EACCES, SIM_E_ACCESS}};
    for (size_t e = 0; e < sizeof errors / sizeof *errors; e++)
        for (int permanent = 0; permanent < 2; permanent++) {
            int k = 1;
            while (save_with_error_at(k, errors[e].number, permanent, errors[e].code))
                k++;
            assert_true(k > 10);
        }
}

static void an_error_at_any_call_loses_at_most_the_new_checkpoint(void **state)
{
    (void)state;
    sweep_errors();
    use_parts();
    sweep_errors();
}

static void a_missing_directory_is_reported_and_may_come_back(void **state)
{
    (void)state;
    char away[256];
    (void)snprintf(away, sizeof away, "%s.away", checkpoints);
    assert_int_equal(rename(checkpoints, away), 0);
    ASSERT_REFUSED(save(2), SIM_E_CREATE, "No such file");
    use_parts();
    ASSERT_REFUSED(save(2), SIM_E_CREATE, "No such file");
    assert_int_equal(rename(away, checkpoints), 0);
    assert_int_equal(newest(), 1);
    ASSERT_OK(save(2));
    assert_int_equal(newest(), 2);
}

static void a_transient_read_or_write_error_is_retried(void **state)
{
    (void)state;
    size_t lost = 0;
    int k = 1;
    for (; k < 200; k++) {
        (void)remove_named("step-000000002");
        new_disk();
        disk.error_at = k;
        disk.error_number = EIO;
        sim_file_use(&disk_calls);
        sim_status st = save(2);
        sim_file_use(NULL);
        forget_renames();
        if (disk.calls < k)
            break;
        lost += st != SIM_OK; /* fsync is not retried */
        assert_int_equal(newest(), st == SIM_OK ? 2 : newest());
    }
    assert_true(k > 5 && k < 200);
    assert_in_range(lost, 1, 2); /* fsync of the file and of its directory */
}

static void writes_of_one_byte_make_the_same_file(void **state)
{
    (void)state;
    char path[256], *whole = NULL, *bytes = NULL;
    size_t n = 0, m = 0;
    path_of("step-000000002.h5", path);
    ASSERT_OK(save(2));
    ASSERT_OK(sim_file_load(path, 1 << 24, &whole, &n));
    (void)remove_named("step-000000002");
    disk.write_limit = 1;
    sim_file_use(&disk_calls);
    ASSERT_OK(save(2));
    sim_file_use(NULL);
    ASSERT_OK(sim_file_load(path, 1 << 24, &bytes, &m));
    assert_int_equal(n, m);
    assert_memory_equal(whole, bytes, n);
    sim_free(whole);
    sim_free(bytes);
}

/* ---- corrupted files ---- */

/* Flips single bits of a file of step 2 and truncates it; step 1 is the newest each time. */
static void assert_corruption_is_detected(const char *name, uint32_t flips)
{
    char path[256], *good = NULL;
    size_t n = 0;
    path_of(name, path);
    ASSERT_OK(sim_file_load(path, 1 << 24, &good, &n));
    for (uint32_t seed = 0; seed < flips; seed++) {
        sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = seed};
        size_t at = sim_random_below(&r, (uint32_t)n), bit = sim_random_below(&r, 8);
        good[at] = (char)(good[at] ^ (1 << bit));
        write_bytes(path, good, n);
        good[at] = (char)(good[at] ^ (1 << bit));
        if (newest() != 1)
            fail_msg("%s: bit %zu of byte %zu", name, bit, at);
    }
    for (size_t cut = 0; cut < n; cut += n / 20) {
        write_bytes(path, good, cut);
        if (newest() != 1)
            fail_msg("%s: truncated at byte %zu", name, cut);
    }
    write_bytes(path, good, n);
    assert_int_equal(newest(), 2);
    sim_free(good);
}

static void a_flipped_bit_anywhere_is_never_loaded(void **state)
{
    (void)state;
    use_parts();
    ASSERT_OK(save(2));
    assert_corruption_is_detected("step-000000002.h5", 200);
    assert_corruption_is_detected("step-000000002.part-0000.h5", 100);
    assert_corruption_is_detected("step-000000002.part-0009.h5", 100);
}

static void latest_is_only_a_hint(void **state)
{
    (void)state;
    char path[256];
    path_of("latest", path);
    ASSERT_OK(save(2));
    static const char *const texts[] = {"", "\xff\xfe garbage \n\n",
                                        "step-000000001.h5\n", "step-000000077.h5\n",
                                        "../../etc/passwd\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_bytes(path, texts[i], strlen(texts[i]));
        assert_int_equal(newest(), 2);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(newest(), 2);
    assert_int_equal(mkdir(path, 0777), 0); /* it cannot be written then */
    assert_int_equal(newest(), 2);
    ASSERT_OK(save(3));
    assert_int_equal(newest(), 3);
}

static void a_directory_named_like_a_checkpoint_is_skipped_and_kept(void **state)
{
    (void)state;
    char path[256];
    path_of("step-000000009.h5", path);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(newest(), 1);
    ASSERT_OK(save_as(8, "seed: 0\n", 1)); /* deletes step 1, not the directory */
    assert_true(sim_path_is_directory(path));
    path_of("step-000000001.h5", path);
    assert_false(sim_path_exists(path));
    ASSERT_OK(save(9));
    assert_int_equal(newest(), 9);
    path_of("step-000000009.h5.old-1", path);
    assert_true(sim_path_is_directory(path));
}

/* Writes an HDF5 file with this attribute `format`, or without one if it is NULL. */
static void write_hdf5(const char *path, const char *format)
{
    sim_h5 *f = NULL;
    const void *image = NULL;
    size_t n = 0;
    ASSERT_OK(sim_h5_create_image(1000, &f));
    ASSERT_OK(sim_h5_write_text(f, "/note", "of the user"));
    if (format)
        ASSERT_OK(sim_h5_write_attribute_text(f, "format", format));
    ASSERT_OK(sim_h5_image(f, &image, &n));
    write_bytes(path, image, n);
    sim_h5_close(&f);
}

static void assert_same_bytes(const char *path, const char *of)
{
    char *a = NULL, *b = NULL;
    size_t n = 0, m = 0;
    ASSERT_OK(sim_file_load(path, 1 << 24, &a, &n));
    ASSERT_OK(sim_file_load(of, 1 << 24, &b, &m));
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    sim_free(a);
    sim_free(b);
}

static void a_file_of_the_user_is_kept_under_another_name(void **state)
{
    (void)state;
    static const char *const kinds[] = {"text", "hdf5", "data set", "link", "other run"};
    char path[256], kept[256], mine[256];
    path_of("mine", mine);
    path_of("step-000000002.h5", path);
    path_of("step-000000002.h5.old-1", kept);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const char *kind = kinds[i];
        (void)remove_named("step-000000002");
        if (strcmp(kind, "text") == 0 || strcmp(kind, "link") == 0)
            write_bytes(mine, "notes", 5);
        else if (strcmp(kind, "other run") == 0)
            ASSERT_OK(save_as(2, "seed: 1\n", 100));
        else
            write_hdf5(mine, strcmp(kind, "hdf5") == 0 ? NULL : "simile-dataset");
        if (strcmp(kind, "link") == 0)
            assert_int_equal(symlink("mine", path), 0);
        else if (strcmp(kind, "other run") == 0)
            assert_int_equal(link(path, mine), 0);
        else
            assert_int_equal(link(mine, path), 0);
        ASSERT_OK(save(2));
        assert_int_equal(newest(), 2);
        assert_true(sim_path_is_file(path));
        assert_same_bytes(kept, mine);
        ASSERT_OK(save(2)); /* the checkpoint of this run stays */
        path_of("step-000000002.h5.old-2", kept);
        assert_false(sim_path_is_taken(kept));
        path_of("step-000000002.h5.old-1", kept);
        ASSERT_OK(sim_file_remove(mine));
    }
}

static int64_t step_at(const char *path)
{
    sim_checkpoint *k = NULL;
    ASSERT_OK(sim_checkpoint_open(&alone, path, &k)); /* verifies the part files */
    int64_t step = sim_checkpoint_head_of(k)->step;
    sim_checkpoint_close(&k);
    return step;
}

static void a_checkpoint_of_another_run_is_kept_with_its_part_files(void **state)
{
    (void)state;
    char path[256];
    use_parts();
    ASSERT_OK(save_as(2, "seed: 9\n", 100));
    ASSERT_OK(save(2));
    path_of("step-000000002.old-1/step-000000002.h5", path);
    assert_int_equal(step_at(path), 2);
    assert_int_equal(newest(), 2);
    ASSERT_OK(save_as(2, "seed: 9\n", 100)); /* the next one has another directory */
    path_of("step-000000002.old-2/step-000000002.h5", path);
    assert_int_equal(step_at(path), 2);
}

/* Saves step 2 with the values of another step and this history; returns whether the file that
 * was at its path is kept. */
static bool keeps_earlier(const char *earlier, const char *history)
{
    example_state s = state_at(7);
    const sim_state_source source = {visit_example, &s};
    const sim_checkpoint_options options = {.keep = 100};
    sim_checkpoint_head head = {
        .step = 2, .config = "run: x\n", .identity = "seed: 0\n", .history = earlier};
    char kept[256];
    ASSERT_OK(sim_checkpoint_write(&alone, &run, &options, &head, &source, 1));
    s = state_at(8);
    head.history = history;
    ASSERT_OK(sim_checkpoint_write(&alone, &run, &options, &head, &source, 1));
    path_of("step-000000002.h5.old-1", kept);
    return sim_path_is_taken(kept);
}

static void a_checkpoint_without_a_common_segment_is_of_another_run(void **state)
{
    (void)state;
    static const char a[] = "[{\"id\":\"a\",\"to_step\":2}]",
                      b[] = "[{\"id\":\"b\",\"to_step\":2}]",
                      both[] =
                          "[{\"id\":\"a\",\"to_step\":1},{\"id\":\"b\",\"to_step\":2}]";
    assert_false(keeps_earlier("[]", a));
    assert_false(keeps_earlier(a, both));
    assert_true(keeps_earlier(a, b));
}

/* Expected values by hand: segment b of the run ended at step 5, or its metrics did. */
static void the_lineage_of_a_checkpoint_follows_from_its_segments(void **state)
{
    (void)state;
    static const char run_text[] =
        "[{\"id\":\"a\",\"to_step\":3},{\"id\":\"b\",\"to_step\":5},"
        "{\"id\":\"c\",\"to_step\":5,\"last_step\":9,\"discarded\":true}]";
    static const struct {
        const char *history;
        int64_t step;
        sim_lineage expected;
    } cases[] = {
        {"[{\"id\":\"a\"},{\"id\":\"b\"}]", 5, SIM_LINEAGE_STEP},
        {"[{\"id\":\"a\"},{\"id\":\"b\"}]", 6, SIM_LINEAGE_RELATED},
        {"[{\"id\":\"a\"},{\"id\":\"c\"}]", 9, SIM_LINEAGE_STEP},
        {"[{\"id\":\"a\"},{\"id\":\"x\"}]", 3, SIM_LINEAGE_RELATED},
        {"[{\"id\":\"x\"},{\"id\":\"a\"}]", 3, SIM_LINEAGE_STEP},
        {"[{\"id\":\"x\"}]", 3, SIM_LINEAGE_OTHER},
        {"[{\"to_step\":3}]", 3, SIM_LINEAGE_OTHER},
        {"[]", 3, SIM_LINEAGE_OTHER},
        {"no JSON", 3, SIM_LINEAGE_OTHER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const sim_checkpoint_head head = {.step = cases[i].step,
                                          .history = cases[i].history};
        assert_int_equal(sim_checkpoint_lineage(&head, run_text), cases[i].expected);
        assert_int_equal(sim_checkpoint_lineage(&head, "[]"), SIM_LINEAGE_OTHER);
    }
}

static void a_copy_with_another_name_is_not_a_checkpoint_of_the_run(void **state)
{
    (void)state;
    static const char *const names[] = {"step-2.h5", "step-0000000002.h5",
                                        "step-2.part-0000.h5"};
    char path[256], copy[256];
    ASSERT_OK(save(2));
    ASSERT_OK(save(3));
    path_of("step-000000002.h5", path);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        path_of(names[i], copy);
        assert_int_equal(link(path, copy), 0);
    }
    assert_int_equal(newest(), 3); /* by name, step-2.h5 is the last */
    ASSERT_OK(save_as(4, "seed: 0\n", 1));
    assert_int_equal(newest(), 4);
    assert_false(sim_path_exists(path));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        path_of(names[i], copy);
        assert_true(sim_path_exists(copy));
    }
}

static void old_files_of_the_user_are_not_deleted(void **state)
{
    (void)state;
    char path[256], checkpoint[256];
    path_of("step-000000002.h5", path);
    path_of("step-000000003.h5", checkpoint);
    write_bytes(path, "notes", 5);
    ASSERT_OK(save(3));
    ASSERT_OK(save_as(4, "seed: 0\n", 1));
    assert_true(sim_path_exists(path));
    assert_false(sim_path_exists(checkpoint));
}

static void a_stale_temporary_is_removed_and_a_planted_link_is_not_followed(void **state)
{
    (void)state;
    char stale[256], planted[256], host[64] = "", text[8];
    path_of("step-000000007.h5.tmp.otherhost.4711", stale);
    write_bytes(stale, "half a file", 11);
    path_of("precious", stale);
    write_bytes(stale, "keep me", 7);
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    (void)snprintf(planted, sizeof planted, "%s/step-000000002.h5.tmp.%s.%ld",
                   checkpoints, host, (long)getpid());
    assert_int_equal(symlink(stale, planted), 0);
    ASSERT_OK(save(2));
    assert_int_equal(newest(), 2);
    sim_run_close(&alone, &run);
    ASSERT_OK(sim_run_open(&alone, directory, &run));
    assert_int_equal(remove_named(".tmp."), 0);
    FILE *f = fopen(stale, "rb");
    assert_non_null(f);
    assert_int_equal(fread(text, 1, 7, f), 7);
    assert_int_equal(fclose(f), 0);
    assert_memory_equal(text, "keep me", 7);
}

/* A file of the same step and identity, but with other weights or another position. */
static void a_file_of_another_branch_is_replaced(void **state)
{
    (void)state;
    example_state s = state_at(7);
    const sim_state_source source = {visit_example, &s};
    const sim_checkpoint_options options = {.keep = 100};
    sim_checkpoint_head head = {
        .step = 2, .config = "run: x\n", .identity = "seed: 0\n", .history = "[]"};
    char path[256];
    sim_checkpoint *k = NULL;
    use_parts();
    ASSERT_OK(sim_checkpoint_write(&alone, &run, &options, &head, &source, 1));
    assert_int_equal(newest(), -1); /* not the values of step 2 */
    ASSERT_OK(save(2));
    assert_int_equal(newest(), 2);
    s = state_at(2);
    head.samples = 64;
    ASSERT_OK(sim_checkpoint_write(&alone, &run, &options, &head, &source, 1));
    path_of("step-000000002.h5", path);
    ASSERT_OK(sim_checkpoint_open(&alone, path, &k));
    assert_int_equal(sim_checkpoint_head_of(k)->samples, 64);
    sim_checkpoint_close(&k);
}

static const char *unreadable; /* part of the names that cannot be opened */

static int open_unless_unreadable(const char *path, int flags, mode_t mode)
{
    if (strstr(path, unreadable)) {
        errno = EACCES;
        return -1;
    }
    return sim_file_posix.open(path, flags, mode);
}

/* The file may be good, so no older one is used instead. */
static void a_file_that_cannot_be_read_ends_the_search(void **state)
{
    (void)state;
    static const char *const names[] = {"step-000000002.h5", "step-000000002.part-0009"};
    sim_file_calls calls = sim_file_posix;
    sim_checkpoint *k = NULL;
    calls.open = open_unless_unreadable;
    use_parts();
    ASSERT_OK(save(2));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unreadable = names[i];
        sim_file_use(&calls);
        sim_status st = sim_checkpoint_newest(&alone, directory, &k);
        sim_file_use(NULL);
        assert_int_equal(st, SIM_E_ACCESS);
        assert_null(k);
        assert_non_null(strstr(sim_error_message(), names[i]));
    }
    (void)remove_named(names[1]); /* a missing part is not a read error */
    assert_int_equal(newest(), 1);
}

/* simile stop and starts that wait for the lock also write temporary files to RUN. */
static void only_temporaries_of_ended_processes_of_this_host_are_removed(void **state)
{
    (void)state;
    char host[64] = "", live[256], dead[256], of_other_host[256];
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    (void)snprintf(live, sizeof live, "%s/stop.tmp.%s.%ld", directory, host,
                   (long)getppid());
    (void)snprintf(dead, sizeof dead, "%s/config.yaml.tmp.%s.999999999", directory, host);
    (void)snprintf(of_other_host, sizeof of_other_host, "%s/stop.tmp.not-%s.999999999",
                   directory, host);
    write_bytes(live, "stop\n", 5);
    write_bytes(dead, "half", 4);
    write_bytes(of_other_host, "stop\n", 5);
    sim_run_close(&alone, &run);
    ASSERT_OK(sim_run_open(&alone, directory, &run));
    assert_true(sim_path_exists(live));
    assert_true(sim_path_exists(of_other_host));
    assert_false(sim_path_exists(dead));
}

static void create_file(const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/checkpoints/%s", directory, name);
    write_bytes(path, name, strlen(name));
}

static bool exists(const char *part, const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s/%s", directory, part, name);
    return sim_path_exists(path);
}

static void write_hint(const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/checkpoints/%s", directory, name);
    write_bytes(path, text, strlen(text));
}

static void an_abandoned_branch_is_moved_with_its_part_files(void **state)
{
    (void)state;
    static const char *const newer[] = {
        "step-000000007.h5", "step-000000007.part-0000.h5", "step-000000011.h5"};
    char where[256], expected[256];
    create_file("step-000000006.h5");
    create_file("step-000000006.part-0000.h5");
    write_hint("latest", "step-000000011.h5\n");
    write_hint("best", "a file of the user\n");
    for (size_t i = 0; i < 3; i++)
        create_file(newer[i]);
    ASSERT_OK(sim_run_abandon(&alone, &run, 7, where, sizeof where));
    (void)snprintf(expected, sizeof expected, "%s/abandoned-1", directory);
    assert_string_equal(where, expected);
    for (size_t i = 0; i < 3; i++) {
        assert_true(exists("abandoned-1", newer[i]));
        assert_false(exists("checkpoints", newer[i]));
    }
    assert_true(exists("checkpoints", "step-000000006.h5"));
    assert_true(exists("checkpoints", "step-000000006.part-0000.h5"));
    assert_false(exists("checkpoints", "latest")); /* it may name one of them */
    assert_true(exists("checkpoints", "best"));
    write_hint("best", "step-000000006.h5\n");
    ASSERT_OK(sim_run_abandon(&alone, &run, 7, where, sizeof where));
    assert_string_equal(where, ""); /* nothing is left to move */
    create_file(newer[2]);
    ASSERT_OK(sim_run_abandon(&alone, &run, 7, where, sizeof where));
    assert_true(exists("abandoned-2", newer[2])); /* abandoned-1 is not reused */
    assert_false(exists("checkpoints", "best"));
}

static void results_of_an_abandoned_branch_are_moved(void **state)
{
    (void)state;
    static const char *const moved[] = {"knn-step-000000007.json",
                                        "knn-step-000000012-test-1a2b3c4d-k20.json"};
    static const char *const kept[] = {"knn-step-000000006.json", "pretrain.json",
                                       "knn-step-000000007.json.old-1", "step-7.txt"};
    char where[256], path[256];
    create_file("step-000000007.h5");
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof path, "%s/results/%s", directory, kept[i]);
        write_bytes(path, "x", 1);
        (void)snprintf(path, sizeof path, "%s/results/%s", directory, moved[i % 2]);
        write_bytes(path, "x", 1);
    }
    ASSERT_OK(sim_run_abandon(&alone, &run, 7, where, sizeof where));
    for (size_t i = 0; i < 4; i++) {
        assert_true(exists("results", kept[i]));
        assert_false(exists("results", moved[i % 2]));
        assert_true(exists("abandoned-1", moved[i % 2]));
    }
}

static void an_interrupted_move_is_completed_in_the_same_directory(void **state)
{
    (void)state;
    static const char main_file[] = "step-000000007.h5",
                      part[] = "step-000000007.part-0000.h5";
    char where[256], from[256], to[256];

    create_file(main_file);
    create_file(part);
    ASSERT_OK(sim_run_abandon(&alone, &run, 7, where, sizeof where));
    create_file(main_file); /* another branch, whose move ended after the part file */
    create_file(part);
    (void)snprintf(to, sizeof to, "%s/abandoned-2", directory);
    ASSERT_OK(sim_directory_create(to));
    (void)snprintf(from, sizeof from, "%s/checkpoints/%s", directory, part);
    (void)snprintf(to, sizeof to, "%s/abandoned-2/%s", directory, part);
    assert_int_equal(rename(from, to), 0);
    ASSERT_OK(sim_run_abandon(&alone, &run, 7, where, sizeof where));
    assert_true(exists("abandoned-2", main_file));
    assert_true(exists("abandoned-2", part));
    assert_false(exists("checkpoints", main_file));
    assert_false(exists("abandoned-3", main_file));
}

/* ---- locks ---- */

static ssize_t fail_pread(int fd, void *data, size_t n, off_t at)
{
    (void)fd, (void)data, (void)n, (void)at;
    errno = EIO;
    return -1;
}

static void lock_path(char out[256])
{
    (void)snprintf(out, 256, "%s/run.lock", directory);
}

/* Creates a lock with this text and tries to open the run. */
static sim_status open_with_lock(const char *text)
{
    char path[256];
    sim_run second = {0};
    lock_path(path);
    write_bytes(path, text, strlen(text));
    sim_status st = sim_run_open(&alone, directory, &second);
    if (st == SIM_OK)
        sim_run_close(&alone, &second);
    return st;
}

/* Puts a program that prints `text` and exits with `code` first in PATH. */
static void install_program(const char *name, const char *text, int code)
{
    char path[256], script[512];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    (void)snprintf(script, sizeof script, "#!/bin/sh\nprintf '%s'\nexit %d\n", text,
                   code);
    write_bytes(path, script, strlen(script));
    assert_int_equal(chmod(path, 0755), 0);
    (void)snprintf(script, sizeof script, "%s:/usr/bin:/bin", directory);
    assert_int_equal(setenv("PATH", script, 1), 0);
}

static const char lock_of_other_host[] =
    "host other\npid 12\nstart 34\njob 4711\nrestart 0\ncluster lab\n"
    "since 2026-01-01T00:00:00Z\n";

static void a_lock_without_a_holder_is_refused(void **state)
{
    (void)state;
    static char large[9000];
    memset(large, 'x', sizeof large - 1);
    const char *const texts[] = {"", "\n\n\n", "\xff\xfe\x01", "pid 3\n", large};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(open_with_lock(texts[i]), SIM_E_CREATE);
        assert_null(strstr(sim_error_message(), "rm "));
        assert_non_null(strstr(sim_error_message(), "run.lock"));
    }
}

static void a_lock_of_another_host_is_valid_until_slurm_reports_the_end_of_its_job(
    void **state)
{
    (void)state;
    char *path = strdup(getenv("PATH"));
    static const struct {
        const char *text;
        int code;
        bool has_ended;
    } answers[] = {
        {"RUNNING\\n", 0, false},
        {"COMPLETING\\n", 0, false},
        {"", 0, true},
        {"PENDING\\n", 0, true},
        {"PENDING\\nRUNNING\\n", 0, false}, /* an array */
        {"PENDING\\nPENDING\\n", 0, true},
        {"slurm_load_jobs error: Invalid job id specified\\n", 1, true},
        {"slurm_load_jobs error: Unable to contact slurm controller\\n", 1, false}};
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        install_program("squeue", answers[i].text, answers[i].code);
        install_program("scontrol", "Configuration\\nClusterName = lab\\n", 0);
        sim_status st = open_with_lock(lock_of_other_host);
        if (st != (answers[i].has_ended ? SIM_OK : SIM_E_CREATE))
            fail_msg("\"%s\": status %d", answers[i].text, (int)st);
    }
    assert_int_equal(setenv("PATH", "/nowhere", 1), 0); /* no Slurm */
    assert_int_equal(open_with_lock(lock_of_other_host), SIM_E_CREATE);
    assert_non_null(
        strstr(sim_error_message(),
               "held by pid 12 on other (job 4711 of cluster lab, since 2026"));
    assert_null(strstr(sim_error_message(), "rm "));
    assert_int_equal(setenv("PATH", path, 1), 0);
    free(path);
}

/* Slurm of another cluster, or of an unknown one, knows nothing of the job. */
static void slurm_of_another_cluster_is_not_believed(void **state)
{
    (void)state;
    char *path = strdup(getenv("PATH"));
    static const char *const answers[] = {"", "x\\nClusterName = other\\n",
                                          "x\\nClusterName = \\n"};
    install_program("squeue", "slurm_load_jobs error: Invalid job id specified\\n", 1);
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        install_program("scontrol", answers[i], 0);
        assert_int_equal(open_with_lock(lock_of_other_host), SIM_E_CREATE);
    }
    install_program("scontrol", "x\\nClusterName = lab\\n", 0);
    assert_int_equal(open_with_lock("host other\npid 12\njob 4711\n"), SIM_E_CREATE);
    assert_int_equal(open_with_lock("host other\npid 12\njob 4711\ncluster -\n"),
                     SIM_E_CREATE);
    assert_int_equal(open_with_lock(lock_of_other_host), SIM_OK);
    assert_int_equal(setenv("PATH", path, 1), 0);
    free(path);
}

/* Hosts of one name are told apart by the start of the machine; a restarted machine by its
 * installation. */
static void a_process_is_looked_for_only_on_its_machine(void **state)
{
    (void)state;
    char boot[64], machine[64], space[64], start[32], text[512];
    sim_process self;
    sim_process_machine(boot, machine);
    sim_process_namespace(space, sizeof space);
    assert_true(sim_process_query((long)getpid(), &self));
    (void)snprintf(start, sizeof start, "%s", self.start_ticks);
    if (!boot[0] || !machine[0])
        skip();
    const struct {
        const char *host, *boot, *machine, *start;
        sim_status expected;
    } cases[] = {
        {"testhost", boot, machine, start, SIM_E_CREATE}, /* this process */
        {"renamed", boot, machine, start, SIM_E_CREATE},
        {"testhost", boot, machine, "1", SIM_OK},        /* has ended */
        {"testhost", "earlier", machine, start, SIM_OK}, /* restarted */
        {"testhost", "x", "other", start, SIM_E_CREATE}, /* another machine */
        {"other", "x", machine, start, SIM_E_CREATE}};   /* another node of one image */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)snprintf(
            text, sizeof text,
            "host %s\npid %ld\nstart %s\nspace %s\nboot %s\nmachine %s\njob -\n",
            cases[i].host, (long)getpid(), cases[i].start, space, cases[i].boot,
            cases[i].machine);
        if (open_with_lock(text) != cases[i].expected)
            fail_msg("case %zu: %s", i, sim_error_message());
    }
}

/* ---- a run that is lost while it is open ---- */

typedef enum { LOCK_REMOVED, LOCK_REPLACED, RUN_RENAMED } run_loss;

static void lose(run_loss how, const char *moved)
{
    char path[256];
    lock_path(path);
    if (how == RUN_RENAMED) {
        assert_int_equal(rename(directory, moved), 0);
        ASSERT_OK(sim_directory_create(checkpoints));
    } else {
        assert_int_equal(unlink(path), 0);
    }
    if (how == LOCK_REPLACED)
        write_bytes(path, "host rival\npid 1\ntoken 2\n", 26);
}

static size_t count_files(const char *path)
{
    sim_names names = {0};
    ASSERT_OK(sim_directory_list(path, &names));
    size_t n = names.n;
    sim_names_clear(&names);
    return n;
}

static void a_lost_run_is_not_written(void **state)
{
    (void)state;
    char moved[96], path[256];
    (void)snprintf(moved, sizeof moved, "%s.moved", directory);
    for (run_loss how = LOCK_REMOVED; how <= RUN_RENAMED; how++) {
        ASSERT_OK(save_as(1, "seed: 0\n", 1));
        ASSERT_OK(sim_run_check(&run));
        lose(how, moved);
        const size_t before = count_files(checkpoints);
        ASSERT_REFUSED(sim_run_check(&run), SIM_E_CREATE, "/run.lock");
        ASSERT_REFUSED(save_as(2, "seed: 0\n", 1), SIM_E_CREATE, "/run.lock");
        sim_error_set("kept");
        assert_true(sim_run_is_lost(&run));
        assert_string_equal(sim_error_message(), "kept");
        assert_int_equal(count_files(checkpoints), before);
        sim_run_close(&alone, &run);
        lock_path(path);
        assert_int_equal(access(path, F_OK) == 0, how == LOCK_REPLACED);
        if (how == LOCK_REPLACED)
            assert_int_equal(unlink(path), 0);
        ASSERT_OK(sim_run_open(&alone, directory, &run));
    }
    (void)snprintf(path, sizeof path, "rm -r %s", moved);
    assert_int_equal(system(path), 0);
}

/* A disk that fails is reported by the write itself. */
static void a_lock_that_cannot_be_read_is_still_held(void **state)
{
    (void)state;
    sim_file_calls calls = sim_file_posix;
    calls.pread = fail_pread;
    sim_file_use(&calls);
    sim_status st = sim_run_check(&run);
    sim_file_use(NULL);
    assert_int_equal(st, SIM_OK);
}

static void a_reused_pid_does_not_hold_a_lock(void **state)
{
    (void)state;
    char text[256];
    (void)snprintf(text, sizeof text,
                   "host testhost\npid %ld\nstart 1\njob -\nrestart 0\n", (long)getpid());
    assert_int_equal(open_with_lock(text), SIM_OK);
}

/* A concurrent start that creates its lock just after this one read the stale lock. */
static const char fresh[] = "host rival\npid 1\nstart 2\njob -\nrestart 0\n";
static bool rival_pending;
static size_t n_moved; /* renames and removals of run.lock itself */

static ssize_t read_then_rival(int fd, void *data, size_t n, off_t at)
{
    char path[256], temporary[300];
    ssize_t got = pread(fd, data, n, at);
    if (rival_pending) {
        rival_pending = false;
        lock_path(path);
        (void)snprintf(temporary, sizeof temporary, "%s.rival", path);
        write_bytes(temporary, fresh, sizeof fresh - 1);
        (void)rename(temporary, path);
    }
    return got;
}

static bool is_lock(const char *path)
{
    size_t n = strlen(path);
    return n > 9 && strcmp(path + n - 9, "/run.lock") == 0;
}

static int count_rename(const char *from, const char *to)
{
    n_moved += is_lock(from) || is_lock(to);
    return rename(from, to);
}

static int count_unlink(const char *path)
{
    n_moved += is_lock(path);
    return unlink(path);
}

static void a_new_lock_is_never_removed(void **state)
{
    (void)state;
    char path[256], *text = NULL;
    size_t n = 0;
    sim_file_calls calls = sim_file_posix;
    calls.pread = read_then_rival;
    calls.rename = count_rename;
    calls.unlink = count_unlink;
    rival_pending = true;
    n_moved = 0;
    sim_file_use(&calls);
    sim_status st = open_with_lock("host testhost\npid 999999999\nstart 1\n");
    sim_file_use(NULL);
    assert_int_equal(st, SIM_E_CREATE);
    assert_non_null(strstr(sim_error_message(), "held by pid 1 on rival"));
    assert_int_equal(n_moved, 0);
    lock_path(path);
    ASSERT_OK(sim_file_load(path, 4096, &text, &n));
    assert_string_equal(text, fresh);
    sim_free(text);
}

/* One of the starts that find a lock stale removes it.  That one may be killed meanwhile. */
static void a_stale_lock_is_removed_by_one_process_at_a_time(void **state)
{
    (void)state;
    static const char stale[] = "host testhost\npid 999999999\nstart 1\n";
    char path[256];
    lock_path(path);
    write_bytes(path, stale, sizeof stale - 1);
    int fd = open(path, O_WRONLY);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0); /* another start is removing it */
    sim_run second = {0};
    ASSERT_REFUSED(sim_run_open(&alone, directory, &second), SIM_E_CREATE,
                   "already exists");
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(close(fd), 0); /* as if that start was killed */
    ASSERT_OK(sim_run_open(&alone, directory, &second));
    sim_run_close(&alone, &second);
}

/* A child: opens the run, reports success as one byte, and keeps the lock until killed. */
static void compete(const int go[2], const int reply[2])
{
    char byte = 0;
    sim_run own = {0};
    (void)close(go[1]);
    (void)!read(go[0], &byte, 1); /* all at once */
    byte = sim_run_open(&alone, directory, &own) == SIM_OK ? 'y' : 'n';
    (void)!write(reply[1], &byte, 1);
    (void)alarm(60);
    (void)pause();
}

static void of_many_starts_on_a_stale_lock_one_acquires_it(void **state)
{
    (void)state;
    enum { ROUNDS = 40, STARTS = 8 };
    char path[256], text[128];
    lock_path(path);
    for (int round = 0; round < ROUNDS; round++) {
        int go[2], reply[2], winners = 0;
        pid_t children[STARTS];
        int n = snprintf(text, sizeof text, "host testhost\npid 999999999\nstart %d\n",
                         round);
        write_bytes(path, text, (size_t)n);
        assert_true(pipe(go) == 0 && pipe(reply) == 0);
        for (int i = 0; i < STARTS; i++)
            if ((children[i] = fork()) == 0)
                compete(go, reply);
        (void)close(go[0]);
        (void)close(go[1]);
        for (int i = 0; i < STARTS; i++) {
            char byte = 0;
            assert_int_equal(read(reply[0], &byte, 1), 1);
            winners += byte == 'y';
        }
        for (int i = 0; i < STARTS; i++) {
            (void)kill(children[i], SIGKILL);
            (void)waitpid(children[i], NULL, 0);
        }
        (void)close(reply[0]);
        (void)close(reply[1]);
        assert_int_equal(winners, 1);
    }
}

/* Containers may share a host name but not a pid namespace. */
static void a_process_of_another_container_holds_its_lock(void **state)
{
    (void)state;
    char path[256], *text = NULL;
    sim_run own = {0};
    size_t n = 0;
    lock_path(path);
    sim_run_close(&alone, &run);
    ASSERT_OK(sim_run_open(&alone, directory, &own));
    ASSERT_OK(sim_file_load(path, 4096, &text, &n));
    sim_run_close(&alone, &own);
    assert_non_null(strstr(text, "\nspace pid:["));
    sim_free(text);
    assert_int_equal(
        open_with_lock("host testhost\npid 999999999\nstart 1\nspace pid:[7]\n"),
        SIM_E_CREATE);
    assert_non_null(strstr(sim_error_message(), "held by pid 999999999 on testhost"));
}

static void a_stop_request_reaches_the_holder_of_the_lock_only(void **state)
{
    (void)state;
    char lock[256], stop[256], host[64], text[128];
    sim_run own = {0};
    lock_path(lock);
    (void)snprintf(stop, sizeof stop, "%s/stop", directory);
    sim_run_close(&alone, &run);
    ASSERT_REFUSED(sim_run_request_stop(directory), SIM_E_INPUT,
                   "no job is running there");
    sim_host_name(host, sizeof host);
    int n = snprintf(text, sizeof text, "host %s\npid 999999999\nstart 1\n", host);
    write_bytes(lock, text, (size_t)n);
    ASSERT_REFUSED(sim_run_request_stop(directory), SIM_E_INPUT, "was killed");
    ASSERT_OK(sim_file_remove(lock));
    write_bytes(stop, "stop\n", 5); /* a request for that job */
    ASSERT_OK(sim_run_open(&alone, directory, &own));
    assert_false(sim_run_stop_requested(&own));
    ASSERT_OK(sim_run_request_stop(directory)); /* before the first step */
    assert_true(sim_run_stop_requested(&own));
    sim_run_close(&alone, &own);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_crash_or_power_cut_at_any_call_leaves_a_good_checkpoint),
        TEST(a_crash_or_power_cut_during_part_files_leaves_a_good_checkpoint),
        TEST(without_syncs_a_power_cut_loses_the_new_checkpoint),
        TEST(an_error_at_any_call_loses_at_most_the_new_checkpoint),
        TEST(a_missing_directory_is_reported_and_may_come_back),
        TEST(a_transient_read_or_write_error_is_retried),
        TEST(writes_of_one_byte_make_the_same_file),
        TEST(a_flipped_bit_anywhere_is_never_loaded),
        TEST(latest_is_only_a_hint),
        TEST(a_directory_named_like_a_checkpoint_is_skipped_and_kept),
        TEST(a_file_of_the_user_is_kept_under_another_name),
        TEST(a_checkpoint_of_another_run_is_kept_with_its_part_files),
        TEST(a_checkpoint_without_a_common_segment_is_of_another_run),
        TEST(the_lineage_of_a_checkpoint_follows_from_its_segments),
        TEST(a_copy_with_another_name_is_not_a_checkpoint_of_the_run),
        TEST(old_files_of_the_user_are_not_deleted),
        TEST(a_stale_temporary_is_removed_and_a_planted_link_is_not_followed),
        TEST(a_file_of_another_branch_is_replaced),
        TEST(a_file_that_cannot_be_read_ends_the_search),
        TEST(only_temporaries_of_ended_processes_of_this_host_are_removed),
        TEST(an_abandoned_branch_is_moved_with_its_part_files),
        TEST(results_of_an_abandoned_branch_are_moved),
        TEST(an_interrupted_move_is_completed_in_the_same_directory),
        TEST(a_lock_without_a_holder_is_refused),
        TEST(a_lock_of_another_host_is_valid_until_slurm_reports_the_end_of_its_job),
        TEST(a_reused_pid_does_not_hold_a_lock),
        TEST(slurm_of_another_cluster_is_not_believed),
        TEST(a_process_is_looked_for_only_on_its_machine),
        TEST(a_lost_run_is_not_written),
        TEST(a_lock_that_cannot_be_read_is_still_held),
        TEST(a_process_of_another_container_holds_its_lock),
        TEST(a_new_lock_is_never_removed),
        TEST(a_stale_lock_is_removed_by_one_process_at_a_time),
        TEST(of_many_starts_on_a_stale_lock_one_acquires_it),
        TEST(a_stop_request_reaches_the_holder_of_the_lock_only),
    };
    disk_calls = sim_file_posix;
    disk_calls.open = disk_open;
    disk_calls.write = disk_write;
    disk_calls.fsync = disk_fsync;
    disk_calls.close = disk_close;
    disk_calls.rename = disk_rename_call;
    disk_calls.unlink = disk_unlink;
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
