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
# # 5. The KL divergence of Gaussians
#
# The rate of a VAE is a KL divergence of two Gaussians, and has a closed form. You derive it, and read from it which units a VAE uses.

# %%
import matplotlib.pyplot as plt
import torch
from torch.distributions import Normal, kl_divergence

import vae_variants as vv

torch.manual_seed(0)
data = vv.load_dataset("digits")
test = data.as_(vv.Support.BINARY).test

# %% [markdown]
# ## Derivation
#
# Let $q = \mathcal{N}(\mu, \sigma^2)$ and $p = \mathcal{N}(0, 1)$. Their log densities differ by
#
# $$\log q(z) - \log p(z) = -\log \sigma - \frac{(z - \mu)^2}{2 \sigma^2} + \frac{z^2}{2} .$$
#
# Under $q$, $\mathbb{E}(z - \mu)^2 = \sigma^2$ and $\mathbb{E} z^2 = \mu^2 + \sigma^2$. Hence
#
# $$\operatorname{KL}(q \,\|\, p) = \mathbb{E}_q[\log q - \log p] = \tfrac{1}{2}\left(\mu^2 + \sigma^2 - 1 - \log \sigma^2\right) .$$
#
# It is 0 at $\mu = 0$, $\sigma = 1$, and positive elsewhere: $\sigma^2 - 1 - \log \sigma^2 \ge 0$, because $\log t \le t - 1$.
#
# With independent units, the log densities are sums over units, and so is the KL:
#
# $$\operatorname{KL}\bigl(q(z \mid x) \,\|\, p(z)\bigr)
#   = \tfrac{1}{2} \sum_{j=1}^{Z} \left(\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2\right) .$$
#
# A unit with $\mu_j = 0$ and $\sigma_j = 1$ for every image costs nothing and says nothing. It is *inactive*.

# %% [markdown]
# ## With PyTorch
#
# The closed form must agree with `torch.distributions`, and with the mean of $\log q - \log p$ over samples of $q$.


# %%
def kl_units(mean, scale):
    return 0.5 * (mean**2 + scale**2 - 1 - 2 * scale.log())


mean, scale = torch.randn(6), torch.rand(6) + 0.3
q, p = Normal(mean, scale), Normal(torch.zeros(6), torch.ones(6))
z = q.sample((200_000,))
sampled = (q.log_prob(z) - p.log_prob(z)).mean(0)
print("closed form:", kl_units(mean, scale).numpy().round(3))
print("by samples: ", sampled.numpy().round(3))
assert torch.allclose(kl_units(mean, scale), kl_divergence(q, p), atol=1e-5)
assert torch.allclose(kl_units(mean, scale), sampled, atol=0.02)

# %% [markdown]
# ## With vae_variants
#
# `model.moments` gives $\mu$ and $\sigma$, and `model.infer` the KL of each unit. Their mean over test images is the metric `rate`.
#
# ```sh
# vae-variants run "vae-latent-20[hidden=64]" --seeds 1 --fidelity quick --epochs 40
# ```

# %%
record = vv.run("vae-latent-20[hidden=64]", seeds=1, fidelity="quick", epochs=40)[0]
model = vv.load(record)
mu, sigma = model.moments(test)
units = model.infer(test, 1, torch.ones(())).kl_units  # one sample of z, at the end of training
assert torch.allclose(kl_units(mu, sigma), units, atol=1e-5)
assert abs(units.sum(1).mean() - record.value("rate", 0)) < 1e-3
print(f"rate {record.value('rate', 0):.2f} nats, of which {units.mean(0).max():.2f} are in the busiest unit")

# %% [markdown]
# ## Figure
#
# Contours of the KL, in nats, over the plane of $\mu$ and $\sigma$. Each dot is one test image in one unit. The busiest unit spreads its
# means and narrows its $\sigma$. The idlest stays close to the prior at the cross, where the KL is 0.

# %% tags=["hide-input"]
m, s = torch.meshgrid(torch.linspace(-3.5, 3.5, 200), torch.logspace(-0.9, 0.3, 200), indexing="xy")
figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
lines = ax.contour(m, s, kl_units(m, s), levels=[0.1, 0.5, 1, 2, 4], colors="#888888", linewidths=0.8)
busy = units.mean(0).argsort(descending=True)
for rank, colour in ((0, "#0072B2"), (-1, "#D55E00")):
    unit, name = busy[rank], "busiest" if rank == 0 else "idlest"
    ax.plot(mu[:, unit], sigma[:, unit], ".", color=colour, ms=4, label=f"{name} unit, {units.mean(0)[unit]:.2f} nats on average")
ax.clabel(lines, fmt="%g", manual=[((2 * level) ** 0.5, 1.0) for level in lines.levels], zorder=3)  # where σ = 1, KL = μ²/2
ax.plot(0, 1, "k+", ms=14, mew=2, label="prior N(0, 1)")
ax.set(yscale="log", xlabel="mean μ", ylabel="standard deviation σ")
ax.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
ax.minorticks_off()
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
plt.show()

# %% [markdown]
# ## Exercise
#
# Priors can be learnt, too. Derive the KL of two Gaussians with diagonal covariance, $q = \mathcal{N}(m_1, s_1^2)$ and $p =
# \mathcal{N}(m_2, s_2^2)$, as above. Write `kl`, summed over units.
#
# When you have tried: the [solution](solutions/05_kl_of_gaussians.py).


# %% tags=["exercise"]
def kl(m1, s1, m2, s2):
    """Means and standard deviations of q and p, each (B, Z) -> KL(q || p) in nats, (B,)."""
    # your answer


# %% tags=["check", "hide-input"]
m1, m2, s1, s2 = torch.randn(5, 3), torch.randn(5, 3), torch.rand(5, 3) + 0.3, torch.rand(5, 3) + 0.3
answer = kl(m1, s1, m2, s2)
if answer is None:
    print("Not answered yet: write kl in the cell above, and run both cells again.")
else:
    units = kl_divergence(Normal(m1, s1), Normal(m2, s2))
    swapped = kl_divergence(Normal(m2, s2), Normal(m1, s1)).sum(1)
    assert answer.shape == (5,), f"One number per image is asked for, (5,). Yours has the shape {tuple(answer.shape)}."
    zero = kl(m1, s1, m1, s1)
    assert torch.allclose(zero, torch.zeros(5), atol=1e-5), f"The KL of a density from itself is 0. Yours is {zero[0]:.3f}."
    assert not torch.allclose(answer, units.mean(1), rtol=1e-3), "This is the mean over units. Independent units add up."
    assert not torch.allclose(answer, swapped, rtol=1e-3), "This is KL(p || q). The expectation is over q, the first argument."
    assert answer.min() >= 0, "A KL is never negative. Check the signs of the logarithms."
    assert torch.allclose(answer, units.sum(1), rtol=1e-3), f"The first KL is {units[0].sum():.3f} nats. Yours is {answer[0]:.3f}."
    print("Right.")
