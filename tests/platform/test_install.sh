#!/usr/bin/env bash
# simile-test: timeout 600
# An installed tree works after it was moved: the program, jobs, scripts and manual pages, and programs that
# link libsimile through CMake and through pkg-config.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
here=$SIMILE_SOURCE/tests/platform
cmake --install "$SIMILE_BUILD" --prefix "$scratch/first" >install.txt
mv first moved
PATH=$scratch/moved/bin:$PATH
[ "$(command -v simile)" = "$scratch/moved/bin/simile" ] || fail "simile is not in bin"
cmp <("$simile" --version) <(simile --version) || fail "the installed program differs"
! grep -rlF "$scratch/first" moved/lib/pkgconfig moved/lib/cmake moved/share || fail "a file contains the prefix of the installation"

# jobs, with their data; scripts; completion
data_set train 200 28
for job in "$SIMILE_SOURCE"/jobs/*.{yaml,txt}; do
    cmp "$job" "moved/share/simile/jobs/${job##*/}" || fail "${job##*/} is not installed"
done
expect 0 "" simile pretrain moved/share/simile/jobs/quickstart.yaml data.train=train.h5 data.test=train.h5 run=run batch=64 schedule.steps=2 encoder.width=0.0625
for script in "$SIMILE_SOURCE"/slurm/*.sbatch; do
    [ -x "moved/share/simile/slurm/${script##*/}" ] || fail "${script##*/} is not installed"
done
bash -c ". moved/share/bash-completion/completions/simile && complete -p simile" >/dev/null || fail "no completion"

# manual pages, one for each command, of the text of --help
if command -v help2man >/dev/null; then
    for command in $(simile --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\)  .*/\1/p'); do
        [ -s "moved/share/man/man1/simile-$command.1" ] || fail "no manual page of $command"
    done
    for word in $(simile pretrain --help | grep -o -- '--[a-z-]*' | sort -u); do
        sed 's/\\-/-/g' moved/share/man/man1/simile-pretrain.1 | grep -qF -- "$word" || fail "no $word in the manual page of pretrain"
    done
else
    echo "skipped: manual pages, help2man is not installed"
fi

# programs that link libsimile
cmake -S "$here/consumer" -B cmake-build -DCMAKE_PREFIX_PATH="$scratch/moved" -DCMAKE_BUILD_TYPE=Release >log.txt 2>&1 &&
    cmake --build cmake-build >>log.txt 2>&1 || { cat log.txt && fail "the CMake project does not build"; }
expect 0 "kernels" ./cmake-build/ntxent
expect 0 "kernels" ranks 1 ./cmake-build/ntxent
PKG_CONFIG_PATH=$(dirname "$(find "$scratch/moved" -name simile.pc)")
export PKG_CONFIG_PATH
[ "$(pkg-config --modversion simile)" = "$(simile --version | sed -n 's/^simile *//p')" ] || fail "simile.pc has another version"
# shellcheck disable=SC2046 # words
cc -o with-pkg-config $(pkg-config --cflags simile) "$here/consumer/ntxent.c" $(pkg-config --libs simile)
expect 0 "kernels" ./with-pkg-config
# a project that requires another version is refused
mkdir -p other && sed 's/simile 0\.2/simile 99/' "$here/consumer/CMakeLists.txt" >other/CMakeLists.txt && cp "$here/consumer/ntxent.c" other/
expect 1 "99" cmake -S other -B other-build -DCMAKE_PREFIX_PATH="$scratch/moved"
echo ok
