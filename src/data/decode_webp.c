/*
 * decode_webp.c - decodes WebP files with libwebp; of an animation, the first frame on its canvas.
 *
 * Alpha is dropped: transparent pixels have the color that is stored.  Where the first frame of an
 * animation does not cover the canvas, it is black.
 */
#include "private.h"

#include "simile/memory.h"

#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

static int find_orientation(const WebPDemuxer *d)
{
    WebPChunkIterator chunk;
    int orientation = 1;

    if (WebPDemuxGetChunk(d, "EXIF", 1, &chunk))
        orientation = sim_exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
    WebPDemuxReleaseChunkIterator(&chunk);
    return orientation;
}

/* Decodes a frame to (y, x) of an image that contains it. */
static sim_status decode_frame(const char *name, const WebPIterator *frame,
                               sim_image *out)
{
    sim_status st = SIM_OK;
    WebPDecoderConfig config;
    const size_t y = (size_t)frame->y_offset, x = (size_t)frame->x_offset;

    SIM_CHECK(WebPInitDecoderConfig(&config), SIM_E_DATA,
              "%s: libwebp has another version than its header", name);
    SIM_CHECK(WebPGetFeatures(frame->fragment.bytes, frame->fragment.size,
                              &config.input) == VP8_STATUS_OK,
              SIM_E_DATA, "%s is corrupted", name);
    const size_t w = (size_t)config.input.width, h = (size_t)config.input.height;
    SIM_CHECK(y + h <= out->h && x + w <= out->w, SIM_E_DATA,
              "%s is corrupted: a frame exceeds the canvas", name);
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = (uint8_t *)out->pixels + (y * out->w + x) * 3;
    config.output.u.RGBA.stride = (int)(out->w * 3);
    config.output.u.RGBA.size = out->h * out->w * 3 - (y * out->w + x) * 3;
    const VP8StatusCode code =
        WebPDecode(frame->fragment.bytes, frame->fragment.size, &config);
    SIM_CHECK(code != VP8_STATUS_OUT_OF_MEMORY, SIM_E_IO, "%s: out of memory", name);
    SIM_CHECK(code != VP8_STATUS_NOT_ENOUGH_DATA && code != VP8_STATUS_SUSPENDED,
              SIM_E_DATA, "%s is truncated: the image data ends early", name);
    SIM_CHECK(code == VP8_STATUS_OK, SIM_E_DATA,
              "%s: libwebp cannot decode it (status %d)", name, (int)code);
done:
    return st;
}

static sim_status decode_canvas(const char *name, const WebPDemuxer *d, sim_image *out,
                                sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    WebPIterator frame;
    const size_t w = WebPDemuxGetI(d, WEBP_FF_CANVAS_WIDTH),
                 h = WebPDemuxGetI(d, WEBP_FF_CANVAS_HEIGHT);
    const bool found = WebPDemuxGetFrame(d, 1, &frame);

    SIM_CHECK(found && frame.complete, SIM_E_DATA,
              "%s is truncated: it has no complete frame", name);
    SIM_TRY(sim_image_check_size(name, h, w, 3, SIM_U8));
    SIM_TRY(sim_image_shape(out, h, w, 3, SIM_U8));
    memset(out->pixels, 0, h * w * 3);
    SIM_TRY(decode_frame(name, &frame, out));
    notes->has_more = frame.num_frames > 1;
done:
    if (found)
        WebPDemuxReleaseIterator(&frame);
    return st;
}

sim_status sim_decode_webp(const char *name, const uint8_t *bytes, size_t n,
                           sim_image *out, sim_decode_notes *notes)
{
    sim_status st = SIM_OK;
    const WebPData data = {.bytes = bytes, .size = n};
    WebPDemuxer *d = WebPDemux(&data);

    SIM_CHECK(d, SIM_E_DATA, "%s is truncated or not a WebP file", name);
    SIM_TRY(decode_canvas(name, d, out, notes));
    SIM_TRY(sim_image_upright(out, find_orientation(d)));
done:
    WebPDemuxDelete(d);
    return st;
}
