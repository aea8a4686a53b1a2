"""Wrong answers to the exercises of the course: typical mistakes, and words of the message that rejects each."""

HEADS = {
    "01_autoencoder": "def least_error(x, k):\n    c = x - x.mean(0); e = torch.linalg.eigvalsh(c.T @ c / len(x)); d = len(e)\n",
    "02_classifier_on_latents": "def gradient(w, b, z, y):\n    e = (z @ w.T + b).softmax(1) - F.one_hot(y, len(b)); n = len(z)\n",
    "03_fvbn": "def log_prob(weight, bias, x):\n    def of(h): return -F.binary_cross_entropy_with_logits(h, x, reduction='none')\n",
    "04_elbo": "def bound(log_w):\n    k = len(log_w)\n",
    "05_kl_of_gaussians": "def kl(m1, s1, m2, s2):\n    r, d = s1 / s2, (m1 - m2) / s2\n",
    "06_decoders": "def best_sigma(x, mean):\n    e = x - mean\n",
    "07_gradients": "def score_gradient(mu, sigma, z, f):\n    d = z - mu; s = d**2 / sigma**3 - 1 / sigma\n",
    "08_one_sample": "def split(one, many, b, k):\n    v = b * (one - many) / (1 - 1 / k)\n",
    "09_gan_and_blur": (
        "def value(p, g, dx):\n    m = (p + g) / 2\n"
        "    def kl(a): return ((torch.xlogy(a, a) - torch.xlogy(a, m)) * dx).sum()\n    jsd = (kl(p) + kl(g)) / 2\n"
    ),
}

WRONG = {  # notebook -> (what is returned, words of the message)
    "01_autoencoder": [
        ("e[d - k :].sum() / d", "must not raise"),
        ("e[: d - k].sum()", "per image"),
        ("torch.linalg.eigvalsh(x.T @ x / len(x))[: d - k].sum() / d", "subtract the mean"),
        ("e[k:].sum() / d", "k largest"),
    ],
    "02_classifier_on_latents": [
        ("z.T @ e / n, e.mean(0)", "shape of w"),
        ("e.T @ z / n, e", "shape of b"),
        ("-e.T @ z / n, -e.mean(0)", "sign"),
        ("e.T @ z, e.sum(0)", "sum over the images"),
        ("e.abs().T @ z / n, e.mean(0)", "mean of (p - e_y) z^T"),
        ("e.T @ z / n, e.sum(0)", "by b is"),
    ],
    "03_fvbn": [
        ("of(x @ weight.tril(-1).T + bias)", "One number per image"),
        ("-of(x @ weight.tril(-1).T + bias).sum(1)", "never above 0"),
        ("of(x @ weight.tril().T + bias).sum(1)", "instead of 1"),
        ("of(x @ weight.tril(-1).T + bias).mean(1)", "instead of 1"),
        ("of(x @ weight.triu(1).T + bias).sum(1)", "sees no other"),
        ("of(x @ weight.triu(1) + bias).sum(1)", "Row i"),
    ],
    "04_elbo": [
        ("log_w.logsumexp(1) - math.log(k)", "One number per image"),
        ("log_w.logsumexp(0)", "divide by K"),
        ("log_w.exp().mean(0).log()", "logsumexp"),
        ("log_w.mean(0)", "above the ELBO"),
        ("log_w.logsumexp(0) - log_w.logsumexp(0).detach() + log_w.max(0).values", "near log p(x)"),
    ],
    "05_kl_of_gaussians": [
        ("0.5 * (r**2 + d**2 - 1) - r.log()", "One number per image"),
        ("(0.5 * (r**2 + d**2) - r.log()).sum(1)", "from itself is 0"),
        ("(0.5 * (r**2 + d**2 - 1) - r.log()).mean(1)", "mean over units"),
        ("(0.5 * (1 / r**2 + (d / r) ** 2 - 1) + r.log()).sum(1)", "first argument"),
        ("(0.5 * (1 - r**2 - d**2) + r.log()).sum(1)", "never negative"),
        ("(0.5 * (r**2 + d**2 - 1) - 2 * r.log()).sum(1).abs()", "The first KL"),
    ],
    "06_decoders": [
        ("-e.square().mean().sqrt()", "above 0"),
        ("e.square().mean()", "variance"),
        ("e.square().sum(1).mean().sqrt()", "over pixels"),
        ("e.std()", "from 0"),
        ("0.8 * e.square().mean().sqrt()", "larger"),
        ("1.2 * e.square().mean().sqrt()", "smaller"),
    ],
    "07_gradients": [
        ("(f * d / sigma**2).mean(), (f * s).mean()", "per sample"),
        ("d / sigma**2, s", "score alone"),
        ("-f * d / sigma**2, f * s", "sign"),
        ("f * d / sigma, f * s", "power of sigma"),
        ("f * d / sigma**2, f * d**2 / sigma**3", "two terms"),
    ],
    "08_one_sample": [
        ("v, b * one - v", "swapped"),
        ("one - v / b, v / b", "must give `one`"),
        ("b * many, b * (one - many)", "must give `many`"),
    ],
    "09_gan_and_blur": [
        ("((p * (p / (p + g)).log() + g * (g / (p + g)).log()) * dx).sum()", "finite"),
        ("jsd", "This is JSD"),
        ("2 * jsd", "log 4 is missing"),
        ("2 * kl(p) - math.log(2)", "best d is 1/2"),
        ("jsd - math.log(4)", "no mistake"),
        ("2 * kl(g) * (1 + 0.05 * (p * g).sum()) - math.log(4)", "For N(0, 1)"),
    ],
}
