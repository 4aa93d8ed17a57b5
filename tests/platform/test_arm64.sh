#!/usr/bin/env bash
# simile-test: timeout 7200 processors 2 labels long
# arm64, compiled by Debian's cross compiler and run under qemu: the unit tests of kernels, core and losses, and
# training, which has the bits of the kernels of this machine at every step, also in a run that moves between both.
. "$SIMILE_SOURCE/tests/platform/cross.sh"
configure_cross arm64 bookworm aarch64
compile arm64
unit_tests '^(kernel|core|loss|encoder|optim|data)_'

write_job 4
train_equally portable
train_equally auto
expect_lines 1 "kernels neon" arm64-auto/log.txt
expect 75 "" "$simile" pretrain job.yaml run=moved --trace-hash --stop-after 1
expect 75 "" emulated pretrain job.yaml run=moved --trace-hash --stop-after 2
expect 0 "" "$simile" pretrain job.yaml run=moved --trace-hash
same_trace here-auto moved
expect 78 "none of auto, portable, neon" emulated plan job.yaml kernels=v3
echo ok
