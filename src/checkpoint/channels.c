/*
 * channels.c - filters of the first convolution for images of another number of channels.
 *
 * For one channel, the filters of all channels are summed, so a gray image has the features of its RGB
 * copy.  For more, the filters are repeated in their order and multiplied by n_old / n_new, so the sum
 * over equal channels keeps its value.  It is the rule of timm (adapt_input_conv).
 */
#include "private.h"

#include <string.h>

void sim_checkpoint_adapt_channels(const float *from, size_t n_from, const sim_tensor *to)
{
    const size_t n_to = to->dims[1], area = to->dims[2] * to->dims[3];
    const size_t copies = n_to == 1 ? n_from : 1; /* filters that are added */
    const float factor = n_to == 1 ? 1 : (float)n_from / (float)n_to;
    float *out = to->data;

    memset(out, 0, sim_tensor_count(to) * sizeof *out);
    for (size_t o = 0; o < to->dims[0]; o++, from += n_from * area)
        for (size_t c = 0; c < n_to; c++, out += area)
            for (size_t k = 0; k < copies; k++)
                for (size_t i = 0; i < area; i++)
                    out[i] += factor * from[(c + k) % n_from * area + i];
}
