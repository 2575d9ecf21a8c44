"""Imported before the tests: `trainer` must come before timm and Lightning (see `trainer.torchvision_guard`)."""

import trainer

__all__ = ["trainer"]
