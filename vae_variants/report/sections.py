"""What the tables of a report are: title, text, and for each column its header, metric and scale."""

from __future__ import annotations

from vae_variants.evaluation.sharpness import NOISE, SHARPEST

__all__ = ["BESIDE", "FIGURES_ARE", "LEFT_OUT", "LIKELIHOOD", "OVERVIEW", "SECTIONS", "SHARP", "likelihood_text"]

BESIDE = "Samples beside real images"
SECTIONS = (
    (
        "How tight the bounds are",
        "The importance-weighted bound of 1, 10, 100, 1000 draws, up to that of the table above, whose last step shows what is still "
        "missing; the jackknife takes away the bias of order 1/K, and what is left is no bound; Monte-Carlo error of log p(x) above; "
        "share of images whose weights have a tail so heavy (Pareto shape above 0.7) that no number of draws within reach is enough; "
        "log p(x) by annealed importance sampling, with the error of its gain over log p(x) above that comes from the images annealed, "
        "and with its own gap on simulated images; then the gap of the ELBO in two, on the images annealed: what the best diagonal "
        "Gaussian q for each image leaves open, and what the encoder loses against that. They add up to annealed log p(x) − ELBO.",
        (
            ("L₁ ↑", "bound_1", 1.0),
            ("L₁₀ ↑", "bound_10", 1.0),
            ("L₁₀₀ ↑", "bound_100", 1.0),
            ("L₁₀₀₀ ↑", "bound_1000", 1.0),
            ("jackknife", "jackknife", 1.0),
            ("MC error", "monte_carlo_error", 1.0),
            ("heavy tails", "pareto_bad", 1.0),
            ("annealed ↑", "annealed_log_likelihood", 1.0),
            ("its error", "annealing_error", 1.0),
            ("its gap ↓", "annealing_gap", 1.0),
            ("approximation gap", "approximation_gap", 1.0),
            ("amortisation gap", "amortization_gap", 1.0),
        ),
    ),
    (
        "Spread of Gaussian pixels",
        "The standard deviation that a Gaussian decoder gives to its pixels, fixed or learnt; the one that would suit the model as it is; "
        "what the difference costs in nats of ELBO.",
        (("σ", "pixel_sigma", 1.0), ("best σ", "optimal_sigma", 1.0), ("cost ↓", "sigma_cost", 1.0)),
    ),
    (
        "Reconstruction",
        "Mean squared error per pixel against the grey test image; −log p(x given the mean code) in nats of each model's own "
        "pixels, not comparable between kinds of pixels; sharpness of the reconstructions over that of the originals.",
        (
            ("MSE ↓", "reconstruction_mse", 1.0),
            ("nats ↓", "reconstruction_nats", 1.0),
            ("sharpness ratio", "reconstruction_sharpness_ratio", 1.0),
        ),
    ),
    (
        "Codes",
        "Test accuracy of a logistic regression on the codes, from 10, 100 and 1000 labelled images of each class and from all, and "
        "how many units it saw (units that do not move are left out); what the codes share with the image, I(x; z) in nats, which cannot "
        "exceed its ceiling, the log of the images looked at; KL(q(z) ‖ p(z)), the rest of the rate, too high where I(x; z) is near that "
        "ceiling; how well clusters of codes agree with the classes (adjusted mutual information).",
        (
            ("10 a class ↑", "probe_accuracy_10", 1.0),
            ("100 a class ↑", "probe_accuracy_100", 1.0),
            ("1000 a class ↑", "probe_accuracy_1000", 1.0),
            ("all labels ↑", "probe_accuracy", 1.0),
            ("units seen", "probe_codes", 1.0),
            ("I(x; z)", "mutual_information", 1.0),
            ("its ceiling", "information_ceiling", 1.0),
            ("KL(q(z) ‖ p(z))", "marginal_kl", 1.0),
            ("clusters ↑", "clustering_score", 1.0),
        ),
    ),
    (
        "Samples",
        "Of noise-free images (decoder means; a GAN's output). Sharpness is the variance of the Laplacian; as a ratio to real "
        "test images; as the Gaussian blur in pixels that would make those as unsharp, before or after a median filter, the larger. "
        "Re-blur is how little the images change when they are blurred again, 0 to 1. High frequencies are the share of energy above "
        "0.25 cycles per pixel, as a ratio to real; the spectral distance is the root mean square over all frequencies of the difference "
        f"in dB. The noise ratio is what a median filter leaves of the sharpness, as a ratio to real: where it is under {NOISE}, or the "
        f"sharpness over {SHARPEST} times that of real images, the samples are noisy or binarised and not sharp, and `noise:` says so. The "
        "row of real training images shows what perfect samples have.",
        (
            ("sharpness", "sharpness", 1.0),
            ("ratio to real", "sharpness_ratio", 1.0),
            ("noise ratio", "noise_ratio", 1.0),
            ("blur in pixels ↓", "blur_sigma", 1.0),
            ("re-blur ↓", "reblur", 1.0),
            ("high frequencies", "high_frequency_ratio", 1.0),
            ("spectral distance ↓ (dB)", "spectral_distance", 1.0),
        ),
    ),
    (
        BESIDE,
        "In the features of a classifier trained on this data set: Fréchet distance and kernel distance, which are not the FID and KID of "
        "other papers and compare within this data set only; precision, recall, density and coverage from 5 nearest neighbours; distance "
        "to the nearest training image over that of test images (near 0 they are copies). The row of real training images is the floor.",
        (
            ("FD-{data}cnn ↓", "fd-{data}cnn", 1.0),
            ("KID-{data}cnn ↓", "kid-{data}cnn", 1.0),
            ("precision ↑", "precision", 1.0),
            ("recall ↑", "recall", 1.0),
            ("density", "density", 1.0),
            ("coverage ↑", "coverage", 1.0),
            ("memorisation", "memorisation_ratio", 1.0),
        ),
    ),
    (
        "Cost",
        "Throughputs in images per second, all seeds of a run training together; sampling and encoding of one seed, 100 images "
        "at a time, one at a time (ms), and as many as is fastest where that was measured (fidelity `thorough`, or its option "
        "`sweep=true`): medians over seeds ± half of their interquartile range. The share is that of a training step in what the "
        "machine's rate of bare matrix products would allow. Peak memory is that of the device while training, on a CPU of the whole "
        "process with its libraries. "
        "Of the machine named above: not to be compared with another's.",
        (
            ("parameters", "parameters", 1.0),
            ("training ↑ (images/s)", "train_images_per_second", 1.0),
            ("training ↓ (s)", "train_seconds", 1.0),
            ("share ↑", "train_product_share", 1.0),
            ("encoding ↑ (images/s)", "encode_images_per_second", 1.0),
            ("one image ↓ (ms)", "encode_latency", 1.0),
            ("fastest encoding ↑ (images/s)", "encode_images_per_second_saturated", 1.0),
            ("sampling ↑ (images/s)", "sample_images_per_second", 1.0),
            ("one sample ↓ (ms)", "sample_latency", 1.0),
            ("fastest sampling ↑ (images/s)", "sample_images_per_second_saturated", 1.0),
            ("peak memory ↓ (MB)", "peak_memory_bytes", 1e-6),
        ),
    ),
)
SHARP = ("sharpness", "sharpness_ratio", "blur_sigma", "reblur", "high_frequency_ratio")  # what noise or binarising can improve
LIKELIHOOD = {  # metric -> column
    "log_likelihood": "log p(x) ↑",
    "elbo": "ELBO ↑",
    "gap": "gap",
    "rate": "rate",
    "distortion": "distortion",
    "bound_samples": "K",
    "ess": "effective draws ↑",
    "bits_per_dim": "bits/dim ↓",
    "active_units": "active units",
}
NATS = (
    "Nats per test image, higher is better; compared within one kind of pixels only. `≥` marks a lower bound:",
    "log p(x) is exact, or bounded by the importance-weighted bound of K draws whose effective number is in the next column.",
)
BOLD = (
    "Bold: cannot be told from the best (paired t-tests over seeds, Holm-adjusted, 5 %; rows of under three seeds are left out), where",
    "bounds stand beside exact values: a bound that is best is the best all the more, one that is not may be so for want of draws.",
)
DIFFERENCES = (
    "Rank: 95 % interval of the rank among those rows, from a joint bootstrap of the seeds that all have, if there are five.",
    "Δ is over the seeds that both have. Gap: log p(x) − ELBO = KL(q(z|x) ‖ p(z|x)), where log p(x) is a bound at least that.",
)
FIGURES_ARE = (
    "Figures are means over n seeds ± the half-width of a 95 % interval (Student's t under 10 seeds, BCa bootstrap "
    "from there on), which is left out where all seeds agree. Arrows point to better."
)
LEFT_OUT = (
    "There are {all} variants. Tables show {shown} of them and figures {drawn}: in turn, of each kind of pixels "
    "the first and then the best by log p(x), and of those without log p(x) the first. Ranks, p and what is bold are of all."
)
OVERVIEW = (  # what one looks at first
    ("log p(x) ↑", "log_likelihood", 1.0),
    ("ELBO ↑", "elbo", 1.0),
    ("MSE ↓", "reconstruction_mse", 1.0),
    ("FD-{data}cnn ↓", "fd-{data}cnn", 1.0),
    ("blur in pixels ↓", "blur_sigma", 1.0),
    ("probe accuracy ↑", "probe_accuracy", 1.0),
    ("training ↑ (images/s)", "train_images_per_second", 1.0),
    ("parameters", "parameters", 1.0),
)


def likelihood_text(few: str) -> tuple[str, ...]:
    """What the likelihood's columns are, in lines; where seeds are too `few` nothing is bold."""
    return (*NATS, *(() if few else BOLD), *DIFFERENCES)
