"""ISP (Zhu et al., ECCV 2020): `network` is the method, `clustering` makes its pseudo labels."""

from trainer.methods.isp.network import ISP, ISPOptions

__all__ = ["ISP", "ISPOptions"]
