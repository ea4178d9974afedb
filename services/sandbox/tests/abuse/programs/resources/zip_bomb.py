"""Unpacks 160 MiB of zeros from one. Source: CWE-409."""

import zlib

packer = zlib.compressobj(1, zlib.DEFLATED, -15)
block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
len(zlib.decompressobj(-15).decompress(block * 160))
