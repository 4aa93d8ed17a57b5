#!/usr/bin/env bash
# simile-test: timeout 300
# Staging by slurm/pretrain.sbatch: neither planted copies nor planted links are used.  srun is replaced
# by a function; as root the attacks of another user are tried, too.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 96 8
cp train.h5 original.h5
chmod 755 . && chmod 644 ./*.h5
"$simile" prepare train-images-idx3-ubyte --limit 40 --out other.h5 2>log.txt
touch -d 2026-01-01 train.h5 other.h5
{
    cat <<'SH'
set -euo pipefail
SLURM_JOB_NUM_NODES=1 words=()
leave() { echo "leave ${*:2}"; exit "$1"; }
value() { echo train.h5; }
srun() { while [ "${1#--}" != "$1" ]; do shift; done; SLURM_PROCID=1 "$@"; }
SH
    sed -n '/^stage() {/,/^}/p; /^stage_file() {/,/^}/p' "$SIMILE_SOURCE/slurm/pretrain.sbatch"
    echo 'stage data.train; echo "${words[@]}"'
} >stage.sh
name=$(realpath train.h5 | cksum | cut -d' ' -f1)-train.h5
mkdir -m 1777 scr
stage() { SIMILE_SCRATCH=$PWD/scr SIMILE=$simile bash stage.sh; }
mine=scr/simile-$(id -u)
expect_match 0 "^staged .*scr/simile-.*/$name on" stage
expect_lines 1 "^data.train='$PWD/$mine/$name'$"
cmp train.h5 "$mine/$name"
[ "$(stat -c %a "$mine")" = 700 ] || fail "mode $(stat -c %a "$mine")"
expect_match 0 "^staged .*$name is on" stage
# a copy of the same size and time, but of other content: copied again
printf x | dd of="$mine/$name" bs=1 seek=3000 conv=notrunc 2>log.txt
/usr/bin/python3 - "$mine/$name" <<'PY'
import h5py, sys
with h5py.File(sys.argv[1], "r+") as f:
    f["labels"][0] = 7
PY
truncate -s "$(stat -c %s train.h5)" "$mine/$name"
touch -r train.h5 "$mine/$name"
expect_match 0 "^staged .*$name on" stage
cmp train.h5 "$mine/$name"
# a link at the path of the copy is replaced, not written through
echo "my thesis" >thesis.txt
rm "$mine/$name" && ln -s "$PWD/thesis.txt" "$mine/$name"
expect 0 "" stage
cmp train.h5 "$mine/$name"
[ "$(cat thesis.txt)" = "my thesis" ] || fail "thesis.txt was overwritten"
# an abandoned copy of a killed job
touch -d 2026-01-01 "$mine/$name.tmp.abcdef" && rm "$mine/$name"
expect 0 "" stage
! compgen -G "$mine/*.tmp.*" || fail "a temporary file is left"
# the directory: a link, other permissions, a file, or in a directory that others may change
refused() {
    expect_match 74 "^unsafe .*scr/simile-$(id -u).*SIMILE_SCRATCH" stage
    expect_lines 0 "^data.train="
}
mv "$mine" real && ln -s "$PWD/real" "$mine"
refused
rm "$mine" && mkdir -m 755 "$mine"
refused
rmdir "$mine" && touch "$mine"
refused
rm "$mine" && chmod 0777 scr
refused
chmod 1777 scr
if [ "$(id -u)" = 0 ]; then
    rm -rf "${mine:?}" && mkdir -m 700 "$mine" && cp -p other.h5 "$mine/$name" && chown -R 65534 "$mine"
    refused
    rm -rf "${mine:?}" && mkdir -m 700 "$mine" && cp -p train.h5 "$mine/$name" && chown 65534 "$mine/$name" # of another user
    expect_match 0 "^staged .*$name on" stage
    [ -O "$mine/$name" ] || fail "a file of another user is used"
fi
cmp train.h5 original.h5
# a list of data sets
rm -rf "${mine:?}" && cp other.h5 "it's.h5"
sed 's/^value() .*/value() { printf "%s\\n" train.h5 "it'"'"'s.h5"; }/' stage.sh >list.sh
list() { SIMILE_SCRATCH=$PWD/scr SIMILE=$simile bash list.sh; }
second=$(realpath "it's.h5" | cksum | cut -d' ' -f1)-it
expect_match 0 "^staged .*$second's.h5 on" list
expect_lines 1 "^data.train=\['$PWD/$mine/$name','$PWD/$mine/$second''s.h5'\]$"
cmp "it's.h5" "$mine/$second's.h5"
echo ok
