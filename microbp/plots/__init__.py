"""The functions of `bp.plot`, by theme. They need matplotlib."""

try:
    import matplotlib.figure  # noqa: F401
except ImportError:
    raise ImportError("plots need matplotlib, which is not installed: python -m pip install matplotlib") from None
