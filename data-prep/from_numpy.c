/*
 * from_numpy.c - images in files of NumPy: an array in .npy, or arrays in .npz.
 *
 * arrays_source.c reads the images and labels by the same rules as those of HDF5 files.  The labels of .npy
 * are in the file of --labels-key.
 */
#include "npz.h"

#include "simile/file.h"
#include "simile/memory.h"
#include "simile/text.h"

#include <string.h>

static bool numpy_probe_content(const char *path)
{
    return sim_npz_is_array(path) || sim_npz_is_archive(path);
}

static bool numpy_probe(const char *path)
{
    return !sim_path_is_directory(path) &&
           (sim_text_ends_with(path, ".npz") || sim_text_ends_with(path, ".npy"));
}

/* --labels-key of a file with a single array is a file with the labels. */
static sim_status open_labels(array_source *f, const prep_options *o, prep_source *out)
{
    sim_status st = SIM_OK;
    const char *path = o->labels_key;

    f->labels_key = path;
    if (!path || strcmp(path, "none") == 0 || !sim_npz_is_array(f->file.path))
        goto done;
    SIM_CHECK(
        sim_npz_is_array(path), SIM_E_INPUT,
        "--labels-key %s: the labels of %s are in another file, expected a .npy file",
        path, f->file.path);
    SIM_TRY(sim_prep_names_add(&out->beside, path));
    SIM_TRY(sim_npz_open(path, &f->labels_file));
    f->labels_key = "images"; /* the only array */
done:
    return st;
}

static sim_status open_file(array_source *f, const char *path,
                            const prep_options *options, prep_source *out)
{
    sim_status st = SIM_OK;

    SIM_TRY(sim_npz_open(path, &f->file));
    SIM_TRY(open_labels(f, options, out));
done:
    return st;
}

static sim_status numpy_open_several(const prep_sources *sources,
                                     const prep_options *options, prep_source *out)
{
    static const prep_array_opener opener = {.open = open_file};
    sim_status st = SIM_OK;
    const char *labels = options->labels_key;

    SIM_CHECK(
        sources->n == 1 || !labels || strcmp(labels, "none") == 0 ||
            !sim_npz_is_array(sources->paths[0]),
        SIM_E_USAGE,
        "--labels-key %s: several .npy files have no common labels; store each array "
        "with its labels in a .npz file",
        labels);
    SIM_TRY(sim_arrays_open_several(sources, &opener, options, out));
done:
    return st;
}

const prep_format sim_prep_format_numpy = {
    .name = "numpy",
    .help = "images in a NumPy file, .npy or .npz (--images-key, --labels-key, --layout)",
    .sequential = true,
    .supported = PREP_HAS_KEYS | PREP_HAS_IMAGES | PREP_HAS_LAYOUT,
    .probe_content = numpy_probe_content,
    .probe = numpy_probe,
    .open_several = numpy_open_several,
    .read = sim_arrays_read_item,
    .item_name = sim_arrays_item_name,
    .close = sim_arrays_close_source};
