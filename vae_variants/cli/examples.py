"""Examples at the end of each command's help; a test runs all of them."""

from rich.markup import escape

EXAMPLES = {
    "": (
        "vae-variants list",
        "vae-variants run vae-bernoulli iwae-8 --seeds 2 --fidelity smoke",
        "vae-variants bench digits --dry-run",
    ),
    "list": ("vae-variants list", "vae-variants list metrics", "vae-variants list datasets --json"),
    "run": (
        "vae-variants run vae-bernoulli iwae-8 --seeds 2 --fidelity smoke",
        'vae-variants run "vae[samples=8,latent=2|10]" --seeds 2 --fidelity smoke',
        "vae-variants run made --dataset mnist --seeds 0,3 --dry-run",
    ),
    "bench": (
        "vae-variants bench digits --dry-run",
        "vae-variants bench mnist --seeds 2 --fidelity quick --dry-run",
        "vae-variants bench digits --jobs auto --timeout 10m --dry-run",
    ),
    "score": ("vae-variants score my_model.py:my_vae --fidelity smoke",),
    "report": (
        "vae-variants report digits",
        "vae-variants report digits --reports elsewhere",
        "vae-variants report digits --records reports/digits",
    ),
    "study": ("vae-variants study sampling-speed --fidelity smoke --seeds 2",),
    "status": ("vae-variants status digits", "vae-variants status mnist --fidelity quick", "vae-variants status --planned --json"),
    "compare": (
        "vae-variants compare before/digits reports/digits",
        "vae-variants compare before/digits reports/digits --markdown",
        "vae-variants compare runs runs --suite digits",
    ),
    "leaderboard": (
        "vae-variants leaderboard reports/digits before/digits",
        "vae-variants leaderboard reports/digits runs --output elsewhere",
    ),
    "check": ("vae-variants check my_likelihood.py", "vae-variants check my_likelihood.py my_metric.py --json"),
    "export": (
        "vae-variants export vae-bernoulli --to safetensors",
        "vae-variants export vae-bernoulli --to onnx --seed 1 --output onnx",
        "vae-variants export vae-bernoulli --to codes --output codes.csv",
    ),
    "push": ("vae-variants push reports/digits me/vae-digits", "vae-variants push runs me/vae-runs --private"),
    "pull": ("vae-variants pull me/vae-digits", "vae-variants pull me/vae-runs --output theirs"),
    "new": ("vae-variants new likelihood skew_normal", "vae-variants new metric"),
}


def examples(command: str) -> str:
    """The last paragraph of a help page."""
    return "\n".join(["Examples:", *map(escape, EXAMPLES[command])])
