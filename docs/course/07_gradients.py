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
# # 7. Reparameterisation against the score-function gradient
#
# The ELBO is an expectation over $q$, and $q$ is what the encoder learns. You derive two gradients of such an expectation, and measure
# why VAEs use the first.

# %%
import matplotlib.pyplot as plt
import torch

import vae_variants as vv

torch.manual_seed(0)
data = vv.load_dataset("digits")

# %% [markdown]
# ## Derivation
#
# Wanted is $\nabla_\phi \mathbb{E}_{q_\phi(z)}[f(z)]$, where $\phi$ decides the distribution of $z$.
#
# **Score function.** Differentiate the density, and use $\nabla q = q \nabla \log q$:
#
# $$\nabla_\phi \int q_\phi(z) f(z)\, dz = \int q_\phi(z)\, f(z) \nabla_\phi \log q_\phi(z)\, dz
#   = \mathbb{E}_{q_\phi}\bigl[f(z)\, \nabla_\phi \log q_\phi(z)\bigr] .$$
#
# It needs only values of $f$, so $z$ may be discrete.
#
# **Reparameterisation.** Write $z = \mu + \sigma \varepsilon$ with $\varepsilon \sim \mathcal{N}(0, 1)$. The noise does not depend on
# $\phi = (\mu, \sigma)$, so the derivative moves inside:
#
# $$\nabla_\phi \mathbb{E}_\varepsilon[f(\mu + \sigma \varepsilon)]
#   = \mathbb{E}_\varepsilon\bigl[f'(z)\, \nabla_\phi (\mu + \sigma \varepsilon)\bigr] .$$
#
# It needs the derivative of $f$, which tells each unit of $z$ its own effect.
#
# **Both are unbiased, but their noise differs.** Take $f(z) = \sum_{j=1}^{Z} z_j^2$, $\mu_j = m$ and $\sigma_j = 1$. The derivative by
# $\mu_1$ is $2m$. Reparameterisation estimates it by $2 z_1$, with variance 4 for any $Z$. The score is $\varepsilon_1$, and the estimate
# $f(z)\,\varepsilon_1$ contains the values of all other units. With $a = m^2 + 1$, $b = 2 + 4m^2$ and the moments of $\varepsilon$ (1, 3
# and 15 of order 2, 4 and 6), its variance is
#
# $$m^4 + 14 m^2 + 15 + 2 (m^2 + 3)\, a\, (Z - 1) + b\,(Z - 1) + a^2 (Z - 1)^2 .$$
#
# It grows with $Z^2$.

# %%
m, dims = 0.5, (1, 2, 5, 10, 20, 50, 100)
a, b = m**2 + 1, 2 + 4 * m**2
theory = [m**4 + 14 * m**2 + 15 + 2 * (m**2 + 3) * a * (d - 1) + b * (d - 1) + a**2 * (d - 1) ** 2 for d in dims]

# %% [markdown]
# ## With PyTorch
#
# `rsample` keeps the path from $z$ back to $\mu$. `sample` cuts it, and the gradient then comes through `log_prob`.


# %%
def gradients(dim, n=20_000):
    """n estimates of the derivative by the first mean, with both estimators: (n,) each."""
    mean = torch.full((n, dim), m, requires_grad=True)
    q = torch.distributions.Normal(mean, torch.ones(n, dim))
    path = torch.autograd.grad(q.rsample().square().sum(), mean)[0][:, 0]
    z = q.sample()
    f = z.square().sum(1)
    score = torch.autograd.grad((f * q.log_prob(z).sum(1)).sum(), mean)[0][:, 0]
    return path, score


found = [gradients(dim) for dim in dims]
for dim, (path, score), variance in zip(dims, found, theory, strict=True):
    assert abs(path.mean() - 2 * m) < 5 * path.std() / 20_000**0.5
    assert abs(score.mean() - 2 * m) < 5 * score.std() / 20_000**0.5
    assert abs(score.var() / variance - 1) < 0.15
    print(f"Z = {dim:3}: exact 1, path {path.mean():.2f} ± {path.std():.2f}, score {score.mean():.2f} ± {score.std():.2f}")

# %% [markdown]
# ## With vae_variants
#
# The objectives are functions of `model.infer`. Their gradient by the encoder's last bias is measured on one batch, 200 times. The score
# function is not among the objectives of vae_variants; here it is written with the same parts.
#
# ```sh
# vae-variants list objectives
# vae-variants run "vae-latent-20[hidden=64]" --seeds 1 --fidelity quick --epochs 40
# ```

