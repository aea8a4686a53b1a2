"""Results to and from a repository of Hugging Face: a report or a folder of records as a data set, a run with its models as a model."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from vae_variants.harness.archive import HEADER
from vae_variants.harness.archive import PICTURES as SHOWN
from vae_variants.harness.archive import RECORDS as PACKED
from vae_variants.harness.files import DAMAGE, described, read_file, unpacked
from vae_variants.harness.sources import Source, read_source, refuse
from vae_variants.harness.store import MODEL, PICTURES, RECORD
from vae_variants.integrations.hub_cards import model_card, results_card
from vae_variants.registry import UserError

CARD, PARTS = "README.md", "results"  # the card, and the folder of everything else
RUN_FILES = (RECORD, MODEL, PICTURES)
SEALED = (*RUN_FILES, HEADER, PACKED, SHOWN)  # what a digest vouches for


@dataclass(frozen=True)
class Shared:
    """What is pushed or was pulled: its type of repository, the verified runs, and the files to push, by their path in the folder."""

    repo_type: str
    source: Source
    files: tuple[str, ...]


def shared(folder: Path) -> Shared:
    """What there is to share in a report's folder, a folder of records, or a run's folder. Every file that is sealed is checked.

    Raises:
        UserError: as `read_source` does, or for a damaged model.
    """
    source = read_source(folder)
    if source.report:
        found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        return Shared("dataset", source, tuple(name for name in found if not any(part.startswith(".") for part in name.split("/"))))
    if (folder / RECORD).is_file():
        for name in (MODEL, PICTURES):
            check_tensors(folder / name, source.runs[0][1].key)
        return Shared("model", source, tuple(name for name in RUN_FILES if (folder / name).is_file()))
    return Shared("dataset", source, tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob(RECORD))))


def check_tensors(path: Path, key: str) -> None:
    """Refuses a file of tensors that was changed or is of another run."""
    if (content := read_file(path)) is None:
        return
    try:
        _, metadata = unpacked(content)
    except DAMAGE as error:
        refuse(path, str(error), "file")
    if "digest" not in described(str(path))[1]:
        refuse(path, "it has no digest", "file")
    if metadata.get("key", key) != key:
        refuse(path, "it belongs to another run", "file")


def push(folder: Path, repo: str, private: bool = False) -> str:
    """Uploads what `shared` finds, with a card, in one commit. Files of an earlier push that are not there any more are removed.

    Args:
        folder: a report's folder, a folder of records, or a run's folder.
        repo: USER/NAME, made if it does not exist.
        private: whether a new repository is private.

    Returns:
        The address of the repository.

    Raises:
        UserError: huggingface_hub is not installed, the folder's content was changed, or the Hub refuses.
    """
    what = shared(folder)
    card = (model_card if what.repo_type == "model" else results_card)(what.source, repo)
    with hub() as api:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        named = {"repo_id": repo, "repo_type": what.repo_type}
        url = api.create_repo(**named, private=private, exist_ok=True)
        new = {f"{PARTS}/{name}": folder / name for name in what.files}
        old = [name for name in api.list_repo_files(**named) if name.startswith(f"{PARTS}/") and name not in new]
        adds = [CommitOperationAdd(CARD, card.encode()), *(CommitOperationAdd(name, str(path)) for name, path in new.items())]
        deletes = [CommitOperationDelete(name) for name in old]
        api.create_commit(**named, operations=[*adds, *deletes], commit_message=f"Results of {what.source.name} by vae-variants")
        return str(url)


@contextmanager
def pulled(repo: str, revision: str | None = None) -> Iterator[tuple[Path, Shared]]:
    """A temporary folder with the sealed files of a repository, and what they are. Only files that a digest vouches for are fetched.

    Args:
        repo: USER/NAME.
        revision: branch, tag or commit; the newest if None.

    Raises:
        UserError: huggingface_hub is not installed, there are no results, or any byte was changed.
    """
    with tempfile.TemporaryDirectory(prefix="vae-variants-") as place:
        with hub() as api:
            repo_type = type_of(api, repo)
            names = wanted(api.list_repo_files(repo, repo_type=repo_type, revision=revision))
            if not names:
                raise UserError(f"{repo!r} has no results of vae-variants: it has no records in a folder {PARTS!r}")
            api.snapshot_download(repo, repo_type=repo_type, revision=revision, local_dir=place, allow_patterns=names)
        folder = Path(place) / PARTS
        shutil.rmtree(Path(place) / ".cache", ignore_errors=True)
        yield folder, shared(folder)


def wanted(names: Iterable[str]) -> list[str]:
    """The sealed files among those of a repository."""
    parts = [(name, PurePosixPath(name).parts) for name in names]
    return [
        name
        for name, (first, *rest) in parts
        if first == PARTS and rest and ".." not in rest and (rest[-1] == RECORD or (len(rest) == 1 and rest[0] in SEALED))
    ]


def type_of(api: Any, repo: str) -> str:
    """Raises `RepositoryNotFoundError` if it is neither a data set nor a model."""
    return "dataset" if api.repo_exists(repo, repo_type="dataset") else "model"


@contextmanager
def hub() -> Iterator[Any]:
    """The client of the Hub, whose errors become a `UserError` of one line."""
    if find_spec("huggingface_hub") is None:
        raise UserError("it needs the package huggingface_hub; install it: python -m pip install 'vae-variants[hub]'")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the HTTP library that this version uses
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="vae-variants")
    except (OSError, ValueError, RuntimeError, HTTPError) as error:
        if isinstance(error, UserError):
            raise
        why = f"{error} {error.__cause__ or ''}"
        raise UserError(f"the Hub refused, or cannot be reached: {' '.join(why.split())[:300]}") from error
    finally:
        if shown:
            enable_progress_bars()
