/*
 * resnet.c - ResNet-18, 34 and 50 (v1.5: stride in the 3 x 3), with torchvision's names.
 *
 * He et al. 2015, arXiv 1512.03385.  The CIFAR stem is 3 x 3 with stride 1 and no max pool.
 */
#include "build.h"

#include <stdio.h>

typedef struct {
    bool bottleneck;
    int blocks[4]; /* of the stages */
} resnet;

/* Channels of a stage, rounded to a multiple of 8. */
static size_t stage_channels(const sim_encoder_options *e, int stage)
{
    size_t c = (size_t)(e->width * (double)(64 << stage) / 8 + 0.5) * 8;
    return c < 8 ? 8 : c;
}

static size_t resnet_dim(const network *self, const sim_encoder_options *e)
{
    const resnet *r = self->variant;
    return stage_channels(e, 3) * (r->bottleneck ? 4 : 1);
}

typedef struct {
    sim_net *net;
    const sim_encoder_options *options;
    sim_activation act;
    char name[48];
} builder;

static const char *name_in_block(builder *b, const char *block, const char *what)
{
    (void)snprintf(b->name, sizeof b->name, "%s.%s", block, what);
    return b->name;
}

/* The block's input, or its projection where the shape changes. */
static sim_status build_shortcut(builder *b, const char *block, int in, size_t k,
                                 size_t stride, int *out)
{
    sim_status st = SIM_OK;
    *out = in;
    if (stride == 1 && b->net->nodes[in].c == k)
        goto done;
    SIM_TRY(sim_net_add_conv(b->net, name_in_block(b, block, "downsample.0"), in, k, 1,
                             stride, out));
    SIM_TRY(sim_net_add_norm(b->net, name_in_block(b, block, "downsample.1"), *out,
                             NO_NODE, SIM_ACT_NONE, true, out));
done:
    return st;
}

static sim_status build_basic_block(builder *b, const char *block, int in, size_t c,
                                    size_t stride, int *out)
{
    sim_status st = SIM_OK;
    int at = in, around = in;

    SIM_TRY(sim_net_add_conv(b->net, name_in_block(b, block, "conv1"), at, c, 3, stride,
                             &at));
    SIM_TRY(sim_net_add_norm(b->net, name_in_block(b, block, "bn1"), at, NO_NODE, b->act,
                             true, &at));
    SIM_TRY(sim_net_add_conv(b->net, name_in_block(b, block, "conv2"), at, c, 3, 1, &at));
    SIM_TRY(build_shortcut(b, block, in, c, stride, &around));
    SIM_TRY(sim_net_add_norm(b->net, name_in_block(b, block, "bn2"), at, around, b->act,
                             true, out));
    b->net->nodes[*out].starts_at_zero = b->options->zero_init_last_bn;
done:
    return st;
}

static sim_status build_bottleneck(builder *b, const char *block, int in, size_t c,
                                   size_t stride, int *out)
{
    sim_status st = SIM_OK;
    int at = in, around = in;

    SIM_TRY(sim_net_add_conv(b->net, name_in_block(b, block, "conv1"), at, c, 1, 1, &at));
    SIM_TRY(sim_net_add_norm(b->net, name_in_block(b, block, "bn1"), at, NO_NODE, b->act,
                             true, &at));
    SIM_TRY(sim_net_add_conv(b->net, name_in_block(b, block, "conv2"), at, c, 3, stride,
                             &at));
    SIM_TRY(sim_net_add_norm(b->net, name_in_block(b, block, "bn2"), at, NO_NODE, b->act,
                             true, &at));
    SIM_TRY(
        sim_net_add_conv(b->net, name_in_block(b, block, "conv3"), at, 4 * c, 1, 1, &at));
    SIM_TRY(build_shortcut(b, block, in, 4 * c, stride, &around));
    SIM_TRY(sim_net_add_norm(b->net, name_in_block(b, block, "bn3"), at, around, b->act,
                             true, out));
    b->net->nodes[*out].starts_at_zero = b->options->zero_init_last_bn;
done:
    return st;
}

static sim_status build_stem(builder *b, int *out)
{
    sim_status st = SIM_OK;
    bool imagenet = b->options->stem == SIM_STEM_IMAGENET;
    size_t c = stage_channels(b->options, 0);

    SIM_TRY(sim_net_add_conv(b->net, "conv1", NET_INPUT, c, imagenet ? 7 : 3,
                             imagenet ? 2 : 1, out));
    SIM_TRY(sim_net_add_norm(b->net, "bn1", *out, NO_NODE, b->act, true, out));
    if (imagenet)
        SIM_TRY(sim_net_add_max_pool(b->net, *out, out));
done:
    return st;
}

static sim_status build_stages(builder *b, const resnet *r, int at)
{
    sim_status st = SIM_OK;
    char block[32];

    for (int s = 0; s < 4; s++)
        for (int i = 0; i < r->blocks[s]; i++) {
            size_t stride = s > 0 && i == 0 ? 2 : 1, c = stage_channels(b->options, s);
            (void)snprintf(block, sizeof block, "layer%d.%d", s + 1, i);
            SIM_TRY(r->bottleneck ? build_bottleneck(b, block, at, c, stride, &at)
                                  : build_basic_block(b, block, at, c, stride, &at));
        }
    SIM_TRY(sim_net_add_mean_pool(b->net, at, &at));
done:
    return st;
}

static sim_status build_resnet(const network *self, const sim_net_spec *spec,
                               sim_net *net)
{
    sim_status st = SIM_OK;
    builder b = {.net = net, .options = spec->encoder};
    int at = NET_INPUT;

    b.act = spec->encoder->activation == SIM_NET_SILU ? SIM_ACT_SILU : SIM_ACT_RELU;
    SIM_TRY(build_stem(&b, &at));
    SIM_TRY(build_stages(&b, self->variant, at));
done:
    return st;
}

/* ---- the rows ---- */

static const resnet basic_18 = {.blocks = {2, 2, 2, 2}};
static const resnet basic_34 = {.blocks = {3, 4, 6, 3}};
static const resnet bottleneck_50 = {.bottleneck = true, .blocks = {3, 4, 6, 3}};

const network sim_network_resnet18 = {build_resnet, resnet_dim, &basic_18};
const network sim_network_resnet34 = {build_resnet, resnet_dim, &basic_34};
const network sim_network_resnet50 = {build_resnet, resnet_dim, &bottleneck_50};
