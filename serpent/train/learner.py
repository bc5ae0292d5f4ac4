"""A network, its optimiser and its moving average: one step, one validation, one checkpoint of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from serpent.errors import CheckpointError, SerpentError, UsageError
from serpent.model.blocks import VSSBlock
from serpent.model.checkpoint import write_tensors
from serpent.train.checkpoints import Checkpoint, after_freeing, load_checkpoint, save_checkpoint
from serpent.train.initial import take_over
from serpent.train.networks import create_network, save_network
from serpent.train.recipe import Recipe
from serpent.train.validation import Validation

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_EPSILON = 1e-6
NOT_FINITE = "not-finite-"
"""How the names of files begin that hold a batch whose loss or gradient is not finite."""
_ADAM = ("step", "exp_avg", "exp_avg_sq")


class Learner:
    """The part of a run that learns.

    Args:
        recipe: what to compute.
        identity: digests of what it is computed from and validated on, which a checkpoint keeps.
        fabric: launched; moves and wraps the network.
        compiled: run the network through torch.compile.
        checkpoint_activations: compute Serpent's blocks again in the backward pass.
        initial: weights to start from.
        about: metadata for the weights' files.

    Attributes:
        best: highest validation PSNR so far, decibels; NaN before the first.
        taken: what the network took over from ``initial``.

    Raises:
        UsageError: a network that cannot take the recipe's crops, or has no blocks to compute again.
        CheckpointError: ``initial`` cannot be read or has nothing in common with the network.
    """

    def __init__(
        self,
        recipe: Recipe,
        identity: Mapping[str, str | None],
        fabric: Fabric,
        compiled: bool = False,
        checkpoint_activations: bool = False,
        *,
        initial: Path | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:
        self.recipe = recipe
        self.best = math.nan
        self._better = False
        self._fabric = fabric
        self._about = dict(about or {})
        self._identity = {"recipe": recipe.to_dict(), **identity}
        self.network = create_network(recipe.network, seed=recipe.seed, config=recipe.config).train()
        unit = int(self.network.size_multiple)  # type: ignore[arg-type]
        for name, side in (("crop", recipe.crop), ("validate_crop", recipe.validate_crop)):
            if side % unit:
                below = side // unit * unit
                nearest = f"{below} or {below + unit}" if below else str(unit)
                raise UsageError(
                    f"{name} {side} is no multiple of {unit}, as the network {recipe.network} needs",
                    hint=f"nearest: {nearest}",
                )
        self.taken = None if initial is None else take_over(self.network, initial)
        if self.taken is not None and self.taken.license is not None:
            self._about.setdefault("license", self.taken.license)  # what is made of weights has their terms
        self.network.to(fabric.device)
        self.average = AveragedModel(self.network, multi_avg_fn=_moving_average(recipe.ema)) if recipe.ema > 0 else None
        if checkpoint_activations:
            _checkpoint_blocks(self.network)
        kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
        self.optimizer = kind(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        # For one size each: inductor (PyTorch 2.13) fails on the backward pass of sizes that it takes as variables,
        # which it does from the second size on that a process compiles.
        runs: Any = torch.compile(self.network, dynamic=False) if compiled else self.network
        self._wrapped, self._stepper = fabric.setup(runs, self.optimizer)
        # Fabric saves the scaler of fp16 only in its own files.
        self._scaler = getattr(fabric._precision, "scaler", None)

    def step(
        self, passes: Sequence[tuple[Tensor, Tensor]], rate: float, step: int, run: Path
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one optimiser step.

        Args:
            passes: (degraded, clean) of each accumulated pass, (B, 3, crop, crop) float32.
            rate: learning rate.
            step: its number, which seeds whatever is random inside the network.
            run: where the batch is saved should it give NaN or infinity.

        Returns:
            Loss, mean squared error and norm of the gradient, 0-dimensional, on the device.

        Raises:
            SerpentError: loss or gradient are not finite; the weights are as they were.
            UsageError: a network that gives another shape than it takes.
        """
        torch.manual_seed((self.recipe.seed << 32) + step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._stepper.zero_grad(set_to_none=True)
        losses, errors = [], []
        for number, (degraded, clean) in enumerate(passes):
            last = number == len(passes) - 1
            with self._fabric.no_backward_sync(self._wrapped, enabled=not last):
                restored = self._wrapped(self._fabric.to_device(degraded)).float()
                if restored.shape != clean.shape:  # torch would stretch one channel over three
                    raise UsageError(
                        f"the network {self.recipe.network} makes {tuple(restored.shape)} of {tuple(degraded.shape)}; "
                        "expected the same shape"
                    )
                difference = restored - self._fabric.to_device(clean)
                loss = _loss(difference, self.recipe.loss)
                self._fabric.backward(loss / len(passes))
            losses.append(loss.detach())
            errors.append(difference.detach().square().mean())
        loss, error = torch.stack(losses).mean(), torch.stack(errors).mean()
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip or math.inf)
        # Gradients that overflow in fp16 are the scaler's business: it skips the step and scales down.
        healthy = loss.isfinite() & (norm.isfinite() | torch.tensor(self._scaler is not None, device=norm.device))
        if not healthy:
            self._stop_with(passes, step, run)
        self._stepper.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return loss, error, norm

    def validate(self, validation: Validation, step: int, run: Path) -> tuple[float, float]:
        """Mean PSNR (decibels) and SSIM of what would be kept now.

        Raises:
            SerpentError: the network gives values that are not finite. Nothing is kept of it.
        """
        network = self._kept().eval()
        sums = validation.measure(network, self._fabric.device, self._fabric.global_rank, self._fabric.world_size)
        self.network.train()
        totals = self._fabric.all_reduce(torch.tensor(sums, dtype=torch.float64), reduce_op="sum")
        psnr, ssim = float(totals[0] / totals[2]), float(totals[1] / totals[2])
        if not math.isfinite(psnr):
            raise SerpentError(
                f"the network gives values that are not finite after step {step}; what was saved before is kept",
                hint=_gentler(run),
            )
        self._better = math.isnan(self.best) or psnr > self.best
        self.best = psnr if self._better else self.best
        return psnr, ssim

    def save(
        self, run: Path, step: int, total: int, *, meter: Mapping[str, Any] | None = None, shard_mib: int | None
    ) -> None:
        """Write ``last.safetensors``, after a better validation ``best.safetensors``, and then the checkpoint.

        Raises:
            SerpentError: the folder cannot be written.
        """
        # The checkpoint comes last: what goes on from it will find, or write again, the weights that it speaks of.
        about = {**self._about, "steps": str(step), "recipe": json.dumps(self.recipe.to_dict(), sort_keys=True)}
        if self._better:
            about["validation_psnr"] = f"{self.best:.3f}"
        for name in ("last", "best") if self._better else ("last",):
            path = run / f"{name}.safetensors"
            try:
                save_network(self._kept(), path, spec=self.recipe.network, task=self.recipe.task, extra=about)
            except SerpentError as error:  # which advises another folder, where nothing could be gone on with
                raise SerpentError(error.message, hint=after_freeing(run)) from None
        self._better = False
        best = None if math.isnan(self.best) else self.best
        state = {**self._identity, "total": total, "best": best, "about": self._about, "meter": meter}
        if self._scaler is not None:
            state["scaler"] = self._scaler.state_dict()
        save_checkpoint(run, Checkpoint(step, self._tensors(), state), shard_mib=shard_mib)

    def resume(self, run: Path) -> tuple[int, Mapping[str, Any] | None]:
        """Take over the newest checkpoint of ``run``; returns its step and what ``save`` got as ``meter``.

        Raises:
            CheckpointError: there is none, or it does not fit.
            UsageError: it is of another recipe or of other pictures.
        """
        found = load_checkpoint(run)
        _check_identity(run, found.state, self._identity)
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
        for name, tensor in found.tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        modules: dict[str, nn.Module] = {"network": self.network}
        if self.average is not None:
            modules["average"] = self.average
        for part, module in modules.items():
            own = {name: tensor.shape for name, tensor in module.state_dict().items()}
            theirs = {name: tensor.shape for name, tensor in parts[part].items()}
            differing = sorted(dict(own.items() ^ theirs.items()))
            if differing:
                raise CheckpointError(f"the checkpoint in {run} is of another network: {', '.join(differing[:5])}")
            module.load_state_dict(parts[part])
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {
            number: {key: parts["optimizer"][f"{key}.{name}"] for key in _ADAM}
            for number, (name, _) in enumerate(self.network.named_parameters())
            if f"{_ADAM[0]}.{name}" in parts["optimizer"]  # what gets no gradient has no state
        }
        self.optimizer.load_state_dict(optimizer)
        if self._scaler is not None and "scaler" in found.state:
            self._scaler.load_state_dict(found.state["scaler"])
        self._about = {**found.state.get("about", {}), **self._about}
        best = found.state.get("best")
        self.best = math.nan if best is None else float(best)
        return found.step, found.state.get("meter")

    def _kept(self) -> nn.Module:
        return self.network if self.average is None else self.average.module

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        return tensors

    def _stop_with(self, passes: Sequence[tuple[Tensor, Tensor]], step: int, run: Path) -> None:
        path = run / f"{NOT_FINITE}step-{step}-process-{self._fabric.global_rank}.safetensors"
        tensors = {
            f"{kind}_{number}": tensor.contiguous()
            for number, pair in enumerate(passes)
            for kind, tensor in zip(("degraded", "clean"), pair, strict=True)
        }
        where = f"; its batch is in {path}"
        try:
            write_tensors(path, tensors)
        except SerpentError as error:
            where = f"; its batch could not be saved: {error}"
        raise SerpentError(f"loss or gradient of step {step} are not finite{where}", hint=_gentler(run))


