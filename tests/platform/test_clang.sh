#!/usr/bin/env bash
# simile-test: timeout 3600 processors 2 labels long
# clang builds without warnings; kernels pass their tests, and training has the bits of this build.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
. "$SIMILE_SOURCE/tests/platform/job.sh"
clang=$(command -v clang-14 || command -v clang) || { echo "skipped: clang is not installed" && exit 77; }
case $($clang --version | sed -nE '1s/.*version ([0-9]+).*/\1/p') in [0-9] | 1[0-3]) echo "skipped: $clang is older than 14" && exit 77 ;; esac
cmake -S "$SIMILE_SOURCE" -B build -DCMAKE_C_COMPILER="$clang" -DBUILD_TESTING=ON >log.txt 2>&1 || {
    ! grep -q OpenMP log.txt || { echo "skipped: OpenMP for $clang is not installed" && exit 77; }
    cat log.txt && fail "cmake with $clang"
}
cmake --build build -j "$(getconf _NPROCESSORS_ONLN)" >log.txt 2>&1 || { grep -E "error|warning" log.txt >&2 && fail "build with $clang"; }
ctest --test-dir build -R '^(kernel|core|h5|data)_' -L unit --output-on-failure || fail "unit tests with $clang"
write_job 6
expect 0 "" "$simile" pretrain job.yaml
expect 0 "" ranks 2 ./build/simile pretrain job.yaml run=clang
same_weights reference clang
echo ok
