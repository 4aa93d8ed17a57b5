#!/usr/bin/python3
"""Draws photographs of every kind that the program reads, and writes malformed files.

    pictures.py photos DIRECTORY     class directories in train/ and val/
    pictures.py bad DIRECTORY        malformed images, and idx/, cifar/, hdf5/ and folder/

The same bytes at every call.
"""
import io
import os
import struct
import sys
import zlib

import h5py
import numpy as np
from PIL import Image

CLASSES = 10
PER_CLASS = {"train": 6, "val": 3}
ORIENTATION = 0x112  # EXIF tag


# ---- photographs ----


def draw(seed, w, h):
    """A smooth background and ten soft discs, as [h][w][3] of uint8."""
    r = np.random.RandomState(seed)
    y, x = np.mgrid[0:h, 0:w] / max(w, h)
    image = np.stack([a + b * x + c * y for a, b, c in r.uniform(-1, 1, (3, 3))], -1)
    for cx, cy, size, *color in r.uniform(0, 1, (10, 6)):
        edge = (np.hypot(x - cx, y - cy) - 0.05 - 0.2 * size) * 40
        disc = 1 / (1 + np.exp(np.clip(edge, -50, 50)))
        image += disc[..., None] * (np.array(color) * 4 - 2 - image)
    return np.clip(128 + 70 * image + r.normal(0, 3, image.shape), 0, 255).astype("u1")


def encode(image, kind="JPEG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def rotated(image, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(image, exif=exif)


def with_alpha(image):
    image = image.convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.arange(image.width, dtype="u1"), (image.height, 1))))
    return image


def palette_with_transparency(image):
    image = image.quantize(16)
    return encode(image, "PNG", bits=4, transparency=3)


# One photograph of each kind: name -> bytes
KINDS = {
    "progressive.jpg": lambda i: encode(i, progressive=True),
    "gray.jpg": lambda i: encode(i.convert("L")),
    "cmyk.jpg": lambda i: encode(i.convert("CMYK")),
    "chroma_444.jpg": lambda i: encode(i, subsampling=0, quality=95),
    "chroma_422.jpg": lambda i: encode(i, subsampling=1),
    **{f"orientation_{k}.jpg": lambda i, k=k: rotated(i, k) for k in range(1, 9)},
    "no. 1, with spaces.JPEG": encode,
    "flügel.jpeg": encode,
    "odd.jpg": lambda i: encode(i.crop((0, 0, 17, 7))),
    "rgb.png": lambda i: encode(i, "PNG"),
    "alpha.PNG": lambda i: encode(with_alpha(i), "PNG"),
    "palette.png": lambda i: encode(i.quantize(64), "PNG"),
    "palette_transparent.png": palette_with_transparency,
    "gray.png": lambda i: encode(i.convert("L"), "PNG"),
    "gray_alpha.png": lambda i: encode(with_alpha(i).convert("LA"), "PNG"),
    "bilevel.png": lambda i: encode(i.convert("1"), "PNG"),
}


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def write_photos(directory):
    """Writes PER_CLASS plain photographs per class, and one of each kind to train and to val."""
    seed = 0
    for split, n in PER_CLASS.items():
        for i in range(n * CLASSES + len(KINDS)):
            seed += 1
            image = Image.fromarray(draw(seed, 120 + seed * 37 % 181, 100 + seed * 53 % 151))
            if i < n * CLASSES:
                name, data = f"plain_{i // CLASSES}.jpg", encode(image)
            else:
                name, data = list(KINDS.items())[i - n * CLASSES]
                data = data(image)
            write(os.path.join(directory, split, f"class{i % CLASSES}", name), data)


def write_png16(path, pixels):
    """[h][w] or [h][w][3] of uint16, which Pillow cannot write as RGB."""
    h, w = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    write(path, png(w, h, 16, 0 if pixels.ndim == 2 else 2, zlib.compress(rows)))


def write_png(path, pixels, extra=b""):
    """[h][w][3] of uint8, with chunks between the header and the pixels."""
    h, w = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    write(path, png(w, h, 8, 2, zlib.compress(rows), extra=extra))


# ---- malformed images ----


def chunk(kind, data, crc=0):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ crc)


def png(w, h, bits, color, data, crc=0, extra=b""):
    head = struct.pack(">IIBBBBB", w, h, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head, crc) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def segment(jpeg, marker):
    """Offset of the first segment with a marker."""
    at = 2
    while jpeg[at + 1] != marker:
        at += 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
    return at


def with_size(jpeg, w, h):
    at = segment(jpeg, 0xC0) + 5
    return jpeg[:at] + struct.pack(">HH", h, w) + jpeg[at + 4 :]


def without_table(jpeg):
    at = segment(jpeg, 0xDB)
    return jpeg[:at] + jpeg[at + 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0] :]


def corrupted_scan(jpeg):
    data, r = bytearray(jpeg), np.random.RandomState(1)
    for at in r.randint(segment(jpeg, 0xDA) + 14, len(data) - 2, 200):
        data[at] = r.randint(0, 256)
    return bytes(data)


