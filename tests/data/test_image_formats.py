#!/usr/bin/python3
"""TIFF, WebP, GIF, BMP and NumPy files: every sample equals the array that tifffile, Pillow and NumPy wrote,
or that Pillow reads.  Malformed files are refused with a message: cut at every offset, with one byte
changed, with extreme tags.

simile-test: timeout 300
"""
import io
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np
import tifffile
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
import pictures

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "data_tool_samples")
random = np.random.RandomState(7)
failures, cases = [], []


def run(paths, pages="first"):
    done = subprocess.run([TOOL, pages, *paths], capture_output=True)
    assert done.returncode == 0, f"exit {done.returncode} for {paths[0]} ...: {done.stderr.decode()[-2000:]}"
    lines = done.stdout.decode(errors="replace").splitlines()
    assert len(lines) == len(paths), f"{len(lines)} lines for {len(paths)} files"
    return lines


def samples(line, path):
    h, w, c = (int(v) for v in line.split()[1:4])
    return np.fromfile(path + ".raw", line.split()[4]).reshape(h, w, c)


def case(name, data, want, pages="first", more=False, tolerance=0):
    """data: bytes of the file; want: [h][w][c], or a part of the error message."""
    with open(name, "wb") as f:
        f.write(data)
    if not isinstance(want, str):
        want = np.asarray(want)
        want = want[..., None] if want.ndim == 2 else want
    cases.append((name, want, pages, more, tolerance))


def defect(line, name, want, more, tolerance):
    if isinstance(want, str):
        code, _, text = line.partition(" ")
        return None if code == "65" and name in text and want in text else f"expected 65 and {want!r}, got {line!r}"
    if not line.startswith("0 "):
        return f"refused: {line}"
    got = samples(line, name)
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.shape} of {got.dtype}, expected {want.shape} of {want.dtype}"
    if int(line.split()[5]) != more:
        return f"more: {line}"
    if line.split()[6] != "0":
        return f"a warning for a good file: {line}"
    wrong = np.abs(got.astype(float) - want.astype(float)) > tolerance
    return f"{wrong.sum()} of {wrong.size} samples differ" if wrong.any() else None


def check_cases():
    for pages in ("first", "channels"):
        chosen = [c for c in cases if c[2] == pages]
        for (name, want, _, more, tolerance), line in zip(chosen, run([c[0] for c in chosen], pages)):
            why = defect(line, name, want, more, tolerance)
            failures.extend([f"{name} ({pages}): {why}"] if why else [])


def integers(shape, dtype):
    i = np.iinfo(dtype)
    return random.randint(i.min, i.max, shape, dtype=dtype)


def upright(x, orientation):
    """The image that is displayed for a stored one and the tag Orientation of TIFF and EXIF."""
    swapped = x.transpose(1, 0, 2)
    return {1: x, 2: x[:, ::-1], 3: x[::-1, ::-1], 4: x[::-1], 5: swapped, 6: swapped[:, ::-1], 7: swapped[::-1, ::-1],
            8: swapped[::-1]}[orientation]


# ---- TIFF ----


def tiff(*pages, bigtiff=False, order="<", **options):
    out = io.BytesIO()
    with tifffile.TiffWriter(out, bigtiff=bigtiff, byteorder=order) as t:
        for page in pages:
            t.write(page, contiguous=False, metadata=None, **options)
    return out.getvalue()


def by_pillow(image, kind="TIFF", **options):
    return pictures.encode(image, kind, **options)


def as_samples(x):
    """The rule for types: unsigned of up to 16 bits as they are, all others float32."""
    return x if x.dtype in (np.uint8, np.uint16) else x.astype("f4")


def tiff_numbers():
    for dtype in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"):
        x = integers((13, 17), dtype)
        for order in "<>":
            case(f"{dtype}{'le' if order == '<' else 'be'}.tif", tiff(x, order=order), as_samples(x))
    for dtype in ("f2", "f4", "f8"):
        x = (random.randn(13, 17) * 1000).astype(dtype)
        x[0, :4] = [0, -0.0, np.finfo(dtype).tiny / 4, 60000]
        for order in "<>":
            case(f"{dtype}{'le' if order == '<' else 'be'}.tif", tiff(x, order=order), as_samples(x))
    case("f8huge.tif", tiff(np.full((3, 3), 1e300)), "float32 cannot represent")
    x = np.array([[np.nan, np.inf]], "f4")
    case("nan.tif", tiff(np.nan_to_num(x)), np.nan_to_num(x))
    case("complex.tif", tiff(np.ones((3, 3), "c8")), "complex")


