"""The training loop: trains a network on photos, and returns it with the weights of its best epoch.

PyTorch Lightning runs the loop, which brings mixed precision, several GPUs and several machines.
Everything that an epoch draws depends only on the seed and the number of the epoch. The learning
rate and the end of training depend only on the recipe and the history. So an interrupted run needs
only weights, optimizer state and history to continue as if it had not been interrupted.
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
from veduta.learn.data.sampling import network_seed, pair_count
from veduta.learn.training.checkpoint import (
    Checkpoint,
    RunIdentity,
    read_checkpoint,
    run_identity,
    write_checkpoint,
)
from veduta.learn.training.linear_probe import probe_layer, set_linear_probe
from veduta.learn.training.losses import TrainingLoss, build_loss, mix_up, weight_penalty
from veduta.learn.training.reconstructions import (
    shown_photos,
    write_reconstructions,
    write_samples,
)
from veduta.learn.training.schedule import Epoch, best_epoch, learning_rate_factor, reason_to_stop

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from veduta.learn.data.examples import Examples
    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.models.networks import Net, Outputs
    from veduta.learn.recipe import Recipe, Training

__all__ = ["Epoch", "TrainingResult", "fit"]

OnEpoch = Callable[[Epoch], None]
OnProgress = Callable[[str, int, int], None]

MAX_CHECKPOINT_TIME_SHARE = 0.05
"""Checkpoints are written at the ends of epochs, but not so often that they take more than this
share of the time."""

STEPS_BETWEEN_LOSS_CHECKS = 20
"""On a GPU the loss is checked only this often, because a check waits for all steps before it."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """The result of training.

    Attributes:
        net: the network with the weights of the best epoch, in eval mode, on the CPU.
        history: all epochs.
        best_epoch: the number of the best epoch.
        seconds: the duration of all epochs, also of those before an interruption.
        device: the name of the GPU, or "cpu" or "mps".
        stop_reason: why training ended.
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
    splits: DatasetSplits,
    examples: Examples,
    folder: Path,
    *,
    on_epoch: OnEpoch | None = None,
    on_progress: OnProgress | None = None,
    devices: str | int = "auto",
    nodes: int = 1,
) -> TrainingResult:
    """Train a network on the examples of `splits.train`; those of `splits.choosing` validate it.

    An interrupted run continues after the epoch of its last checkpoint. On the CPU its weights and
    history are, bit for bit, those of a run without interruption.

    Args:
        recipe: how to train.
        net: the network with its first weights. It is trained in place.
        splits: which examples are for training, and which for validation.
        examples: the examples, in the rows of `splits`.
        folder: the folder of the run. The checkpoint is written to `folder/checkpoint` and stays
            there.
        on_epoch: called after each epoch and its checkpoint. An exception in it ends the training.
        on_progress: called with (what, photos done, photos of all epochs).
        devices: the number of GPUs or processes on this machine; "auto": all GPUs, or one process.
            For each other process, Lightning starts the command once more, and that process ends
            here. The processes share each batch.
        nodes: the number of machines. Each must run the same command, started as Lightning
            requires.

    Returns:
        The result.

    Raises:
        RecipeError: values of the recipe contradict each other.
        LearnError: the loss is not a finite number, the checkpoint belongs to another recipe or to
            other photos, or the disk is full.
    """
    training = recipe.training
    first = "" if net.first_weights is None else net.first_weights.digest
    identity = run_identity(recipe, splits, first, examples.encoder_identity)
    checkpoint = read_checkpoint(folder, identity)
    torch.manual_seed(network_seed(training.seed, 0))
    has_class_layer = net.first_weights is not None and net.first_weights.class_layer
    if training.probe == "before" and checkpoint is None and not has_class_layer:
        set_linear_probe(recipe, net, splits, examples)
    elif training.probe == "after":
        # This layer has no loss term, so it is not trained. The probe sets it at the end.
        probe_layer(recipe, net).requires_grad_(False)
    module = _TrainingModule(
        recipe,
        net,
        build_loss(recipe, net),
        examples,
        shown=shown_photos(splits),
        folder=folder,
        identity=identity,
        on_epoch=on_epoch,
        on_progress=on_progress,
    )
    if checkpoint is not None:
        module.restore(checkpoint)
    # Distributed training fixes the trained parameters at its start. So the epochs with a frozen
    # backbone and the epochs after them are two calls of Lightning.
    for last_epoch in sorted({min(training.unfreeze_after, training.epochs), training.epochs}):
        done = len(module.history)
        if done < last_epoch and reason_to_stop(module.history, training) is None:
            module.trains_backbone = done >= training.unfreeze_after
            _fit_epochs(module, splits, last_epoch - done, devices, nodes)
    history = tuple(module.history)
    net.load_state_dict(module.best_weights)
    net.zero_grad(set_to_none=True)
    net.to("cpu").eval()
    if any(layer.kind == "variational" for layer in net.layer_table):
        write_samples(net, training.seed, folder)
    if training.probe == "after":
        set_linear_probe(recipe, net, splits, examples)
        probe_layer(recipe, net).requires_grad_(True)
    return TrainingResult(
        net=net,
        history=history,
        best_epoch=best_epoch(history, training),
        seconds=sum(epoch.seconds for epoch in history),
        device=_device_name(),
        stop_reason=reason_to_stop(history, training) or "",
    )


