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
# # 4. From log p(x) to the ELBO
#
# A VAE has latents, so that $\log p(x)$ is an integral. You derive a lower bound of it, the ELBO, and the exact size of the gap.

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Independent, Normal

import vae_variants as vv

torch.manual_seed(0)
data = vv.load_dataset("digits")
x = data.grey("train")
test = data.as_(vv.Support.BINARY).test

# %% [markdown]
# ## Derivation
#
# The model draws $z \sim p(z)$ and then $x \sim p(x \mid z)$. The encoder gives a second density $q(z \mid x)$ of latents. Multiply and
# divide by it, and move the logarithm inside by Jensen's inequality:
#
# $$\log p(x) = \log \mathbb{E}_{q(z \mid x)}\!\left[\frac{p(x, z)}{q(z \mid x)}\right]
#   \;\ge\; \mathbb{E}_{q(z \mid x)}\!\left[\log \frac{p(x, z)}{q(z \mid x)}\right] = \text{ELBO} .$$
#
# How much is lost? Insert $p(x, z) = p(x)\, p(z \mid x)$ into the ELBO:
#
# $$\text{ELBO} = \log p(x) + \mathbb{E}_q\!\left[\log \frac{p(z \mid x)}{q(z \mid x)}\right]
#   = \log p(x) - \operatorname{KL}\bigl(q(z \mid x) \,\|\, p(z \mid x)\bigr) .$$
#
# The gap is the KL divergence of the encoder's $q$ from the exact posterior. It is 0 only if they are equal. For training, insert $p(x,
# z) = p(z)\, p(x \mid z)$ instead:
#
# $$\text{ELBO} = \underbrace{\mathbb{E}_q[\log p(x \mid z)]}_{-\text{ distortion}}
#   - \underbrace{\operatorname{KL}\bigl(q(z \mid x) \,\|\, p(z)\bigr)}_{\text{rate}} .$$

# %% [markdown]
# ## With PyTorch
#
# The VAE has two latents, so that a grid can sum over them. The KL of Gaussians is that of [notebook 5](05_kl_of_gaussians.py).

# %%
encoder = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 4))
decoder = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64))
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=5e-3)


def posterior(x):
    mean, log_scale = encoder(x).chunk(2, -1)
    return Independent(Normal(mean, log_scale.exp()), 1)


def log_px(x, z):
    return -F.binary_cross_entropy_with_logits(decoder(z), x.expand(*z.shape[:-1], 64), reduction="none").sum(-1)


prior = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
for _ in range(1000):
    batch = torch.bernoulli(x[torch.randint(len(x), (100,))])
    q = posterior(batch)
    loss = (torch.distributions.kl_divergence(q, prior) - log_px(batch, q.rsample())).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %% [markdown]
# Now the three quantities of the derivation, each in its own way: $\log p(x)$ by a sum over a grid, the ELBO by samples of $q$, and the
# gap by a sum of $q \log (q / p)$ over the grid.

# %%
side = torch.linspace(-6, 6, 241)
grid = torch.cartesian_prod(side, side)  # (58081, 2)
cell = math.log((side[1] - side[0]).item() ** 2)  # log of the area around a point
few = test[:20]
with torch.no_grad():
    h = decoder(grid)
    log_joint = h @ few.T - F.softplus(h).sum(1, keepdim=True) + prior.log_prob(grid)[:, None]  # (grid, image)
    log_p = (log_joint + cell).logsumexp(0)
    q = posterior(few)
    log_q = torch.stack([posterior(image).log_prob(grid) for image in few], 1)
    gap = ((log_q + cell).exp() * (log_q - (log_joint - log_p))).sum(0)
    z = q.sample((4000,))
    elbo = log_px(few, z).mean(0) - torch.distributions.kl_divergence(q, prior)
print(f"log p(x) {log_p.mean():.3f}, ELBO {elbo.mean():.3f}, KL(q || posterior) {gap.mean():.3f} nats")
assert torch.allclose(log_p - elbo, gap, atol=0.15)  # for each image, up to the noise of 4000 samples
assert abs((log_p - elbo - gap).mean()) < 0.03

