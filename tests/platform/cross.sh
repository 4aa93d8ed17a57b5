# shellcheck shell=bash disable=SC2154 # variables of root.sh
# Sourced by the tests of other architectures: Debian's cross compiler and libraries, and programs under qemu.
. "$SIMILE_SOURCE/tests/platform/root.sh"

# configure_cross ARCHITECTURE SUITE PROCESSOR: makes $root and configures /build/ARCHITECTURE; sets $architecture
configure_cross() {
    architecture=$1 processor=$3
    # shellcheck disable=SC2046 # words
    make_root "$1" "$2" "amd64,$1" build-essential "crossbuild-essential-$1" qemu-user-static cmake pkg-config ca-certificates \
        protobuf-c-compiler librandom123-dev $(printf "%s:$1 " libopenmpi-dev libhdf5-dev libopenblas-dev libyaml-dev libjansson-dev \
            libjpeg62-turbo-dev libpng-dev libtiff-dev libwebp-dev libgif-dev libarchive-dev libxxhash-dev libprotobuf-c-dev libisal-dev libcmocka-dev)
    configure "$1" -DCMAKE_TOOLCHAIN_FILE="/src/tests/platform/$1.cmake" -DBUILD_TESTING=ON -DSIMILE_TIMEOUT_FACTOR=12
}
# unit_tests REGEX: those that are not long.  qemu does not report a program that cannot be started, and
# /proc/self/exe cannot be: two tests of core are left out.
unit_tests() {
    in_root ctest --test-dir "$architecture" -R "$1" -L unit -LE long -E 'core_test_(file|thread)' --output-on-failure || fail "unit tests under qemu"
}
emulated() { # emulated COMMAND...: of simile
    in_root env -C /scratch OMPI_MCA_ess_singleton_isolated=1 "qemu-$processor-static" "/build/$architecture/simile" "$@"
}
same_trace() { cmp "$1/trace-hash.txt" "$2/trace-hash.txt" || fail "$2 differs from $1"; }
# train_equally KERNELS: training has the bits of these kernels of this machine at every step
train_equally() {
    expect 0 "" "$simile" pretrain job.yaml run="here-$1" kernels="$1" --trace-hash
    expect 0 "" emulated pretrain job.yaml run="$architecture-$1" kernels="$1" --trace-hash
    same_trace "here-$1" "$architecture-$1"
}
