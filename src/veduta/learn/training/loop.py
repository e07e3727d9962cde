"""Training: a network, photos and a recipe in, the weights of the best epoch out.

The loop is that of PyTorch Lightning, which brings mixed precision, several GPUs and several
machines. What an epoch shows and draws is a function of the seed and the epoch's number, and the
learning rate and the end are functions of the history, so that weights, optimizer and history are
all that an interrupted run needs to go on as if nothing had been.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException
from pytorch_lightning.utilities.warnings import PossibleUserWarning
from torch import Tensor

from veduta.errors import LearnError
from veduta.learn.data.dataloader import BatchSampler, make_dataloader
from veduta.learn.data.sampling import network_seed
from veduta.learn.training.checkpoint import State, origin, read_checkpoint, write_checkpoint
from veduta.learn.training.linear_probe import probe_layer, set_linear_probe
from veduta.learn.training.losses import TrainingLoss, build_loss, mix_up, weight_penalty
from veduta.learn.training.schedule import Epoch, best_epoch, learning_rate_factor, reason_to_stop

if TYPE_CHECKING:
    from veduta.learn.data.examples import Examples
    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.models.networks import Net, Outputs
    from veduta.learn.recipe import Recipe, Training

__all__ = ["Epoch", "TrainingResult", "fit"]

OnEpoch = Callable[[Epoch], None]
OnProgress = Callable[[str, int, int], None]

# Checkpoints are written at the ends of epochs, as often as they take this share of the time.
_SHARE = 0.05
# Steps between two looks at the loss on a GPU: each look waits until all steps before are done.
_LOOK = 20


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """What training came to.

    `net`: with the weights of the best epoch, in eval mode, on the processor. `history`: all
    epochs. `best_epoch`: the number of the best one. `seconds`: of all epochs, also before an
    interruption. `device`: what it was trained on. `stop_reason`: why it ended.
    """

    net: Net
    history: tuple[Epoch, ...]
    best_epoch: int
    seconds: float
    device: str
    stop_reason: str


def fit(
    recipe: Recipe,
    net: Net,
    parts: DatasetSplits,
    examples: Examples,
    folder: Path,
    *,
    on_epoch: OnEpoch | None = None,
    on_progress: OnProgress | None = None,
    devices: str | int = "auto",
    nodes: int = 1,
) -> TrainingResult:
    """Train a network on the photos of `parts.train`, judged by those of `parts.val`.

    A run that was interrupted goes on after the epoch of its last checkpoint; on the processor it
    ends with the same weights and history, bit for bit, as one that was not.

    Args:
        recipe: how.
        net: with its first weights; it is trained in place.
        parts: which examples are for training, and which for validation.
        examples: row by row those of `parts`.
        folder: of the run; `folder/checkpoint` is written, and left there.
        on_epoch: called after each epoch and its checkpoint; what it raises ends the training.
        on_progress: called with (what, photos done, photos in all epochs).
        devices: how many GPUs or processes of this machine; "auto": all GPUs, else one process.
            With several, Lightning starts the command once more for each of the others, which ends
            here; a batch is shared among them.
        nodes: machines that train together, each with the same command, as Lightning wants them
            started.

    Raises:
        RecipeError: the parts of the recipe do not go together.
        LearnError: the loss is not a number any more, the checkpoint is of another recipe or other
            photos, the disk is full.
    """
    training = recipe.training
    made_by = origin(recipe, parts)
    state = read_checkpoint(folder, made_by)
    torch.manual_seed(network_seed(training.seed, 0))
    if training.probe == "before" and state is None:
        set_linear_probe(recipe, net, parts, examples)
    elif training.probe == "after":
        # Before the loss is asked for its opinion of this layer: it has none.
        probe_layer(recipe, net).requires_grad_(False)
    lesson = _Lesson(recipe, net, build_loss(recipe, net), examples)
    lesson.listen(folder, made_by, on_epoch, on_progress)
    if state is not None:
        lesson.resume(state)
    for end in sorted({min(training.unfreeze_after, training.epochs), training.epochs}):
        # Which parameters learn is settled when processes begin to share them: a turn each.
        if len(lesson.history) < end and reason_to_stop(lesson.history, training) is None:
            lesson.backbone_learns = len(lesson.history) >= training.unfreeze_after
            _turn(lesson, parts, examples, end - len(lesson.history), devices, nodes)
    history = tuple(lesson.history)
    net.load_state_dict(lesson.best)
    net.zero_grad(set_to_none=True)
    net.to("cpu").eval()
    if training.probe == "after":
        set_linear_probe(recipe, net, parts, examples)
        probe_layer(recipe, net).requires_grad_(True)
    return TrainingResult(
        net=net,
        history=history,
        best_epoch=best_epoch(history, training),
        seconds=sum(epoch.seconds for epoch in history),
        device=_device(),
        stop_reason=reason_to_stop(history, training) or "",
    )


def _turn(
    lesson: _Lesson,
    parts: DatasetSplits,
    examples: Examples,
    epochs: int,
    devices: str | int,
    nodes: int,
) -> None:
    """Train for at most so many epochs."""
    recipe, training = lesson.recipe, lesson.recipe.training
    augment = None
    if recipe.augment:
        from veduta.learn.augmentation import compose

        augment = compose(recipe.augment)
    with _quiet():
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=devices,
            num_nodes=nodes,
            strategy=_strategy(devices, nodes),
            precision=training.precision,
            max_epochs=epochs,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        place = {"rank": trainer.global_rank, "ranks": trainer.world_size}
        on_gpu = trainer.strategy.root_device.type == "cuda"
        first = len(lesson.history) + 1
        shown = BatchSampler(
            parts, parts.train, training, lambda: first + trainer.current_epoch, **place
        )
        judged = BatchSampler(
            parts, parts.val, _judging(training, parts, lesson.goal), lambda: 0, **place
        )
        lesson.photos = shown.photos
        loaders = [
            make_dataloader(parts, examples, shown, augment, on_gpu=on_gpu),
            make_dataloader(parts, examples, judged, None, on_gpu=on_gpu)
            if len(parts.val)
            else None,
        ]
        with _interruptible():
            trainer.fit(lesson, *loaders)
        if not trainer.is_global_zero:
            sys.exit(0)


class _Lesson(lightning.LightningModule):  # type: ignore[misc]
    """Network and loss as Lightning wants them, and what became of them so far."""

    def __init__(self, recipe: Recipe, net: Net, goal: TrainingLoss, examples: Examples) -> None:
        super().__init__()
        self.recipe = recipe
        self.net = net
        self.goal = goal
        self.examples = examples
        self.history: list[Epoch] = []
        self.best: dict[str, Tensor] = {}
        self.kept: dict[str, Tensor] = {}
        self.backbone_learns = True
        self.photos = 0
        self._seen = 0
        self._began = 0.0
        self._written, self._cost = -float("inf"), 0.0

    def listen(
        self,
        folder: Path,
        made_by: dict[str, Any],
        on_epoch: OnEpoch | None,
        on_progress: OnProgress | None,
    ) -> None:
        """Say where checkpoints go, and who wants to know of epochs and progress."""
        self.folder, self.made_by = folder, made_by
        self.on_epoch, self.on_progress = on_epoch, on_progress

    def resume(self, state: State) -> None:
        """Go on after a checkpoint."""
        self.load_state_dict(state.weights)
        self.history = list(state.history)
        self.kept, self.best = state.optimizer, state.best

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer, with what it kept of each parameter."""
        training = self.recipe.training
        self.net.backbone_learns(yes=True)
        optimizer = _optimizer(self.net, self.goal, training)
        self.net.backbone_learns(yes=self.backbone_learns)
        if self.kept:
            _restore(optimizer, self.kept)
        return optimizer

    def on_train_epoch_start(self) -> None:
        training = self.recipe.training
        number = len(self.history) + 1
        torch.manual_seed(network_seed(training.seed, number, self.global_rank))
        self.rate = training.learning_rate * learning_rate_factor(self.history, training)
        for group in self.optimizers().param_groups:
            group["lr"] = self.rate * group["share"]
        self._sums = torch.zeros(3, device=self.device)
        self._val_sums: Tensor | None = None
        self._bad = torch.tensor(-1, device=self.device)
        self._seen = 0
        self._began = time.perf_counter()

    def training_step(self, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
        photos, codes = batch
        training = self.recipe.training
        seen = self.examples.network_input(photos)
        if training.mixup:
            seen, others, share = mix_up(seen, training.mixup)
            outputs = self.net(seen)
            loss = share * self.goal(outputs, codes, photos)
            loss = loss + (1 - share) * self.goal(outputs, codes[others], photos)
            right = share * self._right(outputs, codes)
            right = right + (1 - share) * self._right(outputs, codes[others])
        else:
            outputs = self.net(seen)
            loss = self.goal(outputs, codes, photos)
            right = self._right(outputs, codes)
        loss = loss + weight_penalty(self.net, training.l1, training.l2)
        self._sums += _figures(loss, right, codes)
        self._watch(loss, step)
        self._seen += len(codes) * self.trainer.world_size
        self._tell()
        return loss

    def on_validation_epoch_start(self) -> None:
        self._val_sums = torch.zeros(3, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], step: int) -> None:
        photos, codes = batch
        training = self.recipe.training
        outputs = self.net(self.examples.network_input(photos))
        loss = self.goal(outputs, codes, photos) + weight_penalty(
            self.net, training.l1, training.l2
        )
        self._val_sums += _figures(loss, self._right(outputs, codes), codes)

    def on_train_epoch_end(self) -> None:
        self._look(len(self.history) + 1)
        train_loss, train_accuracy = self._means(self._sums)
        val_loss, val_accuracy = self._means(self._val_sums)
        number = len(self.history) + 1
        self._check(number, val_loss)
        seconds = time.perf_counter() - self._began
        epoch = Epoch(
            number, seconds, self.rate, train_loss or 0.0, train_accuracy, val_loss, val_accuracy
        )
        self.history.append(epoch)
        training = self.recipe.training
        if best_epoch(self.history, training) == number:
            self.best = _copied(self.net.state_dict())
        ends = reason_to_stop(self.history, training) is not None
        self._keep(at_any_cost=ends)
        if self.on_epoch:
            self.on_epoch(epoch)
        if ends:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        self.kept = _kept(self.optimizers().optimizer)

    def _right(self, outputs: Outputs, codes: Tensor) -> Tensor:
        """Count the photos whose class is guessed; -1 where nothing is guessed."""
        guesses = self.goal.guesses(outputs)
        if guesses is None:
            return torch.tensor(-1.0, device=codes.device)
        return (guesses == codes).sum()

    def _means(self, sums: Tensor | None) -> tuple[float | None, float | None]:
        """Return the mean loss and the accuracy over the photos of all processes."""
        if sums is None:
            return None, None
        loss, right, count = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        return loss / count, right / count if right >= 0 else None

    def _watch(self, loss: Tensor, step: int) -> None:
        """Note the first step whose loss is no number, without waiting for a GPU to know it."""
        lost = ~torch.isfinite(loss.detach()) & (self._bad < 0)
        self._bad = torch.where(lost, step + 1, self._bad)
        if self.device.type == "cpu" or step % _LOOK == 0:
            self._look(len(self.history) + 1)

    def _look(self, number: int) -> None:
        if (step := int(self._bad)) >= 0:
            raise self._diverged(f"epoch {number}, step {step}: the loss is no finite number")

    def _check(self, number: int, val_loss: float | None) -> None:
        if val_loss is not None and not torch.isfinite(torch.tensor(val_loss)):
            raise self._diverged(f"epoch {number}: the loss of the validation is no finite number")
        for name, weight in self.named_parameters():
            if not torch.isfinite(weight).all():
                what = name.partition(".")[2]
                raise self._diverged(f"epoch {number}: a weight of {what} is no finite number")

    def _diverged(self, when: str) -> LearnError:
        remedy = "a lower --set training.learning_rate"
        if self.recipe.training.precision == "16-mixed":
            remedy += " or --set training.precision=bf16-mixed"
        return LearnError(
            f"{self.recipe.name}: {when}; the learning rate is {self.rate:g}. Train again with "
            f"{remedy}, into a new folder"
        )

    def _tell(self) -> None:
        if self.on_progress:
            total = self.photos * self.recipe.training.epochs
            done = self.photos * len(self.history) + min(self._seen, self.photos)
            self.on_progress("Training", done, total)

    def _keep(self, *, at_any_cost: bool) -> None:
        """Write a checkpoint, unless the last one has only just been written for its size."""
        now = time.perf_counter()
        if not self.trainer.is_global_zero:
            return
        if not at_any_cost and (now - self._written) * _SHARE < self._cost:
            return
        state = State(
            history=tuple(self.history),
            weights=_copied(self.state_dict()),
            optimizer=_kept(self.optimizers().optimizer),
            best=self.best,
        )
        write_checkpoint(
            self.folder, state, self.made_by, best_epoch(self.history, self.recipe.training)
        )
        self._written = time.perf_counter()
        self._cost = self._written - now


