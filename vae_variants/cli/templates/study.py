"""A study: a claim, how it is measured and how it is judged. Larger latents are a worked example: put your own claim in its place."""

from itertools import pairwise

from matplotlib.figure import Figure

from vae_variants import STUDIES, Findings, Judgement, Picture, Study, all_of, by_seed, compared, table


@STUDIES.add  # the name of the class, in kebab case, is its name for `vae-variants study`
class Template(Study):
    """Reconstruction error of test images by the number of latent units of a VAE. Seeds are paired: the order of images and the noise
    of training depend on the seed alone.
    """  # what is measured

    claim = "A VAE with more latent units reconstructs better."
    source = "folklore"
    # written before measuring; only this and `judge` decide the verdict
    criterion = "Supported if each size has a lower error than the one before it, by the 95 % interval of paired differences over seeds."

    def measure(self, lab):
        """Trains and measures. Runs are shared with all suites. Random numbers are drawn only here."""
        records = lab.records(["vae-latent-2", "vae-latent-10"], seeds=5)
        rows = [
            {"units": r.values["latent"], "seed": seed, "MSE": r.value("reconstruction_mse", seed)}
            for r in records.values()
            for seed in r.seeds
        ]
        return Findings({"error": table("Mean squared error per pixel", rows)})

    def judge(self, tables):
        """The verdict, from the tables alone."""
        error, effects = tables["error"], []
        for small, large in pairwise(sorted(error["units"].unique())):
            a, b = by_seed(error, "MSE", units=small), by_seed(error, "MSE", units=large)
            effects.append(compared({"units": f"{small} to {large}"}, (b - a).dropna().tolist(), below=0.0))
        steps = "; ".join(f"from {e.where['units']} units by {e.value:+.4f}" for e in effects)
        return Judgement(all_of(effects), f"The mean squared error per pixel changes {steps}.", tuple(effects))

    def draw(self, found):
        """At least one figure that shows the effect."""
        figure = Figure(figsize=(5.0, 3.4), layout="constrained")
        ax = figure.subplots()
        ax.plot("units", "MSE", "o", data=found.tables["error"], color="#0072B2", alpha=0.6)
        ax.set(xlabel="latent units", ylabel="mean squared error per pixel")
        return [Picture("error", "Each dot is a seed.", figure)]
