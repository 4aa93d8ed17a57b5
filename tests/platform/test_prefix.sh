#!/usr/bin/env bash
# simile-test: timeout 7200 processors 2 labels long
# A system without our packages but compiler, MPI, BLAS and Debian's protobuf-c and ISA-L: HDF5, built by
# hand under a prefix, and Random123 are pointed to; xxHash, jansson and libyaml are compiled in from sources.
# What is missing before is named with packages and option.
. "$SIMILE_SOURCE/tests/platform/root.sh"
make_root prefix bookworm amd64 build-essential cmake pkg-config ca-certificates libopenmpi-dev openmpi-bin libopenblas-dev \
    protobuf-c-compiler libprotobuf-c-dev libisal-dev dpkg-dev zlib1g-dev
few=(-DSIMILE_WITH_{JPEG,PNG,TIFF,WEBP,GIF,ARCHIVE}=OFF)

# refuse TEXT... [-- options]: cmake fails, and its output has every text
refuse() {
    local texts=() got=0
    while [ $# -gt 0 ] && [ "$1" != -- ]; do texts+=("$1") && shift; done
    rm -rf "$root/build/refused"
    in_root cmake -S /src -B refused "${few[@]}" "${@:2}" >refused.txt 2>&1 || got=$?
    [ $got != 0 ] || fail "cmake finds what is not there"
    for text in "${texts[@]}"; do grep -qF -- "$text" refused.txt || { cat refused.txt && fail "no \"$text\""; }; done
}
refuse "HDF5 1.10 or later" "libhdf5-dev" "hdf5-devel" "-DHDF5_ROOT=DIRECTORY"
refuse "HDF5_ROOT=/nowhere has no HDF5" -- -DHDF5_ROOT=/nowhere

if [ ! -e "$root/opt/hdf5/include/hdf5.h" ]; then
    in_root bash -c 'apt-get -qq update && apt-get -qq source hdf5 && cd hdf5-*/ && ./configure --quiet --prefix=/opt/hdf5 \
        --disable-static --disable-tests --disable-tools --disable-hl --with-pic >/dev/null && make -s -j "$(getconf _NPROCESSORS_ONLN)" -C src install' >hdf5.log 2>&1 ||
        { tail -n 20 hdf5.log >&2 && fail "HDF5 does not build"; }
fi
refuse "random123" "librandom123-dev" "-DRANDOM123_ROOT=DIRECTORY" "-DSIMILE_FETCH=ON" -- -DHDF5_ROOT=/opt/hdf5
if [ ! -e "$root/build/sources/made" ]; then # the sources of three libraries, and the headers of Random123
    in_root bash -c 'rm -rf sources && mkdir sources && cd sources && { apt-get -qq source libxxhash-dev libjansson-dev libyaml-dev &&
        apt-get -qq download librandom123-dev && dpkg -x librandom123-dev_*.deb /opt/random123; } >log 2>&1 && touch made || { cat log && exit 1; }'
fi
sources=()
for name in xxhash jansson yaml; do
    directory=$(find "$root/build/sources" -maxdepth 1 -type d -name "*$name-*")
    [ -n "$directory" ] || fail "no source of $name"
    sources+=("-DFETCHCONTENT_SOURCE_DIR_${name^^}=/build/sources/${directory##*/}")
done
refuse "HDF5_ROOT=/usr has no HDF5" -- -DHDF5_ROOT=/usr
refuse "No BLAS with a C interface" -- -DHDF5_ROOT=/opt/hdf5 -DBLAS_ROOT=/nowhere

configure prefix "${few[@]}" -DHDF5_ROOT=/opt/hdf5 -DRANDOM123_ROOT=/opt/random123/usr -DSIMILE_FETCH=ON -DSIMILE_WERROR=ON \
    -DCMAKE_INSTALL_PREFIX=/opt/simile "${sources[@]}"
compile prefix
in_root cmake --install prefix >install.txt
in_root /opt/simile/bin/simile --version >version.txt
in_root ldd /opt/simile/bin/simile >libraries.txt
expect_lines 1 "/opt/hdf5/lib/libhdf5.so" libraries.txt
expect_lines 0 "libxxhash|libjansson|libyaml|not found" libraries.txt
for n in 1 2; do train prefix $n mpirun --oversubscribe; done

# programs that link the installed library find the same HDF5
in_root bash -c 'rm -rf consumer && cmake -S /src/tests/platform/consumer -B consumer -DCMAKE_PREFIX_PATH=/opt/simile >/dev/null && cmake --build consumer >/dev/null'
expect 0 "kernels" in_root consumer/ntxent
# shellcheck disable=SC2016 # expanded in the root
in_root bash -c 'export PKG_CONFIG_PATH=/opt/simile/lib/pkgconfig
    cc -o with-pkg-config $(pkg-config --cflags simile) /src/tests/platform/consumer/ntxent.c $(pkg-config --libs simile) -Wl,-rpath,/opt/hdf5/lib'
expect 0 "kernels" in_root ./with-pkg-config
echo ok
