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
# # 9. GAN and blur
#
# Samples of a VAE look blurred, those of a GAN do not. You derive both from what the losses reward, and measure the blur.

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal

import vae_variants as vv

torch.manual_seed(0)
data = vv.load_dataset("digits")
x, test = data.grey("train"), data.grey("test")

# %% [markdown]
# ## Derivation
#
# **VAE.** The decoder predicts the mean $\mathbb{E}[x \mid z]$ ([notebook 6](06_decoders.py)). If $q$ maps several images to nearby $z$,
# it predicts their mean. Measure sharpness by the variance over pixels of the Laplacian $\Delta x$. $\Delta$ is linear. For the mean of
# $n$ images whose $\Delta x_i$ are uncorrelated and have variance $v$,
#
# $$\operatorname{Var} \Delta\Bigl(\frac{1}{n} \sum_i x_i\Bigr) = \frac{1}{n^2} \sum_i \operatorname{Var} \Delta x_i = \frac{v}{n} .$$
#
# **GAN.** A discriminator $d(x) \in (0, 1)$ tells real images, of density $p$, from generated ones, of density $g$. It maximises
#
# $$V(d, g) = \mathbb{E}_p[\log d(x)] + \mathbb{E}_g[\log(1 - d(x))] = \int p \log d + g \log (1 - d)\; dx .$$
#
# The integrand is concave in $d$. Its derivative $p / d - g / (1 - d)$ is 0 at
#
# $$d^\star(x) = \frac{p(x)}{p(x) + g(x)}, \qquad
#   V(d^\star, g) = 2 \operatorname{JSD}(p, g) - \log 4,$$
#
# with the Jensen-Shannon divergence $\operatorname{JSD}(p, g) = \frac{1}{2} \operatorname{KL}(p \,\|\, \frac{p + g}{2}) + \frac{1}{2}
# \operatorname{KL}(g \,\|\, \frac{p + g}{2})$. The generator minimises it. A blurred image is unlike every real one: $d^\star$ is near 0
# there, so the generator avoids it. It pays little for images that it never generates. That is why a GAN is sharp, and why it may miss a
# part of the data.


