"""The version of the distribution, as installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("apprentice")
except PackageNotFoundError:  # run from a tree that was never installed
    __version__ = "0+unknown"
