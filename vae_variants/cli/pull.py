"""`vae-variants pull`: results from a repository of Hugging Face."""

from pathlib import Path
from typing import Annotated

from vae_variants.cli.options import argument, guarded, option
from vae_variants.registry import UserError


@guarded
def pull(
    repo: Annotated[str, argument("Repository, USER/NAME")],
    output: Annotated[Path | None, option("New folder to write", metavar="FOLDER", show_default="NAME of the repository")] = None,
    revision: Annotated[str | None, option("Branch, tag or commit", metavar="NAME", show_default="the newest")] = None,
) -> None:
    """Pull results from a repository of Hugging Face, and check them.

    Only sealed files are fetched: records, pictures, models. A changed byte is refused. The page of a report is written again from its
    archive, so that nothing in it is by others. Needs the extra "hub".
    """
    import shutil

    from vae_variants.cli.reporting import rewrite
    from vae_variants.integrations.hub import pulled

    folder = output or Path(repo.rpartition("/")[2])
    if folder.exists():
        raise UserError(f"{str(folder)!r} exists; name a new folder with --output")
    with pulled(repo, revision) as (place, what):
        if what.source.report:
            rewrite(place, folder)
        else:
            shutil.copytree(place, folder)
    print(f"pulled {len(what.source.runs)} run{'s' * (len(what.source.runs) > 1)} of {repo} to {folder}")
