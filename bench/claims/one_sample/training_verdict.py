"""What the trained models of the study `one-sample` say of its claim."""

from __future__ import annotations

from vae_variants.analysis.verdicts import LEAST_SEEDS, mixed
from vae_variants.studies.study import Effect, Tables, Verdict

from .training_cells import SMALL, UPDATES
from .training_gains import ALPHA, LEVEL, MARGIN, STRICT, beside, effects, gains
from .training_words import (
    batches_in_words,
    comparisons_in_words,
    decay_in_words,
    published_in_words,
    updates_in_words,
)

__all__ = ["CRITERION", "judge"]

CRITERION = (
    f"d is what K draws gain over one, in nats of the bound on log p(x) of test images, seed by seed. One draw is as good as K if a mean d "
    f"of {MARGIN:g} nat or more is rejected at {ALPHA:.0%} (one-sided t-test, Holm over the K of a budget), and is not as good if the "
    f"{LEVEL:.0%} t-interval of d lies above {MARGIN:g} nat; fewer than {LEAST_SEEDS} seeds decide nothing. Beside it stand equivalence "
    f"(two one-sided tests at {STRICT:g} nat) and whether there is any difference (t-test). The comparisons fall into two groups: those "
    "under equal updates with batches smaller than 100, and all others (batches of 100 and 400, pixels drawn once, the rate tuned for K, "
    "equal evaluations, equal time, batch x K = 64 where one draw has 64 images, on large images the trainings of the suite). The claim "
    "is supported if one draw is as good in every comparison; under conditions if it is in all of the second group but not in all of the "
    "first, or if it fails in the second group and is as good in some comparisons of either; not supported if it fails in the second group "
    f"and is as good nowhere; else inconclusive. Batches of about 100 are needed if d exceeds {MARGIN:g} nat with batches of at most "
    f"{SMALL} and stays below it with 100. IWAE, which is another objective, and four times the batch in place of draws have no vote."
)


def judge(tables: Tables) -> tuple[list[Effect], list[str], Verdict]:
    """Effects of the ELBO with K draws against one, then those without a vote; what they say; and where the claim holds.

    Of what they say, the first string is for the reason, and each other one a sentence that stands alone.

    Supported: in every cell. Under conditions: in every cell but some with small batches, or in some cells and not in others. Not
    supported: it fails with batches of 100 and more and holds nowhere. Inconclusive, too, where a cell that was asked for has no model.

    The rule for draws that are paid for was changed after the training on MNIST had begun, and has been changed back. As it is, and was
    at first, a claim that fails elsewhere and holds in those comparisons alone is supported under conditions; there it holds nearly by
    construction, since K draws have so few updates. The groups of the criterion were written out later than that, as this function has
    always formed them.
    """
    if not all(name in tables and tables[name].rows for name in ("training_setup", "training_cells", "training_scores")):
        return [], ["No model could be trained."], Verdict.INCONCLUSIVE
    everything = gains(tables)
    claimed = [g for g in everything if g.row["claim"] == "yes"]
    setup = next(iter(tables["training_setup"]))
    found = effects(claimed)
    small = [g.row["budget"] == UPDATES and g.row["batch"] < setup["base batch"] for g in claimed]
    at_base = [e for e, s in zip(found, small, strict=True) if not s]
    below = [e for e, s in zip(found, small, strict=True) if s]
    verdict = mixed(at_base)
    asked = sum(row["claim"] == "yes" and row["against run"] is not None for row in tables["training_cells"])
    if verdict is Verdict.SUPPORTED and len(found) < asked:
        verdict = Verdict.INCONCLUSIVE
    elif verdict is Verdict.SUPPORTED and any(e.verdict is not Verdict.SUPPORTED for e in below):
        verdict = Verdict.CONDITIONAL
    elif verdict is Verdict.REFUTED:
        verdict = mixed(found)
    sentences = [updates_in_words(claimed, everything, setup), comparisons_in_words(claimed, found, everything, setup)]
    sentences += [published_in_words(everything, setup), decay_in_words(claimed, setup), batches_in_words(everything, setup)]
    first = " ".join(sentence for sentence in sentences[:2] if sentence)
    return [*found, *beside(everything, setup)], [sentence for sentence in (first, *sentences[2:]) if sentence], verdict