def _judging(training: Training, parts: DatasetSplits, goal: TrainingLoss) -> Training:
    """Return how the photos of the validation are shown: each once, where the loss allows it."""
    several = len(np.unique(parts.class_ids[parts.val])) > 1
    return replace(
        training,
        balanced=False,
        pairs=min(training.pairs, len(parts.val)),
        per_class=training.per_class if goal.compares and several else 0,
    )


def _figures(loss: Tensor, right: Tensor, codes: Tensor) -> Tensor:
    """Return (sum of the losses, photos guessed right, photos) of a batch."""
    count = loss.new_tensor(len(codes))
    return torch.stack([loss.detach() * count, right.to(loss.dtype), count])


def _optimizer(net: Net, goal: TrainingLoss, training: Training) -> torch.optim.Optimizer:
    inside = {id(one) for one in net.backbone.parameters()} if net.backbone is not None else set()
    learning = [one for one in net.parameters() if one.requires_grad]
    own = [one for one in learning if id(one) not in inside]
    groups = [
        {"params": [*own, *goal.parameters()], "share": 1.0},
        {
            "params": [one for one in learning if id(one) in inside],
            "share": training.backbone_rate,
        },
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise LearnError(
            "nothing of the network learns: give it layers of its own, or let more of the backbone "
            'learn with network.train, such as "all"'
        )
    rate, decay = training.learning_rate, training.weight_decay
    # One pass over each weight instead of one a formula: a third of the time on a processor.
    fused = training.precision != "16-mixed"
    made: torch.optim.Optimizer
    if training.optimizer == "sgd":
        made = torch.optim.SGD(
            groups, lr=rate, momentum=training.momentum, weight_decay=decay, fused=fused
        )
    elif training.optimizer == "rmsprop":
        made = torch.optim.RMSprop(groups, lr=rate, weight_decay=decay)
    elif training.optimizer == "adam":
        made = torch.optim.Adam(groups, lr=rate, weight_decay=decay, fused=fused)
    else:
        made = torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=fused)
    return made


def _kept(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimizer keeps of each parameter, by "number/name"."""
    return {
        f"{number}/{name}": torch.as_tensor(value).detach().to("cpu", copy=True).contiguous()
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }


def _restore(optimizer: torch.optim.Optimizer, kept: dict[str, Tensor]) -> None:
    fresh = optimizer.state_dict()
    for key, value in kept.items():
        number, name = key.split("/")
        fresh["state"].setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(fresh)


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()
    }


def _strategy(devices: str | int, nodes: int) -> Any:
    each = torch.cuda.device_count() if devices == "auto" else int(devices)
    # A network may have parts that a loss does not look at, such as a head beside its features.
    return "ddp_find_unused_parameters_true" if max(1, each) * nodes > 1 else "auto"


def _device() -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return "mps" if torch.backends.mps.is_available() else "cpu"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's banners, tips and advice to its developers from the screen."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
            # Loading processes are forked and never touch the tables of an index.
            warnings.filterwarnings("ignore", message="lance is not fork-safe")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt again: Lightning makes it an exit and ignores the next."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException:
        raise
    except SystemExit as error:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from error
