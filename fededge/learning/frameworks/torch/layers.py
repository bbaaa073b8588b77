"""Layers for PyTorch modules of one's own."""

import torch


class ChannelsFirst(torch.nn.Module):
    """Images as schemas describe them, [b, height, width, channels], as PyTorch's layers take them: channels first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[b, channels, height, width]."""
        return x.permute(0, 3, 1, 2)
