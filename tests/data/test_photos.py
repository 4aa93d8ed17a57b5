#!/usr/bin/python3
"""Decoded photos against sizes and means computed by Pillow, and bad files against the expected
result.

The means of the whole image and of its upper left quarter reveal a missing or wrong rotation.  The
photos are drawn; those of SIMILE_SHARED, with means in expected.csv, are used too if they exist.
"""
import csv
import os
import subprocess
import sys
import tempfile
import zlib

import numpy as np
from PIL import Image, ImageOps

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
import pictures

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "data_tool_decode")
SHARED = os.path.join(os.environ["SIMILE_SHARED"], "data")
failures = []


def decode(paths):
    run = subprocess.run([TOOL, *paths], check=True, capture_output=True)
    lines = run.stdout.decode(errors="replace").splitlines()
    assert len(lines) == len(paths), f"{len(lines)} lines for {len(paths)} files"
    return [line.split() for line in lines]


# ---- photos: (path, mode, [width, height], means) ----


def means(pixels):
    """Of red, green and blue, over the whole image and over its upper left quarter."""
    h, w = pixels.shape[:2]
    quarter = pixels[: max(h // 2, 1), : max(w // 2, 1)]
    return [part[..., c].mean() for part in (pixels, quarter) for c in range(3)]


def expected_by_pillow(path):
    image = ImageOps.exif_transpose(Image.open(path))
    pixels = np.asarray(image.convert("RGB"), float)
    return path, image.mode, list(image.size), means(pixels)


def write_texts(path):
    """A photo with every chunk that only describes it; compressed ones are corrupt, or expand to 8 MB."""
    photo = pictures.draw(9, 40, 30)
    bomb, corrupt = zlib.compress(bytes(8 << 20)), b"x\x9c not zlib"
    extra = [(b"tEXt", b"Title\0a text"), (b"sPLT", b"palette\0\x08" + bytes(600)), (b"iCCP", b"icc\0\0" + corrupt)]
    extra += [(b"zTXt", b"Comment\0\0" + data) for data in [corrupt] + [bomb] * 200]
    extra += [(b"iTXt", b"Comment\0\1\0\0\0" + data) for data in [corrupt] + [bomb] * 200]
    pictures.write_png(path, photo, b"".join(pictures.chunk(kind, data) for kind, data in extra))
    return path, "with texts", [40, 30], means(photo)


def drawn_photos(directory):
    pictures.write_photos(directory)
    rows = [expected_by_pillow(os.path.join(d, n)) for d, _, names in os.walk(directory) for n in names]
    for name, size in (("pixel.png", (1, 1)), ("narrow.jpg", (1, 64)), ("wide.png", (300, 2))):
        path = os.path.join(directory, name)
        Image.fromarray(pictures.draw(7, *size)).save(path)
        rows.append(expected_by_pillow(path))
    color = np.random.RandomState(5).randint(0, 65536, (30, 40, 3))
    for name, pixels in (("gray16.png", color[..., 0]), ("rgb16.png", color)):
        path = os.path.join(directory, name)
        pictures.write_png16(path, pixels)
        wide = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1)
        rows.append((path, "16 bits", [40, 30], means(wide / 257)))
    rows.append(write_texts(os.path.join(directory, "texts.png")))
    return rows


def shared_photos():
    rows = []
    with open(os.path.join(SHARED, "photos", "expected.csv"), encoding="utf-8") as f:
        for r in csv.DictReader(f):
            rows.append((os.path.join(SHARED, "photos", r["path"]), r["mode"], [int(r["upright_w"]), int(r["upright_h"])],
                         [float(r[f"{part}_{c}"]) for part in ("mean", "topleft") for c in "rgb"]))
    return rows


def wrong(mode, size, want, words):
    """The defect of an image, or None."""
    if words[0] != "0":
        return "refused: " + " ".join(words)
    if [int(v) for v in words[1:3]] != size:
        return f"size {words[1:3]}, expected {size}"
    if words[3] != "0":
        return f"{words[3]} warnings for a good file"
    got, bound = [float(v) for v in words[4:]], 3 if mode == "CMYK" else 1.5
    error = max(abs(g - w) for g, w in zip(got, want))
    return None if error <= bound else f"means {got}, expected {want}"


def check_photos(rows):
    assert len(rows) > 30
    for (path, mode, size, want), words in zip(rows, decode([row[0] for row in rows])):
        why = wrong(mode, size, want, words)
        failures.extend([f"{path} ({mode}): {why}"] if why else [])


# ---- bad files ----

# name: part of the error message
REFUSED = {
    "truncated_half.jpg": "ends early",
    "truncated_header.jpg": "",
    "zero_byte.jpg": "is empty",
    "zero_byte.png": "is empty",
    "text.jpg": "not an image of a known format",
    "html_error_page.jpg": "not an image of a known format",
    "huge_dims.jpg": "65500 x 65500",
    "zero_dims.jpg": "",
    "no_quant_table.jpg": "uantization table",
    "bomb_60000x60000.png": "60000 x 60000",
    "bomb_30000x30000_1bit.png": "30000 x 30000",
    "dims_over_int31.png": "",
    "zero_dims.png": "",
    "bad_crc.png": "CRC",
    "truncated.png": "is truncated",
    "no_iend.png": "",
}
KEPT = {"no_eoi.jpg": True, "gif_renamed.jpg": False, "jpeg_named.png": False, "png_named.jpg": False}


def check_bad(directory):
    names = sorted(n for n in os.listdir(directory) if n.endswith(("jpg", "png")))
    for name, words in zip(names, decode([os.path.join(directory, n) for n in names])):
        text = " ".join(words[4:])
        if name in REFUSED and (words[0] != "65" or name not in text or REFUSED[name] not in text):
            failures.append(f"{directory}/{name}: expected 65 and \"{REFUSED[name]}\", got {words}")
        if name in KEPT and (words[0] != "0" or (words[3] != "0") != KEPT[name]):
            failures.append(f"{directory}/{name}: expected to be kept, warned {KEPT[name]}, got {words}")
        print(name, *words[:4], text)
    assert set(REFUSED) | set(KEPT) <= set(names)


with tempfile.TemporaryDirectory() as scratch:
    check_photos(drawn_photos(os.path.join(scratch, "photos")))
    pictures.write_bad(os.path.join(scratch, "bad"))
    check_bad(os.path.join(scratch, "bad"))
if os.path.isdir(SHARED):
    check_photos(shared_photos())
    check_bad(os.path.join(SHARED, "bad"))
else:
    print(f"skipped: the photographs of {SHARED}, which does not exist; drawn ones were used")
print("\n".join(failures) or "ok")
sys.exit(bool(failures))
