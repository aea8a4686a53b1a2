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
# # 5. Solution: the KL divergence of Gaussians
#
# The log densities differ by
#
# $$\log q(z) - \log p(z) = \log \frac{s_2}{s_1} - \frac{(z - m_1)^2}{2 s_1^2} + \frac{(z - m_2)^2}{2 s_2^2} .$$
#
# Under $q$, $\mathbb{E}(z - m_1)^2 = s_1^2$ and $\mathbb{E}(z - m_2)^2 = s_1^2 + (m_1 - m_2)^2$. Hence
#
# $$\operatorname{KL}(q \,\|\, p) = \sum_j \left[ \log \frac{s_2}{s_1} + \frac{s_1^2 + (m_1 - m_2)^2}{2 s_2^2} - \frac{1}{2} \right] .$$


# %% tags=["exercise"]
def kl(m1, s1, m2, s2):
    """Means and standard deviations of q and p, each (B, Z) -> KL(q || p) in nats, (B,)."""
    return ((s2 / s1).log() + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5).sum(1)