def tiff_layouts():
    for c in (2, 3, 5, 31, 64):
        x = integers((37, 41, c), "u2")
        gray = {"photometric": "rgb" if c == 3 else "minisblack"}
        for name, o in {"strips": {"rowsperstrip": 7}, "tiles": {"tile": (16, 32)}, "one": {}}.items():
            case(f"contig{c}{name}.tif", tiff(x, planarconfig="contig", **gray, **o), x)
            case(f"separate{c}{name}.tif", tiff(x.transpose(2, 0, 1), planarconfig="separate", **gray, **o), x)
    x = integers((5, 6, 65), "u1")
    case("65channels.tif", tiff(x, planarconfig="contig", photometric="minisblack"), "65 channels")
    x = integers((40, 50, 3), "u1")
    case("big.tif", tiff(x, bigtiff=True), x)
    case("bigbe.tif", tiff(x, bigtiff=True, order=">"), x)
    for name, compression in {"lzw": "tiff_lzw", "deflate": "tiff_adobe_deflate", "packbits": "packbits", "raw": "raw"}.items():
        case(f"{name}.tif", by_pillow(Image.fromarray(x), compression=compression), x)
    x = random.randn(30, 40).astype("f4")
    case("float_predictor.tif", tiff(x, compression="zlib", predictor=False), x)


def tiff_colors():
    photo = Image.fromarray(pictures.draw(3, 61, 43))
    alpha = np.asarray(pictures.with_alpha(photo))
    case("alpha.tif", by_pillow(pictures.with_alpha(photo)), alpha[..., :3])
    for kind in ("unassalpha", "assocalpha"):
        case(f"{kind}.tif", tiff(alpha, photometric="rgb", extrasamples=[kind]), alpha[..., :3])
    case("extra.tif", tiff(alpha, photometric="rgb", extrasamples=["unspecified"]), alpha)
    la = np.asarray(pictures.with_alpha(photo).convert("LA"))
    case("gray_alpha.tif", tiff(la, photometric="minisblack", extrasamples=["unassalpha"], planarconfig="contig"), la[..., :1])
    palette = photo.quantize(64)
    case("palette.tif", by_pillow(palette), np.asarray(palette.convert("RGB")))
    case("bilevel.tif", by_pillow(photo.convert("1")), np.asarray(photo.convert("1")).astype("u1") * 255)
    case("group4.tif", by_pillow(photo.convert("1"), compression="group4"), np.asarray(photo.convert("1")).astype("u1") * 255)
    gray = np.asarray(photo.convert("L"))
    case("white.tif", tiff(gray, photometric="miniswhite"), 255 - gray)
    deep = integers((9, 8), "u2")
    case("white16.tif", tiff(deep, photometric="miniswhite"), 65535 - deep)
    cmyk = integers((21, 22, 4), "u1")
    ink = 255.0 - cmyk
    rgb = np.floor(ink[..., :3] * ink[..., 3:] / 255 + 0.5).astype("u1")
    case("cmyk.tif", tiff(cmyk, photometric="separated"), rgb, tolerance=1)
    case("cmyk_pillow.tif", by_pillow(Image.fromarray(cmyk, "CMYK")), rgb, tolerance=1)
    for quality in (75, 95):
        data = by_pillow(photo, compression="jpeg", quality=quality)
        case(f"jpeg{quality}.tif", data, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), tolerance=1)
    data = by_pillow(photo.convert("L"), compression="jpeg")
    case("jpeg_gray.tif", data, np.asarray(Image.open(io.BytesIO(data))), tolerance=1)
    lab = by_pillow(photo.convert("RGB")).replace(struct.pack("<HHIH", 262, 3, 1, 2), struct.pack("<HHIH", 262, 3, 1, 8))
    case("lab.tif", lab, "PhotometricInterpretation 8")
    for k in range(1, 9):
        case(f"orientation{k}.tif", by_pillow(photo, tiffinfo={274: k}), upright(np.asarray(photo), k))


