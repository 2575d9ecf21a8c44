"""The version of the installed distribution."""

from importlib import metadata

try:
    VERSION = metadata.version("glimpse-reid")
except metadata.PackageNotFoundError:  # run from a checkout that was never installed
    VERSION = "0.0.0"
