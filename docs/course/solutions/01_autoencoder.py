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
# # 1. Solution: the autoencoder
#
# The least error is the sum of the lost eigenvalues of the covariance, $\sum_{j > Z} \lambda_j$. It is the error of a whole image, so it
# is divided by the number of pixels. `eigvalsh` sorts in ascending order: the lost ones are all but the last `k`.

# %% tags=["exercise"]
import torch


def least_error(x, k):
    """x (N, D), number of units k -> () squared error per pixel."""
    centred = x - x.mean(0)
    eigenvalues = torch.linalg.eigvalsh(centred.T @ centred / len(x))
    return eigenvalues[: x.shape[1] - k].sum() / x.shape[1]
