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
# # 7. Solution: reparameterisation against the score-function gradient
#
# $\log q(z) = -\log \sigma - (z - \mu)^2 / (2 \sigma^2) - \frac{1}{2} \log 2\pi$ has the derivatives
#
# $$\frac{\partial \log q}{\partial \mu} = \frac{z - \mu}{\sigma^2}, \qquad
#   \frac{\partial \log q}{\partial \sigma} = \frac{(z - \mu)^2}{\sigma^3} - \frac{1}{\sigma} .$$


# %% tags=["exercise"]
def score_gradient(mu, sigma, z, f):
    """Numbers mu, sigma, samples z (N,), values f (N,) -> N estimates of the derivative by mu and N by sigma, (N,) each."""
    return f * (z - mu) / sigma**2, f * ((z - mu) ** 2 / sigma**3 - 1 / sigma)
