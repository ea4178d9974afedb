"""Ends with the status of a child that could not be jailed, so that the call is taken for one that never began."""

import os

os._exit(87)