def tag_entry(tag, kind, values):
    """An entry of a directory with up to 4 bytes of values."""
    size = {3: "H", 4: "I"}[kind]
    return struct.pack("<HHI", tag, kind, len(values)) + struct.pack(f"<{len(values)}{size}", *values).ljust(4, b"\0")


def raw_tiff(w, h, bits, data, photometric=1, samples=1, **more):
    """One strip, by hand."""
    tags = {256: (4, [w]), 257: (4, [h]), 258: (3, [bits]), 259: (3, [1]), 262: (3, [photometric]), 273: (4, [0]),
            277: (3, [samples]), 278: (4, [h]), 279: (4, [len(data)]), **{int(k[1:]): v for k, v in more.items()}}
    directory = 8 + len(data) + len(data) % 2
    tags[273] = (4, [8])
    entries = b"".join(tag_entry(t, *tags[t]) for t in sorted(tags))
    return struct.pack("<2sHI", b"II", 42, directory) + data.ljust(directory - 8, b"\0") + struct.pack("<H", len(tags)) + entries + bytes(4)


def packed(values, bits):
    """Rows of samples of `bits` bits from the most significant one, each row on whole bytes."""
    rows = []
    for row in values:
        text = "".join(f"{v:0{bits}b}" for v in row)
        text += "0" * (-len(text) % 8)
        rows.append(bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8)))
    return b"".join(rows)


def tiff_bits():
    for bits in (*range(1, 8), *range(9, 16)):
        x = random.randint(0, 1 << bits, (7, 9))
        want = np.floor(x * 255 / ((1 << bits) - 1) + 0.5).astype("u1") if bits < 8 else x.astype("u2")
        case(f"bits{bits}.tif", raw_tiff(9, 7, bits, packed(x, bits)), want)
    x = random.randint(0, 16, (7, 9))
    case("white4.tif", raw_tiff(9, 7, 4, packed(x, 4), photometric=0), (255 - x * 17).astype("u1"))
    case("bits24.tif", raw_tiff(2, 2, 24, bytes(12)), "unsigned samples of 24 bits")


def tiff_ycbcr():
    """Without JPEG compression and subsampling."""
    ycc = integers((10, 12, 3), "u1")
    data = raw_tiff(12, 10, 8, ycc.tobytes(), photometric=6, samples=3, t530=(3, [1, 1]))
    want = np.asarray(Image.fromarray(ycc, "YCbCr").convert("RGB"))
    case("ycbcr.tif", data, want, tolerance=2)


def tiff_pages():
    x = integers((5, 20, 30), "u2")
    stack, mixed = tiff(*x), tiff(x[0], x[1, :10])
    case("stack.tif", stack, x[0], more=True)
    case("stack_channels.tif", stack, x.transpose(1, 2, 0), pages="channels")
    case("single_channels.tif", tiff(x[0]), x[0], pages="channels")
    rgb = integers((20, 30, 3), "u1")
    case("rgb_channels.tif", tiff(rgb), rgb, pages="channels")
    case("rgb_pages.tif", tiff(rgb, rgb), "page 2 has 30 x 20 pixels of 3 channels", pages="channels")
    case("mixed.tif", mixed, x[0], more=True)
    case("mixed_channels.tif", mixed, "page 2 has 30 x 10", pages="channels")
    case("types_channels.tif", tiff(x[0], x[0].astype("u1")), "uint8, page 1", pages="channels")
    case("64pages.tif", tiff(*integers((64, 3, 4), "u1")), None, pages="channels")
    cases[-1] = ("64pages.tif", tifffile.imread("64pages.tif").transpose(1, 2, 0), "channels", False, 0)
    case("65pages.tif", tiff(*integers((65, 3, 4), "u1")), "more than 64 pages", pages="channels")
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as t:  # a thumbnail before, and a mask and another thumbnail behind
        t.write(x[1, :5, :5], subfiletype=1, metadata=None)
        t.write(x[0], metadata=None)
        t.write(x[2], subfiletype=2, metadata=None)
        t.write(x[1, :5, :5], subfiletype=1, metadata=None)
    data = out.getvalue().replace(struct.pack("<HHII", 254, 4, 1, 2), struct.pack("<HHII", 254, 4, 1, 4))
    assert data != out.getvalue()
    case("thumbnail.tif", data, x[0])
    case("thumbnail_channels.tif", data, x[0], pages="channels")
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as t:
        t.write(x[0], subifds=1, metadata=None)
        t.write(x[0, ::2, ::2], subfiletype=1, metadata=None)
    case("subifd.tif", out.getvalue(), x[0])
    out = io.BytesIO()
    tifffile.imwrite(out, x, imagej=True)
    case("imagej.tif", out.getvalue(), x[0], more=True)
    out = io.BytesIO()
    tifffile.imwrite(out, x, ome=True, photometric="minisblack")
    case("ome.tif", out.getvalue(), x[0], more=True)


