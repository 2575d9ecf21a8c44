"""PGFA (Miao et al., ICCV 2019): `network` is the method, `pose` its heat-maps and stripe labels as tensors."""

from trainer.methods.pgfa.network import PGFA, PGFAOptions

__all__ = ["PGFA", "PGFAOptions"]
