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
# # 4. Solution: from log p(x) to the ELBO
#
# The logarithm of the mean is $\log \sum_k e^{\log w_k} - \log K$. `logsumexp` subtracts the largest $\log w_k$ first, so that no weight
# underflows. $K = 1$ gives the ELBO.

# %% tags=["exercise"]
import math


def bound(log_w):
    """log w (K, B) of K samples for each of B images -> the bound of each image, (B,)."""
    return log_w.logsumexp(0) - math.log(len(log_w))
