"""Raises what cannot be shown: its text raises, is endless, is no text."""


class Hostile(Exception):
    def __str__(self):
        raise self

    __repr__ = __str__


raise Hostile from Hostile()
