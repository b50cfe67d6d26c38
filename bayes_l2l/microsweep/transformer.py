"""Transformer: the byte-level model that is trained, and how many parameters it has at a width."""

from __future__ import annotations

from typing import Any, Final

from bayes_l2l.errors import DataError

CONTEXT: Final = 128  # bytes that a prediction can see
_VOCABULARY: Final = 256


def layers(width: int) -> int:
    """Blocks of a model of this width: two up to 128, then one for every 64."""
    return max(2, width // 64)


def count_params(width: int) -> int:
    """Parameters N of a model of this width, all of which a byte is multiplied by: 12 L w^2 + 256 w."""
    return 12 * layers(width) * width**2 + _VOCABULARY * width


def build_transformer(width: int) -> Any:
    """A decoder-only transformer: pre-norm, rotary positions, squared ReLU, tied embedding.

    Blocks start as the identity and logits are divided by the width, so that, with the hidden rates falling as one
    over the width, one rate does for all sizes (muP, arXiv 2203.03466).

    Parameters
    ----------
    width : int
        Of the residual stream.

    Returns
    -------
    torch.nn.Module
        With ``embedding``, ``blocks`` and ``losses``, the mean loss of each of several sequences (nats/byte).

    Raises
    ------
    DataError
        If PyTorch is not installed.
    """
    torch = load_torch()
    nn, F = torch.nn, torch.nn.functional
    heads = next(h for h in range(max(1, width // 16), 0, -1) if width // 2 % h == 0)

    def normal(rows: int, columns: int, sd: float) -> Any:
        return nn.Parameter(torch.randn(rows, columns) * sd)

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.qkv = normal(3 * width, width, width**-0.5)
            self.out = normal(width, width, 0.0)
            self.up = normal(4 * width, width, width**-0.5)
            self.down = normal(width, 4 * width, 0.0)

        def forward(self, x: Any, cos: Any, sin: Any) -> Any:
            rows, length, _ = x.shape
            qkv = F.linear(F.rms_norm(x, (width,)), self.qkv).view(rows, length, 3, heads, -1)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            q, k = (F.rms_norm(t, t.shape[-1:]) for t in (q, k))
            q, k = ((t * cos + torch.cat(t.chunk(2, -1)[::-1], -1) * sin).type_as(v) for t in (q, k))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + F.linear(y.transpose(1, 2).reshape(rows, length, width), self.out)
            hidden = F.relu(F.linear(F.rms_norm(x, (width,)), self.up)).square()
            return x + F.linear(hidden, self.down)

    class Model(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = normal(_VOCABULARY, width, 1.0)
            self.blocks = nn.ModuleList(Block() for _ in range(layers(width)))
            half = width // heads // 2
            angles = torch.arange(CONTEXT)[:, None] * 1000.0 ** (-torch.arange(half) / half)
            self.register_buffer("cos", torch.cat([angles.cos()] * 2, -1), persistent=False)
            self.register_buffer("sin", torch.cat([-angles.sin(), angles.sin()], -1), persistent=False)

        def losses(self, sequences: Any) -> Any:
            """Mean loss of each sequence, in nats per byte."""
            with torch.autocast(sequences.device.type, torch.bfloat16, enabled=sequences.is_cuda):
                x = F.embedding(sequences[:, :-1], self.embedding)
                for block in self.blocks:
                    x = block(x, self.cos, self.sin)
                logits = F.linear(F.rms_norm(x, (width,)), self.embedding * (8.0 / width))
            each = F.cross_entropy(logits.float().flatten(0, 1), sequences[:, 1:].flatten(), reduction="none")
            return each.view(len(sequences), -1).mean(1)

    return Model()


def load_torch() -> Any:
    """PyTorch, or a refusal that says how to install it."""
    try:
        import torch
    except ImportError as error:
        raise DataError("training needs PyTorch; install the extra: pip install 'bayes-l2l[sweep]'") from error
    return torch
