"""Presets (`--fidelity`): limits of training, and sample sizes of the estimates."""

from dataclasses import asdict, dataclass, replace

from vae_variants.evaluation.ais import SCHEDULES
from vae_variants.registry import UserError, closest
from vae_variants.variants import convert, split_selector

STARTS = ("encoder", "prior")


@dataclass(frozen=True)
class Fidelity:
    """A preset. None means no limit."""

    name: str
    epochs: int | None
    train_images: int | None
    evaluation_images: int | None
    elbo_samples: int  # samples of z per test image in the ELBO
    bound_samples: int  # K of the importance-weighted bound
    bound_images: int  # test images for that bound
    annealed_images: int  # test images for annealing and optimised posteriors; 0 skips both
    image_samples: int  # generated images
    timing_seconds: float  # per throughput
    temperatures: int = 1000  # of the annealing
    chains: int = 16  # for each image
    local_steps: int = 300  # of the optimisation of q for each image
    start: str = "encoder"  # of the annealing: q(z | x) or the prior
    schedule: str = "sigmoid"  # of the temperatures
    classifier_steps: int = 1500  # at most, of the classifier in whose features samples are compared
    sweep: bool = False  # also measure the throughput at the fastest batch size
    choosing: bool = False  # score validation images, by one metric: see `criterion`


FIDELITIES = {
    f.name: f
    for f in (
        Fidelity("smoke", 2, 400, 100, 4, 50, 100, 2, 100, 0.02, temperatures=4, local_steps=10, classifier_steps=60),
        Fidelity("quick", 10, 10_000, 2_000, 4, 100, 500, 0, 500, 0.02),
        Fidelity("full", None, None, None, 10, 1000, 1000, 0, 1000, 0.02),
        Fidelity("thorough", None, None, None, 10, 5000, 1000, 100, 1000, 0.02, sweep=True),
    )
}
VALIDATION = Fidelity("validation", None, None, None, 4, 100, 1000, 0, 1000, 0.02, choosing=True)  # of trials that choose options
OPTIONS = (
    "elbo_samples", "bound_samples", "bound_images", "annealed_images", "image_samples",
    "temperatures", "chains", "start", "schedule", "sweep",
)  # fmt: skip


def fidelity(text: str) -> Fidelity:
    """The preset that a text names: `full`, or `thorough[temperatures=10000,start=prior]` with changed sample sizes.

    Equal choices get equal names, however they are spelled. Raises `UserError` for an unknown preset or option.
    """
    name, options = split_selector(text)
    if text == VALIDATION.name:
        return VALIDATION
    if name not in FIDELITIES:
        raise UserError(closest("fidelity", name, FIDELITIES))
    found = FIDELITIES[name]
    defaults = asdict(found)
    chosen = {}
    for key, value in options.items():
        if key not in OPTIONS:
            raise UserError(f"{closest('option', key, OPTIONS)} (of a fidelity)")
        chosen[key] = convert(key, value, defaults[key])
    if chosen.get("elbo_samples", 2) < 2:
        raise UserError("option elbo_samples=1 is not valid: the ELBO's error needs a variance; it takes 2 or more")
    if chosen.get("bound_samples", 2) < 2:
        raise UserError("option bound_samples=1 is not valid: one sample gives the ELBO; it takes 2 or more")
    for key, choices in (("start", STARTS), ("schedule", tuple(SCHEDULES))):
        if key in chosen and chosen[key] not in choices:
            raise UserError(closest(key, chosen[key], choices))
    changed = {key: value for key, value in sorted(chosen.items()) if value != defaults[key]}
    if not changed:
        return found
    return replace(found, **changed, name=f"{name}[{','.join(f'{key}={value}'.lower() for key, value in changed.items())}]")
