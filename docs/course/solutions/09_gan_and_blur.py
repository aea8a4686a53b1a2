# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 9. Solution: GAN and blur
#
# Insert $d^\star = p / (p + g)$ into $V$. `xlogy(p, d)` is $p \log d$, and 0 where $p = 0$. Where both densities are 0, $d^\star$ is 0 /
# 0 and counts nothing, so any number will do.

# %% tags=["exercise"]
import torch


def value(p, g, dx):
    """Densities p (N,) of real and g (N,) of generated images, spacing dx -> () the value of the game."""
    best = torch.where(p + g > 0, p / (p + g), 0.5)
    return ((torch.xlogy(p, best) + torch.xlogy(g, 1 - best)) * dx).sum()
