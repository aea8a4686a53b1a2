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
# # 8. One sample
#
# VAEs are usually trained with one sample of $z$ per image. You derive when that is enough, and measure both sources of gradient noise.

# %%
import matplotlib.pyplot as plt
import torch
from torch.func import functional_call, grad, vmap

import vae_variants as vv

torch.manual_seed(0)
data = vv.load_dataset("digits")
x = data.as_(vv.Support.BINARY).validation  # 300 images

# %% [markdown]
# ## Derivation
#
# A step averages the gradient over $B$ random images and $K$ samples of $z$ for each. Let $g(x, z)$ be the gradient for one image and one
# sample. The average is unbiased for every $K \ge 1$:
#
# $$\hat g = \frac{1}{B} \sum_{i=1}^{B} \frac{1}{K} \sum_{k=1}^{K} g(x_i, z_{ik}), \qquad
#   \mathbb{E}\,\hat g = \mathbb{E}_x \mathbb{E}_{z \mid x}\, g(x, z) .$$
#
# The law of total variance splits its noise into that of images and that of samples:
#
# $$\operatorname{Var} \hat g = \frac{1}{B} \left( V_x + \frac{V_z}{K} \right), \qquad
#   V_x = \operatorname{Var}_x \mathbb{E}[g \mid x], \quad V_z = \mathbb{E}_x \operatorname{Var}(g \mid x) .$$
#
# More samples reduce only the second part. Let the number $n = BK$ of decoder evaluations be fixed. Then
#
# $$\operatorname{Var} \hat g = \frac{K V_x + V_z}{n},$$
#
# which is least at $K = 1$: a further image helps more than a further sample. If $B$ is fixed instead, $K$ samples can at most divide the
# variance by $1 + V_z / V_x$.

# %% [markdown]
# ## With PyTorch
#
# `grad` gives the gradient of all weights, and `vmap` that of each image and each of 16 samples at once. The VAE has been trained by
# vae_variants, whose loss this is.
#
# ```sh
# vae-variants run "vae-latent-20[hidden=64]" --seeds 1 --fidelity quick --epochs 40
# ```

# %%
record = vv.run("vae-latent-20[hidden=64]", seeds=1, fidelity="quick", epochs=40)[0]
model = vv.load(record)
weights = dict(model.named_parameters())


def loss(weights, images):
    """-ELBO, the mean over images (B, 64), from `model.samples` samples of z, at the end of training."""
    return functional_call(model, weights, ("loss", images, torch.ones(())))


each = vmap(vmap(grad(loss), (None, 0), randomness="different"), (None, 0), randomness="different")
table = each(weights, x[:, None, None].expand(-1, 16, -1, -1))
g = torch.cat([value.flatten(2) for value in table.values()], 2)  # (image, sample, weight)
v_z = g.var(1).mean(0).sum().item()
v_x = g.mean(1).var(0, correction=0).sum().item() - v_z / 16  # a mean of 16 samples keeps a 16th of their variance
print(f"variance of images V_x = {v_x:.0f}, of samples V_z = {v_z:.0f}, summed over {g.shape[-1]} weights")

# %% [markdown]
# The ratio of the two depends on the model and on its age.
#
# The formula must predict the noise of real batches. Their number of decoder evaluations is fixed, $n = BK = 64$.


# %%
def measured(b, k, batches=200):
    """Variance over batches of the gradient of b random images with k samples each."""
    model.samples = k
    images = x[torch.randint(len(x), (batches, b))]
    found = vmap(grad(loss), (None, 0), randomness="different")(weights, images)
    model.samples = 1
    return sum(value.flatten(1).var(0).sum() for value in found.values()).item()


counts = (1, 2, 4, 8, 16, 32)
predicted = [(k * v_x + v_z) / 64 for k in counts]
noise = [measured(64 // k, k) for k in counts]
for k, there, here in zip(counts, noise, predicted, strict=True):
    print(f"{64 // k:2} images with {k:2} samples: variance {there:5.2f}, by the formula {here:5.2f}")
    assert abs(there / here - 1) < 0.3

# %% [markdown]
# ## With vae_variants
#
# `samples` is an option of every VAE. Both trainings keep the bound on validation images after each epoch in `curves`.
#
# ```sh
# vae-variants run "vae-latent-20[hidden=64,samples=8]" --seeds 1 --fidelity quick --epochs 20
# ```

# %%
eight = vv.run("vae-latent-20[hidden=64,samples=8]", seeds=1, fidelity="quick", epochs=20)[0]
curves = {k: r.curves["validation_log_prob"][0] for k, r in ((1, record), (8, eight))}
print("ELBO of validation images, in nats:")
print(f"after 20 epochs of each: {curves[1][19]:.2f} with one sample, {curves[8][19]:.2f} with eight")
print(f"after 40 decoder evaluations of each image: {curves[1][39]:.2f} with one sample, {curves[8][4]:.2f} with eight")
assert curves[1][39] > curves[8][4]

# %% [markdown]
# ## Figure
#
# Left: at equal cost, each further sample in place of an image makes the gradient noisier. Right: at equal cost, one sample learns faster.
# Per *epoch*, eight samples do learn more: here training is short, and noise slows it. What remains of that after long training is what
# the [claim about one sample](../../reports/claims/README.md) measures, over several seeds.

# %% tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(counts, noise, "o", color="#0072B2", label="measured")
left.plot(counts, predicted, "-", color="#D55E00", label="(K V_x + V_z) / 64")
left.set(xlabel="samples K of each of 64 / K images", ylabel="variance of the gradient", ylim=(0, None), title="64 decoder evaluations")
left.legend()
for (k, curve), colour in zip(curves.items(), ("#0072B2", "#D55E00"), strict=True):
    right.plot([k * (epoch + 1) for epoch in range(len(curve))], curve, color=colour, label=f"K = {k}")
right.set(xscale="log", xlabel="decoder evaluations per training image", ylabel="ELBO of validation images, nats", title="Training")
right.legend()
plt.show()

# %% [markdown]
# ## Exercise
#
# Somebody measured the variance of the gradient twice, both times with `b` images: `one` with one sample each, `many` with `k` samples
# each. Write `split`, which recovers $V_x$ and $V_z$ from the two numbers.
#
# When you have tried: the [solution](solutions/08_one_sample.py).


# %% tags=["exercise"]
def split(one, many, b, k):
    """Variances with 1 and with k samples for each of b images -> (V_x, V_z)."""
    # your answer


# %% tags=["check", "hide-input"]
cases = [(2.0, 12.0, 10, 4), (0.5, 3.0, 100, 8), (5.0, 0.0, 1, 2)]
answers = [split((a + c) / b, (a + c / k) / b, b, k) for a, c, b, k in cases]
if answers[0] is None:
    print("Not answered yet: write split in the cell above, and run both cells again.")
else:
    for (a, c, b, k), (found_x, found_z) in zip(cases, answers, strict=True):
        case = f"one={(a + c) / b:g}, many={(a + c / k) / b:g}, b={b}, k={k}"
        assert (found_x, found_z) != (c, a), "The two are swapped: V_x is what more samples do not reduce."
        assert abs((found_x + found_z) / b - (a + c) / b) < 1e-6, f"For {case}, (V_x + V_z) / b must give `one`."
        assert abs(found_z - c) < 1e-6, f"For {case}, V_z is {found_z:g}, but (V_x + V_z / k) / b must give `many`."
    print("Right.")
