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
# # 6. Decoders: BCE and MSE
#
# The usual reconstruction losses are log densities of pixels. You derive which, and see what the standard deviation $\sigma$ decides.

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Normal

import vae_variants as vv

torch.manual_seed(0)
data = vv.load_dataset("digits")
x, test = data.grey("train"), data.grey("test")

# %% [markdown]
# ## Derivation
#
# **Binary pixels.** With the logit $h$ and $p = \operatorname{sigmoid}(h)$, binary cross-entropy (BCE) is a negative log probability:
#
# $$-\log p(x \mid h) = -x \log p - (1 - x) \log (1 - p) = \log(1 + e^h) - x h .$$
#
# **Real pixels.** A Gaussian about $h$ turns the squared error into a log density:
#
# $$-\log p(x \mid h) = \frac{(x - h)^2}{2 \sigma^2} + \log \sigma + \tfrac{1}{2} \log 2\pi .$$
#
# **Both have the same best output.** For a fixed $z$ many images $x$ are possible. The derivatives are
#
# $$\frac{\partial}{\partial h} \mathbb{E}[\text{BCE}] = \operatorname{sigmoid}(h) - \mathbb{E}[x \mid z], \qquad
#   \frac{\partial}{\partial h} \mathbb{E}[\text{MSE}] = 2\,(h - \mathbb{E}[x \mid z]),$$
#
# so both decoders predict the mean $\mathbb{E}[x \mid z]$.
#
# **They differ in the price of an error.** The rate in the ELBO is measured in the same nats. A Gaussian with $\sigma = 1$ charges at most
# $\frac{1}{2}$ nat for a pixel that is wrong by all of $[0, 1]$. If latents cost more than they save, the VAE ignores them. A small
# $\sigma$ makes errors dear. The best $\sigma$ follows from setting the derivative to 0:
#
# $$\frac{\partial}{\partial \sigma}\left[\frac{\text{MSE}}{2 \sigma^2} + \log \sigma\right] = 0
#   \quad\Longrightarrow\quad \sigma^2 = \text{MSE} .$$

# %%
pixel = x[:, 28]  # one pixel over all images
h = torch.linspace(0.01, 0.99, 981)
bce = F.binary_cross_entropy(h[:, None].expand(-1, len(x)), pixel.expand(981, -1), reduction="none").mean(1)
mse = (h[:, None] - pixel).square().mean(1)
print(f"mean of the pixel {pixel.mean():.3f}; BCE is least at {h[bce.argmin()]:.3f}, MSE at {h[mse.argmin()]:.3f}")
assert abs(h[bce.argmin()] - pixel.mean()) < 0.001
assert abs(h[mse.argmin()] - pixel.mean()) < 0.001

# %% [markdown]
# ## With PyTorch
#
# Both densities in a line each. They equal those of `torch.distributions` and of vae_variants, constants included. Without the constants,
# nats of different $\sigma$ could not be compared.


# %%
def bernoulli(h, x):
    return (x * h - F.softplus(h)).sum(-1)


def gaussian(h, x, sigma):
    return (-((x - h) ** 2) / (2 * sigma**2) - math.log(sigma) - 0.5 * math.log(2 * math.pi)).sum(-1)


h, binary = torch.randn(5, 64), torch.bernoulli(x[:5])
assert torch.allclose(bernoulli(h, binary), Bernoulli(logits=h).log_prob(binary).sum(1), atol=1e-4)
assert torch.allclose(bernoulli(h, binary), vv.LIKELIHOODS["bernoulli"]().log_prob(h, binary), atol=1e-4)
assert torch.allclose(gaussian(h, x[:5], 0.3), Normal(h, 0.3).log_prob(x[:5]).sum(1), rtol=1e-5)
assert torch.allclose(gaussian(h, x[:5], 0.3), vv.LIKELIHOODS["gaussian"](sigma=0.3).log_prob(h, x[:5]), rtol=1e-5)

# %% [markdown]
# ## With vae_variants
#
# Four VAEs that differ only in the likelihood. `gaussian-learnt` learns one $\sigma$ for all pixels.
#
# ```sh
# vae-variants run "vae[likelihood=gaussian,sigma=1|0.3,latent=20,hidden=64]" --seeds 1 --fidelity quick --epochs 40
# vae-variants run "vae[likelihood=bernoulli|gaussian-learnt,latent=20,hidden=64]" --seeds 1 --fidelity quick --epochs 40
# ```

