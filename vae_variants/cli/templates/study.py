"""A claim of one's own, put to the test. That of larger codes is a worked example: put your own in its place."""

from itertools import pairwise

from vae_variants.analysis.verdicts import all_of, compared
from vae_variants.report.drawing import axes
from vae_variants.studies import STUDIES, Findings, Judgement, Picture, Study, Table


@STUDIES.add  # the name of the class, in kebab case, is its name for `vae-variants study`
class Template(Study):
    """Reconstruction error of test images by the number of latent units of a VAE, over seeds that are paired, since order and noise
    of training depend on the seed alone.
    """  # what is measured

    claim = "A code with more units reconstructs better."
    source = "folklore"
    # written before it is measured; what decides the verdict stands here and in `judge`, nowhere else
    criterion = "Supported if each size has a lower error than the one before it, by the 95 % interval of paired differences over seeds."

    def measure(self, lab):
        """Trains and measures, through the same store as every suite; all the chance is in here."""
        records = lab.records(["vae-latent-2", "vae-latent-10"], seeds=5)
        rows = [
            {"units": r.values["latent"], "seed": seed, "MSE": r.value("reconstruction_mse", seed)}
            for r in records.values()
            for seed in r.seeds
        ]
        return Findings({"error": Table.of("Mean squared error per pixel", rows)})

    def judge(self, tables):
        """The verdict, from the tables alone."""
        error, effects = tables["error"], []
        sizes = sorted({row["units"] for row in error})
        for small, large in pairwise(sizes):
            a, b = error.by_seed("MSE", units=small), error.by_seed("MSE", units=large)
            effects.append(compared({"units": f"{small} to {large}"}, [b[seed] - a[seed] for seed in a if seed in b], below=0.0))
        steps = "; ".join(f"from {e.where['units']} units by {e.value:+.4f}" for e in effects)
        return Judgement(all_of(effects), f"The mean squared error per pixel changes {steps}.", tuple(effects))

    def draw(self, found):
        """At least one figure that shows the effect."""
        figure, (ax,) = axes(1, 1, 5.0, 3.4)
        for row in found.tables["error"]:
            ax.plot(row["units"], row["MSE"], "o", color="#0072B2", alpha=0.6)
        ax.set(xlabel="latent units", ylabel="mean squared error per pixel")
        return [Picture("error", "Each dot is a seed.", figure)]
