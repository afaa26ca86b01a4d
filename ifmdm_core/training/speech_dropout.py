"""Dropout of a `Wav2Vec2Model` that samples bring along: whole channels, the same at every token of a recording."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


class ChannelDropout(nn.Module):
    """Leaves out the channels that `kept` says; does nothing outside training."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.kept: Tensor | None = None
        """[b, width] bool, of the batch that comes next."""

    def forward(self, x: Tensor) -> Tensor:  # [b, t, width] -> the same
        if not self.training:
            return x
        assert self.kept is not None
        return x * self.kept[:, None].to(x.dtype) / (1 - self.rate)


class SampleDropout:
    """Takes the place of all dropout in a model; attention is not dropped at all."""

    def __init__(self, model: Any, rate: float) -> None:
        """Changes `model`, a `Wav2Vec2Model`, in place."""
        self.rate, self.width = rate, int(model.config.hidden_size)
        self._layers: list[ChannelDropout] = []
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                # Between the layers of a feed-forward block the width is another one, and nothing is dropped.
                if isinstance(child, nn.Dropout) and name != "intermediate_dropout" and rate > 0:
                    self._layers.append(ChannelDropout(rate))
                    setattr(module, name, self._layers[-1])
                elif isinstance(child, nn.Dropout):
                    child.p = 0.0
            if isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0

    def draw(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """[places, hidden]: the channels that one recording keeps."""
        return rng.random((len(self._layers), self.width), np.float32) >= self.rate

    def give(self, kept: Tensor) -> None:
        """Hand out the masks [b, places, hidden] of a batch."""
        for place, layer in enumerate(self._layers):
            layer.kept = kept[:, place]