# %%
selectors = [
    "vae[likelihood=gaussian,sigma=1|0.3,latent=20,hidden=64]",
    "vae[likelihood=gaussian-learnt,latent=20,hidden=64]",
    "vae-latent-20[hidden=64]",
]
records = vv.run(selectors, seeds=1, fidelity="quick", epochs=40)
names = "Gaussian, σ = 1", "Gaussian, σ = 0.3", "Gaussian, σ learnt", "Bernoulli"
for name, record in zip(names, records, strict=True):
    rate, units, error = (record.value(metric, 0) for metric in ("rate", "active_units", "reconstruction_mse"))
    print(f"{name:20} rate {rate:6.2f} nats, {units:2.0f} active units, mean squared error {error:.4f}")
learnt = vv.load(records[2]).likelihood.scale.item()
print(f"learnt σ = {learnt:.3f}; root of the mean squared error = {records[2].value('reconstruction_mse', 0) ** 0.5:.3f}")
assert records[0].value("active_units", 0) == 0
assert records[2].value("reconstruction_mse", 0) < 0.5 * records[0].value("reconstruction_mse", 0)

# %% [markdown]
# The learnt $\sigma$ is near the root of the squared error. It is not equal, because the metric decodes the mean of $q(z \mid x)$, and
# training decodes samples.
#
# Which likelihood is best? Nats of binary pixels and nats of real pixels belong to different images. vae_variants refuses to rank them:

# %%
try:
    vv.rank([records[2], records[3]], "elbo")
    raise AssertionError("ranked")
except vv.UserError as error:
    print(error)

# %% [markdown]
# ## Figure
#
# With $\sigma = 1$ the VAE reconstructs every digit as the mean of all digits: no unit is active. The smaller $\sigma$ is, the more nats
# the latents may cost. A learnt $\sigma$ finds the balance.

# %% tags=["hide-input"]
shown = torch.stack([test[data.labels["test"] == digit][0] for digit in range(10)])
figure, axes = plt.subplots(5, 1, figsize=(7, 4))
for ax, name, record in zip(axes, ("test images", *names), (None, *records), strict=True):
    model = record and vv.load(record)
    images = shown if model is None else model.decode(model.encode(shown))
    tiles = [F.pad(image.view(8, 8), (0, 1, 0, 0), value=0.5) for image in images]
    ax.imshow(torch.cat(tiles, 1), cmap="gray", vmin=0, vmax=1)
    ax.set_ylabel(name if record is None else f"{name}\nrate {record.value('rate', 0):.1f} nats", rotation=0, ha="right", va="center")
    ax.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Exercise
#
# Write `best_sigma`: the $\sigma$, one for all pixels, that maximises the Gaussian log density of images `x` about the decoder's means.
#
# When you have tried: the [solution](solutions/06_decoders.py).


# %% tags=["exercise"]
def best_sigma(x, mean):
    """Images x (N, D) and means (N, D) -> () the standard deviation of the pixels."""
    # your answer


# %% tags=["check", "hide-input"]
mean = 0.7 * test + 0.05
answer = best_sigma(test, mean)
if answer is None:
    print("Not answered yet: write best_sigma in the cell above, and run both cells again.")
else:
    sigma, error = float(answer), (test - mean).square().mean().item()
    assert sigma > 0, f"A standard deviation is above 0. Yours is {sigma:.4f}."
    assert abs(sigma - error) > 1e-4, "This is the variance. Its root is asked for."
    assert abs(sigma - (64 * error) ** 0.5) > 1e-4, "Average over pixels as well as over images."
    assert abs(sigma - (test - mean).std().item()) > 1e-4, "Errors count from 0, not from their own mean. Use the mean squared error."
    least, here, most = (gaussian(mean, test, s).mean() for s in (0.98 * sigma, sigma, 1.02 * sigma))
    assert here > least, f"A smaller σ than {sigma:.4f} gives the images a higher density."
    assert here > most, f"A larger σ than {sigma:.4f} gives the images a higher density."
    print("Right.")
