"""Transformer: the models that are trained, several of one size side by side, and how many parameters one has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from bayes_l2l.errors import DataError

CONTEXT: Final = 64  # tokens that a prediction can see
VOCABULARY: Final = 512  # tokens that there are
LAYERS: Final = 2
HEADS: Final = 2  # at every width, so that nothing about the shape steps
_SHARPEST: Final = 8.0  # largest score of attention, the same at every width: queries and keys are normalised


def count_params(width: int) -> int:
    """Parameters N of a model of this width, all of which a token is multiplied by: 12 L w^2 + V w."""
    return 12 * LAYERS * width**2 + VOCABULARY * width


def build_transformers(width: int, seeds: Sequence[int]) -> Any:
    """Decoder-only transformers, side by side: pre-norm, normalised queries and keys, tied embedding.

    Only the width grows: two blocks of two heads at all sizes, with rotary positions and a squared
    ReLU. Blocks start as the identity and logits are divided by the width, so that, with the hidden rates falling as
    one over the width, one rate does for all sizes (muP, arXiv 2203.03466). Parameters of all models are in one
    tensor each, whose first axis is the models': they share the arithmetic's overheads and nothing else.

    Parameters
    ----------
    width : int
        Of the residual stream, a multiple of 4.
    seeds : sequence of int
        Of the initial weights, one a model.

    Returns
    -------
    torch.nn.Module
        With ``embedding``, ``blocks`` and ``losses``, the loss of every token of models' sequences (nats/token).

    Raises
    ------
    DataError
        If PyTorch is not installed.
    """
    torch = load_torch()
    nn, F = torch.nn, torch.nn.functional
    models, head = len(seeds), width // HEADS
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def normal(rows: int, columns: int, sd: float) -> Any:
        each = [torch.randn(rows, columns, generator=generator) * sd for generator in generators]
        return nn.Parameter(torch.stack(each))

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.qkv = normal(width, 3 * width, width**-0.5)
            self.out = normal(width, width, 0.0)
            self.up = normal(width, 4 * width, width**-0.5)
            self.down = normal(4 * width, width, 0.0)

        def forward(self, x: Any, rotate: Any, mask: Any) -> Any:
            qkv = torch.bmm(F.rms_norm(x, (width,)), self.qkv).view(-1, CONTEXT, 3, HEADS, head)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            q, k = (rotate(F.rms_norm(t, (head,))) for t in (q, k))
            # Written out: PyTorch's own attention is slower backwards, on a CPU, for heads as small as these.
            scores = torch.matmul(q * (_SHARPEST / head), k.transpose(-1, -2))
            y = torch.matmul(torch.softmax(scores + mask, -1), v)
            x = x + torch.bmm(y.transpose(1, 2).reshape(x.shape), self.out)
            hidden = F.relu(torch.bmm(F.rms_norm(x, (width,)), self.up)).square()
            return x + torch.bmm(hidden, self.down)

    class Models(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = normal(VOCABULARY, width, 1.0)
            self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
            half = head // 2
            angles = torch.arange(CONTEXT)[:, None] * 1000.0 ** (-torch.arange(half) / half)
            own = torch.arange(models)[:, None, None] * VOCABULARY
            self.register_buffer("cos", torch.cat([angles.cos()] * 2, -1), persistent=False)
            self.register_buffer("sin", torch.cat([-angles.sin(), angles.sin()], -1), persistent=False)
            self.register_buffer("mask", torch.full((CONTEXT, CONTEXT), -math.inf).triu(1), persistent=False)
            self.register_buffer("own", own, persistent=False)

        def rotate(self, x: Any) -> Any:
            return x * self.cos + torch.cat(x.chunk(2, -1)[::-1], -1) * self.sin

        def losses(self, sequences: Any) -> Any:
            """Loss of every token in nats, (models, sequences, CONTEXT), of integers with one token more."""
            rows = sequences.shape[1] * CONTEXT
            device = sequences.device.type
            with torch.autocast(device, torch.bfloat16, enabled=_has_bfloat16(device)):
                table = self.embedding.view(-1, width)
                x = F.embedding(sequences[..., :-1] + self.own, table).view(models, rows, width)
                for block in self.blocks:
                    x = block(x, self.rotate, self.mask)
                logits = torch.bmm(F.rms_norm(x, (width,)), (self.embedding * (8.0 / width)).transpose(1, 2))
            targets = sequences[..., 1:].reshape(models, rows, 1)
            return _cross_entropy().apply(logits.float(), targets).view(models, -1, CONTEXT)

    return Models()


@cache
def _cross_entropy() -> Any:
    """Cross entropy that works in place: with so few parameters, the logits are what takes the time."""
    torch = load_torch()

    class CrossEntropy(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx: Any, logits: Any, targets: Any) -> Any:
            probabilities = torch.softmax(logits, -1)
            ctx.save_for_backward(probabilities, targets)
            return -probabilities.gather(-1, targets).clamp_min(torch.finfo(logits.dtype).tiny).log()

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            probabilities, targets = ctx.saved_tensors
            probabilities.scatter_add_(-1, targets, torch.full_like(gradient, -1.0))
            return probabilities.mul_(gradient), None

    return CrossEntropy


@cache
def _has_bfloat16(device: str) -> bool:
    """Whether the device multiplies matrices of bfloat16 faster than those of float32."""
    torch = load_torch()
    if device == "cpu":
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return True


def load_torch() -> Any:
    """PyTorch, or a refusal that says how to install it."""
    try:
        import torch
    except ImportError as error:
        raise DataError("training needs PyTorch; install the extra: pip install 'bayes-l2l[sweep]'") from error
    return torch
