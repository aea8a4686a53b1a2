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
# # 1. The autoencoder
#
# An autoencoder squeezes an image through a few numbers and rebuilds it. You derive how well a linear autoencoder can do, train a linear
# and a non-linear one, and see where the second gains.

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

import vae_variants as vv

torch.manual_seed(0)
data = vv.load_dataset("digits")
x, test = data.grey("train"), data.grey("test")  # (1197, 64) and (300, 64): 8x8 pixels from 0 to 1
print(data.shape, data.sizes)

# %% [markdown]
# ## Derivation
#
# The encoder $f$ maps an image $x \in \mathbb{R}^D$ to latents $z \in \mathbb{R}^Z$, and the decoder $g$ maps them back. Training
# minimises
#
# $$L = \mathbb{E}\,\lVert x - g(f(x)) \rVert^2 .$$
#
# Let $f$ and $g$ be linear and $x$ centred, with covariance $C = \sum_j \lambda_j u_j u_j^\top$ and $\lambda_1 \ge \lambda_2 \ge \dots$
# All that $g$ can produce lies in a subspace of $Z$ dimensions. The best point of it is the orthogonal projection $Px$, and
#
# $$\mathbb{E}\,\lVert x - Px \rVert^2 = \operatorname{tr} C - \operatorname{tr} PC
#   = \sum_j \lambda_j \,\bigl(1 - u_j^\top P u_j\bigr) .$$
#
# The weights $u_j^\top P u_j$ lie in $[0, 1]$, and they sum to $\operatorname{tr} P = Z$. The sum is least if the first $Z$ weights are
# 1. Then $P$ projects onto the first $Z$ eigenvectors, which is PCA:
#
# $$\min L = \sum_{j > Z} \lambda_j .$$
#
# A non-linear autoencoder can bend this subspace. If its networks can represent linear maps, its least error is never above that of PCA.

# %%
centred = x - x.mean(0)
eigenvalues, vectors = torch.linalg.eigh(centred.T @ centred / len(x))  # in ascending order
bound = eigenvalues[:-2].sum() / 64  # all but the two largest, per pixel
projected = centred @ vectors[:, -2:] @ vectors[:, -2:].T
assert torch.isclose((centred - projected).square().mean(), bound, rtol=1e-4)
print(f"least mean squared error of 2 linear units: {bound:.4f} per pixel")

# %% [markdown]
# ## With PyTorch
#
# One function trains any pair of networks. The linear pair must end at the bound, the other pair below it.


# %%
def fit(encoder, decoder, steps=600):
    """Minimises the squared error of images; returns it per pixel, over the training images."""
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (200,))]
        loss = (decoder(encoder(batch)) - batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return (decoder(encoder(x)) - x).square().mean()


linear = nn.Linear(64, 2), nn.Linear(2, 64)
deep = (
    nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2)),
    nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64)),
)
linear_error, deep_error = fit(*linear), fit(*deep)
print(f"linear: {linear_error:.4f}, non-linear: {deep_error:.4f}, bound of the linear one: {bound:.4f}")
assert 0.999 * bound < linear_error < 1.1 * bound
assert deep_error < 0.9 * bound

# %% [markdown]
# ## With vae_variants
#
# `ae` is the name of this model. In brackets stand its options, and `2|10` tries both values. On the command line the same is
#
# ```sh
# vae-variants run "ae[latent=2|10,hidden=64]" --seeds 1 --fidelity quick --epochs 40
# ```

# %%
records = vv.run("ae[latent=2|10,hidden=64]", seeds=1, fidelity="quick", epochs=40)
two, ten = (vv.load(record) for record in records)
for record, model in zip(records, (two, ten), strict=True):
    error = record.value("reconstruction_mse", seed=0)  # on the test images
    mine = (model.decode(model.encode(test)) - test).square().mean()
    assert abs(mine - error) < 1e-6
    print(f"{record.label}: mean squared error {error:.4f} per pixel")

# %% [markdown]
# ## Figure
#
# With two units, PCA mixes digits up. The non-linear autoencoder keeps more of them apart, and ten units show nearly every stroke.

# %% tags=["hide-input"]
shown = torch.stack([test[data.labels["test"] == digit][0] for digit in range(10)])
with torch.no_grad():
    rows = {
        "test image": shown,
        "PCA, 2 units": x.mean(0) + (shown - x.mean(0)) @ vectors[:, -2:] @ vectors[:, -2:].T,
        "PyTorch, 2 units": deep[1](deep[0](shown)),
        "vae_variants, 2 units": two.decode(two.encode(shown)),
        "vae_variants, 10 units": ten.decode(ten.encode(shown)),
    }
figure, axes = plt.subplots(len(rows), 1, figsize=(7, 4))
for ax, (name, images) in zip(axes, rows.items(), strict=True):
    ax.imshow(torch.cat([image.view(8, 8) for image in images], 1), cmap="gray", vmin=0, vmax=1)
    ax.set_ylabel(name, rotation=0, ha="right", va="center")
    ax.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Exercise
#
# Write `least_error`: the least mean squared error *per pixel* that a linear autoencoder with `k` units can reach on images `x` (N, D).
# Use `torch.linalg.eigvalsh`, which returns the eigenvalues in ascending order.
#
# When you have tried: the [solution](solutions/01_autoencoder.py).


# %% tags=["exercise"]
def least_error(x, k):
    """x (N, D), number of units k -> () squared error per pixel."""
    # your answer


# %% tags=["check", "hide-input"]
values = [least_error(x, k) for k in (0, 2, 10, 64)]
if values[0] is None:
    print("Not answered yet: write least_error in the cell above, and run both cells again.")
else:
    left = torch.linalg.svdvals(x - x.mean(0)).square() / x.numel()
    truth = [left[k:].sum() for k in (0, 2, 10, 64)]
    given = torch.stack([torch.as_tensor(value).float() for value in values])
    assert given[1] > given[2], "More units must not raise the error: sum the eigenvalues that are lost, not those that are kept."
    assert not torch.isclose(given[1], 64 * truth[1], rtol=1e-3), "This is the error per image. Divide by the number of pixels."
    assert torch.isclose(given[0], truth[0], rtol=1e-3), "Without units, the error is the variance of a pixel. Did you subtract the mean?"
    assert torch.allclose(given, torch.stack(truth), rtol=1e-3, atol=1e-5), "The smallest eigenvalues must be lost, the k largest kept."
    print("Right.")