def large_bilevel():
    """A valid image of 30000 x 30000 pixels in 110 KB."""
    z, rows = zlib.compressobj(9), bytes(100 * (1 + 30000 // 8))
    return png(30000, 30000, 1, 0, b"".join([*(z.compress(rows) for _ in range(300)), z.flush()]))


def bad_images():
    picture = Image.fromarray(draw(1000, 204, 300))
    j, p = encode(picture), encode(picture, "PNG")
    few = zlib.compress(bytes(60))
    return {
        "truncated_half.jpg": j[: len(j) // 2],
        "truncated_header.jpg": j[:40],
        "no_eoi.jpg": j[:-2],
        "zero_byte.jpg": b"",
        "zero_byte.png": b"",
        "text.jpg": b"This is a text.\n" * 6,
        "html_error_page.jpg": b"<!DOCTYPE html><html><head><title>404</title></head><body>Not Found</body></html>\n",
        "jpeg_named.png": j,
        "png_named.jpg": p,
        "huge_dims.jpg": with_size(j, 65500, 65500)[:3000],
        "zero_dims.jpg": with_size(j, 0, 0),
        "corrupt_scan.jpg": corrupted_scan(j),
        "no_quant_table.jpg": without_table(j),
        "bomb_60000x60000.png": png(60000, 60000, 8, 2, few),
        "bomb_30000x30000_1bit.png": large_bilevel(),
        "dims_over_int31.png": png(2**31, 1, 8, 0, few),
        "zero_dims.png": png(0, 0, 8, 0, few),
        "bad_crc.png": png(4, 5, 8, 2, zlib.compress(bytes(5 * 13)), crc=1),
        "truncated.png": p[: 2 * len(p) // 3],
        "no_iend.png": p[:-12],
        "gif_renamed.jpg": encode(Image.new("L", (1, 1)), "GIF"),
    }


# ---- malformed data sets ----


def idx(*dims, n_bytes=4 * 28 * 28, magic=0x803):
    return struct.pack(f">{1 + len(dims)}I", magic, *dims) + bytes(i * 7 % 256 for i in range(n_bytes))


def bad_idx():
    little = struct.pack("<4I", 0x803, 4, 28, 28)
    return {
        "wrong-magic": idx(4, 28, 28, magic=0x12345678),
        "little-endian": little + idx(4, 28, 28)[16:],
        "count-too-large": idx(60000, 28, 28),
        "count-overflow": idx(0xFFFFFFFF, 0xFFFF, 0xFFFF),
        "zero-dim": idx(4, 0, 28, n_bytes=0),
        "trailing-bytes": idx(4, 28, 28, n_bytes=4 * 28 * 28 + 11),
        "short-header": idx(4, n_bytes=0),
    }


def bad_cifar():
    records = np.random.RandomState(2).randint(0, 256, (11, 3073)).astype("u1")
    records[:, 0] = np.arange(11) % 10
    wrong = records[:10].copy()
    wrong[4, 0], wrong[7, 0] = 10, 255
    return {"truncated.bin": records.tobytes()[: 10 * 3073 + 1500], "empty.bin": b"", "bad_label.bin": wrong.tobytes()}


def write_bad_hdf5(directory):
    os.makedirs(directory)
    images = np.random.RandomState(3).randint(0, 256, (8, 3, 32, 32)).astype("u1")

    def save(name, **arrays):
        with h5py.File(os.path.join(directory, name), "w") as f:
            for key, value in arrays.items():
                f[key] = value

    save("label_count.h5", images=images, labels=np.arange(7, dtype="i4"))
    save("nan_images.h5", images=np.full((4, 3, 32, 32), np.nan, "f4"), labels=np.arange(4, dtype="i4"))
    save("no_images.h5", something_else=np.arange(5))
    path = os.path.join(directory, "corrupt_chunk.h5")
    with h5py.File(path, "w") as f:
        d = f.create_dataset("images", data=images, chunks=(1, 3, 32, 32), compression="gzip")
        f["labels"] = np.arange(8, dtype="i4")
        f.flush()
        at = d.id.get_chunk_info(4).byte_offset
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(b"\xff" * 64)
    with open(os.path.join(directory, "label_count.h5"), "rb") as f:
        whole = f.read()
    for name, data in {"text": b"this is no HDF5 file\n", "empty": b"", "signature_only": whole[:8] + bytes(8),
                       "truncated": whole[: 2 * len(whole) // 3]}.items():
        write(os.path.join(directory, f"{name}.h5"), data)


def write_bad(directory):
    for name, data in bad_images().items():
        write(os.path.join(directory, name), data)
    for name, data in bad_idx().items():
        write(os.path.join(directory, "idx", f"{name}-images-idx3-ubyte"), data)
    for name, data in bad_cifar().items():
        write(os.path.join(directory, "cifar", name), data)
    write_bad_hdf5(os.path.join(directory, "hdf5"))
    photo = encode(Image.fromarray(draw(1001, 60, 50)))
    for name, data in {"empty_class/train/cat/one.jpg": photo, "empty_class/train/dog/.keep": b"",
                       "stray_files/train/readme.txt": b"notes\n", "stray_files/train/cat/one.jpg": photo,
                       "stray_files/train/cat/Thumbs.db": b"thumbs\n\n",
                       "stray_files/train/cat/._one.jpg": b"\0\x05\x16\x07" + bytes(20)}.items():
        write(os.path.join(directory, "folder", name), data)


if __name__ == "__main__":
    {"photos": write_photos, "bad": write_bad}[sys.argv[1]](sys.argv[2])
