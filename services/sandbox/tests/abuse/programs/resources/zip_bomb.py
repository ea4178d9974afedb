"""Unpacks 160 MiB of zeros from one. Source: CWE-409."""

import zlib

packer = zlib.compressobj(1)
packed = b"".join([packer.compress(bytes(1 << 20)) for _ in range(160)] + [packer.flush()])
len(zlib.decompress(packed))
