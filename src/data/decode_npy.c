/*
 * decode_npy.c - an array of NumPy as an image: H x W, H x W x C or C x H x W of numbers.
 *
 * All channels are kept.  Values of bool are 0 and 255.
 */
#include "private.h"

#include "simile/memory.h"

#include <string.h>

/* Sets the shape of the image; *planes: C x H x W. */
static sim_status find_shape(const char *name, const sim_npy *a, size_t hwc[3],
                             bool *planes)
{
    sim_status st = SIM_OK;
    const size_t *d = a->dims;

    SIM_CHECK(
        a->n_dims == 2 || a->n_dims == 3, SIM_E_DATA,
        "%s: an array of %d dimensions is not an image, expected H x W or H x W x C",
        name, a->n_dims);
    const sim_layout layout = a->n_dims == 2 ? SIM_LAYOUT_HWC : sim_image_layout(d);
    SIM_CHECK(
        layout != SIM_LAYOUT_AMBIGUOUS, SIM_E_DATA,
        "%s: an image of %zu x %zu x %zu: the dimension of the channels is ambiguous; "
        "expected H x W x C, with C of 1, 3, 4 or less than the sides",
        name, d[0], d[1], d[2]);
    *planes = layout == SIM_LAYOUT_CHW;
    hwc[0] = *planes ? d[1] : d[0];
    hwc[1] = *planes ? d[2] : d[1];
    hwc[2] = a->n_dims == 2 ? 1 : *planes ? d[0] : d[2];
done:
    return st;
}

static sim_type type_of(const sim_npy *a)
{
    const bool is_unsigned = a->kind == 'b' || a->kind == 'u';
    return is_unsigned && a->item_bytes == 1   ? SIM_U8
           : is_unsigned && a->item_bytes == 2 ? SIM_U16
                                               : SIM_F32;
}

static sim_status convert_values(const char *name, const sim_npy *a,
                                 const uint8_t *values, bool planes, sim_image *out)
{
    sim_status st = SIM_OK;
    const size_t n_pixels = out->h * out->w;
    bool ok = true;

    for (size_t i = 0; i < n_pixels; i++)
        for (size_t c = 0; c < out->c; c++) {
            const size_t from = planes ? c * n_pixels + i : i * out->c + c;
            double v = 0;
            sim_npy_convert(a, values + from * a->item_bytes, 1, SIM_F64, &v);
            v = a->kind == 'b' ? (v != 0) * 255.0 : v;
            ok &= sim_number_store(v, out->type, out->pixels, i * out->c + c);
        }
    SIM_CHECK(ok, SIM_E_DATA, "%s has values that float32 cannot represent", name);
done:
    return st;
}

sim_status sim_decode_npy(const char *name, const uint8_t *bytes, size_t n,
                          sim_image *out, sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    sim_npy a;
    size_t hwc[3] = {0};
    bool planes = false;

    (void)notes;
    SIM_TRY(sim_npy_parse(name, bytes, n, &a));
    SIM_CHECK(a.kind != 'S' && a.kind != 'U', SIM_E_DATA, "%s contains text, not numbers",
              name);
    SIM_TRY(find_shape(name, &a, hwc, &planes));
    SIM_TRY(sim_image_check_size(name, hwc[0], hwc[1], hwc[2], type_of(&a)));
    SIM_CHECK(a.n_values * a.item_bytes <= n - a.data_at, SIM_E_DATA,
              "%s is truncated: the array needs %zu bytes, but %zu are stored", name,
              a.n_values * a.item_bytes, n - a.data_at);
    SIM_TRY(sim_image_shape(out, hwc[0], hwc[1], hwc[2], type_of(&a)));
    SIM_TRY(convert_values(name, &a, bytes + a.data_at, planes, out));
done:
    return st;
}
