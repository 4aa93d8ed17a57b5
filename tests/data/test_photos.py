#!/usr/bin/python3
"""Decoded photos against sizes and means computed by Pillow, and bad files against the expected
result.

expected.csv of the developers' data contains the size and the means of the image and of its upper
left quarter, which reveal a missing or wrong rotation.
"""
import csv
import os
import subprocess
import sys

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "data_tool_decode")
DATA = os.path.join(os.environ["SIMILE_SHARED"], "data")
if not os.path.isdir(DATA):
    print("skipped: the developers' photographs are not here")
    sys.exit(77)


def decode(paths):
    run = subprocess.run([TOOL, *paths], check=True, capture_output=True)
    lines = run.stdout.decode(errors="replace").splitlines()
    assert len(lines) == len(paths), f"{len(lines)} lines for {len(paths)} files"
    return [line.split() for line in lines]


def column(row, part):
    return [float(row[f"{part}_{c}"]) for c in "rgb"]


def wrong(row, words):
    """The defect of an image, or None."""
    if words[0] != "0":
        return "refused: " + " ".join(words)
    if words[1:3] != [row["upright_w"], row["upright_h"]]:
        return f"size {words[1:3]}"
    bound = 3 if row["mode"] == "CMYK" else 1.5
    got, want = [float(v) for v in words[4:]], column(row, "mean") + column(row, "topleft")
    error = max(abs(g - w) for g, w in zip(got, want))
    return None if error <= bound else f"means {got}, expected {want}"


failures = []
with open(os.path.join(DATA, "photos", "expected.csv"), encoding="utf-8") as f:
    rows = list(csv.DictReader(f))
assert len(rows) > 30
for row, words in zip(rows, decode([os.path.join(DATA, "photos", r["path"]) for r in rows])):
    failures += [f"{row['path']} ({row['what']}): {why}" for why in [wrong(row, words)] if why]
    if words[0] == "0" and words[3] != "0":
        failures.append(f"{row['path']}: {words[3]} warnings for a good file")

# name: part of the error message
REFUSED = {
    "truncated_half.jpg": "ends early",
    "truncated_header.jpg": "",
    "zero_byte.jpg": "is empty",
    "zero_byte.png": "is empty",
    "text.jpg": "neither JPEG nor PNG",
    "html_error_page.jpg": "neither JPEG nor PNG",
    "gif_renamed.jpg": "neither JPEG nor PNG",
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
KEPT = {"no_eoi.jpg": True, "jpeg_named.png": False, "png_named.jpg": False}
names = sorted(n for n in os.listdir(os.path.join(DATA, "bad")) if n.endswith(("jpg", "png")))
for name, words in zip(names, decode([os.path.join(DATA, "bad", n) for n in names])):
    text = " ".join(words[4:])
    if name in REFUSED and (words[0] != "65" or name not in text or REFUSED[name] not in text):
        failures.append(f"bad/{name}: expected 65 and \"{REFUSED[name]}\", got {words}")
    if name in KEPT and (words[0] != "0" or (words[3] != "0") != KEPT[name]):
        failures.append(f"bad/{name}: expected to be kept, warned {KEPT[name]}, got {words}")
    print(name, *words[:4], text)
assert set(REFUSED) | set(KEPT) <= set(names)

print("\n".join(failures) or "ok")
sys.exit(bool(failures))
