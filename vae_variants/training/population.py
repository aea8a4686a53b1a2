"""Several seeds of one model, stacked."""

import copy
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from vae_variants.models.base import DataDependent, Finished, Model, Player, owned
from vae_variants.training.batches import derive_seed, fork_rng
from vae_variants.training.noise import PerSeed, stream
from vae_variants.training.options import Place, differing, holding


def first_names(model: Model) -> dict[str, str]:
    """Each name of the state dict -> the first name of the same tensor: weights may be tied."""
    first = dict[int, str]()
    return {name: first.setdefault(id(tensor), name) for name, tensor in model.state_dict(keep_vars=True).items()}


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """A context in which the global random stream begins with a seed for one purpose; afterwards it is as before."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(*parts))
        yield


class Population:
    """S copies of one model, initialised from S seeds, with parameters stacked on a leading axis of length S.

    `torch.func.vmap` calls a method for all members at once. A model with `stackable = False` is called member by member instead, behind
    the same interface. Everything that a member draws depends on its own seed alone: its initialisation, and the noise inside a call.

    Args:
        build: Returns a new model; or one such for each member, if stacked members differ in numbers such as beta. They then have those
            as `options`, beside parameters and buffers.
        seeds: One per member. A seed may be there again if the model is stacked: then its members start alike, and draw alike.
        device: Where the members live.

    Raises:
        Unlike: If the models of several `build` differ in more than numbers.
    """

    def __init__(
        self, build: Callable[[], Model] | Sequence[Callable[[], Model]], seeds: Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        self.seeds, self.device = tuple(seeds), torch.device(device)
        self.generators = [torch.Generator(self.device) for _ in self.seeds]
        self.reseed()
        builds = [build] * len(self.seeds) if callable(build) else list(build)
        kinds = {each: kind for kind, each in enumerate(dict.fromkeys(builds))}
        self.starts = [(kinds[each], seed) for each, seed in zip(builds, self.seeds, strict=True)]  # members of one start alike
        made, firsts = dict[tuple[int, int], Model](), dict[int, Model]()
        for (kind, seed), each in dict(zip(self.starts, builds, strict=True)).items():
            with seeded("init", seed):
                made[kind, seed] = each().to(self.device)
            firsts.setdefault(kind, made[kind, seed])
        models = [made[start] for start in self.starts]
        self.templates = [firsts[kind] for kind, _ in self.starts]  # with the numbers of each member
        self.template = models[0]
        self.models = [] if self.template.stackable else models
        self.params: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        self.options: dict[str, Tensor] = {}
        self.places: dict[str, Place] = {}  # of the options in the template
        if self.template.stackable:
            found = differing(list(firsts.values()))
            self.params, self.buffers = stack_module_state(models)
            like = next(iter(self.params.values()), torch.empty(0, device=self.device))
            for name, places in found.items():
                values = [place.holder[place.key] for place in places]
                self.places[name], self.options[name] = places[0], like.new_tensor([values[kind] for kind, _ in self.starts])

    def __len__(self) -> int:
        return len(self.seeds)

    def reseed(self, *parts: object) -> None:
        """Begins the noise of each member anew, as a function of its seed and of `parts`."""
        for generator, seed in zip(self.generators, self.seeds, strict=True):
            generator.manual_seed(derive_seed("noise", *parts, seed))

    @property
    def noise(self) -> Tensor:
        """(S, n) the states of the members' streams of noise."""
        return torch.stack([generator.get_state() for generator in self.generators])

    @noise.setter
    def noise(self, states: Tensor) -> None:
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state.clone())  # it reads from the beginning of the storage

    def call(self, method: str, in_dims: tuple[int | None, ...]) -> Callable[..., Tensor]:
        """`method` of every member -> (S, ...); `in_dims` is 0 for an argument with one slice per member, None if all share it."""
        if self.models:

            def each(*args: Tensor) -> Tensor:
                slices = [[a if d is None else a[s] for a, d in zip(args, in_dims, strict=True)] for s in range(len(self))]
                found = []
                for model, generator, mine in zip(self.models, self.generators, slices, strict=True):
                    with stream(generator):
                        found.append(model(method, *mine))
                return torch.stack(found)

            return each

        stacked = self.stacked(method, in_dims)

        def together(*args: Tensor) -> Tensor:
            with PerSeed(self.generators):
                return stacked(self.inputs, *args)

        return together

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What stacked members are called with: parameters, buffers and options, with the members as leading axis."""
        return self.params | self.buffers | self.options

    def stacked(self, method: str, in_dims: tuple[int | None, ...]) -> Callable[..., Tensor]:
        """`call` as a function of the `inputs` too. Its noise is not that of the members yet."""

        def one(inputs: dict[str, Tensor], *args: Tensor) -> Tensor:
            state = {name: tensor for name, tensor in inputs.items() if name not in self.places}
            with holding(self.places, inputs):
                return functional_call(self.template, state, (method, *args))

        return vmap(one, in_dims=(0, *in_dims), randomness="different")

    def names(self, player: Player) -> list[str]:
        """Of the parameters that a player owns."""
        players = self.template.players
        return owned(players, [name for name, _ in self.template.named_parameters()])[players.index(player)]

    def owned(self, player: Player) -> list[Tensor]:
        """The parameters of all members that a player owns."""
        sources = [dict[str, Tensor](m.named_parameters()) for m in self.models] or [self.params]
        return [source[name] for source in sources for name in self.names(player)]

    @contextmanager
    def trial(self, training: bool = True) -> Iterator[None]:
        """A context for calls that are no training step: buffers and random streams are afterwards as before.

        Args:
            training: Whether modules such as BatchNorm and Dropout act as in training.
        """
        modules = self.models or [self.template]

        def buffers() -> list[Tensor]:  # a model may have replaced some
            return [*self.buffers.values(), *(buffer for model in self.models for buffer in model.buffers())]

        modes, kept, noise = [module.training for module in modules], [buffer.clone() for buffer in buffers()], self.noise
        try:
            for module in modules:
                module.train(training)
            with fork_rng(self.device):
                yield
        finally:
            self.noise = noise
            for module, mode in zip(modules, modes, strict=True):
                module.train(mode)
            with torch.no_grad():
                for buffer, before in zip(buffers(), kept, strict=True):
                    buffer.copy_(before)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Passes the training images x (N, D) to each member of a `DataDependent` model."""
        if isinstance(self.template, DataDependent):
            places = {start: self.starts.index(start) for start in self.starts}
            members = dict(zip(places, self.models or self.members(list(places.values())), strict=True))
            for (_, seed), member in members.items():
                with seeded("start", seed):
                    member.initialise(x)  # type: ignore[operator]
            if not self.models:
                self.restack([members[start] for start in self.starts])

    @torch.no_grad()
    def finish(self, x: Tensor, skip: Container[int] = ()) -> None:
        """Passes the training images x (N, D) to each member of a `Finished` model, except those whose places are in `skip`."""
        if isinstance(self.template, Finished):
            members = list(self.members())
            for s, member in enumerate(members):
                assert isinstance(member, Finished)
                if s not in skip:
                    member.finish(x)
            self.restack(members)

    def restack(self, members: Sequence[Model]) -> None:
        """Takes the state of changed `members`."""
        states = [member.state_dict() for member in members]
        self.restore({name: torch.stack([state[name] for state in states]) for name in states[0]})

    def state(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers, with the seeds as leading axis. A tied tensor is there under each of its names."""
        if self.models:
            states = [model.state_dict() for model in self.models]
            return {name: torch.stack([state[name] for state in states]) for name in states[0]}
        stacked = self.params | self.buffers
        names = first_names(self.template).items()
        return {name: stacked[name].detach() if name == first else stacked[first].detach().clone() for name, first in names}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        if self.models:
            for s, model in enumerate(self.models):
                model.load_state_dict({name: tensor[s] for name, tensor in state.items()})
            return
        for name, tensor in (self.params | self.buffers).items():
            if name in state:
                tensor.copy_(state[name])

    def members(self, places: Sequence[int] | None = None) -> Iterator[Model]:
        """A plain module for each member, or for those at some places, in evaluation mode, without gradients."""
        for s in range(len(self)) if places is None else places:
            member = self.models[s] if self.models else copy.deepcopy(self.templates[s])
            if not self.models:
                member.load_state_dict({name: tensor[s] for name, tensor in self.state().items()})
            elif member.players:  # it may be trained on
                member = copy.deepcopy(member)
            yield member.eval().requires_grad_(False)