# %%
record = vv.run("vae-latent-20[hidden=64]", seeds=1, fidelity="quick", epochs=40)[0]
model = vv.load(record).requires_grad_()
x, end = data.as_(vv.Support.BINARY).test[:100], torch.ones(())  # 100 images, at the end of training
bias = [p for p in model.encoder.parameters() if p.ndim == 1][-1]


# %%
def score_function(x):
    q = model.conditional(x)
    z = q.draw(1).z.detach()
    f = (model.log_px(x, z) + model.log_prior(z) - q.log_prob(z)).detach()
    return -(f * q.log_prob(z)).mean(0)


def objective(name):
    return lambda x: vv.OBJECTIVES[name](model.infer(x, 1, end))  # one sample of z


losses = {name: objective(name) for name in ("elbo", "elbo-sampled", "stl")} | {"score function": score_function}
noise = {}
for name, loss in losses.items():
    runs = torch.stack([torch.autograd.grad(loss(x).mean(), bias)[0] for _ in range(200)])
    noise[name] = runs.std(0).mean().item()
    print(f"{name:15} standard deviation of the gradient {noise[name]:.4f}")
assert noise["score function"] > 5 * noise["elbo"]

# %% [markdown]
# `elbo` has the closed KL, `elbo-sampled` samples it, and `stl` leaves out the score of $q$. All three are reparameterised.
#
# ## Figure
#
# The score function's noise grows with the number of latent units, and that of reparameterisation does not. To halve the noise takes four
# times as many samples: at $Z = 100$ the score function needs thousands of samples to be as exact as one.

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.plot(dims, [score.std() for _, score in found], "o", color="#D55E00", label="score function, measured")
ax.plot(dims, [variance**0.5 for variance in theory], "-", color="#D55E00", label="score function, formula")
ax.plot(dims, [path.std() for path, _ in found], "s", color="#0072B2", label="reparameterisation, measured")
ax.axhline(2, color="#0072B2", label="reparameterisation, formula")
ax.set(xscale="log", yscale="log", xlabel="latent units Z", ylabel="standard deviation of one estimate")
ax.legend()
plt.show()

# %% [markdown]
# ## Exercise
#
# Write the score-function estimates for one Gaussian unit, by hand: derive $\partial \log q / \partial \mu$ and $\partial \log q /
# \partial \sigma$ of $q = \mathcal{N}(\mu, \sigma^2)$.
#
# When you have tried: the [solution](solutions/07_gradients.py).


# %% tags=["exercise"]
def score_gradient(mu, sigma, z, f):
    """Numbers mu, sigma, samples z (N,), values f (N,) -> N estimates of the derivative by mu and N by sigma, (N,) each."""
    # your answer


# %% tags=["check", "hide-input"]
mu, sigma = torch.tensor(0.4, requires_grad=True), torch.tensor(0.7, requires_grad=True)
z, ones = torch.tensor([-0.5, 0.9, 2.0]), torch.ones(3)
with torch.no_grad():
    answer = score_gradient(mu, sigma, z, 3 * ones)
if answer is None:
    print("Not answered yet: write score_gradient in the cell above, and run both cells again.")
else:
    score = [torch.autograd.grad(torch.distributions.Normal(mu, sigma).log_prob(value), (mu, sigma)) for value in z]
    by_mu, by_sigma = (torch.stack(each) for each in zip(*score, strict=True))
    assert answer[0].shape == answer[1].shape == (3,), "One estimate per sample is asked for: two tensors of shape (N,)."
    assert not torch.allclose(answer[0], by_mu, atol=1e-4), "Multiply by f: this is the score alone."
    assert not torch.allclose(answer[0], -3 * by_mu, atol=1e-4), "The sign by mu is wrong: log q rises if mu moves towards z."
    assert torch.allclose(answer[0], 3 * by_mu, atol=1e-4), "The score by mu is (z - mu) / sigma^2. Which power of sigma have you?"
    fix = "It has two terms: one from the square, one from the normalising constant 1 / sigma."
    assert torch.allclose(answer[1], 3 * by_sigma, atol=1e-4), f"The estimate by mu is right, that by sigma is not. {fix}"
    print("Right.")
