#!/usr/bin/env bash
# A disk that is too small for a conversion by ranks is refused before it is filled; what ranks
# made before they were stopped counts as theirs.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
digits train 6000 32
if [ "$(id -u)" != 0 ] || ! mkdir disk || ! mount -t tmpfs -o size=64m none disk 2>log.txt; then
    echo "skipped: no mounting here"
    exit 77
fi
trap 'umount -l "$scratch/disk"; rm -rf "$scratch"' EXIT
prepare() { ranks 2 "$simile" prepare "$scratch" --out disk/train.h5; }
mount -o remount,size=12m disk
expect 74 "13.7 MB" prepare
[ -z "$(ls disk)" ] || fail "files of a conversion that was refused: $(ls disk)"
# twice the set and a little, of which parts have taken some
mount -o remount,size=15m disk
for k in 0 1; do head -c 2000000 /dev/zero >"disk/train.h5.rank-$k-of-2.part"; done
expect 0 "6000 images" prepare
[ "$(ls disk)" = train.h5 ] || fail "left over: $(ls disk)"
