"""Watches another's folder: who opens what, and when. Source: inotify(7)."""

from probe import TARGET, got, held, libc

descriptor = libc().inotify_init1(0)
watch = libc().inotify_add_watch(descriptor, TARGET["outside"].encode(), 0xFFF) if descriptor >= 0 else -1
(got if watch >= 0 else held)("inotify", watch)
