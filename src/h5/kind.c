/*
 * kind.c - what a path holds, by its content, and the error message for a path of another kind
 * than expected.
 *
 * Called by data, checkpoint and cli after a file could not be opened as what it should be.
 * Files with the trailer of a checkpoint are not parsed by HDF5: their digest is not verified here.
 */
#include "simile/h5.h"

#include "simile/file.h"

#include <stdio.h>
#include <string.h>

enum { HEAD_BYTES = 512, TAIL_BYTES = 64, PATH_BYTES = 4400 };

/* ---- classification ---- */

#define HDF5_SIGNATURE "\x89HDF\r\n\x1a\n"

/* The first bytes of a file format; `at` is their offset. */
typedef struct {
    const char *bytes;
    size_t n, at;
    sim_path_kind kind;
} signature;

static const signature signatures[] = {
    {HDF5_SIGNATURE, 8, 0, SIM_PATH_HDF5},
    {"\x93NUMPY", 6, 0, SIM_PATH_NUMPY},
    {"\x80\x02", 2, 0, SIM_PATH_PICKLE},
    {"\x80\x03", 2, 0, SIM_PATH_PICKLE},
    {"\x80\x04", 2, 0, SIM_PATH_PICKLE},
    {"\x80\x05", 2, 0, SIM_PATH_PICKLE},
    {"\xff\xd8\xff", 3, 0, SIM_PATH_IMAGE},
    {"\x89PNG", 4, 0, SIM_PATH_IMAGE},
    {"II*\0", 4, 0, SIM_PATH_IMAGE}, /* TIFF */
    {"MM\0*", 4, 0, SIM_PATH_IMAGE},
    {"II+\0", 4, 0, SIM_PATH_IMAGE},
    {"MM\0+", 4, 0, SIM_PATH_IMAGE},
    {"WEBP", 4, 8, SIM_PATH_IMAGE},
    {"GIF8", 4, 0, SIM_PATH_IMAGE},
    {"PK\x03\x04", 4, 0, SIM_PATH_ARCHIVE},
    {"\x1f\x8b", 2, 0, SIM_PATH_ARCHIVE}, /* gzip */
    {"BZh", 3, 0, SIM_PATH_ARCHIVE},      /* bzip2 */
    {"\xfd"
     "7zXZ",
     5, 0, SIM_PATH_ARCHIVE},                       /* xz */
    {"\x28\xb5\x2f\xfd", 4, 0, SIM_PATH_ARCHIVE},   /* zstd */
    {"\x04\x22\x4d\x18", 4, 0, SIM_PATH_ARCHIVE},   /* lz4 */
    {"\x1f\x9d", 2, 0, SIM_PATH_ARCHIVE},           /* compress (.Z) */
    {"7z\xbc\xaf\x27\x1c", 6, 0, SIM_PATH_ARCHIVE}, /* 7-Zip */
    {"ustar", 5, 257, SIM_PATH_ARCHIVE},            /* tar */
};

/* "\0 \0 TYPE DIMS" and the sizes of the dimensions, as MNIST has it. */
static bool is_idx(const unsigned char *head, size_t n)
{
    return n >= 8 && head[0] == 0 && head[1] == 0 && head[2] >= 8 && head[2] <= 14 &&
           head[3] >= 1 && head[3] <= 4;
}

/* Number of bytes that continue a UTF-8 character; -1: not a first byte. */
static int continuation_bytes(unsigned char first)
{
    return first < 0x80   ? 0
           : first < 0xc2 ? -1
           : first < 0xe0 ? 1
           : first < 0xf0 ? 2
           : first < 0xf5 ? 3
                          : -1;
}

/* UTF-8 without control characters; `n` bytes may end within a character. */
static bool is_text(const unsigned char *head, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int more = continuation_bytes(head[i]);
        if (more < 0 || (head[i] < 32 && (head[i] < '\t' || head[i] > '\r')))
            return false;
        for (; more > 0 && i + 1 < n; more--)
            if ((head[++i] & 0xc0) != 0x80)
                return false;
    }
    return n > 0;
}

