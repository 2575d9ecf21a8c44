"""What is wrong with an annotation, a pose file or a model that makes them."""

from __future__ import annotations


class AnnotationError(ValueError):
    """An annotation that cannot be used; the message names the file and says what is wrong with it."""
