#!/usr/bin/env bash
# A conversion by ranks is refused before it starts if the disk is too small.  The space of the
# temporary files of an earlier, stopped conversion counts as available.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
digits train 6000 32
if [ "$(id -u)" != 0 ] || ! mkdir disk || ! mount -t tmpfs -o size=64m none disk 2>log.txt; then
    echo "skipped: mounting is not allowed"
    exit 77
fi
trap 'umount -l "$scratch/disk"; rm -rf "$scratch"' EXIT
prepare() { ranks 2 "$simile" prepare "$scratch" --out disk/train.h5; }
mount -o remount,size=12m disk
expect_match 74 "disk/train\.h5 .*\b13\.7 MB\b" prepare
[ -z "$(ls disk)" ] || fail "the refused conversion left $(ls disk)"
# the disk has twice the size of the data set; temporary files already use 4 MB
mount -o remount,size=15m disk
for k in 0 1; do head -c 2000000 /dev/zero >"disk/train.h5.rank-$k-of-2.part"; done
expect 0 "6000 images" prepare
[ "$(ls disk)" = train.h5 ] || fail "the disk contains $(ls disk)"
