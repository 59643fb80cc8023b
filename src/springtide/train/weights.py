"""The model's tensors in one process: bound to a buffer of the arena, or to memory of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from springtide.spec import UserError
from springtide.train import layout as lay
from springtide.train.arena import Arena
from springtide.train.layout import Layout

_COMPARED_ELEMENTS = 1 << 16


class Weights:
    """Parameters are re-bound to the buffer that a tick reads; module buffers are private copies, reset before each
    use.

    `parameters` are those that the optimizer holds, in layout order, `constants` the frozen ones.
    """

    def __init__(
        self, model: nn.Module, parameters: list[Tensor], constants: list[Tensor], layout: Layout, arena: Arena
    ) -> None:
        self.model, self.parameters, self.layout, self.arena = model, parameters, layout, arena
        self._constants = constants
        self._shared = list(lay.holders_of(model).values())
        self._holders = [holders[0] for holders in self._shared]
        self._device = parameters[0].device if parameters else torch.device("cpu")
        self._values: dict[int, list[Tensor]] = {}
        self._stored: dict[int, list[Tensor]] = {}
        self._buffers = [self._private(module._buffers[name]) for module, name in self._holders]
        self._held: list[int | None] = [None] * len(self._holders)  # the step whose value the private copy holds
        self._versions = [0] * len(self._holders)
        self._bound_at = -1
        self._reset_to = 0  # the buffer of the arena that the private copies were taken from
        self._parameter_versions = [0] * len(parameters)

    # --- parameters

    def values(self, buffer: int) -> list[Tensor]:
        """The parameters as they lie in that buffer."""
        if buffer not in self._values:
            base = self.arena.at.buffers[buffer]
            self._values[buffer] = [lay.view(self.arena.map, base, place) for place in self.layout.parameters]
        return self._values[buffer]

    def bind(self, buffer: int, tick: int) -> None:
        """Let the model read that buffer, unless it does so since this tick began."""
        if tick == self._bound_at:
            return
        self._bound_at = tick
        if self._device.type == "cpu":
            for parameter, value in zip(self.parameters, self.values(buffer), strict=True):
                parameter.data = value
        else:
            for parameter, value in zip(self.parameters, self.values(buffer), strict=True):
                parameter.data.copy_(value, non_blocking=True)

    def bind_constants(self) -> None:
        """Share the frozen parameters of all workers."""
        for tensor, place in zip(self._constants, self.layout.constants, strict=True):
            value = lay.view(self.arena.map, self.arena.at.constants, place)
            tensor.data = value if self._device.type == "cpu" else value.to(self._device, copy=True)

    def store(self, buffer: int) -> None:
        """Write the model as it is into that buffer: the state of step 0."""
        for index in range(len(self._holders)):
            self.changed(buffer)[index] = 1
        for parameter, value in zip(self.parameters, self.values(buffer), strict=True):
            value.copy_(parameter.data)
        for held, value in zip(self._current(), self._buffer_values(buffer), strict=True):
            value.copy_(held)
        for tensor, place in zip(self._constants, self.layout.constants, strict=True):
            lay.view(self.arena.map, self.arena.at.constants, place).copy_(tensor.data)

    def release(self, buffer: int) -> None:
        """Bind the model to memory of its own that holds that buffer's state."""
        for parameter, value in zip(self.parameters, self.values(buffer), strict=True):
            parameter.data = value.to(self._device, copy=True)
        for tensor in self._constants:
            tensor.data = tensor.data.clone()
        self.reset(buffer)

    def load_from(self, base: int) -> None:
        """After the loop: copy the parameters and module buffers that lie at `base` of the arena into the model."""
        for parameter, place in zip(self.parameters, self.layout.parameters, strict=True):
            parameter.data.copy_(lay.view(self.arena.map, base, place))
        for buffer, place in zip(self._current(), self.layout.buffers, strict=True):
            buffer.copy_(lay.view(self.arena.map, base, place))

    def note_versions(self) -> None:
        """Before the user's code: what a parameter's in-place writes would change."""
        self._parameter_versions = [parameter._version for parameter in self.parameters]

    def check_versions(self) -> None:
        """After it. A write into a parameter would reach every worker, in the middle of their forward passes."""
        for parameter, before, place in zip(
            self.parameters, self._parameter_versions, self.layout.parameters, strict=True
        ):
            if parameter._version != before:
                raise UserError(
                    f"parameter '{place.name}' was written in the loop body or a hook (Embedding(max_norm=...) does "
                    "that); only the optimizer may change parameters: remove the write"
                )

    # --- module buffers

    def reset(self, buffer: int) -> None:
        """Give the module buffers the values of the state in that buffer."""
        if not self._holders:
            return
        changed = self.changed(buffer)
        self._reset_to = buffer
        for index, holders in enumerate(self._shared):
            private = self._buffers[index]
            for module, name in holders:
                if module._buffers[name] is not private:
                    module._buffers[name] = private
                    self._held[index] = None
            if self._held[index] != changed[index] or private._version != self._versions[index]:
                private.copy_(self._buffer_values(buffer)[index])
                self._held[index] = changed[index]
            self._versions[index] = private._version

    def taken(self) -> list[Tensor | None]:
        """The module buffers that the user's code changed since `reset`, copied."""
        found: list[Tensor | None] = []
        for index, holders in enumerate(self._shared):
            module, name = next(((m, n) for m, n in holders if m._buffers[n] is not self._buffers[index]), holders[0])
            now = module._buffers[name]
            if now is None:
                raise UserError(f"buffer '{self.layout.buffers[index].name}' was set to None in the loop body")
            if now is self._buffers[index] and not self._was_written(index, module):
                found.append(None)
                continue
            self._held[index] = None
            place = self.layout.buffers[index]
            if tuple(now.shape) != place.shape:
                raise UserError(f"buffer '{place.name}' changed its shape from {place.shape} to {tuple(now.shape)}")
            found.append(now.detach().to("cpu", lay.dtype_of(self.layout.buffer_slots[index].dtype), copy=True))
        return found

    def _was_written(self, index: int, module: nn.Module) -> bool:
        """Batch normalisation writes its statistics without moving their version, so small buffers are compared."""
        private = self._buffers[index]
        if private._version != self._versions[index]:
            return True
        if private.numel() > _COMPARED_ELEMENTS and not hasattr(module, "running_mean"):
            return False
        return not torch.equal(private.cpu(), self._buffer_values(self._reset_to)[index])

    def forget(self) -> None:
        """The private copies may have been written: take them anew at the next `reset`."""
        self._held = [None] * len(self._held)

    def changed(self, buffer: int) -> memoryview[int]:
        """One word a module buffer: one more than the step that last changed it (0: nothing was ever written)."""
        return self.arena.view(self.arena.at.buffers[buffer] + self.layout.changed_offset, len(self._holders))

    def write_buffers(self, read: int, write: int, step: int, means: list[Tensor | None]) -> None:
        """Bring the module buffers of one state into the next: what no microbatch changed is carried over."""
        if not self._holders:
            return
        old, new = self.changed(read), self.changed(write)
        source, target = self._buffer_values(read), self._buffer_values(write)
        for index, mean in enumerate(means):
            if mean is not None:
                target[index].copy_(mean)
                new[index] = step + 1
            elif new[index] != old[index]:
                target[index].copy_(source[index])
                new[index] = old[index]

    def _buffer_values(self, buffer: int) -> list[Tensor]:
        if buffer not in self._stored:
            base = self.arena.at.buffers[buffer]
            self._stored[buffer] = [lay.view(self.arena.map, base, place) for place in self.layout.buffers]
        return self._stored[buffer]

    def _current(self) -> list[Tensor]:
        return [buffer for module, name in self._holders if (buffer := module._buffers[name]) is not None]

    def _private(self, buffer: Tensor | None) -> Tensor:
        assert buffer is not None
        return buffer.detach().clone()
