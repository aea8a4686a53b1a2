"""An objective: what a VAE minimises, given K samples of z for each of B images.

Renyi's bound is a worked example: put your own in its place. `check` tests that it is minus a lower bound on log p(x).
If yours is not meant to be one (a beta below 1, a divergence other than the KL), use the line at the end. An objective only trains: the
bounds in a report are estimated alike for all variants.
"""

import math

from vae_variants import OBJECTIVES


@OBJECTIVES.add  # the name of the function, in kebab case, is its name in a selector
def template(d, alpha: float = 0.5):  # options have defaults: vae[objective=...,alpha=0.1|0.5] sets them
    """-(Renyi's bound of order `alpha`): 1 / (alpha - 1) log (1/K) sum_k w_k^(1 - alpha) (Li & Turner 2016)."""
    # d has, in nats, log_px, log_pz, log_qz (K, B) and log_w = log_px + log_pz - log_qz; kl (B,) and kl_units (B, Z) in closed form;
    # z (K, B, Z); t, the fraction of training done, for annealing. The result is (B,), to be minimised: minus a bound on log p(x).
    if alpha >= 1:
        raise ValueError(f"alpha is below 1, not {alpha}")
    return ((1 - alpha) * d.log_w).logsumexp(0).sub(math.log(len(d.log_w))) / (alpha - 1)


# template.bound = False  # not a lower bound on log p(x), on purpose
