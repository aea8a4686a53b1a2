"""The tables of a report: title, text, and (header, metric, scale) for each column."""

from vae_variants.evaluation.sharpness import NOISE, SHARPEST

TIE = "\u207c"  # after what is statistically tied with the best
AGAINST_REAL = "Samples against real images"
DISENTANGLEMENT = (
    ("beta-VAE score ↑", "beta_vae_score", 1.0),
    ("FactorVAE score ↑", "factor_vae_score", 1.0),
    ("MIG ↑", "mig", 1.0),
    ("MIG corrected ↑", "mig_corrected", 1.0),
    ("SAP ↑", "sap", 1.0),
    ("DCI-D ↑", "dci_disentanglement", 1.0),
    ("DCI-C ↑", "dci_completeness", 1.0),
    ("DCI-I ↑", "dci_informativeness", 1.0),
    ("modularity ↑", "modularity", 1.0),
    ("explicitness ↑", "explicitness", 1.0),
    ("IRS ↑", "irs", 1.0),
    ("MCC ↑", "mcc", 1.0),
    ("TC ↓", "gaussian_total_correlation", 1.0),
    ("KL(q(z_j) ‖ p)", "unit_marginal_kl", 1.0),
)
SECTIONS = (
    (
        "Tightness of the bounds",
        "L_K is the importance-weighted bound with K posterior samples. The jackknife removes its bias of order 1/K and is no bound. MC "
        "error is the standard error of log p(x). Pareto k > 0.7 is the share of images whose importance weights have such heavy tails "
        "that more samples hardly help. AIS is log p(x) by annealed importance sampling, with its standard error against log p(x) and "
        "its gap on simulated images. The approximation gap is what the best diagonal Gaussian q loses, the amortization gap what the "
        "encoder loses against that; together they are AIS log p(x) − ELBO on the annealed images.",
        (
            ("L₁ ↑", "bound_1", 1.0),
            ("L₁₀ ↑", "bound_10", 1.0),
            ("L₁₀₀ ↑", "bound_100", 1.0),
            ("L₁₀₀₀ ↑", "bound_1000", 1.0),
            ("jackknife", "jackknife", 1.0),
            ("MC error", "monte_carlo_error", 1.0),
            ("Pareto k > 0.7", "pareto_bad", 1.0),
            ("AIS log p(x) ↑", "annealed_log_likelihood", 1.0),
            ("AIS error", "annealing_error", 1.0),
            ("AIS gap ↓", "annealing_gap", 1.0),
            ("approximation gap", "approximation_gap", 1.0),
            ("amortization gap", "amortization_gap", 1.0),
        ),
    ),
    (
        "Decoder sigma",
        "σ is the standard deviation of a Gaussian decoder's pixels, fixed or learned. The optimal σ maximises the ELBO with encoder and "
        "decoder as they are. The cost is the difference in nats.",
        (("σ", "pixel_sigma", 1.0), ("optimal σ", "optimal_sigma", 1.0), ("cost ↓", "sigma_cost", 1.0)),
    ),
    (
        "Reconstruction",
        "MSE is per pixel, against the grey test image; unexplained is its share of the error of the mean training image. PSNR, SSIM and "
        "MS-SSIM are means over images. FD and KID compare reconstructions with the originals in the features of the classifier, and the "
        "sharpness ratio does by sharpness. Nats are −log p(x | z = posterior mean) and compare within one pixel type only.",
        (
            ("MSE ↓", "reconstruction_mse", 1.0),
            ("unexplained ↓", "unexplained_variance", 1.0),
            ("PSNR, dB ↑", "psnr", 1.0),
            ("SSIM ↑", "ssim", 1.0),
            ("MS-SSIM ↑", "ms_ssim", 1.0),
            ("FD-{data}cnn ↓", "reconstruction_fd-{data}cnn", 1.0),
            ("KID-{data}cnn ↓", "reconstruction_kid-{data}cnn", 1.0),
            ("nats ↓", "reconstruction_nats", 1.0),
            ("sharpness ratio", "reconstruction_sharpness_ratio", 1.0),
        ),
    ),
    (
        "Latents",
        "A linear probe is a logistic regression on the latents; the columns show its test accuracy with 10, 100, 1000 and all labels per "
        "class, and the units it uses (constant ones are left out). I(x; z) is the mutual information in nats; its ceiling is the log of "
        "the number of images. KL(q(z) ‖ p(z)) is the rest of the rate, and too high if I(x; z) is near its ceiling. Clusters is the "
        "adjusted mutual information between k-means clusters and classes. Components is the accuracy of the prior's components, matched "
        "to classes as well as possible. Told labels is the accuracy of a model that learns from labels; it has no probe.",
        (
            ("10 per class ↑", "probe_accuracy_10", 1.0),
            ("100 per class ↑", "probe_accuracy_100", 1.0),
            ("1000 per class ↑", "probe_accuracy_1000", 1.0),
            ("probe accuracy ↑", "probe_accuracy", 1.0),
            ("probed units", "probe_codes", 1.0),
            ("I(x; z)", "mutual_information", 1.0),
            ("its ceiling", "information_ceiling", 1.0),
            ("KL(q(z) ‖ p(z))", "marginal_kl", 1.0),
            ("clusters ↑", "clustering_score", 1.0),
            ("components ↑", "component_accuracy", 1.0),
            ("told labels ↑", "label_accuracy", 1.0),
        ),
    ),
    (
        "Disentanglement",
        "Whether latent units and the factors that the images were made from belong together one to one. Values go up to 1. Chance is 0, "
        "but 1 over the number of factors for the beta-VAE and FactorVAE scores, 0.5 for explicitness, and the share of the commonest "
        "value for DCI-I. DCI has disentanglement (D), completeness (C) and informativeness (I). DCI-I and explicitness say how much the "
        "latents tell, not how they are arranged. TC is the total correlation that posterior means would have as Gaussians, "
        "KL(q(z_j) ‖ p) a sum over units.",
        DISENTANGLEMENT,
    ),
    (
        "Samples",
        "Noise-free samples: decoder means, or a GAN's output. Sharpness is the variance of the Laplacian; its ratio is to real test "
        "images. Blur is the Gaussian blur in pixels that makes real images as unsharp, the larger of before and after a median filter. "
        "Re-blur, from 0 to 1, is how little another blur changes the samples. High frequencies is the share of energy above 0.25 cycles "
        "per pixel, as a ratio to real. Spectral distance is the RMS difference of the spectra. The noise ratio is the sharpness that a "
        "median filter leaves, as a ratio to real. "
        f"`noise:` marks a noise ratio under {NOISE} or a sharpness ratio over {SHARPEST}: such samples are noisy or binarised, not sharp.",
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
        AGAINST_REAL,
        "Distances use the features of a classifier trained on this data set. FD and KID therefore differ from published FID and KID, and "
        "compare within this data set only. Precision, recall, density and coverage use 5 nearest neighbours. Memorisation is the distance "
        "to the nearest training image, relative to that of test images; near 0 they are copies. Real training images set the floor.",
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
        "Medians over seeds ± half of the interquartile range, on the machine named above; do not compare machines. Training runs all "
        "seeds together. Sampling and encoding run one seed, with 100 images, with one image, and with the fastest batch (preset "
        "`thorough`, or its option `sweep=true`). `busy:` marks a throughput under that of single images: another program ran. "
        "The share is that of the machine's matrix-product rate. Peak memory is measured while "
        "training, on a CPU for the whole process.",
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
    (
        "Other features",
        "Distances of reconstructions and noise-free samples from test images in features of other networks than the classifier: random "
        "convolutions for data without classes, and networks whose files were given. Random features give no FID. With at most 1000 "
        "images no value can be compared with a published one.",
        (
            ("FD, random ↓", "reconstruction_fd_random", 1.0),
            ("KID, random ↓", "reconstruction_kid_random", 1.0),
            ("reconstruction FID ↓", "reconstruction_fid", 1.0),
            ("reconstruction FD, DINOv2 ↓", "reconstruction_fd_dinov2", 1.0),
            ("LPIPS ↓", "lpips", 1.0),
            ("FID ↓", "fid", 1.0),
            ("FD, DINOv2 ↓", "fd_dinov2", 1.0),
        ),
    ),
)
PUBLISHED_TITLE = "Published figures"
PUBLISHED_TEXT = (
    "log p(x) of test images as others published it, for variants of the same kind on the same data; nats. No figure was measured as here: "
    "the column says what is unlike."
)
SHARP = ("sharpness", "sharpness_ratio", "blur_sigma", "reblur", "high_frequency_ratio")  # noise or binarising can improve them
LIKELIHOOD = {  # metric -> column
    "log_likelihood": "log p(x) ↑",
    "elbo": "ELBO ↑",
    "gap": "gap",
    "rate": "rate",
    "distortion": "distortion",
    "bound_samples": "K",
    "ess": "ESS ↑",
    "bits_per_dim": "bits/dim ↓",
    "active_units": "active units",
}
OVERVIEW = (  # metrics of the summary
    *("log_likelihood", "elbo", "reconstruction_mse", "fd-{data}cnn", "blur_sigma", "probe_accuracy"),
    *("dci_disentanglement", "mig_corrected"),
    "train_images_per_second",
)
FIGURES_ARE = (
    "Values are means over n seeds ± the half-width of a 95 % interval (Student's t under 10 seeds, BCa bootstrap from 10), without ± if "
    "all seeds agree. Arrows point to better."
)
LEFT_OUT = (
    "There are {all} variants. Tables show {shown} of them and figures {drawn}: the first of each family, then in turn the first and the "
    "best by log p(x) of each pixel type, and the first without log p(x). Ranks, p-values and bold type consider all variants."
)
NATS = (
    "Nats per test image; compare them within one pixel type only. `≥` marks a lower bound. log p(x) is exact, or the importance-weighted "
    "bound with K posterior samples; ESS is their effective sample size."
)
BOLD = (
    f" Bold: the best. {TIE} marks what is statistically tied with it (paired t-tests over seeds, Holm-adjusted, 5 %; three seeds or "
    "more), down to the first that is not. † marks a flagged row, which is neither if its flaw spoils the figure. A lower bound above an "
    "exact value wins. "
    "One below it may rise with more samples. The 5 % hold for one given variant: of 16 to 20 equal ones, some variant is left out in 10 "
    "to 15 % of tables."
)
DIFFERENCES = (
    " Rank: 95 % interval from a joint bootstrap of the common seeds, for five seeds or more. Δ: paired difference from the first variant. "
    "Gap: log p(x) − ELBO = KL(q(z|x) ‖ p(z|x)), a lower bound if log p(x) is one."
)


def likelihood_text(few: str) -> str:
    """What the columns of the likelihood mean; with too `few` seeds nothing is bold."""
    return NATS + ("" if few else BOLD) + DIFFERENCES
