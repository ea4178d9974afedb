"""Ends with a value whose text ends the process."""

import os


class Hostile:
    def __repr__(self):
        os._exit(0)


Hostile()
