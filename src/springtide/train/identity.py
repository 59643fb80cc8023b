"""What makes two processes hold the same run: model, optimizer, data and recipe, each named by a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from springtide.train.layout import modules_of


def of_model(model: nn.Module) -> str:
    """Names, shapes, types and initial values of all parameters and buffers."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in [*model.named_parameters(), *((n, m._buffers[b]) for n, (m, b) in modules_of(model).items())]:
        if tensor is not None:
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def of_optimizer(optimizer: Optimizer, members: Sequence[int] = ()) -> str:
    """Class and settings, foreach and fused kernels among them (other bits). `members`: groups by parameter."""
    groups = [{k: str(v) for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    text = f"{type(optimizer).__module__}.{type(optimizer).__name__} {groups} {list(members)}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    import torch

    flat = tensor.detach().cpu().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
