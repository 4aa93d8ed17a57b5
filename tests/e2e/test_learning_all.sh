#!/usr/bin/env bash
# simile-test: timeout 3600 labels long
# Every method learns (learning.sh).
. "$SIMILE_SOURCE/tests/e2e/learning.sh"
moco=(augment.preset=simclr-cifar method.queue_size=512 method.momentum=0.99 batchnorm.group=32)
learns 5 infonce method.temperature=0.2
learns 5 dcl
learns 5 dclw
learns 5 supcon
learns 5 mocov1 "${moco[@]}" method.temperature=0.2
learns 5 mocov3 augment.preset=simclr-cifar encoder.projector.hidden=256 encoder.projector.dim=64
learns 5 nnclr method.queue_size=512 method.predictor_hidden=256
learns 5 siglip
# Patches of 16 pixels; predictions have any length: another optimizer, and fewer points.
learns 3 cpc optimizer.name=adamw optimizer.lr=0.001 method.grid=3 method.steps=2 batch=64 \
    schedule.epochs=4 augment.preset=none "augment.view1=[{op: crop, scale_min: 0.3}, flip, jitter, gray]"
