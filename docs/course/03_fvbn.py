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
# # 3. The fully visible belief network
#
# A fully visible belief network (FVBN) has no latents. It predicts each pixel from those before it, and gives the exact $\log p(x)$.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

import vae_variants as vv

torch.manual_seed(0)
data = vv.load_dataset("digits")
x = data.grey("train")  # (1197, 64): the probability that a pixel is 1
test = data.as_(vv.Support.BINARY).test  # (300, 64): zeros and ones, the images that vae_variants scores

# %% [markdown]
# ## Derivation
#
# The chain rule holds for every distribution, in any order of the pixels:
#
# $$p(x) = \prod_{i=1}^{D} p(x_i \mid x_1, \dots, x_{i-1}) .$$
#
# A table of all binary images would need $2^D - 1$ numbers. The FVBN makes each factor a logistic regression, with $D(D+1)/2$ numbers:
#
# $$p(x_i = 1 \mid x_{<i}) = \sigma\Bigl(b_i + \sum_{j<i} W_{ij}\, x_j\Bigr), \qquad
#   \log p(x) = \sum_i \bigl[ x_i h_i - \log(1 + e^{h_i}) \bigr],$$
#
# where $h_i$ is the argument of $\sigma$. It is normalised for any $W$ and $b$. Sum over the last pixel first: its factor is the only one
# that contains $x_D$, and its two values sum to 1. Then $x_{D-1}$ is the last pixel, and so on:
#
# $$\sum_x p(x) = \sum_{x_1} p(x_1) \cdots \sum_{x_D} p(x_D \mid x_{<D}) = 1 .$$
#
# This holds only if $W$ is strictly lower triangular, so that no pixel sees itself or a later one.


# %%
def logits(weight, bias, x):
    return x @ weight.tril(-1).T + bias


images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 9)  # all 512 binary images of 3x3 pixels
h = logits(torch.randn(9, 9), torch.randn(9), images)
log_p = -F.binary_cross_entropy_with_logits(h, images, reduction="none").sum(1)
assert torch.isclose(log_p.exp().sum(), torch.tensor(1.0), atol=1e-5)
print(f"probabilities of all 512 images: {log_p.exp().sum():.6f}")

# %% [markdown]
# ## With PyTorch
#
# Training maximises $\log p(x)$, binary cross-entropy with a mask. Training pixels are drawn anew for each batch.

# %%
rate = x.mean(0).clamp(0.01, 0.99)
weight = torch.zeros(64, 64, requires_grad=True)
bias = rate.logit().requires_grad_()  # starts as the model of independent pixels
optimizer = torch.optim.Adam([weight, bias], lr=1e-2, weight_decay=1e-4)
for _ in range(800):
    batch = torch.bernoulli(x[torch.randint(len(x), (100,))])
    loss = F.binary_cross_entropy_with_logits(logits(weight, bias, batch), batch, reduction="none").sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# %%
@torch.no_grad()
def sample(weight, bias, n):
    """Fills images pixel by pixel: D steps, since each pixel needs those before it."""
    x = torch.zeros(n, 64)
    for i in range(64):
        x[:, i] = torch.bernoulli(logits(weight, bias, x)[:, i].sigmoid())
    return x


with torch.no_grad():
    mine = -F.binary_cross_entropy_with_logits(logits(weight, bias, test), test, reduction="none").sum(1).mean().item()
    alone = -F.binary_cross_entropy(rate.expand_as(test), test, reduction="none").sum(1).mean().item()
print(f"log p(x) of test images: {mine:.2f} nats; of independent pixels: {alone:.2f} nats")
assert mine > alone + 2

# %% [markdown]
# ## With vae_variants
#
# The value of `log_likelihood` is of kind `exact` here. For a VAE it is a lower bound.
#
# ```sh
# vae-variants run fvbn vae-latent-2 --seeds 1 --fidelity quick --epochs 40
# ```

# %%
record = vv.run("fvbn", seeds=1, fidelity="quick", epochs=40)[0]
row = next(row for row in record.rows if row["metric"] == "log_likelihood")
print(f"{record.label}: log p(x) = {row['value']:.2f} {row['unit']}, {row['kind']}")
model = vv.load(record)
assert abs(model.log_prob(test).mean() - row["value"]) < 1e-3
assert abs(mine - row["value"]) < 1.0

# %% [markdown]
# ## Figure
#
# Independent pixels have one probability for all images. The FVBN changes its prediction with what it has already seen: the lower half of
# a digit follows from the upper half. Its samples have strokes, which samples of independent pixels lack.

# %% tags=["hide-input"]
shown = torch.stack([test[data.labels["test"] == digit][2] for digit in range(10)])
with torch.no_grad():
    rows = {
        "test images": shown,
        f"independent: p(x_i = 1)\n{alone:.1f} nats": rate.expand(10, 64),
        f"FVBN: p(x_i = 1 | before)\n{mine:.1f} nats": logits(weight, bias, shown).sigmoid(),
        "samples, independent": torch.bernoulli(rate.expand(10, 64)),
        "samples, FVBN in PyTorch": sample(weight, bias, 10),
        "samples, FVBN in vae_variants": model.sample(10),
    }
figure, axes = plt.subplots(len(rows), 1, figsize=(7.5, 5))
for ax, (name, images) in zip(axes, rows.items(), strict=True):
    tiles = [F.pad(image.view(8, 8), (0, 1, 0, 0), value=0.5) for image in images]
    ax.imshow(torch.cat(tiles, 1), cmap="gray", vmin=0, vmax=1)
    ax.set_ylabel(name, rotation=0, ha="right", va="center")
    ax.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Exercise
#
# Write `log_prob` of an FVBN. `weight` has entries everywhere, and you choose those that count.
#
# When you have tried: the [solution](solutions/03_fvbn.py).


# %% tags=["exercise"]
def log_prob(weight, bias, x):
    """weight (D, D), bias (D,), binary images x (N, D) -> log p(x) in nats, (N,)."""
    # your answer


# %% tags=["check", "hide-input"]
every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6)
w, b = torch.randn(6, 6), torch.randn(6)
answer = log_prob(w, b, every)
if answer is None:
    print("Not answered yet: write log_prob in the cell above, and run both cells again.")
else:
    assert answer.shape == (64,), f"One number per image is asked for, (64,). Yours has the shape {tuple(answer.shape)}."
    total = answer.exp().sum().item()
    assert answer.max() <= 0, "A log-probability is never above 0. Is it the loss?"
    fix = "Does a pixel see itself, or is it a mean over pixels?"
    assert abs(total - 1) < 1e-4, f"The probabilities of all images sum to {total:.3f} instead of 1. {fix}"
    first = answer.exp()[every[:, 0] == 1].sum()
    assert torch.isclose(first, b[0].sigmoid(), atol=1e-4), "p(x_1 = 1) must be sigmoid(b_1): the first pixel sees no other."
    second = answer.exp()[(every[:, 0] == 1) & (every[:, 1] == 1)].sum() / first
    assert torch.isclose(second, (b[1] + w[1, 0]).sigmoid(), atol=1e-4), "Row i of weight belongs to pixel i, column j to what it sees."
    print("Right.")
