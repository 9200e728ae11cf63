"""Two small networks as baselines, trained on train and stopped on val.

``mean_mlp``: the same layers applied to every time point, their output averaged over time (Popov
et al. 2024, "A simple but tough-to-beat baseline for fMRI time-series classification",
https://doi.org/10.1016/j.neuroimage.2024.120909). ``brainnet``: edge-to-edge, edge-to-node and
node-to-graph layers on the connectivity matrix (BrainNetCNN, Kawahara et al. 2017,
https://doi.org/10.1016/j.neuroimage.2016.09.046), made small.
``B`` scans, ``R`` regions, ``T`` time points, ``C`` classes.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

EPOCHS = 25
PATIENCE = 5
BATCH = 32
PIECE = 4  # scans whose activations are held at once: they stay in the processor's cache


def mean_mlp(n_rois: int, n_classes: int, width: int = 64) -> Any:
    """Return a network from series (B, R, T) to logits (B, C)."""
    from torch import Tensor, nn

    class MeanMLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(n_rois, width),
                nn.LayerNorm(width),
                nn.ReLU(),
                nn.Dropout(0.4),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Dropout(0.3),
            )
            self.head = nn.Linear(width, n_classes)

        def forward(self, series: Tensor) -> Tensor:
            return self.head(self.layers(series.transpose(1, 2)).mean(dim=1))

    return MeanMLP()


def brainnet(n_rois: int, n_classes: int, channels: int = 4, width: int = 32) -> Any:
    """Return a network from connectivity (B, R, R) to logits (B, C)."""
    from torch import Tensor, nn

    class BrainNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Conv2d(1, channels, (1, n_rois))
            self.columns = nn.Conv2d(1, channels, (n_rois, 1))
            self.node = nn.Conv2d(channels, channels, (1, n_rois))
            self.graph = nn.Conv2d(channels, width, (n_rois, 1))
            self.drop = nn.Dropout(0.5)
            self.act = nn.LeakyReLU(0.33)
            self.head = nn.Linear(width, n_classes)

        def forward(self, matrix: Tensor) -> Tensor:
            x = matrix[:, None]
            x = self.act(self.rows(x) + self.columns(x))  # (B, channels, R, R), edge to edge
            x = self.act(self.node(x))  # (B, channels, R, 1), edge to node
            x = self.drop(self.act(self.graph(x)).flatten(1))  # (B, width), node to graph
            return self.head(x)

    return BrainNet()


def fit_predict(
    kind: str,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    asked: np.ndarray,
    n_classes: int | None,
    seed: int = 0,
) -> np.ndarray:
    """Return class probabilities of ``asked``, shape (n, C), by the epoch that is best on val.

    Without classes predicted values, shape (n, 1).

    Parameters
    ----------
    kind : str
        ``mean_mlp`` on series (n, R, T) or ``brainnet`` on connectivity (n, R, R).
    train, val : (inputs, labels)
    asked : ndarray
        Inputs of the scans that are asked about.
    n_classes : int, optional
    seed : int
    """
    import torch

    inputs, val_inputs = (torch.from_numpy(np.asarray(part[0])) for part in (train, val))
    target = _Classes() if n_classes is not None else _Values(train[1])
    labels, val_labels = target.encode(train[1]), target.encode(val[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        build = mean_mlp if kind == "mean_mlp" else brainnet
        model = build(inputs.shape[1], n_classes or 1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
        best, waited, kept = np.inf, 0, copy.deepcopy(model.state_dict())
        for _ in range(EPOCHS):
            model.train()
            for part in torch.randperm(len(inputs)).split(BATCH):
                optimizer.zero_grad()
                for some in part.split(PIECE):
                    loss = target.loss(model(inputs[some]), labels[some])
                    (loss * len(some) / len(part)).backward()
                optimizer.step()
            val_loss = float(target.loss(_predict(model, val_inputs), val_labels))
            waited += 1
            if val_loss < best - 1e-4:
                best, waited, kept = val_loss, 0, copy.deepcopy(model.state_dict())
            if waited > PATIENCE:
                break
        model.load_state_dict(kept)
        return target.decode(_predict(model, torch.from_numpy(asked)).double().numpy())


class _Classes:
    """Labels are classes, outputs logits."""

    def encode(self, labels: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(np.asarray(labels))

    def loss(self, output: Any, labels: Any) -> Any:
        from torch.nn import functional as F

        return F.cross_entropy(output, labels)

    def decode(self, output: np.ndarray) -> np.ndarray:
        from scipy.special import softmax

        return softmax(output, axis=1)


class _Values:
    """Labels are numbers, the output the standardised number."""

    def __init__(self, labels: np.ndarray) -> None:
        self.mean, self.spread = float(labels.mean()), max(float(labels.std()), 1e-9)

    def encode(self, labels: np.ndarray) -> Any:
        import torch

        return torch.from_numpy((labels - self.mean) / self.spread).float()

    def loss(self, output: Any, labels: Any) -> Any:
        from torch.nn import functional as F

        return F.mse_loss(output[:, 0], labels)

    def decode(self, output: np.ndarray) -> np.ndarray:
        return output * self.spread + self.mean


def _predict(model: Any, inputs: Any) -> Any:
    import torch

    model.eval()
    with torch.inference_mode():
        return torch.cat([model(part) for part in inputs.split(PIECE)])
