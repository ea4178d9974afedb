"""Opens another's file to the world; Landlock does not stop it. Source: landlock(7), "Current limitations"."""

import os

from probe import TARGET, trying

trying("chmod", os.chmod, TARGET["writable"], 0o777)
trying("chmod the folder", os.chmod, TARGET["outside"], 0o700)
