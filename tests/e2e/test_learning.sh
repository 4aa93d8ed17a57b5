#!/usr/bin/env bash
# simile-test: timeout 600
# Two methods learn; test_learning_all.sh trains the others.
. "$SIMILE_SOURCE/tests/e2e/learning.sh"
expect_gain 5 simclr method.temperature=0.2
expect_gain 5 mocov2 augment.preset=simclr-cifar method.queue_size=512 method.momentum=0.99 \
    batchnorm.group=32
