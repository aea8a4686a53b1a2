"""One sample of z is enough: what the estimators do on frozen models, what training makes of it, and why."""

from __future__ import annotations

from vae_variants.studies.lab import Lab
from vae_variants.studies.one_sample import estimator_gradients, estimator_values, training_level
from vae_variants.studies.study import STUDIES, Findings, Judgement, Picture, Study, Tables, Verdict

__all__ = ["OneSample"]

KINGMA = (
    'Kingma & Welling 2014, sec. 2.3: "the number of samples L per datapoint can be set to 1 as long as the minibatch size M was large '
    'enough, e.g. M = 100", without a table'
)


@STUDIES.add
class OneSample(Study):
    __doc__ = f"""Training with one draw of z per image against many, the variance behind it on frozen models, and the reason.

{training_level.DESCRIPTION}

Estimators: on frozen models, early, in the middle and at the end of training, thousands of draws for each image say how much the
estimate of the ELBO varies within an image (which more draws help) and between images (which only a larger batch helps); the same
for its gradient, encoder and decoder apart, with the signal-to-noise ratio of five estimators.

Why: whether the variance within an image is what a closed form for an exact posterior says, sum_j (1 - s_j^2)^2 / 2 + mu_j^2 s_j^2,
about half a squared nat for each unit in use however narrow q is; and what becomes of it when q is made wider or narrower.

Expected of the frozen models before they were looked at, without a vote in the verdict but for the checks. {estimator_values.CRITERION}
{estimator_gradients.CRITERION}"""

    claim = "One sample of z per image is enough to estimate E_q[log p(x|z)] in training."
    source = KINGMA
    criterion = (
        f"{training_level.CRITERION} And only if the estimators are what theory says: a K-sample ELBO without bias (z-tests, Holm), "
        "and a variance that falls as 1/K and 1/B (slopes within 0.05 of -1); else inconclusive."
    )

    def measure(self, lab: Lab) -> Findings:
        parts = [part.measure(lab) for part in (training_level, estimator_values, estimator_gradients)]
        tables = {name: table for part in parts for name, table in part.tables.items()}
        return Findings(tables, {name: array for part in parts for name, array in part.arrays.items()})

    def judge(self, tables: Tables) -> Judgement:
        trained, what, verdict = training_level.judge(tables)
        values, values_say = estimator_values.judge(tables)
        gradients, gradients_say = estimator_gradients.judge(tables)
        if any(effect.verdict == Verdict.REFUTED for effect in values if effect.where["part"] == "laws"):
            verdict, what = Verdict.INCONCLUSIVE, f"The estimators are not what theory says of them, so that nothing follows. {what}"
        return Judgement(verdict, f"{what} {values_say} {gradients_say}", (*trained, *values, *gradients))

    def draw(self, found: Findings) -> list[Picture]:
        return [picture for part in (training_level, estimator_values, estimator_gradients) for picture in part.draw(found)]
