#!/usr/bin/env bash
# simile-test: timeout 1200
# Two methods learn; test_learning_all.sh trains the others.
. "$SIMILE_SOURCE/tests/e2e/learning.sh"
prepare_mnist
expect_gain 5 mnist simclr method.temperature=0.2 schedule.epochs=5
prepare_cifar || exit 0
expect_gain 5 cifar mocov2 augment.preset=simclr-cifar method.queue_size=512 method.momentum=0.99 \
    batchnorm.group=32
