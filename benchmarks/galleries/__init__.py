"""Part-aware search measured: galleries to search, what searches them, and the pieces of `benchmarks.search`."""
