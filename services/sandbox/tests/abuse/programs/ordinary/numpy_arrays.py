"""Computes with numpy, where the operator has installed it."""

from probe import ok

try:
    import numpy
except ModuleNotFoundError as error:
    ok("numpy is not installed", error)
else:
    matrix = numpy.arange(10_000).reshape(100, 100) % 7
    assert (matrix @ numpy.eye(100) == matrix).all()
    assert abs(numpy.linalg.det(numpy.eye(3)) - 1) < 1e-9
    numpy.save("matrix.npy", matrix)
    assert (numpy.load("matrix.npy") == matrix).all()
    ok("numpy")