def tiff_hostile():
    good = integers((4, 4), "u1").tobytes()
    case("huge.tif", raw_tiff(2**20, 2**20, 8, good), "pixels, expected 1 to")
    case("huge32.tif", raw_tiff(2**31, 2**31, 8, good), "")
    case("wide.tif", raw_tiff(2**31 - 1, 1, 8, good), "pixels, expected 1 to")
    case("zero_width.tif", raw_tiff(0, 4, 8, good), "zero_width.tif")
    case("zero_height.tif", raw_tiff(4, 0, 8, good), "zero_height.tif")
    case("zero_samples.tif", raw_tiff(4, 4, 8, good, samples=0), "")
    case("short.tif", raw_tiff(4000, 4000, 8, good), "truncated")
    case("many.tif", raw_tiff(4, 4, 8, good, samples=65535), "65535 channels")
    case("deep.tif", raw_tiff(8000, 8000, 32, good, samples=64), "at most 1073741824 bytes")
    case("large_tile.tif", raw_tiff(4, 4, 8, good, t322=(4, [2**31]), t323=(4, [2**31]), t324=(4, [8]), t325=(4, [16])), "")
    case("ojpeg.tif", raw_tiff(4, 4, 8, good, t259=(3, [6])), "Compression 6")
    case("unknown_compression.tif", raw_tiff(4, 4, 8, good, t259=(3, [4711])), "")
    loop = bytearray(tiff(integers((4, 4), "u1"), integers((4, 4), "u1")))
    first = struct.unpack("<I", loop[4:8])[0]
    n = struct.unpack("<H", loop[first : first + 2])[0]
    loop[first + 2 + 12 * n : first + 6 + 12 * n] = struct.pack("<I", first)
    case("loop.tif", bytes(loop), "", pages="channels")


# ---- WebP, GIF, BMP ----


def webp():
    photo = Image.fromarray(pictures.draw(11, 67, 45))
    for name, o in {"lossy": {"quality": 70}, "lossless": {"lossless": True}}.items():
        data = pictures.encode(photo, "WEBP", **o)
        case(f"{name}.webp", data, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    rgba = pictures.with_alpha(photo)
    data = pictures.encode(rgba, "WEBP", lossless=True, exact=True)
    case("alpha.webp", data, np.asarray(rgba)[..., :3])
    exif = Image.Exif()
    for k in range(1, 9):
        exif[pictures.ORIENTATION] = k
        data = pictures.encode(photo, "WEBP", lossless=True, exif=exif)
        case(f"orientation{k}.webp", data, upright(np.asarray(photo), k))
    frames = [Image.fromarray(pictures.draw(20 + k, 30, 20)) for k in range(3)]
    data = pictures.encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    case("animation.webp", data, np.asarray(frames[0]), more=True)
    good = pictures.encode(photo, "WEBP")
    case("half.webp", good[: len(good) // 2], "truncated")
    # a canvas of 2^14 x 2^14, 2^28 pixels, with a small frame
    canvas = (2**14 - 1).to_bytes(3, "little") * 2
    small = pictures.encode(frames[0], "WEBP")[12:]
    large = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas + small
    case("huge.webp", b"RIFF" + struct.pack("<I", 4 + len(large)) + b"WEBP" + large, "huge.webp")


def gif_lzw(indices):
    """Image data of 8 bits that resets its table before it grows."""
    bits = "".join(f"{v:09b}"[::-1] for i, b in enumerate(indices) for v in ([256] if i % 200 == 0 else []) + [b])
    bits += f"{257:09b}"[::-1]
    bits += "0" * (-len(bits) % 8)
    data = bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))
    blocks = b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255))
    return b"\x08" + blocks + b"\0"


