"""Redis, standard output and Prometheus."""
