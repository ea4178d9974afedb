"""Unpacks 1 GiB of zeros from a megabyte. Source: CWE-409."""

import zlib

packer = zlib.compressobj(9)
packed = b"".join([packer.compress(bytes(1 << 20)) for _ in range(1024)] + [packer.flush()])
len(zlib.decompress(packed))