def _fit_epochs(
    module: _TrainingModule, splits: DatasetSplits, epochs: int, devices: str | int, nodes: int
) -> None:
    """Train for at most `epochs` epochs."""
    recipe, training = module.recipe, module.recipe.training
    augment = None
    if recipe.augment:
        from veduta.learn.augmentation import compose

        augment = compose(recipe.augment)
    with _silenced_lightning():
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
        process = {"rank": trainer.global_rank, "ranks": trainer.world_size}
        on_gpu = trainer.strategy.root_device.type == "cuda"
        first = len(module.history) + 1
        train_sampler = BatchSampler(
            splits, splits.train, training, lambda: first + trainer.current_epoch, **process
        )
        val_sampler = BatchSampler(
            splits,
            splits.choosing,
            _validation_settings(training, splits, module.loss),
            lambda: 0,
            **process,
        )
        module.photos_per_epoch = train_sampler.photos
        train_loader = make_dataloader(
            splits, module.examples, train_sampler, augment, on_gpu=on_gpu
        )
        val_loader = None
        if len(splits.choosing):
            val_loader = make_dataloader(splits, module.examples, val_sampler, None, on_gpu=on_gpu)
        with _keyboard_interrupts():
            trainer.fit(module, train_loader, val_loader)
        if not trainer.is_global_zero:
            sys.exit(0)


