"""Reads TensorBoard's event files: records with CRC-32C, and the fields of their messages, by the
published formats (TFRecord; event.proto and summary.proto) and without a library for either."""
import glob
import os
import struct

TABLE = []
for i in range(256):
    for _ in range(8):
        i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
    TABLE.append(i)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path):
    """The messages of a file, whose records are all intact."""
    with open(path, "rb") as f:
        data = f.read()
    while data:
        assert len(data) >= 16, f"{path}: {len(data)} bytes at the end"
        n, check = struct.unpack("<QI", data[:12])
        assert check == masked(data[:8]) and len(data) >= n + 16, path
        message, rest = data[12:12 + n], data[12 + n:]
        assert struct.unpack("<I", rest[:4])[0] == masked(message), path
        yield message
        data = rest[4:]


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def fields(data):
    """Numbers and values of the fields of a message, in a dictionary of lists."""
    out, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        else:
            n = {1: 8, 5: 4}.get(key & 7)
            if n is None:
                assert key & 7 == 2, key
                n, at = varint(data, at)
            value, at = data[at:at + n], at + n
        out.setdefault(key >> 3, []).append(value)
    assert at == len(data)
    return out


def doubles(data):
    return struct.unpack(f"<{len(data) // 8}d", data)


def value(message):
    """Tag and value of a Summary.Value: a float, the fields of a histogram, or those of an image."""
    f = fields(message)
    tag = f[1][0].decode()
    if 2 in f:
        return tag, struct.unpack("<f", f[2][0])[0]
    if 5 in f:
        h = fields(f[5][0])
        one = {name: doubles(h[k][0])[0] if k in h else 0.0
               for k, name in enumerate(("min", "max", "num", "sum", "sum_squares"), 1)}
        return tag, {**one, "limits": doubles(h[6][0]), "counts": doubles(h[7][0])}
    image = fields(f[4][0])
    return tag, {"h": image[1][0], "w": image[2][0], "channels": image[3][0], "png": image[4][0]}


def read(path):
    """Events of a file: a list of (step, tag, value), and the first step that its start discards."""
    out, discards = [], None
    for i, message in enumerate(records(path)):
        f = fields(message)
        step = f.get(2, [0])[0]
        assert len(f[1][0]) == 8, "wall_time"
        if i == 0:
            assert f[3] == [b"brain.Event:2"], f
        elif 7 in f:
            assert i == 1 and fields(f[7][0]) == {1: [1]}, f
            discards = step
        else:
            out += [(step, *value(v)) for v in fields(f[5][0])[1]]
    return out, discards


def files(directory):
    return sorted(glob.glob(os.path.join(directory, "*tfevents*")))