def raw_gif(screen, frame, indices, palette, background=0, transparent=None, interlace=False):
    """screen: (w, h); frame: (x, y, w, h)"""
    out = b"GIF89a" + struct.pack("<2HBBB", *screen, 0xF7, background, 0) + palette.tobytes()
    if transparent is not None:
        out += b"\x21\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    return out + b"\x2c" + struct.pack("<4HB", *frame, 0x40 if interlace else 0) + gif_lzw(indices) + b"\x3b"


def gif():
    photo = Image.fromarray(pictures.draw(12, 53, 47))
    for name, image in {"plain": photo.quantize(100), "gray": photo.convert("L"), "two": photo.convert("1")}.items():
        case(f"{name}.gif", pictures.encode(image, "GIF"), np.asarray(image.convert("RGB")))
    palette, indices = integers((256, 3), "u1"), integers((9, 11), "u1")
    canvas = np.empty((20, 30, 3), "u1")
    for name, transparent, background in (("background", None, 7), ("transparent", 5, 7)):
        canvas[:] = palette[background if transparent is None else transparent]
        canvas[4:13, 3:14] = palette[indices]
        data = raw_gif((30, 20), (3, 4, 11, 9), indices.ravel(), palette, background, transparent)
        case(f"{name}.gif", data, canvas.copy())
    order = [y for first, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(first, 9, step)]
    data = raw_gif((11, 9), (0, 0, 11, 9), indices[order].ravel(), palette, interlace=True)
    case("interlaced.gif", data, palette[indices])
    data = raw_gif((2, 2), (3, 4, 11, 9), indices.ravel(), palette)
    canvas = np.empty((13, 14, 3), "u1")
    canvas[:] = palette[0]
    canvas[4:, 3:] = palette[indices]
    case("exceeds.gif", data, canvas)
    frames = [Image.fromarray(pictures.draw(30 + k, 30, 20)).quantize(30) for k in range(3)]
    data = pictures.encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    case("animation.gif", data, np.asarray(frames[0].convert("RGB")), more=True)
    case("huge.gif", raw_gif((65535, 65535), (0, 0, 1, 1), [0], palette), "65535 x 65535")
    case("no_frame.gif", b"GIF89a" + struct.pack("<2HBBB", 4, 4, 0, 0, 0) + b"\x3b" + bytes(20), "contains no image")
    case("no_palette.gif", b"GIF89a" + struct.pack("<2HBBB", 4, 4, 0, 0, 0) + b"\x2c" + struct.pack("<4HB", 0, 0, 4, 4, 0)
         + gif_lzw([0] * 16) + b"\x3b", "no palette")


def bmp_rows(rows, top_down):
    rows = [r + bytes(-len(r) % 4) for r in rows]
    return b"".join(rows if top_down else rows[::-1])