# %% [markdown]
# ## With vae_variants
#
# A record holds `elbo`, `log_likelihood` and their difference `gap`. Of a VAE, `log_likelihood` is itself a bound, from many samples of
# $q$. The grid shows how near it is to the exact value.
#
# ```sh
# vae-variants run "vae-latent-2[hidden=64]" --seeds 1 --fidelity quick --epochs 40
# ```

# %%
record = vv.run("vae-latent-2[hidden=64]", seeds=1, fidelity="quick", epochs=40)[0]
model = vv.load(record)
h = model.outputs(grid)
exact = (h @ test.T - F.softplus(h).sum(1, keepdim=True) + model.log_prior(grid)[:, None] + cell).logsumexp(0).mean()
found = {metric: record.value(metric, 0) for metric in ("elbo", "log_likelihood", "gap", "bound_samples")}
print(f"ELBO {found['elbo']:.3f}, bound of {found['bound_samples']:.0f} samples {found['log_likelihood']:.3f}, exact {exact:.3f}")
assert found["elbo"] < found["log_likelihood"] < exact + 0.05

# %% [markdown]
# ## Figure
#
# Left: the exact posterior of the three test images with the largest gap (filled), and the encoder's Gaussian (dashed). $q$ is an upright
# ellipse, which cannot lean or bend as the posterior does, and the encoder misses some centres. Right: for each image, the ELBO lies
# below $\log p(x)$ by exactly this mismatch.

# %% tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for i, colour in zip(gap.argsort()[-3:], ("#0072B2", "#D55E00", "#009E73"), strict=True):
    exact_density = (log_joint[:, i] - log_p[i]).exp().view(241, 241).T
    left.contourf(side, side, exact_density, levels=exact_density.max() * torch.tensor([0.1, 0.5, 1.0]), colors=[colour], alpha=0.4)
    own = log_q[:, i].exp().view(241, 241).T
    left.contour(side, side, own, levels=own.max() * torch.tensor([0.1, 0.5]), colors=[colour], linestyles="dashed")
left.set(xlabel="first latent", ylabel="second latent", title="Posterior and q of three images", xlim=(-2.5, 2.5), ylim=(-2.5, 2.5))
order = log_p.argsort()
right.vlines(range(20), elbo[order], log_p[order], color="#999999", label="KL(q ‖ posterior)")
right.plot(log_p[order], "o", color="#0072B2", ms=4, label="log p(x)")
right.plot(elbo[order], "v", color="#D55E00", ms=4, label="ELBO")
right.set(xticks=[], xlabel="20 test images, by log p(x)", ylabel="nats", title="Gap of the bound")
right.legend()
plt.show()

# %% [markdown]
# ## Exercise
#
# Jensen loses less if the average stands inside the logarithm. The importance-weighted bound of $K$ samples is
#
# $$L_K = \mathbb{E}\left[\log \frac{1}{K} \sum_{k=1}^{K} w_k\right], \qquad w_k = \frac{p(x, z_k)}{q(z_k \mid x)} .$$
#
# Write it as a function of $\log w$. Some weights are as small as $e^{-1000}$, so it must not compute $w$ itself.
#
# When you have tried: the [solution](solutions/04_elbo.py).


# %% tags=["exercise"]
def bound(log_w):
    """log w (K, B) of K samples for each of B images -> the bound of each image, (B,)."""
    # your answer


# %% tags=["check", "hide-input"]
answer = bound(torch.randn(7, 3))
if answer is None:
    print("Not answered yet: write bound in the cell above, and run both cells again.")
else:
    assert answer.shape == (3,), f"One number per image is asked for, (3,). Yours has the shape {tuple(answer.shape)}."
    same = bound(torch.full((8, 1), -3.0))
    assert torch.isclose(same, torch.tensor(-3.0)).all(), "Eight equal weights have that weight as their mean. Did you divide by K?"
    small = bound(torch.full((8, 1), -1000.0))
    assert torch.isfinite(small).all(), "Weights of e^-1000 gave an infinite bound. Use torch.logsumexp."
    with torch.no_grad():
        log_w = log_px(few, z) + prior.log_prob(z) - q.log_prob(z)
        tight = bound(log_w)
    assert (tight - log_w.mean(0)).min() > 0, "The bound of many samples lies above the ELBO. Is it the mean of log w?"
    assert torch.allclose(tight, log_p, atol=0.25), "With 4000 samples, the bound must come near log p(x)."
    print("Right.")
