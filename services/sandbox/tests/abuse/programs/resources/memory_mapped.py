"""Maps memory that belongs to nobody's heap, privately and shared."""

import mmap

from probe import got, held

total = 0
maps = []
for flags in (mmap.MAP_PRIVATE, mmap.MAP_SHARED):
    try:
        for _ in range(16):
            one = mmap.mmap(-1, 64 << 20, flags | mmap.MAP_ANONYMOUS)
            for page in range(0, 64 << 20, 1 << 20):
                one[page] = 1
            maps.append(one)
            total += 64
    except (OSError, ValueError, MemoryError) as error:
        held(f"after {total} MiB", error)
if total > 512:
    got("mapped memory over the limit, MiB", total)
