"""Measurements against named peers; `glimpse bench NAME` runs one and prints ratios."""
