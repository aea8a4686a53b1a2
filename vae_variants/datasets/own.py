"""The user's own images: arrays in an .npz or .npy file, or pictures in a folder, an archive or a Parquet file."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vae_variants.datasets.arrays import archive, mapped
from vae_variants.datasets.dataset import DATASETS, SPLITS, Dataset, Factors
from vae_variants.datasets.division import SHARE, divided
from vae_variants.datasets.downloads import data_root
from vae_variants.datasets.folder import Images, album
from vae_variants.datasets.near import near_duplicates
from vae_variants.datasets.walk import plural
from vae_variants.registry import UserError

FEWEST = 30  # images
PIECE = 2**12  # images that are copied at a time
DARK = 15  # highest level of 256 that is nearly black
LEAK = 0.03  # least share of near-duplicates among test images that is said: faces by blocks of frames have 1.5 %


def own(name: str, found: Images, block: int = 1) -> Dataset:
    """Keeps given parts, and draws a seventh each for missing ones, by class, with copies in one part. One class alone gives no labels.

    With a `block`, so many consecutive images stay in one part, and copies may lie in several.
    """
    stored, top = found.stored, max((int(piece.max()) for piece in found.stored.split(PIECE)), default=0)
    if len(stored) < FEWEST:
        raise UserError(f"data set {name!r} has {plural(len(stored), 'image')}; at least {FEWEST} are needed")
    classes = {c: i for i, c in enumerate(sorted(set(found.classes or ())))}
    labels = [classes[c] for c in found.classes] if found.classes and len(classes) > 1 else None
    copies = [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in stored]
    largest = sum(part not in SPLITS[1:] for part in found.parts) // SHARE
    if block != 1 and not 1 <= block <= largest:
        raise UserError(f"option block={block} is not valid: data set {name!r} has {plural(len(stored), 'image')}; it takes 1 to {largest}")
    rows = divided(found.parts, copies if block == 1 else [b"%d" % (row // block) for row in range(len(stored))], labels)
    train, validation, test = (gathered(stored, rows[part]) for part in SPLITS)
    if not rows["train"]:
        raise UserError(f"data set {name!r} has no training image left; give fewer of its {len(stored)} images to validation and test")
    notes = [found.read] if found.read else []
    notes += [f"the brightest pixel is {top} of 255: nearly black"] if found.levels == 256 and top <= DARK else []
    notes += same(copies, labels)
    notes += leaked(train.unflatten(1, stored.shape[1:]), test.unflatten(1, stored.shape[1:]), any(found.parts))
    return Dataset(
        name,
        tuple(stored.shape[1:]),  # type: ignore[arg-type]
        found.levels,
        train,
        validation,
        test,
        classes=None if labels is None else tuple(map(str, classes)),
        labels=None if labels is None else {part: torch.tensor([labels[row] for row in rows[part]]) for part in SPLITS},
        ids={part: tuple(found.ids[row] for row in index) for part, index in rows.items()},
        read="; ".join(notes),
        factors=made_from(found, rows),
    )


def gathered(stored: Tensor, rows: Sequence[int]) -> Tensor:
    """Some images (N, C, H, W) as rows (M, C * H * W), without a second copy of all where the channels come last."""
    found = torch.empty(len(rows), stored[0].numel(), dtype=stored.dtype)
    for start in range(0, len(rows), PIECE):
        found[start : start + PIECE] = stored[list(rows[start : start + PIECE])].flatten(1)
    return found


def made_from(found: Images, rows: Mapping[str, Sequence[int]]) -> Factors | None:
    """The factors of the images of each part."""
    if found.factors is None:
        return None
    values = {part: found.factors[list(index)] for part, index in rows.items()}
    return Factors(found.factor_names, tuple((found.factors.amax(0) + 1).tolist()), values)


def same(copies: list[bytes], labels: list[int] | None) -> list[str]:
    """What is to be said of exact copies."""
    groups = defaultdict[bytes, list[int]](list)
    for row, copy in enumerate(copies):
        groups[copy].append(row)
    more = len(copies) - len(groups)
    torn = 0 if labels is None else sum(len({labels[row] for row in group}) > 1 for group in groups.values())
    notes = [f"{plural(more, 'image is an exact copy', 'images are exact copies')} of others"] if more else []
    return notes + ([f"copies of {plural(torn, 'image')} are in several classes"] if torn else [])


def leaked(train: Tensor, test: Tensor, given: bool) -> list[str]:
    """What is to be said of near-duplicates across parts, the parts being given by the user or not."""
    near = near_duplicates(train, test)
    if near is None or near < LEAK * len(test):
        return []
    fix = "move near-duplicates into one part" if given else "keep frames or bursts in one part with block=50, or as long as they are"
    return [f"warning: {near} of {len(test)} test images have a near-duplicate among the training images, so that tests flatter; {fix}"]


@DATASETS.add
def npz(path: str, block: int = 1) -> Dataset:
    """npz:FILE with an array `x` of images (N, H, W), (N, C, H, W) or (N, H, W, C) and, if known, labels `y` (N,)

    `factors` (N, F) and `factor_names` (F,) tell what the images were made from, for metrics of disentanglement. `block=50` keeps 50
    consecutive images in one part, for frames of a video.
    """
    return own(f"npz:{path}", archive(path), block)


@DATASETS.add
def npy(path: str, labels: str = "", block: int = 1) -> Dataset:
    """npy:FILE with one array of images, as in npz; `labels=FILE` names another .npy file, with labels (N,)

    The file is mapped into memory, so that only the parts are copied. For `block` see npz.
    """
    return own(f"npy:{path}", mapped(path, labels), block)


@DATASETS.add
def freyfaces(block: int = 50) -> Dataset:
    """1965 frames of a video of a face, 28x20 grey pixels (Frey & Roweis), in parts of whole blocks of frames; `block=1`: of single frames

    Neighbouring frames are nearly equal. Split frame by frame, test images are near copies of training images.
    """
    file = data_root() / "freyfaces.npz"
    if not file.is_file():
        where = "its frames are at https://cs.nyu.edu/~roweis/data/frey_rawface.mat"
        raise UserError(f"data set 'freyfaces' needs the file {str(file)!r} with an array x (1965, 28, 20) of uint8; {where}")
    return own("freyfaces", archive(str(file)), block)


@DATASETS.add
def images(path: str, size: int = 0, grey: str = "auto", labels: bool = True, broken: str = "refuse", block: int = 1) -> Dataset:
    """images:FOLDER of pictures, one subfolder per class; ?size=28&grey=true set the pixels per side and the colour

    Without `size`, pictures that all have one size of 8 to 64 pixels keep it, and others get 32. `grey=auto` keeps the colours if most
    pictures have some. Instead of a folder, give a zip or tar archive of one, or Parquet files with a column of encoded pictures.
    Pictures are cropped to a centred square. `labels=false` ignores subfolders. `broken=skip` leaves out unreadable pictures instead of
    refusing. If folders such as train, val and test exist side by side, they hold these parts. `block=50` keeps 50 pictures that follow
    each other by name in one part, for frames of a video.
    """
    return own(f"images:{path}", album(path, size, grey, labels, broken), block)
