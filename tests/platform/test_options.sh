#!/usr/bin/env bash
# simile-test: timeout 2400 processors 2 labels long
# A build without image formats and archives trains, and names what it lacks wherever that is used.
# $SIMILE_MINIMAL, if set, is the program of such a build.
build=$(mktemp -d)
if [ -z "${SIMILE_MINIMAL:-}" ]; then
    cmake -S "$SIMILE_SOURCE" -B "$build" -DSIMILE_WITH_{JPEG,PNG,TIFF,WEBP,GIF,ARCHIVE}=OFF \
        -DSIMILE_WERROR=ON >"$build/log" 2>&1 && cmake --build "$build" -j 2 >>"$build/log" 2>&1 || { tail -n 30 "$build/log" && exit 1; }
fi
export SIMILE=${SIMILE_MINIMAL:-$build/simile}
. "$SIMILE_SOURCE/tests/e2e/common.sh"
trap 'rm -rf "$scratch" "$build"' EXIT

"$simile" --version >version.txt
expect_lines 1 "^formats   without JPEG, without PNG, without TIFF, without WebP, without GIF, without archives$" version.txt
! ldd "$simile" | grep -E "lib(png|jpeg|tiff|webp|gif|archive)" || fail "an optional library is linked"

# images of each format in a directory: the conversion stops, nothing is skipped
mkdir -p {jpeg,png,tiff,webp,gif}/a
printf '\xff\xd8\xff\xe0 a JPEG image' >jpeg/a/1.jpg
/usr/bin/python3 - <<'PY'
import struct, zlib
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
rows = b"".join(b"\0" + bytes(3 * 8) for _ in range(8))
open("png/a/1.png", "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", 8, 8, 8, 2, 0, 0, 0))
                                + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
PY
expect 69 "1.jpg is a JPEG image; this simile was built without JPEG" "$simile" prepare jpeg --out j.h5
expect 69 "1.png is a PNG image; this simile was built without PNG" "$simile" prepare png --out p.h5
printf 'II*\0 a TIFF image' >tiff/a/1.tif
printf 'RIFF    WEBP a WebP image' >webp/a/1.webp
printf 'GIF89a a GIF image' >gif/a/1.gif
expect 69 "1.tif is a TIFF image; this simile was built without TIFF (cmake -DSIMILE_WITH_TIFF=ON)" "$simile" prepare tiff --out j.h5
expect 69 "1.webp is a WebP image; this simile was built without WebP (cmake -DSIMILE_WITH_WEBP=ON)" "$simile" prepare webp --out j.h5
expect 69 "1.gif is a GIF image; this simile was built without GIF (cmake -DSIMILE_WITH_GIF=ON)" "$simile" prepare gif --out j.h5
[ ! -e j.h5 ] && [ ! -e p.h5 ] || fail "a data set was written"
tar cf png.tar png
gzip -k png.tar
expect 69 "png.tar is an archive" "$simile" prepare png.tar --out t.h5
expect 69 "built without archives" "$simile" prepare png.tar.gz --out t.h5

/usr/bin/python3 -c 'import numpy as n; x = n.arange(8 * 6 * 6).reshape(8, 6, 6).astype("u1"); n.save("x.npy", x); n.savez("x.npz", images=x)'
expect 0 "8 images" "$simile" prepare x.npy --out n.h5
expect 69 "x.npz is an archive" "$simile" prepare x.npz --out z.h5

# MNIST's files: unpacked, and refused while they are compressed
data_set digits 400 16
gzip -k digits-images-idx3-ubyte
expect 69 "built without archives" "$simile" prepare digits-images-idx3-ubyte.gz --out z.h5

# training, evaluation and embeddings need none of them
cat >job.yaml <<'YAML'
run: run
data: {train: digits.h5, test: digits.h5}
method: {name: simclr}
encoder: {arch: resnet18, stem: cifar, width: 0.0625}
batch: 64
block: 16
schedule: {steps: 3}
augment: {preset: digits}
YAML
expect 0 "" ranks 2 "$simile" pretrain job.yaml
expect 0 "top-1" "$simile" evaluate knn run
expect 0 "" "$simile" embed run --data digits.h5 --out features.npy

# pictures
expect 69 "built without PNG" "$simile" plan job.yaml --preview views.png
expect 69 "built without PNG" "$simile" neighbours run --data digits.h5 --out grid.png
expect 69 "built without PNG" "$simile" embed run --data digits.h5 --out projector --format projector
expect 69 "evaluate.neighbours_every_epochs: pictures cannot be drawn" "$simile" pretrain job.yaml run=other evaluate.neighbours_every_epochs=1
[ ! -e views.png ] && [ ! -e grid.png ] || fail "a picture was written"
expect 0 "no augmented views: pictures cannot be drawn" "$simile" report run --out page.html
[ -s page.html ] || fail "no report"
echo ok
