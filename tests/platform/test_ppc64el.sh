#!/usr/bin/env bash
# simile-test: timeout 7200 processors 2 labels long
# ppc64el (POWER), compiled by Debian's cross compiler and run under qemu: the unit tests of kernels and core, and
# training by the portable kernels, which has the bits of those of this machine at every step.
. "$SIMILE_SOURCE/tests/platform/cross.sh"
configure_cross ppc64el bookworm ppc64le
compile ppc64el
unit_tests '^(kernel|core)_'
write_job 4
train_equally portable
echo ok