def _gentler(run: Path) -> str:
    last = run / "last.safetensors"
    anew = (
        f"start another run from the last weights (another --out, with --init {last})"
        if last.exists()
        else "start anew"
    )
    return f"lower learning_rate or set clip in the recipe, and {anew}"


def _moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    def update(averages: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        # Shorter at first: the fresh weights would otherwise weigh on thousands of steps.
        weight = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(list(averages), list(current), weight)

    return update


def _loss(difference: Tensor, kind: str) -> Tensor:
    if kind == "l2":
        return difference.square().mean()
    if kind == "l1":
        return difference.abs().mean()
    if kind == "psnr":
        return 10 * (difference.square().mean(dim=(1, 2, 3)) + _EPSILON).log10().mean()
    return (difference.square() + _EPSILON).sqrt().mean()


def _checkpoint_blocks(network: nn.Module) -> None:
    blocks = [module for module in network.modules() if isinstance(module, VSSBlock)]
    if not blocks:
        raise UsageError("only Serpent networks can compute their blocks again in the backward pass")
    for block in blocks:
        forward = block.forward

        def again(x: Tensor, forward: Any = forward) -> Any:
            return checkpoint(forward, x, use_reentrant=False)

        block.forward = again  # type: ignore[method-assign]


def _check_identity(run: Path, found: Any, own: dict[str, Any]) -> None:
    theirs, ours = found.get("recipe", {}), own["recipe"]
    changed = [f"{key}: {theirs.get(key)!r}, now {ours.get(key)!r}" for key in ours if theirs.get(key) != ours[key]]
    if changed:
        listing = "\n  ".join(changed)
        raise UsageError(
            f"the run in {run} has another recipe:\n  {listing}",
            hint="resume it with its own, or start another run from its weights (--init)",
        )
    for key, what in (("pictures", "learns from"), ("validation", "is validated on")):
        if found.get(key) != own.get(key):
            raise UsageError(f"the run in {run} {what} other pictures", hint="resume it with its own folders")
