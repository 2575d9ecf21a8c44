"""The trainer: data, methods, backbones, losses, the loop and evaluation. Never imported by the server.

Importing this package puts `trainer.torchvision_guard` in place and nothing more: dataset listings and evaluation
work with no torch installed.
"""

from trainer.torchvision_guard import install as _guard_torchvision

_guard_torchvision()
