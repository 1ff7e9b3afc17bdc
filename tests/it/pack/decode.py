"""Unpacks the script package of EC7xx and EC618 on standard input with Python's LZMA, and writes its image to standard
output: docs/protocol.md 5a and 9f, read a second time."""

import hashlib
import lzma
import struct
import sys
import zlib

package = sys.stdin.buffer.read()
header, common = package[:92], package[92:]
assert struct.unpack_from("<I", header, 4)[0] == zlib.crc32(header[8:]) ^ 0xFFFFFFFF, "the CRC of the header"
assert struct.unpack_from("<II", header, 52) == (len(common), 0), "the lengths"
assert hashlib.md5(common).digest() == header[60:76], "the MD5 of the common data"
magic, total, length, digest, block, start = struct.unpack_from("<4sII16sII", common)
assert magic == header[:4] and block == 0x40000 and total == len(common) - 36, "the header of the sector"
rest, image = common[36:], b""
while rest:
    count, properties, size = struct.unpack_from("<B5sI", rest)
    assert count == 5
    # The head of a .lzma file: properties, and the unpacked length.
    unpacked = min(block, length - len(image))
    head = properties + struct.pack("<Q", unpacked)
    image += lzma.decompress(head + rest[10 : 10 + size], format=lzma.FORMAT_ALONE)
    rest = rest[10 + size :]
assert len(image) == length and hashlib.md5(image).digest() == digest, "the image"
sys.stdout.buffer.write(image)