/* Whether the name of the first member of a zip archive has this end. */
static bool is_zip_of(const unsigned char *head, size_t n, const char *end)
{
    enum { NAME_LENGTH_AT = 26, NAME_AT = 30 };
    const size_t n_end = strlen(end);

    if (n < NAME_AT || memcmp(head, "PK\x03\x04", 4) != 0)
        return false;
    size_t length = head[NAME_LENGTH_AT] + 256U * head[NAME_LENGTH_AT + 1];
    return length >= n_end && NAME_AT + length <= n &&
           memcmp(head + NAME_AT + length - n_end, end, n_end) == 0;
}

/* The length of a header of less than 16 MiB, and its first byte. */
static bool is_safetensors(const unsigned char *head, size_t n)
{
    static const unsigned char zeros[5] = {0};
    return n > 8 && memcmp(head + 3, zeros, sizeof zeros) == 0 && head[8] == '{';
}

static sim_path_kind kind_of_bytes(const unsigned char *head, size_t n)
{
    if (is_zip_of(head, n, ".npy"))
        return SIM_PATH_NUMPY;
    if (is_zip_of(head, n, "/data.pkl"))
        return SIM_PATH_TORCH;
    if (is_safetensors(head, n))
        return SIM_PATH_SAFETENSORS;
    for (size_t i = 0; i < sizeof signatures / sizeof signatures[0]; i++) {
        const signature *s = &signatures[i];
        if (n >= s->at + s->n && memcmp(head + s->at, s->bytes, s->n) == 0)
            return s->kind;
    }
    if (is_idx(head, n))
        return SIM_PATH_IDX;
    return is_text(head, n) ? SIM_PATH_TEXT : SIM_PATH_OTHER;
}

/* The signature of HDF5 is at offset 0, or behind a user block of 512, 1024, 2048, ... bytes. */
static bool find_hdf5_signature(int fd, const char *path, uint64_t length, uint64_t *at)
{
    enum { SIGNATURE = 8, FIRST_BLOCK = 512 };
    char bytes[SIGNATURE];

    for (*at = 0; *at + SIGNATURE <= length; *at = *at ? 2 * *at : FIRST_BLOCK) {
        if (sim_file_read_at(fd, path, *at, bytes, SIGNATURE) != SIM_OK)
            return false;
        if (memcmp(bytes, HDF5_SIGNATURE, SIGNATURE) == 0)
            return true;
    }
    return false;
}

bool sim_path_has_hdf5_signature(const char *path, uint64_t *at)
{
    uint64_t length = 0;
    int fd = -1;
    bool found = sim_file_open_read(path, &fd, &length) == SIM_OK &&
                 find_hdf5_signature(fd, path, length, at);

    SIM_IGNORE(sim_file_close(&fd, path));
    sim_error_clear();
    return found;
}

/* The kind of an HDF5 file, by its attribute `format`. */
static sim_path_kind kind_of_hdf5(const char *path)
{
    static const struct {
        const char *format;
        sim_path_kind kind;
    } formats[] = {{"simile-dataset", SIM_PATH_DATASET},
                   {"simile-embeddings", SIM_PATH_EMBEDDINGS},
                   {"simile-checkpoint", SIM_PATH_CHECKPOINT}};
    sim_path_kind kind = SIM_PATH_HDF5;
    char format[64] = "";
    sim_h5 *f = NULL;

    if (sim_h5_open_read(path, &f) != SIM_OK)
        return SIM_PATH_BROKEN_HDF5;
    if (sim_h5_has_attribute(f, "format") &&
        sim_h5_read_attribute_text(f, "format", format, sizeof format) == SIM_OK)
        for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
            if (strcmp(format, formats[i].format) == 0)
                kind = formats[i].kind;
    sim_h5_close(&f);
    return kind;
}

static sim_path_kind kind_of_directory(const char *path)
{
    char checkpoints[PATH_BYTES];
    (void)snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", path);
    return sim_path_is_directory(checkpoints) ? SIM_PATH_RUN : SIM_PATH_DIRECTORY;
}

