#!/usr/bin/env bash
# simile-test: timeout 7200 processors 2 labels long
# arm64, compiled by Debian's cross compiler and run under qemu: the unit tests of kernels, core and losses, and
# training, which has the bits of the portable kernels of this build.
. ./root.sh
# shellcheck disable=SC2046 # words
make_root arm64 bookworm amd64,arm64 build-essential crossbuild-essential-arm64 qemu-user-static cmake pkg-config ca-certificates \
    protobuf-c-compiler librandom123-dev $(printf '%s:arm64 ' libopenmpi-dev libhdf5-dev libopenblas-dev libyaml-dev libjansson-dev \
        libjpeg62-turbo-dev libpng-dev libarchive-dev libxxhash-dev libprotobuf-c-dev libisal-dev libcmocka-dev)
configure arm64 -DCMAKE_TOOLCHAIN_FILE=/src/tests/platform/arm64.cmake -DBUILD_TESTING=ON -DSIMILE_TIMEOUT_FACTOR=12
compile arm64
# qemu does not report a program that cannot be started, and /proc/self/exe cannot be: two tests of core are left out.
in_root ctest --test-dir arm64 -R '^(kernel|core|loss|encoder|optim|data)_' -L unit -E 'core_test_(file|thread)' --output-on-failure || fail "unit tests under qemu"

write_job 2
expect 0 "" in_root bash -c "cd /scratch && OMPI_MCA_ess_singleton_isolated=1 qemu-aarch64-static /build/arm64/simile pretrain job.yaml run=arm64"
SIMILE_KERNELS=portable expect 0 "" "$simile" pretrain job.yaml
same_weights reference arm64
echo ok
