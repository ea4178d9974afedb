"""Prints a great many empty lines, which cost more to handle than their bytes say."""

while True:
    print()
