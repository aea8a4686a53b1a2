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
# # 8. Solution: one sample
#
# The two measurements are $(V_x + V_z) / b$ and $(V_x + V_z / k) / b$. Their difference is $V_z (1 - 1/k) / b$, which gives $V_z$. The
# first one then gives $V_x$.


# %% tags=["exercise"]
def split(one, many, b, k):
    """Variances with 1 and with k samples for each of b images -> (V_x, V_z)."""
    v_z = b * (one - many) / (1 - 1 / k)
    return b * one - v_z, v_z
