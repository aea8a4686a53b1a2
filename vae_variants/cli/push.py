"""`vae-variants push`: results to a repository of Hugging Face."""

from pathlib import Path
from typing import Annotated

from vae_variants.cli.options import argument, flag, guarded

FOLDER = "Report's folder with an archive, e.g. reports/digits; a folder of records, e.g. runs; or a run's folder with its models"


@guarded
def push(
    folder: Annotated[Path, argument(FOLDER)],
    repo: Annotated[str, argument("Repository, USER/NAME; it is made if it does not exist")],
    private: Annotated[bool, flag("Make a new repository private", "--private")] = False,
) -> None:
    """Push results to a repository of Hugging Face.

    A report or a folder of records becomes a data set, a run with its models a model. Each gets a card, made from the records. Every byte
    is checked before. The access token is that of "hf auth login", or HF_TOKEN. Needs the extra "hub".
    """
    from vae_variants.integrations.hub import push as upload

    print(f"pushed {folder} to {upload(folder, repo, private)}")
