"""Lists folders outside the workspace, for names of keys and of other sessions."""

import os

from probe import TARGET, attempt

for folder in (TARGET["outside"], "/root", "/home", TARGET["workspaces"]):
    if os.path.isdir(folder):
        attempt(f"list {folder}", os.listdir, folder)
