/*
 * simile-test: timeout 480
 * test_faults.c - a save that is cut anywhere: by a crash, a power cut, a disk that is full
 * or lies.  After each the newest good checkpoint is the new or the one before, never a
 * harmed one, and the next save goes well.
 *
 * A disk of our own stands behind the file table: it knows what was synced, and at a power
 * cut takes back, cuts or fills with noise what was not; renames too, until their folder is
 * synced.  Checkpoints with and without part files are tried.
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
static char folder[64], checkpoints[128];
static sim_run run;

/* ---- state: 300 weights, and 90 rows of a queue, which may go to parts ---- */

enum { ROWS = 90, WIDTH = 4 };

typedef struct {
    float weights[300], rows[ROWS * WIDTH];
} state_of_run;

static sim_status visit(void *object, const sim_visitor *v)
{
    state_of_run *s = object;
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

static state_of_run state_at(int64_t step)
{
    state_of_run s;
    sim_random r = {.purpose = SIM_RANDOM_TEST, .sample = (uint32_t)step};
    for (size_t i = 0; i < 300; i++)
        s.weights[i] = sim_random_normal(&r);
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        s.rows[i] = sim_random_normal(&r);
    return s;
}

static sim_status save_as(int64_t step, const char *identity, int64_t keep)
{
    state_of_run s = state_at(step);
    const sim_state_source source = {visit, &s};
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

/* Step of the newest good one, whose numbers are that step's; -1 when they are not. */
static int64_t newest(void)
{
    sim_checkpoint *k = NULL;
    state_of_run s = {0};
    const sim_state_source source = {visit, &s};
    ASSERT_OK(sim_checkpoint_newest(&alone, folder, &k));
    assert_non_null(k);
    int64_t step = sim_checkpoint_head_of(k)->step;
    state_of_run expected = state_at(step);
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

/* Removes all of the folder whose name contains `part`; how many there were. */
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

/* ---- the disk ---- */

enum { FILES = 32, RENAMES = 32 };

typedef struct {
    int fd;         /* -1: closed */
    char path[256]; /* where it stands now */
    off_t synced, written;
} disk_file;

typedef struct {
    char from[256], to[256];
    char *before; /* what `to` held; NULL: it was not there */
    size_t n_before;
} disk_rename;

static struct {
    disk_file files[FILES];
    disk_rename renames[RENAMES]; /* whose folder was not synced since */
    size_t n_files, n_renames;
    int calls, crash_at; /* that call is the last, and is done by half or not at all */
    bool dead;
    int error_number,
        error_at;        /* that call fails with this; for_good: all from then on */
    bool for_good, lies; /* lies: syncs say yes and do nothing (the test's own test) */
    size_t most;         /* bytes of a write; 0: all */
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

/* Is this call not to be done?  Then errno is set. */
static bool refused(void)
{
    disk.calls++;
    if (disk.dead || disk.calls == disk.crash_at) {
        disk.dead = true;
        errno = ENXIO;
        return true;
    }
    if (disk.error_at == 0 || disk.calls < disk.error_at ||
        (disk.calls > disk.error_at && !disk.for_good))
        return false;
    errno = disk.error_number;
    return true;
}

static disk_file *file_of(int fd)
{
    for (size_t i = 0; i < disk.n_files; i++)
        if (disk.files[i].fd == fd)
            return &disk.files[i];
    return NULL;
}

static int disk_open(const char *path, int flags, mode_t mode)
{
    bool making = (flags & O_CREAT) != 0;
    if (making ? refused() : disk.dead)
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
    disk_file *f = file_of(fd);
    n = disk.most && n > disk.most ? disk.most : n;
    if (refused()) {
        if (!was_dead && disk.dead && write(fd, p, n / 2) > 0) /* half of it got there */
            f->written += (off_t)(n / 2);
        errno = disk.dead ? ENXIO : disk.error_number;
        return -1;
    }
    ssize_t put = write(fd, p, n);
    f->written += put > 0 ? put : 0;
    return put;
}

static int disk_fsync(int fd)
{
    disk_file *f = file_of(fd);
    if (refused())
        return -1;
    if (f && !disk.lies)
        f->synced = f->written;
    if (!f && !disk.lies)
        forget_renames(); /* a folder: there is one */
    return 0;
}

static int disk_close(int fd)
{
    disk_file *f = file_of(fd);
    if (f)
        f->fd = -1;
    return close(fd);
}

/* What a rename will cover, by plain reading: the table is in use. */
static void remember(disk_rename *r)
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

static int disk_rename_file(const char *from, const char *to)
{
    if (refused())
        return -1;
    assert_true(disk.n_renames < RENAMES);
    disk_rename *r = &disk.renames[disk.n_renames++];
    *r = (disk_rename){.before = NULL};
    (void)snprintf(r->from, sizeof r->from, "%s", from);
    (void)snprintf(r->to, sizeof r->to, "%s", to);
    remember(r);
    for (size_t i = 0; i < disk.n_files; i++)
        if (strcmp(disk.files[i].path, from) == 0)
            (void)snprintf(disk.files[i].path, sizeof disk.files[i].path, "%s", to);
    return rename(from, to);
}

static int disk_unlink(const char *path)
{
    return refused() ? -1 : unlink(path);
}

static sim_file_calls behind; /* set in main: the table of this disk */

/* ---- what a power cut leaves ---- */

enum { KEEP, TAKE_BACK, CUT, NOISE, ZEROS, AFTERMATHS };

/* The bytes of a file that were not synced. */
static void lose(const disk_file *f, int how, sim_random *r)
{
    off_t left = f->written - f->synced;
    int fd = left > 0 && how != KEEP ? open(f->path, O_WRONLY) : -1;
    if (fd < 0)
        return;
    if (how == TAKE_BACK)
        assert_int_equal(ftruncate(fd, f->synced), 0);
    if (how == CUT)
        assert_int_equal(
            ftruncate(fd, f->synced + (off_t)sim_random_below(r, (uint32_t)left + 1)), 0);
    for (off_t i = 0; (how == NOISE || how == ZEROS) && i < left; i++) {
        char byte = how == ZEROS ? 0 : (char)sim_random_below(r, 256);
        if (how == ZEROS || sim_random_below(r, 8) == 0)
            assert_int_equal(pwrite(fd, &byte, 1, f->synced + i), 1);
    }
    assert_int_equal(close(fd), 0);
}

/* Renames whose folder was not synced: none, all, or the last few did not happen. */
static void take_renames_back(int how, sim_random *r)
{
    size_t keep = how == KEEP        ? disk.n_renames
                  : how == TAKE_BACK ? 0
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
        lose(&disk.files[i], how, &r);
    take_renames_back(how, &r);
}

/* ---- the tests ---- */

static int set_up(void **state)
{
    (void)state;
    /* In memory where there is such a place: the disk of this test is its own. */
    (void)snprintf(folder, sizeof folder, "%s/simile-test-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder) || sim_run_open(&alone, folder, &run) != SIM_OK)
        return -1;
    (void)snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", folder);
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
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* Ten parts of nine rows. */
static void use_parts(void)
{
    sim_checkpoint_part_bytes(100, 9 * WIDTH * sizeof(float));
}

/* The save of step 2, which stops for ever at call k; true while there is such a call. */
static bool crash_at(int k, int how, uint32_t seed, bool lies)
{
    (void)remove_named("step-000000002");
    new_disk();
    disk.crash_at = k;
    disk.most = 1500;
    disk.lies = lies;
    sim_file_use(&behind);
    sim_status st = save(2);
    bool crashed = disk.dead;
    power_cut(how, seed);
    int64_t found = newest();
    if (!crashed)
        assert_int_equal(st, SIM_OK);
    if (found != 2 && (st == SIM_OK || found != 1))
        fail_msg("call %d, aftermath %d, seed %u: status %d, but step %lld", k, how, seed,
                 (int)st, (long long)found);
    return crashed;
}

static void sweep_crashes(void)
{
    for (int how = 0; how < AFTERMATHS; how++)
        for (uint32_t seed = 0; seed < (how == CUT || how == NOISE ? 2 : 1); seed++) {
            int k = 1;
            while (crash_at(k, how, seed, false))
                k++;
            assert_true(k > 10);
            (void)remove_named("step-000000002");
            ASSERT_OK(save(2)); /* life goes on */
            assert_int_equal(newest(), 2);
        }
}

static void a_crash_or_power_cut_at_any_call_leaves_a_good_one(void **state)
{
    (void)state;
    sweep_crashes();
}

static void with_part_files_too(void **state)
{
    (void)state;
    use_parts();
    sweep_crashes();
    assert_int_equal(remove_named("step-000000002.part-"), 10);
}

/* A disk that lies about its syncs does harm, which is found: the disk above is no toy. */
static void a_disk_that_does_not_sync_is_found_out(void **state)
{
    (void)state;
    int64_t found[AFTERMATHS];
    for (int how = 0; how < AFTERMATHS; how++) {
        (void)remove_named("step-000000002");
        new_disk();
        disk.lies = true;
        sim_file_use(&behind);
        ASSERT_OK(save(2));
        power_cut(how, 1);
        found[how] = newest();
    }
    assert_int_equal(found[KEEP], 2);
    assert_int_equal(found[TAKE_BACK], 1);
    assert_int_equal(found[ZEROS], 1);
}

/* Call k fails with `number`; true while there is such a call. */
static bool fail_at(int k, int number, bool for_good, sim_status code)
{
    (void)remove_named("step-000000002");
    new_disk();
    disk.error_at = k;
    disk.error_number = number;
    disk.for_good = for_good;
    disk.most = 1500;
    sim_file_use(&behind);
    sim_status st = save(2);
    bool failed = disk.calls >= k;
    sim_file_use(NULL);
    forget_renames();
    int64_t found = newest();
    if (st != SIM_OK && st != code)
        fail_msg("%s at call %d: status %d", strerror(number), k, (int)st);
    if (st == SIM_OK ? found != 2 : !strstr(sim_error_message(), strerror(number)))
        fail_msg("%s at call %d: step %lld, story \"%s\"", strerror(number), k,
                 (long long)found, sim_error_message());
    if (found != 1 && found != 2)
        fail_msg("%s at call %d: step %lld", strerror(number), k, (long long)found);
    /* Where removing works, nothing stays that nobody asked for. */
    size_t left = remove_named(".tmp."), parts = 0;
    if (found == 1)
        parts = remove_named("step-000000002.part-");
    if (!for_good && (left || parts))
        fail_msg("%s at call %d: %zu temporaries and %zu parts left", strerror(number), k,
                 left, parts);
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
        for (int for_good = 0; for_good < 2; for_good++) {
            int k = 1;
            while (fail_at(k, errors[e].number, for_good, errors[e].code))
                k++;
            assert_true(k > 10);
        }
}

static void an_error_at_any_call_costs_at_most_the_new_one(void **state)
{
    (void)state;
    sweep_errors();
    use_parts();
    sweep_errors();
}

static void a_folder_that_is_gone_is_told_and_may_come_back(void **state)
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

static void a_hiccup_of_the_disk_is_survived(void **state)
{
    (void)state;
    size_t lost = 0;
    int k = 1;
    for (; k < 200; k++) {
        (void)remove_named("step-000000002");
        new_disk();
        disk.error_at = k;
        disk.error_number = EIO;
        sim_file_use(&behind);
        sim_status st = save(2);
        sim_file_use(NULL);
        forget_renames();
        if (disk.calls < k)
            break;
        lost += st != SIM_OK; /* an fsync that failed stays failed */
        assert_int_equal(newest(), st == SIM_OK ? 2 : newest());
    }
    assert_true(k > 5 && k < 200);
    assert_in_range(lost, 1, 2); /* of the file, and of its folder */
}

static void writes_of_a_byte_make_the_same_file(void **state)
{
    (void)state;
    char path[256], *whole = NULL, *bytes = NULL;
    size_t n = 0, m = 0;
    path_of("step-000000002.h5", path);
    ASSERT_OK(save(2));
    ASSERT_OK(sim_file_load(path, 1 << 24, &whole, &n));
    (void)remove_named("step-000000002");
    disk.most = 1;
    sim_file_use(&behind);
    ASSERT_OK(save(2));
    sim_file_use(NULL);
    ASSERT_OK(sim_file_load(path, 1 << 24, &bytes, &m));
    assert_int_equal(n, m);
    assert_memory_equal(whole, bytes, n);
    sim_free(whole);
    sim_free(bytes);
}

/* ---- harm to what is written ---- */

/* One bit of a file flipped at many places, and the file cut: step 1 counts each time. */
static void harm(const char *name, uint32_t flips)
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
            fail_msg("%s: cut at byte %zu", name, cut);
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
    harm("step-000000002.h5", 200);
    harm("step-000000002.part-0000.h5", 100);
    harm("step-000000002.part-0009.h5", 100);
}

static void latest_is_only_a_hint(void **state)
{
    (void)state;
    char path[256];
    path_of("latest", path);
    ASSERT_OK(save(2));
    static const char *const texts[] = {"", "\xff\xfe rubbish \n\n",
                                        "step-000000001.h5\n", "step-000000077.h5\n",
                                        "../../etc/passwd\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_bytes(path, texts[i], strlen(texts[i]));
        assert_int_equal(newest(), 2);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(newest(), 2);
    assert_int_equal(mkdir(path, 0777), 0); /* even then */
    assert_int_equal(newest(), 2);
    ASSERT_OK(save(3));
    assert_int_equal(newest(), 3);
}

static void a_folder_named_like_a_checkpoint_is_passed_by(void **state)
{
    (void)state;
    char path[256];
    path_of("step-000000009.h5", path);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(newest(), 1);
    ASSERT_REFUSED(save(9), SIM_E_IO, "Is a directory");
    assert_int_equal(newest(), 1);
    ASSERT_OK(save_as(10, "seed: 0\n", 1)); /* retires step 1, not the folder */
    assert_int_equal(newest(), 10);
    assert_true(sim_path_is_directory(path));
    path_of("step-000000001.h5", path);
    assert_false(sim_path_exists(path));
}

static void a_stale_temporary_is_cleaned_and_a_planted_link_not_followed(void **state)
{
    (void)state;
    char stale[256], planted[256], host[64] = "", text[8];
    path_of("step-000000007.h5.tmp.elsewhere.4711", stale);
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
    ASSERT_OK(sim_run_open(&alone, folder, &run));
    assert_int_equal(remove_named(".tmp."), 0);
    FILE *f = fopen(stale, "rb");
    assert_non_null(f);
    assert_int_equal(fread(text, 1, 7, f), 7);
    assert_int_equal(fclose(f), 0);
    assert_memory_equal(text, "keep me", 7);
}

/* Copied in while the run goes on: our step of that number is not taken for it. */
static void a_file_of_another_run_gives_way(void **state)
{
    (void)state;
    sim_checkpoint *k = NULL;
    ASSERT_OK(save_as(2, "seed: 1\n", 100));
    ASSERT_OK(save(2));
    ASSERT_OK(sim_checkpoint_newest(&alone, folder, &k));
    assert_string_equal(sim_checkpoint_head_of(k)->identity, "seed: 0\n");
    sim_checkpoint_close(&k);
}

/* Came to the step on another way, by weights or by position: it gives way too. */
static void a_file_of_another_way_to_the_step_gives_way(void **state)
{
    (void)state;
    state_of_run s = state_at(7);
    const sim_state_source source = {visit, &s};
    const sim_checkpoint_options options = {.keep = 100};
    sim_checkpoint_head head = {
        .step = 2, .config = "run: x\n", .identity = "seed: 0\n", .history = "[]"};
    char path[256];
    sim_checkpoint *k = NULL;
    use_parts();
    ASSERT_OK(sim_checkpoint_write(&alone, &run, &options, &head, &source, 1));
    assert_int_equal(newest(), -1); /* not the numbers of step 2 */
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

static const char *shut; /* part of the names that cannot be opened */

static int open_shut(const char *path, int flags, mode_t mode)
{
    if (strstr(path, shut)) {
        errno = EACCES;
        return -1;
    }
    return sim_file_posix.open(path, flags, mode);
}

/* It may be good: no older one is taken instead. */
static void what_cannot_be_read_ends_the_search(void **state)
{
    (void)state;
    static const char *const names[] = {"step-000000002.h5", "step-000000002.part-0009"};
    sim_file_calls calls = sim_file_posix;
    sim_checkpoint *k = NULL;
    calls.open = open_shut;
    use_parts();
    ASSERT_OK(save(2));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        shut = names[i];
        sim_file_use(&calls);
        sim_status st = sim_checkpoint_newest(&alone, folder, &k);
        sim_file_use(NULL);
        assert_int_equal(st, SIM_E_ACCESS);
        assert_null(k);
        assert_non_null(strstr(sim_error_message(), names[i]));
    }
    (void)remove_named(names[1]); /* missing is no good for certain */
    assert_int_equal(newest(), 1);
}

/* Beside the checkpoints others write too: simile stop, and whoever waits for the lock. */
static void only_dead_processes_of_this_host_lose_their_temporaries(void **state)
{
    (void)state;
    char host[64] = "", live[256], dead[256], elsewhere_too[256];
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    (void)snprintf(live, sizeof live, "%s/stop.tmp.%s.%ld", folder, host,
                   (long)getppid());
    (void)snprintf(dead, sizeof dead, "%s/config.yaml.tmp.%s.999999999", folder, host);
    (void)snprintf(elsewhere_too, sizeof elsewhere_too, "%s/stop.tmp.not-%s.999999999",
                   folder, host);
    write_bytes(live, "stop\n", 5);
    write_bytes(dead, "half", 4);
    write_bytes(elsewhere_too, "stop\n", 5);
    sim_run_close(&alone, &run);
    ASSERT_OK(sim_run_open(&alone, folder, &run));
    assert_true(sim_path_exists(live));
    assert_true(sim_path_exists(elsewhere_too));
    assert_false(sim_path_exists(dead));
}

static void put(const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/checkpoints/%s", folder, name);
    write_bytes(path, name, strlen(name));
}

static bool stands(const char *part, const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s/%s", folder, part, name);
    return sim_path_exists(path);
}

static void a_course_that_is_left_is_set_aside_with_its_parts(void **state)
{
    (void)state;
    static const char *const newer[] = {
        "step-000000007.h5", "step-000000007.part-0000.h5", "step-000000011.h5"};
    char where[256], expected[256];
    put("step-000000006.h5");
    put("step-000000006.part-0000.h5");
    put("latest");
    for (size_t i = 0; i < 3; i++)
        put(newer[i]);
    ASSERT_OK(sim_run_abandon(&alone, &run, 7, where, sizeof where));
    (void)snprintf(expected, sizeof expected, "%s/abandoned-1", folder);
    assert_string_equal(where, expected);
    for (size_t i = 0; i < 3; i++) {
        assert_true(stands("abandoned-1", newer[i]));
        assert_false(stands("checkpoints", newer[i]));
    }
    assert_true(stands("checkpoints", "step-000000006.h5"));
    assert_true(stands("checkpoints", "step-000000006.part-0000.h5"));
    assert_false(stands("checkpoints", "latest")); /* it may have named one of them */
    ASSERT_OK(sim_run_abandon(&alone, &run, 7, where, sizeof where));
    assert_string_equal(where, ""); /* nothing is left to move */
    put(newer[2]);
    ASSERT_OK(sim_run_abandon(&alone, &run, 7, where, sizeof where));
    assert_true(stands("abandoned-2", newer[2])); /* what stands aside stays */
}

static void a_move_that_was_cut_short_is_finished_where_it_began(void **state)
{
    (void)state;
    static const char main_file[] = "step-000000007.h5",
                      part[] = "step-000000007.part-0000.h5";
    char where[256], from[256], to[256];

    put(main_file);
    put(part);
    ASSERT_OK(sim_run_abandon(&alone, &run, 7, where, sizeof where));
    put(main_file); /* another course, whose move ends between part and file */
    put(part);
    (void)snprintf(to, sizeof to, "%s/abandoned-2", folder);
    ASSERT_OK(sim_directory_create(to));
    (void)snprintf(from, sizeof from, "%s/checkpoints/%s", folder, part);
    (void)snprintf(to, sizeof to, "%s/abandoned-2/%s", folder, part);
    assert_int_equal(rename(from, to), 0);
    ASSERT_OK(sim_run_abandon(&alone, &run, 7, where, sizeof where));
    assert_true(stands("abandoned-2", main_file));
    assert_true(stands("abandoned-2", part));
    assert_false(stands("checkpoints", main_file));
    assert_false(stands("abandoned-3", main_file));
}

/* ---- locks ---- */

static void lock_path(char out[256])
{
    (void)snprintf(out, 256, "%s/run.lock", folder);
}

/* Puts a lock there and tries to open the run; what it says stays the story. */
static sim_status challenge(const char *text)
{
    char path[256];
    sim_run second = {0};
    lock_path(path);
    write_bytes(path, text, strlen(text));
    sim_status st = sim_run_open(&alone, folder, &second);
    if (st == SIM_OK)
        sim_run_close(&alone, &second);
    return st;
}

/* A squeue that says `text` with exit `code`, first in the path. */
static void pretend_slurm(const char *text, int code)
{
    char path[256], script[512];
    (void)snprintf(path, sizeof path, "%s/squeue", folder);
    (void)snprintf(script, sizeof script, "#!/bin/sh\nprintf '%s'\nexit %d\n", text,
                   code);
    write_bytes(path, script, strlen(script));
    assert_int_equal(chmod(path, 0755), 0);
    (void)snprintf(script, sizeof script, "%s:/usr/bin:/bin", folder);
    assert_int_equal(setenv("PATH", script, 1), 0);
}

static const char elsewhere[] = "host other\npid 12\nstart 34\njob 4711\nrestart 0\n"
                                "since 2026-01-01T00:00:00Z\n";

static void a_lock_that_says_nothing_is_refused_with_what_to_type(void **state)
{
    (void)state;
    static char large[9000];
    memset(large, 'x', sizeof large - 1);
    const char *const texts[] = {"", "\n\n\n", "\xff\xfe\x01", "pid 3\n", large};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(challenge(texts[i]), SIM_E_CREATE);
        assert_non_null(strstr(sim_error_message(), "type: rm "));
        assert_non_null(strstr(sim_error_message(), "run.lock"));
    }
}

static void a_lock_of_another_host_counts_until_slurm_says_otherwise(void **state)
{
    (void)state;
    char *path = strdup(getenv("PATH"));
    static const struct {
        const char *says;
        int code;
        bool gone;
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
        pretend_slurm(answers[i].says, answers[i].code);
        sim_status st = challenge(elsewhere);
        if (st != (answers[i].gone ? SIM_OK : SIM_E_CREATE))
            fail_msg("\"%s\": status %d", answers[i].says, (int)st);
    }
    assert_int_equal(setenv("PATH", "/nowhere", 1), 0); /* no Slurm at all */
    assert_int_equal(challenge(elsewhere), SIM_E_CREATE);
    assert_non_null(
        strstr(sim_error_message(), "held by pid 12 on other (job 4711, since 2026"));
    assert_non_null(strstr(sim_error_message(), "type: rm "));
    assert_int_equal(setenv("PATH", path, 1), 0);
    free(path);
}

static void a_process_number_used_again_does_not_hold_a_lock(void **state)
{
    (void)state;
    char text[256];
    (void)snprintf(text, sizeof text,
                   "host testhost\npid %ld\nstart 1\njob -\nrestart 0\n", (long)getpid());
    assert_int_equal(challenge(text), SIM_OK);
}

/* A rival that is faster: its lock stands there as soon as the stale one was read. */
static const char fresh[] = "host rival\npid 1\nstart 2\njob -\nrestart 0\n";
static bool rival_waits;
static size_t n_moved; /* renames and removals of run.lock itself */

static ssize_t read_then_rival(int fd, void *data, size_t n, off_t at)
{
    char path[256], temporary[300];
    ssize_t got = pread(fd, data, n, at);
    if (rival_waits) {
        rival_waits = false;
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

static void a_fresh_lock_never_leaves_its_place(void **state)
{
    (void)state;
    char path[256], *text = NULL;
    size_t n = 0;
    sim_file_calls calls = sim_file_posix;
    calls.pread = read_then_rival;
    calls.rename = count_rename;
    calls.unlink = count_unlink;
    rival_waits = true;
    n_moved = 0;
    sim_file_use(&calls);
    sim_status st = challenge("host testhost\npid 999999999\nstart 1\n");
    sim_file_use(NULL);
    assert_int_equal(st, SIM_E_CREATE);
    assert_non_null(strstr(sim_error_message(), "held by pid 1 on rival"));
    assert_int_equal(n_moved, 0);
    lock_path(path);
    ASSERT_OK(sim_file_load(path, 4096, &text, &n));
    assert_string_equal(text, fresh);
    sim_free(text);
}

/* Of those that find a lock stale one takes it away; that one may itself be killed then. */
static void a_stale_lock_is_taken_away_by_one_at_a_time(void **state)
{
    (void)state;
    static const char stale[] = "host testhost\npid 999999999\nstart 1\n";
    char path[256];
    lock_path(path);
    write_bytes(path, stale, sizeof stale - 1);
    int fd = open(path, O_WRONLY);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0); /* another one is about to */
    sim_run second = {0};
    ASSERT_REFUSED(sim_run_open(&alone, folder, &second), SIM_E_CREATE, "already exists");
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(close(fd), 0); /* and was killed */
    ASSERT_OK(sim_run_open(&alone, folder, &second));
    sim_run_close(&alone, &second);
}

/* One of those: says how it went, and holds what it holds until all have. */
static void start(const int go[2], const int tell[2])
{
    char byte = 0;
    sim_run mine = {0};
    (void)close(go[1]);
    (void)!read(go[0], &byte, 1); /* all at once */
    byte = sim_run_open(&alone, folder, &mine) == SIM_OK ? 'y' : 'n';
    (void)!write(tell[1], &byte, 1);
    (void)alarm(60);
    (void)pause();
}

static void of_many_starts_on_a_stale_lock_one_holds_the_run(void **state)
{
    (void)state;
    enum { ROUNDS = 40, STARTS = 8 };
    char path[256], text[128];
    lock_path(path);
    for (int round = 0; round < ROUNDS; round++) {
        int go[2], tell[2], winners = 0;
        pid_t children[STARTS];
        int n = snprintf(text, sizeof text, "host testhost\npid 999999999\nstart %d\n",
                         round);
        write_bytes(path, text, (size_t)n);
        assert_true(pipe(go) == 0 && pipe(tell) == 0);
        for (int i = 0; i < STARTS; i++)
            if ((children[i] = fork()) == 0)
                start(go, tell);
        (void)close(go[0]);
        (void)close(go[1]);
        for (int i = 0; i < STARTS; i++) {
            char byte = 0;
            assert_int_equal(read(tell[0], &byte, 1), 1);
            winners += byte == 'y';
        }
        for (int i = 0; i < STARTS; i++) {
            (void)kill(children[i], SIGKILL);
            (void)waitpid(children[i], NULL, 0);
        }
        (void)close(tell[0]);
        (void)close(tell[1]);
        assert_int_equal(winners, 1);
    }
}

/* A container may have its host's name and see none of its processes. */
static void a_process_of_another_container_holds_its_lock(void **state)
{
    (void)state;
    char path[256], *text = NULL;
    sim_run mine = {0};
    size_t n = 0;
    lock_path(path);
    sim_run_close(&alone, &run);
    ASSERT_OK(sim_run_open(&alone, folder, &mine));
    ASSERT_OK(sim_file_load(path, 4096, &text, &n));
    sim_run_close(&alone, &mine);
    assert_non_null(strstr(text, "\nspace pid:["));
    sim_free(text);
    assert_int_equal(challenge("host testhost\npid 999999999\nstart 1\nspace pid:[7]\n"),
                     SIM_E_CREATE);
    assert_non_null(strstr(sim_error_message(), "held by pid 999999999 on testhost"));
}

static void a_wish_to_stop_is_for_who_holds_the_run_and_no_other(void **state)
{
    (void)state;
    char lock[256], stop[256], host[64], text[128];
    sim_run mine = {0};
    lock_path(lock);
    (void)snprintf(stop, sizeof stop, "%s/stop", folder);
    sim_run_close(&alone, &run);
    ASSERT_REFUSED(sim_run_request_stop(folder), SIM_E_INPUT, "no job is running there");
    sim_host_name(host, sizeof host);
    int n = snprintf(text, sizeof text, "host %s\npid 999999999\nstart 1\n", host);
    write_bytes(lock, text, (size_t)n);
    ASSERT_REFUSED(sim_run_request_stop(folder), SIM_E_INPUT, "was killed");
    ASSERT_OK(sim_file_remove(lock));
    write_bytes(stop, "stop\n", 5); /* that one was asked */
    ASSERT_OK(sim_run_open(&alone, folder, &mine));
    assert_false(sim_run_stop_requested(&mine));
    ASSERT_OK(sim_run_request_stop(folder)); /* long before the first step */
    assert_true(sim_run_stop_requested(&mine));
    sim_run_close(&alone, &mine);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_crash_or_power_cut_at_any_call_leaves_a_good_one),
        TEST(with_part_files_too),
        TEST(a_disk_that_does_not_sync_is_found_out),
        TEST(an_error_at_any_call_costs_at_most_the_new_one),
        TEST(a_folder_that_is_gone_is_told_and_may_come_back),
        TEST(a_hiccup_of_the_disk_is_survived),
        TEST(writes_of_a_byte_make_the_same_file),
        TEST(a_flipped_bit_anywhere_is_never_loaded),
        TEST(latest_is_only_a_hint),
        TEST(a_folder_named_like_a_checkpoint_is_passed_by),
        TEST(a_stale_temporary_is_cleaned_and_a_planted_link_not_followed),
        TEST(a_file_of_another_run_gives_way),
        TEST(a_file_of_another_way_to_the_step_gives_way),
        TEST(what_cannot_be_read_ends_the_search),
        TEST(only_dead_processes_of_this_host_lose_their_temporaries),
        TEST(a_course_that_is_left_is_set_aside_with_its_parts),
        TEST(a_move_that_was_cut_short_is_finished_where_it_began),
        TEST(a_lock_that_says_nothing_is_refused_with_what_to_type),
        TEST(a_lock_of_another_host_counts_until_slurm_says_otherwise),
        TEST(a_process_number_used_again_does_not_hold_a_lock),
        TEST(a_process_of_another_container_holds_its_lock),
        TEST(a_fresh_lock_never_leaves_its_place),
        TEST(a_stale_lock_is_taken_away_by_one_at_a_time),
        TEST(of_many_starts_on_a_stale_lock_one_holds_the_run),
        TEST(a_wish_to_stop_is_for_who_holds_the_run_and_no_other),
    };
    behind = sim_file_posix;
    behind.open = disk_open;
    behind.write = disk_write;
    behind.fsync = disk_fsync;
    behind.close = disk_close;
    behind.rename = disk_rename_file;
    behind.unlink = disk_unlink;
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
