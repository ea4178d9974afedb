# Prints without end.
yes pagi
