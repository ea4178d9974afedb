"""Never ends, and lets nobody else run."""

while True:
    pass