static sim_path_kind kind_of_file(const char *path)
{
    sim_path_kind kind = SIM_PATH_UNKNOWN;
    unsigned char head[HEAD_BYTES], tail[TAIL_BYTES];
    uint64_t length = 0, at = 0;
    int fd = -1;

    if (sim_file_open_read(path, &fd, &length) != SIM_OK)
        return SIM_PATH_UNKNOWN;
    size_t n = length < HEAD_BYTES ? (size_t)length : HEAD_BYTES;
    if (sim_file_read_at(fd, path, 0, head, n) == SIM_OK)
        kind = length ? kind_of_bytes(head, n) : SIM_PATH_UNKNOWN;
    if ((kind == SIM_PATH_TEXT || kind == SIM_PATH_OTHER) &&
        find_hdf5_signature(fd, path, length, &at))
        kind = SIM_PATH_HDF5; /* the user block has any content */
    if (kind == SIM_PATH_HDF5 && length > TAIL_BYTES &&
        sim_file_read_at(fd, path, length - TAIL_BYTES, tail, sizeof tail) == SIM_OK &&
        memcmp(tail, "SIMILE-CKPT-", 12) == 0)
        kind = SIM_PATH_CHECKPOINT;
    SIM_IGNORE(sim_file_close(&fd, path));
    return kind;
}

sim_path_kind sim_path_kind_of(const char *path)
{
    char message[4096];
    (void)snprintf(message, sizeof message, "%s", sim_error_message());
    sim_path_kind kind =
        sim_path_is_directory(path) ? kind_of_directory(path) : kind_of_file(path);
    if (kind == SIM_PATH_HDF5)
        kind = kind_of_hdf5(path);
    sim_error_set(message);
    return kind;
}

/* ---- messages ---- */

/* What a kind is called; what to do with it, where "%s" is the path; and whether that is advice for
 * those who want a data set of it. */
typedef struct {
    const char *name, *advice;
    bool is_source;
} kind_text;

static const char prepare[] = "write a data set with: simile prepare %s --out NAME.h5";
static const char store_array[] =
    "store the images in an HDF5 file (in Python, with h5py: file[\"images\"] = array, "
    "uint8 "
    "[N][H][W][C]), then: simile prepare FILE.h5 --out NAME.h5";

static const kind_text kinds[SIM_PATH_KINDS] = {
    [SIM_PATH_DATASET] =
        {"a data set",
         "data sets are given by data.train and data.test of a job, embed "
         "--data, and evaluate --train and --test",
         false},
    [SIM_PATH_EMBEDDINGS] =
        {"a file of embeddings, written by simile embed",
         "`simile inspect %s` lists its arrays; they are read with h5py", false},
    [SIM_PATH_CHECKPOINT] = {"a checkpoint",
                             "checkpoints are given to embed, evaluate knn, inspect, and "
                             "pretrain --init and --resume",
                             false},
    [SIM_PATH_RUN] =
        {"a run directory",
         "run directories are given to embed, evaluate knn, inspect, stop and "
         "pretrain --init",
         false},
    [SIM_PATH_DIRECTORY] = {"a directory", prepare, true},
    [SIM_PATH_ARCHIVE] = {"an archive or a compressed file", prepare, true},
    [SIM_PATH_IDX] = {"an idx file (MNIST)", prepare, true},
    [SIM_PATH_NUMPY] = {"a NumPy file", prepare, true},
    [SIM_PATH_PICKLE] = {"a Python pickle", store_array, true},
    [SIM_PATH_IMAGE] =
        {"a single image",
         "put the images into a directory, one subdirectory per class, then: "
         "simile prepare DIRECTORY --out NAME.h5",
         true},
    [SIM_PATH_SAFETENSORS] = {"a safetensors file",
                              "weights in this format are given to embed, evaluate and "
                              "pretrain --init",
                              false},
    [SIM_PATH_TORCH] =
        {"a PyTorch file",
         "in Python, save its state dict as a safetensors file: "
         "safetensors.torch.save_file(torch.load(\"%s\"), \"NAME.safetensors\")",
         false},
    [SIM_PATH_HDF5] = {"an HDF5 file of another format", prepare, true},
    [SIM_PATH_BROKEN_HDF5] = {"an HDF5 file", "", false},
    [SIM_PATH_TEXT] = {"a text file",
                       "job files (YAML) are given to pretrain, plan and loss", false},
    [SIM_PATH_OTHER] = {"a file of an unknown format", prepare, true},
};

#define BIT(kind) (1U << (kind))

/* What is expected, and the kinds whose own error message is kept. */
typedef struct {
    const char *expected;
    unsigned accepted;
    bool wants_images;
} use_text;