def raw_bmp(w, h, bits, data, coding=0, masks=(), palette=None, header=40):
    palette = b"" if palette is None else np.pad(palette[:, ::-1], ((0, 0), (0, 1))).astype("u1").tobytes()
    fields = struct.pack("<IiiHHIIiiII", header, w, h, 1, bits, coding, len(data), 0, 0, len(palette) // 4, 0)
    extra = struct.pack(f"<{len(masks)}I", *masks)
    extra = extra if header == 40 else extra.ljust(header - 40, b"\0")
    at = 14 + 40 + len(extra) + len(palette)
    return b"BM" + struct.pack("<IHHI", at + len(data), 0, 0, at) + fields + extra + palette + data


def bmp():
    photo = Image.fromarray(pictures.draw(13, 53, 47))
    for name, image in {"rgb": photo, "gray": photo.convert("L"), "palette": photo.quantize(50), "two": photo.convert("1"),
                        "rgba": pictures.with_alpha(photo)}.items():
        case(f"{name}.bmp", pictures.encode(image, "BMP"), np.asarray(image.convert("RGB")))
    palette = integers((16, 3), "u1")
    x = random.randint(0, 16, (5, 7))
    for h in (5, -5):
        rows = bmp_rows([packed([r], 4) for r in x], h < 0)
        case(f"four{h}.bmp", raw_bmp(7, h, 4, rows, palette=palette), palette[x])
    case("index.bmp", raw_bmp(7, 5, 4, rows, palette=palette[:8]), "outside of its palette")
    v = integers((5, 7), "u2")
    shifts = {"555": ((10, 31), (5, 31), (0, 31)), "565": ((11, 31), (5, 63), (0, 31))}
    for name, parts in shifts.items():
        want = np.stack([np.floor((v >> s & m) * 255 / m + 0.5) for s, m in parts], -1).astype("u1")
        rows = bmp_rows([r.astype("<u2").tobytes() for r in v], False)
        masks = [m << s for s, m in parts]
        for header in (40, 56, 124):
            case(f"{name}_{header}.bmp", raw_bmp(7, 5, 16, rows, 3, masks, header=header), want)
        if name == "555":
            case("default555.bmp", raw_bmp(7, 5, 16, rows), want)
    v = integers((5, 7), "u4")
    want = np.stack([np.floor((v >> s & 1023) * 255 / 1023 + 0.5) for s in (20, 10, 0)], -1).astype("u1")
    rows = bmp_rows([r.astype("<u4").tobytes() for r in v], False)
    case("tenbits.bmp", raw_bmp(7, 5, 32, rows, 3, [1023 << 20, 1023 << 10, 1023]), want)
    case("mask.bmp", raw_bmp(7, 5, 32, rows, 3, [0x5, 0xF0, 0xF00]), "not consecutive bits")
    # RLE8: a run, absolute pixels with padding, a skip, an end of row
    code = bytes([3, 9, 0, 3, 1, 2, 3, 0, 1, 4, 0, 0, 0, 2, 2, 1, 2, 7, 0, 1])
    want = np.zeros((4, 7), int)
    want[0], want[2, 2:4] = [9, 9, 9, 1, 2, 3, 4], 7
    case("rle8.bmp", raw_bmp(7, 4, 8, code, 1, palette=np.pad(palette, ((0, 240), (0, 0)))), palette[want[::-1]])
    code = bytes([5, 0x9A, 0, 0, 0, 5, 0x12, 0x34, 0x50, 0, 0, 1])
    want = np.zeros((2, 7), int)
    want[0, :5], want[1, :5] = [9, 10, 9, 10, 9], [1, 2, 3, 4, 5]
    case("rle4.bmp", raw_bmp(7, 2, 4, code, 2, palette=palette), palette[want[::-1]])
    for name, bad in {"run": [8, 1], "row": [1, 1, 0, 0] * 5, "skip": [0, 2, 9, 9], "absolute": [0, 200, 1], "none": [0]}.items():
        case(f"rle_{name}.bmp", raw_bmp(7, 2, 8, bytes(bad), 1, palette=np.zeros((256, 3), "u1")),
             "run lengths" if name != "row" else np.zeros((2, 7, 3), "u1"))
    good = pictures.encode(photo, "BMP")
    case("half.bmp", good[: len(good) // 2], "truncated")
    case("huge.bmp", raw_bmp(2**31 - 1, 2**31 - 1, 24, b"0" * 40), "pixels, expected 1 to")
    case("lowest.bmp", raw_bmp(1, -(2**31), 24, b"0" * 40), "pixels, expected 1 to")
    case("negative.bmp", raw_bmp(-5, 5, 24, b"0" * 40), "-5 x 5")
    case("zero.bmp", raw_bmp(5, 0, 24, b"0" * 40), "pixels, expected 1 to")
    case("jpeg_in.bmp", raw_bmp(5, 5, 0, b"0" * 40, coding=4), "compression 4")
    case("os2.bmp", raw_bmp(5, 5, 24, b"0" * 200, header=64), "header of 64 bytes")


# ---- NumPy ----


def npy(x, version=None, **o):
    out = io.BytesIO()
    np.lib.format.write_array(out, x, version=version, **o)
    return out.getvalue()


def numpy_arrays():
    for dtype in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"):
        for order in "<>":
            x = integers((9, 8), dtype)
            case(f"{dtype}{order}.npy", npy(x.astype(order + dtype)), as_samples(x))
    for dtype in ("f2", "f4", "f8"):
        for order in "<>":
            x = random.randn(9, 8).astype(dtype)
            case(f"{dtype}{order}.npy", npy(x.astype(order + dtype)), as_samples(x))
    x = random.rand(9, 8) > 0.5
    case("bool.npy", npy(x), x.astype("u1") * 255)
    for version in ((1, 0), (2, 0), (3, 0)):
        x = integers((6, 7, 3), "u1")
        case(f"version{version[0]}.npy", npy(x, version), x)
    case("chw.npy", npy(x.transpose(2, 0, 1).copy()), x)
    x = integers((30, 40, 12), "u2")
    case("hwc12.npy", npy(x), x)
    case("chw12.npy", npy(np.ascontiguousarray(x.transpose(2, 0, 1))), x)
    case("fortran.npy", npy(np.asfortranarray(x)), "Fortran")
    case("object.npy", npy(np.array([[1, None]], object), allow_pickle=True), "pickle")
    case("structure.npy", npy(np.zeros((2, 2), "u1,f4")), "structures")
    case("complex.npy", npy(np.zeros((2, 2), "c8")), "c8")
    case("text.npy", npy(np.array([["a"]])), "text")
    case("scalar.npy", npy(np.array(3)), "0 dimensions")
    case("vector.npy", npy(np.zeros(3)), "1 dimensions")
    case("ambiguous.npy", npy(np.zeros((20, 20, 20), "u1")), "ambiguous")
    case("empty.npy", npy(np.zeros((0, 4), "u1")), "pixels")
    case("short.npy", npy(integers((9, 8), "u1"))[:-1], "truncated")

    def header(text, version=1):
        text = text.encode() + b"\n"
        return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text

    shape = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"
    case("large.npy", header(shape % "(2147483648, 2147483648)") + bytes(30), "pixels")
    case("overflow.npy", header(shape % "(4294967296, 4294967296, 4294967296)") + bytes(30), "too large")
    case("digits.npy", header(shape % f"({'9' * 40}, 2)") + bytes(30), "dictionary")
    for name, text in {"code": "__import__('os').system('false')", "twice": "{'shape': (2, 2), 'shape': (2, 2)}",
                       "missing": "{'descr': '|u1', 'shape': (2, 2)}", "negative": shape % "(-2, 2)",
                       "open": "{'descr': '|u1", "list": shape % "[2, 2]", "six": shape % "(1, 1, 1, 1, 1, 1)"}.items():
        case(f"header_{name}.npy", header(text) + bytes(30), "dictionary")
    case("header_long.npy", b"\x93NUMPY\x02\0" + struct.pack("<I", 2**31) + bytes(30), "header")
    case("version9.npy", b"\x93NUMPY\x09\0" + bytes(40), "version")


# ---- damage: no crash, no hang, and never pixels of a file that is cut ----


def damaged():
    small = {
        "cut.tif": tiff(integers((6, 5, 3), "u1")),
        "cut_lzw.tif": by_pillow(Image.fromarray(integers((6, 5, 3), "u1")), compression="tiff_lzw"),
        "cut.webp": pictures.encode(Image.fromarray(integers((6, 5, 3), "u1")), "WEBP", lossless=True),
        "cut.gif": pictures.encode(Image.fromarray(integers((6, 5), "u1")), "GIF"),
        "cut.bmp": pictures.encode(Image.fromarray(integers((6, 5, 3), "u1")), "BMP"),
        "cut.npy": npy(integers((6, 5, 3), "u1")),
    }
    paths, whole, kept = [], {}, {}
    for name, data in small.items():
        with open(name, "wb") as f:
            f.write(data)
        whole[name] = samples(run([name])[0], name)
        kept[name] = 0
        for n in range(len(data)):
            for tag, damage in (("cut", data[:n]), ("bit", data[:n] + bytes([data[n] ^ 1 << n % 8]) + data[n + 1 :])):
                path = f"{n}_{tag}_{name}"
                with open(path, "wb") as f:
                    f.write(damage)
                paths.append((path, name, tag))
    for at in range(0, len(paths), 400):
        chunk = paths[at : at + 400]
        for (path, name, tag), line in zip(chunk, run([p[0] for p in chunk])):
            code = line.split(" ")[0]
            if code not in ("0", "65"):
                failures.append(f"{path}: {line}")
            if tag == "cut" and code == "0" and not np.array_equal(samples(line, path), whole[name]):
                failures.append(f"{path}: a cut file is read as another image")
            kept[name] += tag == "cut" and code == "0"
    print("cut files that are complete:", kept)


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    for write in (tiff_numbers, tiff_layouts, tiff_colors, tiff_bits, tiff_ycbcr, tiff_pages, tiff_hostile, webp, gif, bmp, numpy_arrays):
        write()
    check_cases()
    damaged()
print("\n".join(failures) or f"ok: {len(cases)} files")
sys.exit(bool(failures))