class _TrainingModule(lightning.LightningModule):  # type: ignore[misc]
    """The LightningModule: network, loss and optimizer, with the history of the run.

    Attributes:
        history: the epochs so far.
        best_weights: the weights of the network after the best epoch, on the CPU.
        optimizer_state: the state of the optimizer after the last epoch, by "number/name".
        trains_backbone: whether the backbone is trained in the current epochs.
        photos_per_epoch: the number of photos in an epoch.
    """

    def __init__(
        self,
        recipe: Recipe,
        net: Net,
        loss: TrainingLoss,
        examples: Examples,
        *,
        shown: NDArray[np.intp],
        folder: Path,
        identity: RunIdentity,
        on_epoch: OnEpoch | None,
        on_progress: OnProgress | None,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.net = net
        self.loss = loss
        self.examples = examples
        self.shown = shown
        self.folder = folder
        self.identity = identity
        self.on_epoch = on_epoch
        self.on_progress = on_progress
        self.history: list[Epoch] = []
        self.best_weights: dict[str, Tensor] = {}
        self.optimizer_state: dict[str, Tensor] = {}
        self.trains_backbone = True
        self.photos_per_epoch = 0
        self._photos_done = 0
        self._epoch_start = 0.0
        self._last_checkpoint = -float("inf")
        self._checkpoint_seconds = 0.0

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue after a checkpoint."""
        self.net.load_state_dict(checkpoint.net_weights)
        self.loss.load_state_dict(checkpoint.loss_weights)
        self.history = list(checkpoint.history)
        self.optimizer_state = checkpoint.optimizer_state
        self.best_weights = checkpoint.best_weights

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer, and restore its state."""
        self.net.set_backbone_trainable(True)
        optimizer = _make_optimizer(self.net, self.loss, self.recipe.training)
        self.net.set_backbone_trainable(self.trains_backbone)
        if self.optimizer_state:
            _restore_optimizer(optimizer, self.optimizer_state)
        return optimizer

    def on_train_epoch_start(self) -> None:
        training = self.recipe.training
        number = len(self.history) + 1
        torch.manual_seed(network_seed(training.seed, number, self.global_rank))
        self.learning_rate = training.learning_rate * learning_rate_factor(self.history, training)
        for group in self.optimizers().param_groups:
            group["lr"] = self.learning_rate * group["rate_factor"]
        self._train_sums = torch.zeros(3, device=self.device)
        self._val_sums: Tensor | None = None
        self._diverged_step = torch.tensor(-1, device=self.device)
        self._photos_done = 0
        self._epoch_start = time.perf_counter()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        photos, class_ids = batch
        training = self.recipe.training
        inputs = self.examples.network_input(photos)
        if training.mixup:
            inputs, others, share = mix_up(inputs, training.mixup)
            outputs = self.net(inputs)
            loss = share * self.loss(outputs, class_ids, photos)
            loss = loss + (1 - share) * self.loss(outputs, class_ids[others], photos)
            correct = share * self._count_correct(outputs, class_ids)
            correct = correct + (1 - share) * self._count_correct(outputs, class_ids[others])
        else:
            outputs = self.net(inputs)
            loss = self.loss(outputs, class_ids, photos)
            correct = self._count_correct(outputs, class_ids)
        loss = loss + weight_penalty(self.net, training.l1, training.l2)
        self._train_sums += _batch_sums(loss, correct, class_ids)
        self._watch_loss(loss, batch_idx)
        self._photos_done += len(class_ids) * self.trainer.world_size
        self._report_progress()
        return loss

    def on_validation_epoch_start(self) -> None:
        self._val_sums = torch.zeros(3, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        photos, class_ids = batch
        training = self.recipe.training
        outputs = self.net(self.examples.network_input(photos))
        loss = self.loss(outputs, class_ids, photos)
        loss = loss + weight_penalty(self.net, training.l1, training.l2)
        self._val_sums += _batch_sums(loss, self._count_correct(outputs, class_ids), class_ids)

    def on_train_epoch_end(self) -> None:
        self._check_loss()
        train_loss, train_accuracy = self._means(self._train_sums)
        val_loss, val_accuracy = self._means(self._val_sums)
        number = len(self.history) + 1
        self._check_finite(number, val_loss)
        seconds = time.perf_counter() - self._epoch_start
        epoch = Epoch(
            number,
            seconds,
            self.learning_rate,
            train_loss or 0.0,
            train_accuracy,
            val_loss,
            val_accuracy,
        )
        self.history.append(epoch)
        training = self.recipe.training
        if best_epoch(self.history, training) == number:
            self.best_weights = _on_cpu(self.net.state_dict())
            if self.net.decoder is not None and self.trainer.is_global_zero:
                write_reconstructions(
                    self.net, self.examples, self.shown, self.history, training, self.folder
                )
        is_last = reason_to_stop(self.history, training) is not None
        self._write_checkpoint(always=is_last)
        if self.on_epoch:
            self.on_epoch(epoch)
        if is_last:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        self.optimizer_state = _optimizer_state(self.optimizers().optimizer)

    def _count_correct(self, outputs: Outputs, class_ids: Tensor) -> Tensor:
        """Count the photos whose class is predicted; -1 if the loss predicts no classes."""
        predicted = self.loss.predicted_classes(outputs)
        if predicted is None:
            return torch.tensor(-1.0, device=class_ids.device)
        return (predicted == class_ids).sum()

    def _means(self, sums: Tensor | None) -> tuple[float | None, float | None]:
        """Return the mean loss and the accuracy over the photos of all processes."""
        if sums is None:
            return None, None
        loss, correct, count = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        return loss / count, correct / count if correct >= 0 else None

    def _watch_loss(self, loss: Tensor, batch_idx: int) -> None:
        """Note the first step with a loss that is not finite, without waiting for the GPU."""
        is_first = ~torch.isfinite(loss.detach()) & (self._diverged_step < 0)
        self._diverged_step = torch.where(is_first, batch_idx + 1, self._diverged_step)
        if self.device.type == "cpu" or batch_idx % STEPS_BETWEEN_LOSS_CHECKS == 0:
            self._check_loss()

    def _check_loss(self) -> None:
        if (step := int(self._diverged_step)) >= 0:
            epoch = len(self.history) + 1
            raise self._diverged(f"epoch {epoch}, step {step}: the loss is not a finite number")

    def _check_finite(self, number: int, val_loss: float | None) -> None:
        if val_loss is not None and not torch.isfinite(torch.tensor(val_loss)):
            raise self._diverged(f"epoch {number}: the validation loss is not a finite number")
        for name, weight in self.named_parameters():
            if not torch.isfinite(weight).all():
                parameter = name.partition(".")[2]
                raise self._diverged(f"epoch {number}: a weight of {parameter} is not finite")

    def _diverged(self, when: str) -> LearnError:
        remedy = "a lower --set training.learning_rate"
        if self.recipe.training.precision == "16-mixed":
            remedy += " or --set training.precision=bf16-mixed"
        return LearnError(
            f"{self.recipe.name}: {when}; the learning rate is {self.learning_rate:g}. Train again "
            f"with {remedy}, into a new folder"
        )

    def _report_progress(self) -> None:
        if self.on_progress:
            total = self.photos_per_epoch * self.recipe.training.epochs
            done = self.photos_per_epoch * len(self.history)
            done += min(self._photos_done, self.photos_per_epoch)
            self.on_progress("Training", done, total)

    def _write_checkpoint(self, *, always: bool) -> None:
        """Write a checkpoint, unless the last one is so recent that this would take too much time.

        Args:
            always: write it in any case.
        """
        now = time.perf_counter()
        if not self.trainer.is_global_zero:
            return
        max_seconds = (now - self._last_checkpoint) * MAX_CHECKPOINT_TIME_SHARE
        if not always and max_seconds < self._checkpoint_seconds:
            return
        checkpoint = Checkpoint(
            history=tuple(self.history),
            net_weights=_on_cpu(self.net.state_dict()),
            loss_weights=_on_cpu(self.loss.state_dict()),
            optimizer_state=_optimizer_state(self.optimizers().optimizer),
            best_weights=self.best_weights,
        )
        best = best_epoch(self.history, self.recipe.training)
        write_checkpoint(self.folder, checkpoint, self.identity, best)
        self._last_checkpoint = time.perf_counter()
        self._checkpoint_seconds = self._last_checkpoint - now


def _validation_settings(training: Training, splits: DatasetSplits, loss: TrainingLoss) -> Training:
    """Return the settings of validation batches: each photo once, if the loss allows it."""
    has_several_classes = len(np.unique(splits.class_ids[splits.choosing])) > 1
    pairs = pair_count(splits.class_ids[splits.train], training) if training.draws_pairs else 0
    return replace(
        training,
        balanced=False,
        pairs=min(pairs, len(splits.choosing)),
        pairs_per_photo=0,
        per_class=training.per_class if loss.needs.groups and has_several_classes else 0,
    )


def _batch_sums(loss: Tensor, correct: Tensor, class_ids: Tensor) -> Tensor:
    """Return (sum of the losses, correctly classified photos, photos) of a batch."""
    count = loss.new_tensor(len(class_ids))
    return torch.stack([loss.detach() * count, correct.to(loss.dtype), count])


def _make_optimizer(net: Net, loss: TrainingLoss, training: Training) -> torch.optim.Optimizer:
    in_backbone = (
        {id(one) for one in net.backbone.parameters()} if net.backbone is not None else set()
    )
    trainable = [one for one in net.parameters() if one.requires_grad]
    own = [one for one in trainable if id(one) not in in_backbone]
    groups = [
        {"params": [*own, *loss.parameters()], "rate_factor": 1.0},
        {
            "params": [one for one in trainable if id(one) in in_backbone],
            "rate_factor": training.backbone_rate,
        },
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise LearnError(
            "no parameter of the network is trained: add layers, or train more of the backbone "
            'with network.train, such as "all"'
        )
    rate, decay = training.learning_rate, training.weight_decay
    # A fused optimizer passes over each weight once, in a third of the time on a CPU. It is not
    # used where gradients are scaled.
    fused = training.precision != "16-mixed"
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=rate, momentum=training.momentum, weight_decay=decay, fused=fused
        )
    if training.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, weight_decay=decay)
    if training.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, weight_decay=decay, fused=fused)
    return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=fused)


def _optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of each parameter on the CPU, by "number/name"."""
    return {
        f"{number}/{name}": torch.as_tensor(value).detach().to("cpu", copy=True).contiguous()
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    restored = optimizer.state_dict()
    for key, value in state.items():
        number, name = key.split("/")
        restored["state"].setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(restored)


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()
    }


def _strategy(devices: str | int, nodes: int) -> Any:
    processes = torch.cuda.device_count() if devices == "auto" else int(devices)
    # Layers behind the cut have no loss term if the loss uses the features.
    return "ddp_find_unused_parameters_true" if max(1, processes) * nodes > 1 else "auto"


def _device_name() -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return "mps" if torch.backends.mps.is_available() else "cpu"


@contextmanager
def _silenced_lightning() -> Iterator[None]:
    """Hide Lightning's banners, tips and warnings for developers."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
            # The forked loader processes do not use the tables of an index.
            warnings.filterwarnings("ignore", message="lance is not fork-safe")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _keyboard_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C. Lightning would exit, and ignore the next Ctrl-C."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException:
        raise
    except SystemExit as error:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from error