# %%
def sharpness(images):
    """Variance of the Laplacian over the 6x6 inner pixels of each image (N, 64): (N,)."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return F.conv2d(images.view(-1, 1, 8, 8), kernel).flatten(1).var(1, correction=0)


noise = torch.randn(4000, 4, 64)  # pixels without correlation: the assumption holds
ratio = sharpness(noise.mean(1)).mean() / sharpness(noise[:, 0]).mean()
eights = x[data.labels["train"] == 8]
means = eights[torch.randint(len(eights), (500, 4))].mean(1)
print(f"mean of 4 noise images: {ratio:.3f} of their sharpness; of 4 eights: {sharpness(means).mean() / sharpness(eights).mean():.3f}")
assert abs(ratio - 1 / 4) < 0.01
assert sharpness(means).mean() < 0.6 * sharpness(eights).mean()

# %% [markdown]
# ## With PyTorch
#
# For $p = \mathcal{N}(0, 1)$ and $g = \mathcal{N}(1, 1)$ the best discriminator has the logit $\log p / g = \frac{1}{2} - x$. Training
# must find it, and the value of the game.

# %%
real, fake = torch.randn(100_000), torch.randn(100_000) + 1
w = torch.zeros(2, requires_grad=True)  # logit = w_0 x + w_1
optimizer = torch.optim.LBFGS([w], max_iter=50)


def cost():
    optimizer.zero_grad()
    value = F.softplus(-(w[0] * real + w[1])).mean() + F.softplus(w[0] * fake + w[1]).mean()  # -V
    value.backward()
    return value


optimizer.step(cost)
grid = torch.linspace(-10, 11, 4001)
p, g = Normal(0, 1).log_prob(grid).exp(), Normal(1, 1).log_prob(grid).exp()
mixture, dx = (p + g) / 2, grid[1] - grid[0]
jsd = 0.5 * ((p * (p / mixture).log() + g * (g / mixture).log()) * dx).sum()
print(f"logit {w[0]:.3f} x + {w[1]:.3f}; V = {-cost():.4f}; 2 JSD - log 4 = {2 * jsd - math.log(4):.4f}")
assert torch.allclose(w, torch.tensor([-1.0, 0.5]), atol=0.03)
assert abs(-cost() - (2 * jsd - math.log(4))) < 0.01

# %% [markdown]
# Now a GAN of the digits. The generator maximises $\log d$ of what it generates, which has stronger gradients at the start than $\log(1 -
# d)$ has. A penalty on the discriminator's slope at real images keeps the game stable.

# %%
torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(20, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.Sigmoid())
critic = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))  # the logit of d
ascent, descent = (torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.5, 0.999)) for net in (generator, critic))
for _ in range(1000):
    batch = x[torch.randint(len(x), (100,))].requires_grad_()
    logit = critic(batch)
    slope = torch.autograd.grad(logit.sum(), batch, create_graph=True)[0].square().sum(1).mean()
    loss = F.softplus(-logit).mean() + F.softplus(critic(generator(torch.randn(100, 20)).detach())).mean() + 0.5 * slope
    descent.zero_grad()
    loss.backward()
    descent.step()
    loss = F.softplus(-critic(generator(torch.randn(100, 20)))).mean()
    ascent.zero_grad()
    loss.backward()
    ascent.step()
with torch.no_grad():
    mine = generator(torch.randn(1000, 20))
print(f"sharpness of my GAN: {sharpness(mine).median() / sharpness(test).median():.2f} of real images")

# %% [markdown]
# ## With vae_variants
#
# `sharpness_ratio` is this measure: median sharpness of samples, over that of real images. For a VAE, samples are decoder means, since
# pixel noise would count as sharpness. `coverage` is the share of real images that have a sample nearby.
#
# ```sh
# vae-variants run "vae[likelihood=gaussian-learnt,latent=20,hidden=64]" --seeds 1 --fidelity quick --epochs 40
# vae-variants run "gan[latent=20,hidden=64]" --seeds 1 --fidelity quick --epochs 60
# ```

# %%
vae_record = vv.run("vae[likelihood=gaussian-learnt,latent=20,hidden=64]", seeds=1, fidelity="quick", epochs=40)[0]
gan_record = vv.run("gan[latent=20,hidden=64]", seeds=1, fidelity="quick", epochs=60)[0]
vae, gan = vv.load(vae_record), vv.load(gan_record)
for record, model in ((vae_record, vae), (gan_record, gan)):
    ratio, coverage = record.value("sharpness_ratio", 0), record.value("coverage", 0)
    again = sharpness(model.sample_mean(1000)).median() / sharpness(test).median()
    print(f"{record.label}: sharpness {ratio:.2f} of real images, coverage {coverage:.2f}")
    assert abs(again - ratio) < 0.08
assert vae_record.value("sharpness_ratio", 0) < gan_record.value("sharpness_ratio", 0) - 0.1

# %% [markdown]
# ## Figure
#
# Means of the VAE are soft, and between digits they are mixtures of two. The GAN's strokes have edges. Sharpness alone proves little:
# noise is sharp, too. The [claim about blur](../../reports/claims/README.md) controls for it.

# %% tags=["hide-input"]
torch.manual_seed(1)
rows = {
    "test images": (test, 1.0),
    "VAE, vae_variants": (vae.sample_mean(12), vae_record.value("sharpness_ratio", 0)),
    "GAN, PyTorch": (mine, (sharpness(mine).median() / sharpness(test).median()).item()),
    "GAN, vae_variants": (gan.sample_mean(12), gan_record.value("sharpness_ratio", 0)),
}
figure, axes = plt.subplots(len(rows), 1, figsize=(8, 3.2))
for ax, (name, (images, ratio)) in zip(axes, rows.items(), strict=True):
    ax.imshow(torch.cat([image.view(8, 8) for image in images[:12]], 1), cmap="gray", vmin=0, vmax=1)
    ax.set_ylabel(f"{name}\nsharpness {ratio:.2f}", rotation=0, ha="right", va="center")
    ax.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Exercise
#
# Write `value`: what the best discriminator reaches, $V(d^\star, g)$, for two densities that are given on a grid with spacing `dx`.
# Either may be 0 at some points, where $0 \log 0$ counts as 0 (`torch.xlogy`).
#
# When you have tried: the [solution](solutions/09_gan_and_blur.py).


# %% tags=["exercise"]
def value(p, g, dx):
    """Densities p (N,) of real and g (N,) of generated images, spacing dx -> () the value of the game."""
    # your answer


# %% tags=["check", "hide-input"]
apart = (grid < 0).float() / 10, (grid > 1).float() / 10
answer = value(p, g, dx)
if answer is None:
    print("Not answered yet: write value in the cell above, and run both cells again.")
else:
    truth, equal, disjoint = 2 * jsd - math.log(4), value(p, p, dx), value(*apart, dx)
    assert torch.isfinite(torch.as_tensor(disjoint)), "Where p or g is 0 you get no finite number. Use torch.xlogy."
    assert not abs(answer - jsd) < 1e-3, "This is JSD(p, g). The value of the game is 2 JSD - log 4."
    assert not abs(answer - 2 * jsd) < 1e-3, "log 4 is missing: for p = g the discriminator guesses, and V = 2 log(1/2)."
    assert abs(equal + math.log(4)) < 1e-3, f"For p = g the best d is 1/2 everywhere, and V = -log 4. Yours is {equal:.3f}."
    assert abs(disjoint) < 0.01, f"If p and g share no point, d makes no mistake, and V = 0. Yours is {disjoint:.3f}."
    assert abs(answer - truth) < 1e-3, f"For N(0, 1) and N(1, 1), V is {truth:.4f}. Yours is {answer:.4f}."
    print("Right.")
