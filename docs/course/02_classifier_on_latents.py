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
# # 2. A classifier on latents
#
# Are latents good features? You put a linear classifier on them, a *linear probe*, and count how many labels it needs.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

import vae_variants as vv

torch.manual_seed(0)
data = vv.load_dataset("digits")
x, test = data.grey("train"), data.grey("test")
y, y_test = data.labels["train"], data.labels["test"]

# %% [markdown]
# ## Derivation
#
# The probe is multinomial logistic regression. With scores $a = Wz + b$ it says
#
# $$p(c \mid z) = \frac{e^{a_c}}{\sum_k e^{a_k}}, \qquad
#   \ell = -\log p(y \mid z) = \log \sum_k e^{a_k} - a_y .$$
#
# The derivatives are prediction minus truth, where $[c = y]$ is 1 for the true class and 0 for others:
#
# $$\frac{\partial \ell}{\partial a_c} = p(c \mid z) - [c = y], \qquad
#   \frac{\partial \ell}{\partial W} = (p - e_y)\, z^\top, \qquad
#   \frac{\partial^2 \ell}{\partial a\, \partial a^\top} = \operatorname{diag}(p) - p p^\top \succeq 0 .$$
#
# The Hessian is positive semidefinite, so the loss is convex and each minimum is a global one. The probe thus compares latents, not
# optimisers.
#
# What can latents gain? Since $z = f(x)$, they cannot hold more information about the class (the data-processing inequality):
#
# $$I(y; z) \le I(y; x) .$$
#
# They can only put it into a form that a linear classifier can use, and in fewer numbers.

# %%
z, w = torch.randn(5), torch.randn(10, 5, requires_grad=True)
loss = F.cross_entropy((w @ z).unsqueeze(0), torch.tensor([3]))
p = (w @ z).softmax(0)
by_hand = torch.outer(p - F.one_hot(torch.tensor(3), 10), z)
assert torch.allclose(torch.autograd.grad(loss, w)[0], by_hand, atol=1e-6)
assert torch.linalg.eigvalsh(p.diag() - torch.outer(p, p)).min() > -1e-6

# %% [markdown]
# ## With PyTorch
#
# First an autoencoder with ten units, which sees no label. Then the probe, with a small penalty on its weights.


# %%
def latents(units, steps=600):
    encoder = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, units))
    decoder = nn.Sequential(nn.Linear(units, 64), nn.SiLU(), nn.Linear(64, 64))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (200,))]
        loss = (decoder(encoder(batch)) - batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return encoder(x), encoder(test)


# %%
def probe(z, z_test, labels):
    """Test accuracy of a linear classifier that is fitted to the first `labels` training images."""
    mean, scale = z.mean(0), z.std(0) + 1e-6
    z, z_test, target = ((z - mean) / scale)[:labels], (z_test - mean) / scale, y[:labels]
    classifier = nn.Linear(z.shape[1], 10)
    optimizer = torch.optim.LBFGS(classifier.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(classifier(z), target) + 1e-2 * classifier.weight.square().sum() / 2
        value.backward()
        return value

    optimizer.step(loss)
    return (classifier(z_test).argmax(1) == y_test).float().mean().item()


budgets = (20, 50, 100, 300, 1197)
_, _, directions = torch.pca_lowrank(x, 10)
features = {"64 pixels": (x, test), "10 principal components": (x @ directions, test @ directions), "10 latents": latents(10)}
accuracy = {name: [probe(*pair, labels) for labels in budgets] for name, pair in features.items()}
for name, values in accuracy.items():
    print(f"{name:25}", " ".join(f"{value:.2f}" for value in values))
assert accuracy["10 latents"][-1] > 0.8

# %% [markdown]
# ## With vae_variants
#
# Each record of a model with an encoder holds the accuracy of such a probe: with all labels, and with 10 and 100 labels per class.
# `reference-...` are baselines. `probe_codes` says how many numbers the probe sees.
#
# ```sh
# vae-variants run "ae[latent=2|10,hidden=64]" reference-pca-10 reference-pixels --seeds 1 --fidelity quick --epochs 40
# ```

# %%
selectors = ["ae[latent=2|10,hidden=64]", "reference-pca-10", "reference-pixels"]
records = vv.run(selectors, seeds=1, fidelity="quick", epochs=40)
for record in records:
    found = [record.value(metric, 0) for metric in ("probe_codes", "probe_accuracy_10", "probe_accuracy")]
    print("{:28} {:3.0f} numbers, accuracy {:.2f} with 10 labels per class, {:.2f} with all".format(record.label, *found))
assert abs(records[-1].value("probe_accuracy", 0) - accuracy["64 pixels"][-1]) < 0.05

# %% [markdown]
# ## Figure
#
# Left: two latents already separate some digits, without having seen a label. Right: ten latents keep nearly all that the probe can use.
# They do about as well as ten principal components, and a little worse than all 64 pixels: the autoencoder saw no label, and its latents
# cannot tell more than the image. Differences below 0.03 may be chance, because there are only 300 test images.

# %% tags=["hide-input"]
model = vv.load(records[0])
plane = model.encode(test)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
dots = left.scatter(*plane.T, c=y_test, cmap="tab10", s=10, vmin=-0.5, vmax=9.5)
figure.colorbar(dots, ax=left, ticks=range(10), label="digit")
left.set(xlabel="first latent", ylabel="second latent", title="Test images in the plane of 2 latents")
for (name, values), style in zip(accuracy.items(), ("o-", "s--", "^-"), strict=True):
    right.plot(budgets, values, style, label=name)
right.set(xscale="log", xlabel="labelled images", ylabel="test accuracy", title="Linear probe")
right.set_xticks(budgets, map(str, budgets))
right.minorticks_off()
right.legend()
plt.show()

# %% [markdown]
# ## Exercise
#
# Write `gradient`: the derivatives of the *mean* loss over N images, without autograd. The scores are `z @ w.T + b`.
#
# When you have tried: the [solution](solutions/02_classifier_on_latents.py).


# %% tags=["exercise"]
def gradient(w, b, z, y):
    """w (C, Z), b (C,), z (N, Z), y (N,) -> derivatives of the mean loss by w (C, Z) and by b (C,)."""
    # your answer


# %% tags=["check", "hide-input"]
w, b = torch.randn(10, 5, requires_grad=True), torch.randn(10, requires_grad=True)
z, target = torch.randn(40, 5), torch.randint(10, (40,))
truth = torch.autograd.grad(F.cross_entropy(z @ w.T + b, target), (w, b))
with torch.no_grad():
    answer = gradient(w, b, z, target)
if answer is None:
    print("Not answered yet: write gradient in the cell above, and run both cells again.")
else:
    by_w, by_b = answer
    assert by_w.shape == (10, 5), f"The derivative by w has the shape of w, (10, 5). Yours has {tuple(by_w.shape)}."
    assert by_b.shape == (10,), f"The derivative by b has the shape of b, (10,). Yours has {tuple(by_b.shape)}."
    assert not torch.allclose(by_w, -truth[0], atol=1e-5), "The sign is wrong: it is prediction minus truth."
    assert not torch.allclose(by_w, 40 * truth[0], atol=1e-4), "This is the sum over the images. The mean is asked for."
    assert torch.allclose(by_w, truth[0], atol=1e-5), "The derivative by w is the mean of (p - e_y) z^T."
    assert torch.allclose(by_b, truth[1], atol=1e-5), "The derivative by w is right. That by b is the mean of p - e_y."
    print("Right.")
