#!/usr/bin/env bash
# simile-test: timeout 7200 processors 2 labels long
# arm64, compiled by Debian's cross compiler and run under qemu: the unit tests of kernels, core and losses, and
# training, which has the bits of the kernels of this machine at every step, also of a run that moves between both.
. ./root.sh
# shellcheck disable=SC2046 # words
make_root arm64 bookworm amd64,arm64 build-essential crossbuild-essential-arm64 qemu-user-static cmake pkg-config ca-certificates \
    protobuf-c-compiler librandom123-dev $(printf '%s:arm64 ' libopenmpi-dev libhdf5-dev libopenblas-dev libyaml-dev libjansson-dev \
        libjpeg62-turbo-dev libpng-dev libtiff-dev libwebp-dev libgif-dev libarchive-dev libxxhash-dev libprotobuf-c-dev libisal-dev libcmocka-dev)
configure arm64 -DCMAKE_TOOLCHAIN_FILE=/src/tests/platform/arm64.cmake -DBUILD_TESTING=ON -DSIMILE_TIMEOUT_FACTOR=12
compile arm64
# qemu does not report a program that cannot be started, and /proc/self/exe cannot be: two tests of core are left out.
in_root ctest --test-dir arm64 -R '^(kernel|core|loss|encoder|optim|data)_' -L unit -E 'core_test_(file|thread)' --output-on-failure || fail "unit tests under qemu"

arm64() { # arm64 COMMAND...: of simile
    in_root bash -c 'cd /scratch && OMPI_MCA_ess_singleton_isolated=1 qemu-aarch64-static /build/arm64/simile "$@"' simile "$@"
}
same_trace() { cmp "$1/trace-hash.txt" "$2/trace-hash.txt" || fail "$2 differs from $1"; }
write_job 4
for kernels in portable auto; do
    expect 0 "" "$simile" pretrain job.yaml run="here-$kernels" kernels=$kernels --trace-hash
    expect 0 "" arm64 pretrain job.yaml run="arm64-$kernels" kernels=$kernels --trace-hash
    same_trace "here-$kernels" "arm64-$kernels"
done
expect_lines 1 "kernels neon" arm64-auto/log.txt
expect 75 "" "$simile" pretrain job.yaml run=moved --trace-hash --stop-after 1
expect 75 "" arm64 pretrain job.yaml run=moved --trace-hash --stop-after 2
expect 0 "" "$simile" pretrain job.yaml run=moved --trace-hash
same_trace here-auto moved
expect 78 "none of auto, portable, neon" arm64 plan job.yaml kernels=v3
echo ok
