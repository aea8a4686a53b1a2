"""The training loop: a game of n players over stacked seeds."""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vae_variants.datasets.dataset import Data
from vae_variants.datasets.levels import rows_of, some
from vae_variants.models.base import Density, Player
from vae_variants.models.latent import Composite
from vae_variants.registry import UserError, closest
from vae_variants.training.batches import batches, fork_rng, told
from vae_variants.training.population import Population
from vae_variants.training.precision import has_effect, precision
from vae_variants.training.stack import together
from vae_variants.training.steps import Average, Best, clipped
from vae_variants.training.traced import Gradient
from vae_variants.variants.recipe import DECAYS, OPTIMIZERS, Recipe

FEW = 100  # steps; tracing costs more than it saves below
VALIDATION, VALIDATION_BATCH = 1000, 250  # images, and images per call

Curves = dict[str, list[list[float]]]  # name -> (epochs, seeds)


def optimizer_of(player: Player, recipe: Recipe, parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
    """The optimiser of a player. Raises `UserError` for an unknown name."""
    chosen = player.optimizer or recipe.optimizer
    if isinstance(chosen, str):
        if chosen not in OPTIMIZERS:
            raise UserError(closest("optimizer", chosen, OPTIMIZERS))
        return OPTIMIZERS[chosen](parameters, lr=lr)
    return chosen(parameters, lr)


class Training:
    """Trains a population epoch by epoch; its state can be saved and restored between any two steps.

    The order of images, their binarisation and the noise of the steps depend on (`key`, seed, epoch). None depends on the model, so
    variants are paired, and an epoch can be repeated from its number; none depends on the members that train beside it.

    Args:
        population: What is trained.
        data: The images.
        recipe: How.
        key: What chance depends on beside seed and epoch.
        rates: The learning rate of each member, in place of the recipe's. Neighbours of one rate share an optimizer.

    Raises:
        UserError: If a player owns no parameter, or its optimizer has others than the player.
    """

    def __init__(self, population: Population, data: Data, recipe: Recipe, key: str = "", rates: Sequence[float | str] = ()) -> None:
        self.population, self.data, self.recipe, self.key = population, data, recipe, key
        self.epoch, self.seconds, self.diverged = 0, list[float](), dict[int, int]()  # member -> epoch
        self.losses, self.spent = list[Tensor](), 0.0  # of the current epoch
        self.noise: Tensor | None = None  # of an epoch that was interrupted
        self.train = data.train.to(population.device)
        self.validation = data.validation[:VALIDATION].to(population.device)
        self.batch = min(recipe.batch, len(self.train))
        self.steps = len(self.train) // self.batch
        self.labels = self.told()
        start = self.sample
        population.initialise(start if self.labels is None else torch.cat([start, self.labels[rows_of(self.train)]], -1))
        del start  # it may be large
        self.rate, pixels = recipe.rate(self.train.shape[1]), self.train.shape[1]
        groups = itertools.groupby([replace(recipe, lr=lr).rate(pixels) for lr in rates or [recipe.lr] * len(population)])
        of_part, sizes = zip(*((rate, len(list(members))) for rate, members in groups), strict=True)
        self.parts = [slice(end - size, end) for end, size in zip(itertools.accumulate(sizes), sizes, strict=True)]
        self.players: tuple[Player, ...] = population.template.players
        own = [
            (p, parameters, rate) for p in self.players for parameters, rate in zip(self.by_part(population.owned(p)), of_part, strict=True)
        ]
        self.parameters = [parameters for _, parameters, _ in own]  # of each part of the first player, then of the next player
        self.optimizers = [self.optimizer(*each) for each in own]
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        trace = recipe.epochs * self.steps > FEW
        self.gradients = [Gradient(population, player, recipe.precision, trace) for player in self.players]
        self.average = Average([t for p in self.players for t in population.owned(p)], recipe.average) if recipe.average else None
        self.best = self.looked_for()

    def optimizer(self, player: Player, parameters: list[Tensor], rate: float) -> torch.optim.Optimizer:
        """The optimizer of some members' parameters that a player owns. Raises `UserError`."""
        whose = f"player {player.name!r} of {type(self.population.template).__name__}"
        if not parameters:
            raise UserError(f"{whose} owns no parameter")
        found = optimizer_of(player, self.recipe, parameters, rate * player.rate)
        if {id(p) for group in found.param_groups for p in group["params"]} != set(map(id, parameters)):
            fix = "let its function return a new optimizer of the parameters that it is given"
            raise UserError(f"the optimizer of {whose} has not the player's parameters; {fix}")
        return found

    def by_part(self, tensors: list[Tensor]) -> list[list[Tensor]]:
        """Tensors of all members -> for each part, those of its members, in the same memory."""
        if len(self.parts) == 1:
            return [tensors]
        assert not self.population.models, "members that are not stacked have one rate"
        return [[tensor.detach()[part] for tensor in tensors] for part in self.parts]

    def looked_for(self) -> Best | None:
        """What keeps the best weights, if the recipe wants them."""
        if self.recipe.patience:
            return Best(self.population, self.recipe.patience)
        validated = isinstance(self.population.template, Density) or len(self.players) == 1
        return Best(self.population, self.recipe.epochs + 1) if self.recipe.keep == "best" and validated else None

    @property
    def sample(self) -> Tensor:
        """The training images as float32, or 256 MiB of them if they are over 1 GiB."""
        return some(self.train)

    def batches(self, key: str = "") -> Iterator[Tensor]:
        """(S, B, D) for each remaining turn of this epoch; another `key` gives batches in another order."""
        key = f"{self.key}/{key}" if key else self.key
        seeds, start = self.population.seeds, len(self.losses)
        return batches(self.train, self.data.dynamic, seeds, self.batch, key, self.epoch, start, self.labels)

    def told(self) -> Tensor | None:
        """The labels (N, C) of the training images that the model is told; None if it learns without."""
        share = self.population.template.label_share
        if not share:
            return None
        assert self.data.labels is not None
        return told(self.data.labels, self.data.classes, share, self.key).to(self.validation)

    def turns(self) -> Iterator[list[list[Tensor]]]:
        """For each remaining turn, the batches (S, B, D) of each player: the turn's, then a fresh one for each further step."""
        fresh = [[self.batches(f"{p.name}/{step}") for step in range(1, p.steps)] for p in self.players]
        for x in self.batches():
            yield [[x, *map(next, streams)] for streams in fresh]

    def run_epoch(self, after: Callable[[], None] = lambda: None) -> dict[str, list[float]]:
        """Trains to the end of the current epoch and validates; calls `after` after each step, which may take the `state()`.

        Returns:
            Curves: name -> mean value of the epoch for each seed.

        Raises:
            UserError: If the model has no player.
        """
        if not self.players:
            raise UserError(f"{type(self.population.template).__name__} has nothing to train")
        settled = self.best.settled if self.best else [False] * len(self.population)
        with fork_rng(self.population.device):
            if self.noise is None:
                self.population.reseed(self.key, self.epoch)
            else:  # of a restored state
                self.population.noise, self.noise = self.noise, None
            begin, first, before = time.perf_counter(), len(self.losses), self.spent
            done = [(self.epoch + step / self.steps) / self.recipe.epochs for step in range(self.steps)]
            times = torch.tensor(done, device=self.population.device)  # in one copy: one per step would synchronise
            with precision(self.recipe.precision):
                for fraction, t, batches in zip(done[first:], times[first:], self.turns(), strict=True):
                    self.slow_down(fraction)
                    self.losses.append(self.play(batches, t))
                    self.spent = before + time.perf_counter() - begin
                    after()
            means = torch.stack(self.losses).mean(0)
            names = [f"train_{p.name}_loss" if p.name else "train_loss" for p in self.players]
            curves = {name: row.tolist() for name, row in zip(names, means, strict=True)}  # synchronises
            self.seconds.append(before + time.perf_counter() - begin)
            self.losses, self.spent = [], 0.0
            self.epoch += 1
            curves |= self.validate_average()
        for s in range(len(self.population)):
            if not settled[s] and not all(math.isfinite(curve[s]) for curve in curves.values()):
                self.diverged.setdefault(s, self.epoch)
        return curves

    @property
    def over(self) -> bool:
        """Whether nothing is left to train: all epochs are done, or the patience of each seed is at its end."""
        return not self.players or self.epoch >= self.recipe.epochs or (self.best is not None and self.best.final)

    def ended(self, members: slice = slice(None)) -> bool:
        """Whether these members, without others, would train no further: also if all have diverged."""
        settled = self.best is not None and all(self.best.settled[members])
        return self.over or settled or all(s in self.diverged for s in range(len(self.population))[members])

    def finish(self, members: Sequence[int]) -> None:
        """Does what is done at the end of training, for these members."""
        if self.best and not self.over:
            self.best.restore([s for s in members if self.best.settled[s]])
        self.population.finish(self.sample, set(range(len(self.population))) - set(members) | self.diverged.keys())

    @property
    def how(self) -> str:
        """How this process makes its steps (traced, stacked or member by member), and the precision."""
        ways = dict.fromkeys(gradient.how for gradient in self.gradients if gradient.how)
        name = self.recipe.precision
        without = "" if has_effect(name, self.population.device) or name == "fp32" else " has no effect here: fp32"
        return "; ".join([*ways, name + without])

    def slow_down(self, done: float) -> None:
        """Sets the learning rates after the fraction `done` of training; they depend on it alone, so a resumed run has the same."""
        factor = DECAYS[self.recipe.decay](done)
        if warm := self.recipe.lr_warm_up:
            factor *= min(1.0, (done + 1 / (self.recipe.epochs * self.steps)) / warm)
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def images_per_second(self, budget: float) -> float:
        """Images times seeds per second, the median over single steps in `budget` seconds; trains the population meanwhile."""
        if not self.players:
            raise UserError(f"{type(self.population.template).__name__} has nothing to train")
        device, times, t = self.population.device, list[float](), torch.zeros((), device=self.population.device)
        with fork_rng(device), precision(self.recipe.precision):
            stream = itertools.chain.from_iterable(self.turns() for _ in itertools.count())
            while True:
                begin = time.perf_counter()
                self.play(next(stream), t)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                times.append(time.perf_counter() - begin)
                if len(times) > 3 + 3 and sum(times[3:]) > budget:
                    return len(self.population) * self.batch / statistics.median(times[3:])

    def play(self, batches: list[list[Tensor]], t: Tensor) -> Tensor:
        """One turn of all players on their batches -> the mean loss of each over its steps (P, S)."""
        found = torch.stack([torch.stack([self.turn(i, x, t) for x in mine]).mean(0) for i, mine in enumerate(batches)])
        if self.average:
            self.average.update()
        return found

    def turn(self, i: int, x: Tensor, t: Tensor) -> Tensor:
        """One step of player i -> its loss (S,)."""
        value, gradients = self.gradients[i](x, t)
        if self.recipe.clip:
            gradients = clipped(gradients, self.recipe.clip, len(self.population.models))
        for j, mine in enumerate(self.by_part(gradients), i * len(self.parts)):
            optimizer = self.optimizers[j]
            for group in optimizer.param_groups if self.recipe.weight_decay else ():
                with torch.no_grad():
                    torch._foreach_mul_(group["params"], 1 - group["lr"] * self.recipe.weight_decay)
            for parameter, found in zip(self.parameters[j], mine, strict=True):
                parameter.grad = found
            optimizer.step()
            optimizer.zero_grad()
        return value

    def validate_average(self) -> dict[str, list[float]]:
        """As `validate`, of the averaged weights if there are any. After the last epoch, the population has what is kept."""
        if self.average:
            self.average.swap()
        curves = self.validate()
        if self.best:
            self.best.update(curves)
        if self.average and not self.over:
            self.average.swap()
        if self.best and self.over:
            self.best.restore()
        return curves

    @torch.no_grad()
    def validate(self) -> dict[str, list[float]]:
        """Means over the first 1000 validation images: of log p(x) or its one-sample bound, and of the loss of a single player.

        The loss is there if there is no bound, or if it is of many samples of z, so that one sample says less of it.
        The models are in evaluation mode, and keep their state.
        """
        with self.population.trial(training=False):
            return self.validation_curve()

    def validation_curve(self) -> dict[str, list[float]]:
        template, found = self.population.template, dict[str, list[float]]()
        if isinstance(template, Density):
            log_prob = self.population.call("log_prob", (None,))
            values = [log_prob(x) for x in self.validation.split(VALIDATION_BATCH)]
            found["validation_log_prob"] = torch.cat(values, -1).mean(-1).tolist()
        many = isinstance(template, Composite) and template.samples > 1
        if len(self.players) == 1 and (many or not found):
            t = torch.ones((), device=self.validation.device)
            found["validation_loss"] = self.population.call(self.players[0].loss, (None, None))(self.validation, t).tolist()
        return found

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as flat tensors; valid between epochs, or in `after` of `run_epoch`."""
        found = {f"model/{name}": tensor for name, tensor in self.population.state().items()}
        for i in range(len(self.players)):
            mine = [optimizer.state_dict()["state"] for optimizer in self.optimizers[i * len(self.parts) : (i + 1) * len(self.parts)]]
            for j, name in ((j, name) for j, entry in mine[0].items() for name in entry):
                found[f"optimizer/{i}/{j}/{name}"] = together([torch.as_tensor(each[j][name]) for each in mine])
        found["epoch"] = torch.tensor(self.epoch)
        found["seconds"] = torch.tensor(self.seconds, dtype=torch.float64)
        found |= {f"average/{j}": mean for j, mean in enumerate(self.average.state())} if self.average else {}
        found |= {f"best/{name}": tensor for name, tensor in self.best.state().items()} if self.best else {}
        found["diverged"] = torch.tensor([self.diverged.get(s, 0) for s in range(len(self.population))])
        if self.losses:
            found |= {"losses": torch.stack(self.losses), "spent": torch.tensor(self.spent), "noise": self.population.noise}
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """Resumes from a `state()` of the same population, data and recipe."""
        self.population.restore({k.removeprefix("model/"): v for k, v in state.items() if k.startswith("model/")})
        for i, optimizer in enumerate(self.optimizers):
            player, part = divmod(i, len(self.parts))
            entries: dict[int, dict[str, Any]] = {}
            for key, tensor in state.items():
                if key.startswith(f"optimizer/{player}/"):
                    _, _, j, name = key.split("/")
                    entries.setdefault(int(j), {})[name] = self.by_part([tensor])[part][0] if tensor.dim() else tensor.clone()
            optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
        if self.average:
            self.average.take([state[f"average/{j}"] for j in range(len(self.average.state()))])
        if self.best:
            self.best.take({name.removeprefix("best/"): tensor for name, tensor in state.items() if name.startswith("best/")})
        self.epoch, self.seconds = int(state["epoch"]), state["seconds"].tolist()
        self.diverged = {s: epoch for s, epoch in enumerate(state["diverged"].tolist()) if epoch}
        if "losses" in state:
            self.losses, self.spent = list(state["losses"].to(self.population.device)), float(state["spent"])
            self.noise = state["noise"]


def fit(population: Population, data: Data, recipe: Recipe, key: str = "") -> Curves:
    """Trains all epochs -> curves: name -> (epochs, seeds)."""
    training, curves = Training(population, data, recipe, key), Curves()
    while not training.over:
        for name, row in training.run_epoch().items():
            curves.setdefault(name, []).append(row)
    population.finish(training.sample, training.diverged)
    return curves
