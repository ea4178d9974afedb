"""The fork server: a small program of its own that keeps the tools loaded and forks a child for each call.

It is started before the gRPC server, with a clean environment, and imports nothing of gRPC: a process with gRPC's
threads in it must not fork. It receives descriptors only; a request is read by the child that serves it.
"""