static const use_text uses[SIM_PATH_USES] = {
    [SIM_USE_DATASET] = {"a data set (.h5) of simile prepare",
                         BIT(SIM_PATH_DATASET) | BIT(SIM_PATH_BROKEN_HDF5), true},
    [SIM_USE_MODEL] = {"a run directory, a checkpoint in it, or a safetensors file",
                       BIT(SIM_PATH_SAFETENSORS) | BIT(SIM_PATH_CHECKPOINT) |
                           BIT(SIM_PATH_RUN) | BIT(SIM_PATH_BROKEN_HDF5) |
                           BIT(SIM_PATH_OTHER),
                       false},
    [SIM_USE_CHECKPOINT] = {"a run directory or a checkpoint in it",
                            BIT(SIM_PATH_CHECKPOINT) | BIT(SIM_PATH_RUN) |
                                BIT(SIM_PATH_BROKEN_HDF5) | BIT(SIM_PATH_OTHER),
                            false},
    [SIM_USE_RUN] = {"a run directory", BIT(SIM_PATH_RUN), false},
    [SIM_USE_WEIGHTS] = {"a run directory, a checkpoint, or a safetensors or HDF5 file "
                         "of weights",
                         BIT(SIM_PATH_CHECKPOINT) | BIT(SIM_PATH_RUN) |
                             BIT(SIM_PATH_HDF5) | BIT(SIM_PATH_BROKEN_HDF5) |
                             BIT(SIM_PATH_OTHER),
                         false},
    [SIM_USE_ARRAYS] =
        {"an HDF5 file with arrays such as /z1 and /z2 (simile loss --help)",
         BIT(SIM_PATH_HDF5) | BIT(SIM_PATH_BROKEN_HDF5) | BIT(SIM_PATH_OTHER), false},
    [SIM_USE_JOB] = {"a job file (YAML)", BIT(SIM_PATH_TEXT) | BIT(SIM_PATH_OTHER),
                     false},
    [SIM_USE_SOURCE] = {"a directory, an archive or a file of images",
                        BIT(SIM_PATH_DATASET) | BIT(SIM_PATH_DIRECTORY) |
                            BIT(SIM_PATH_ARCHIVE) | BIT(SIM_PATH_IDX) |
                            BIT(SIM_PATH_HDF5) | BIT(SIM_PATH_BROKEN_HDF5) |
                            BIT(SIM_PATH_NUMPY) | BIT(SIM_PATH_OTHER),
                        true},
    [SIM_USE_INSPECT] =
        {"a data set, a checkpoint, a run directory or a file of embeddings",
         BIT(SIM_PATH_DATASET) | BIT(SIM_PATH_CHECKPOINT) | BIT(SIM_PATH_RUN) |
             BIT(SIM_PATH_EMBEDDINGS) | BIT(SIM_PATH_BROKEN_HDF5) | BIT(SIM_PATH_OTHER),
         true},
};

/* The path as one word of a shell command; a path with a single quote is printed as it is. */
static void quote_path(const char *path, char *out, size_t out_bytes)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789/._-+,:@%=";
    bool quotes = path[strspn(path, plain)] != '\0' && !strchr(path, '\'');
    (void)snprintf(out, out_bytes, quotes ? "'%s'" : "%s", path);
}

static void format_advice(const char *advice, const char *path, char *out,
                          size_t out_bytes)
{
    char quoted[PATH_BYTES];
    const char *mark = strstr(advice, "%s");

    quote_path(path, quoted, sizeof quoted);
    if (mark)
        (void)snprintf(out, out_bytes, "; %.*s%s%s", (int)(mark - advice), advice, quoted,
                       mark + 2);
    else
        (void)snprintf(out, out_bytes, "; %s", advice);
}

sim_status sim_path_explain(sim_status status, const char *path, sim_path_use use)
{
    char advice[2 * PATH_BYTES] = "";

    if (status != SIM_E_DATA && status != SIM_E_INPUT && status != SIM_E_CONFIG)
        return status;
    const sim_path_kind kind = sim_path_kind_of(path);
    if (kind == SIM_PATH_UNKNOWN || (uses[use].accepted & BIT(kind)))
        return status;
    if (*kinds[kind].advice && (uses[use].wants_images || !kinds[kind].is_source))
        format_advice(kinds[kind].advice, path, advice, sizeof advice);
    return sim_error_begin(status, __FILE__, __LINE__, "%s is %s, expected %s%s", path,
                           kinds[kind].name, uses[use].expected, advice);
}
