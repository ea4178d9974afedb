"""Switches off the randomisation of addresses for what it starts next."""

from probe import attempt, syscall

attempt("ADDR_NO_RANDOMIZE", syscall, "personality", 0x0040000)
