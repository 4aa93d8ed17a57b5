#!/usr/bin/env bash
# simile-test: timeout 600
# Two methods learn (learning.sh); all of them in test_learning_all.sh.
. "$SIMILE_SOURCE/tests/e2e/learning.sh"
learns 5 simclr method.temperature=0.2
learns 5 mocov2 augment.preset=simclr-cifar method.queue_size=512 method.momentum=0.99 \
    batchnorm.group=32
