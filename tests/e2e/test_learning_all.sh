#!/usr/bin/env bash
# simile-test: timeout 3600 labels long
# What test_learning.sh does not train learns too.
. "$SIMILE_SOURCE/tests/e2e/learning.sh"
prepare_mnist
expect_gain 5 mnist infonce method.temperature=0.2
expect_gain 5 mnist mocov2 method.temperature=0.2 augment.preset=digits method.queue_size=512 method.momentum=0.9 \
    batchnorm.group=32 optimizer.lr=0.02 schedule.epochs=6
expect_gain 5 mnist supervised augment.preset=digits
expect_gain 5 mnist dcl
expect_gain 5 mnist supcon
expect_gain 5 mnist mocov1 method.temperature=0.2 augment.preset=digits method.queue_size=512 method.momentum=0.9 \
    batchnorm.group=32 optimizer.lr=0.02 schedule.epochs=6
adamw=(optimizer.name=adamw optimizer.weight_decay=0.0001) # SGD does not train scale and bias well
expect_gain 5 mnist siglip "${adamw[@]}" optimizer.lr=0.005
prepare_cifar || exit 0
moco=(augment.preset=simclr-cifar method.queue_size=512 method.momentum=0.99 batchnorm.group=32)
expect_gain 5 cifar infonce method.temperature=0.2
expect_gain 5 cifar simclr method.temperature=0.2
expect_gain 5 cifar dcl
expect_gain 5 cifar dclw
expect_gain 5 cifar supcon
expect_gain 5 cifar mocov1 "${moco[@]}" method.temperature=0.2
expect_gain 5 cifar mocov3 augment.preset=simclr-cifar encoder.projector.hidden=256 encoder.projector.dim=64
expect_gain 5 cifar nnclr method.queue_size=512 method.predictor_hidden=256 schedule.epochs=7
expect_gain 5 cifar siglip "${adamw[@]}" optimizer.lr=0.005
expect_gain 5 cifar cpc method.grid=3 method.steps=2 method.target=projector method.temperature=1 method.learn_temperature=true \
    encoder.projector.dim=64 batch=64 batchnorm.group=8 "${adamw[@]}" optimizer.lr=0.002 \
    schedule.epochs=6 augment.preset=none \
    augment.view1='[{op: crop, scale_min: 0.3}, flip, {op: jitter, p: 0.8}, {op: gray, p: 0.4}]'
