"""Networks that Serpent is compared with, as definitions of our own; they need torch alone.

A factory (``peers.unet:unet32``) takes no argument and returns a network with fresh weights. The network maps
(B, 3, H, W) RGB in [0, 1] to the same shape and dtype, not clipped; H and W are multiples of its ``size_multiple``.
"""
