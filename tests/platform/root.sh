# shellcheck shell=bash disable=SC2154 # variables of e2e/common.sh
# Sourced by the tests that run in a Debian root of their own: makes it with mmdebstrap from this machine's
# package sources.  $SIMILE_ROOTS, if set, is a directory where roots are kept; otherwise they are removed.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
. "$SIMILE_SOURCE/tests/platform/job.sh"
roots=${SIMILE_ROOTS:-$scratch/roots}
build_packages="build-essential cmake pkg-config git ca-certificates libyaml-dev libjansson-dev
    libjpeg62-turbo-dev libpng-dev libtiff-dev libwebp-dev libgif-dev libarchive-dev librandom123-dev
    libxxhash-dev protobuf-c-compiler
    libprotobuf-c-dev libisal-dev libcmocka-dev"

skip() { echo "skipped: $*" && exit 77; }
[ "$(id -u)" = 0 ] || skip "${0##*/}, it makes a Debian root, as root only"
command -v mmdebstrap >/dev/null || skip "${0##*/}, mmdebstrap is not installed"

# make_root NAME SUITE ARCHITECTURES packages...: sets $root
make_root() {
    local name=$1 suite=$2 architectures=$3 host
    shift 3
    root=$roots/$name
    [ ! -e "$root/made" ] || return 0
    host=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    mkdir -p "$roots"
    # this machine's sources, for the suite; with source packages
    { cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } |
        sed -E "s/\b$host\b/$suite/g; s/^Types: deb$/Types: deb deb-src/; s/^deb (.*)$/&\ndeb-src \1/" >"$scratch/$name.sources"
    grep -q "$suite" "$scratch/$name.sources" || skip "${0##*/}, no package sources of Debian"
    mmdebstrap --quiet --variant=minbase --architectures="$architectures" --include="$(echo "$*" | xargs | tr ' ' ,)" \
        "$suite" "$root" "$scratch/$name.sources" >mmdebstrap.log 2>&1 || {
        tail -n 20 mmdebstrap.log >&2
        rm -rf "$root"
        skip "${0##*/}, the packages of $suite could not be installed, see above"
    }
    mkdir -p "$root/src" "$root/build" "$root/scratch"
    touch "$root/made"
}

# in_root command...: runs it in $root, in /build, with the source tree at /src and this test's directory at
# /scratch.  Root keeps nothing of its environment.
in_root() {
    unshare --mount --fork bash -ec 'root=$1 source=$2 scratch=$3
        shift 3
        mount --make-rprivate /
        mount --rbind /proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --rbind /sys "$root/sys"
        mount --bind "$source" "$root/src"
        mount --bind "$scratch" "$root/scratch"
        cp -L /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
        exec chroot "$root" env -i HOME=/root PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
            OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 \
            bash -ec "cd /build && \"\$@\"" _ "$@"' _ "$root" "$SIMILE_SOURCE" "$scratch" "$@"
}

# configure DIRECTORY [options of cmake]; compile DIRECTORY [targets]: in $root, under /build
configure() {
    in_root cmake -S /src -B "$@" >"$scratch/configure.log" 2>&1 || { tail -n 30 "$scratch/configure.log" >&2 && fail "cmake in $root"; }
}
compile() {
    local directory=$1 targets=()
    shift
    [ $# = 0 ] || targets=(--target "$@")
    in_root cmake --build "$directory" -j "$(getconf _NPROCESSORS_ONLN)" "${targets[@]}" >"$scratch/compile.log" 2>&1 ||
        { grep -E "error|warning" "$scratch/compile.log" >&2 || tail -n 30 "$scratch/compile.log" >&2; fail "build in $root"; }
}
# train DIRECTORY RANKS [mpiexec and options]: makes the data set and trains in $root; the same bits as by the
# program of this build
train() {
    local directory=$1 n=$2
    shift 2
    [ -e train.h5 ] || { write_job 6 && expect 0 "" "$simile" pretrain job.yaml; }
    in_root bash -c "cd /scratch && /build/$directory/simile prepare train-images-idx3-ubyte --force --out $directory.h5 &&
        $* -np $n /build/$directory/simile pretrain job.yaml data.train=$directory.h5 run=$directory-$n" >train.log 2>&1 || { cat train.log >&2 && fail "training in $root"; }
    same_weights reference "$directory-$n"
}
