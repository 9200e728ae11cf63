"""Activations kept in half precision: the same loss, nearly the same gradients, less memory."""

import torch
from torch import nn

from fmrilm.lm.cpu.activations import half_activations


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 256), nn.SiLU(), nn.LayerNorm(256), nn.Linear(256, 64))


def kept_bytes(network: nn.Module, x: torch.Tensor, half: bool) -> tuple[int, torch.Tensor]:
    """Return the bytes kept for the backward pass and the gradient of the input."""
    sizes = {}

    def count(t):
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    x = x.clone().requires_grad_(True)
    if not half:
        with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            loss = network(x).square().mean()
    else:
        hooks = half_activations(network)
        pack = hooks.pack_hook

        def counted(t):
            packed = pack(t)
            count(packed if isinstance(packed, torch.Tensor) else packed[0])
            return packed

        hooks.pack_hook = counted
        with hooks:
            loss = network(x).square().mean()
    loss.backward()
    return sum(sizes.values()), x.grad


def test_half_the_bytes_are_kept_and_gradients_agree_to_three_digits():
    network, x = small_network().requires_grad_(False), torch.randn(512, 64)
    whole, exact = kept_bytes(network, x, half=False)
    weights = sum(p.numel() * 4 for p in network.parameters())
    half, rounded = kept_bytes(network, x, half=True)
    assert half - weights < 0.6 * (whole - weights)
    assert (rounded - exact).norm() < 5e-3 * exact.norm()


def test_weights_are_not_rounded():
    network, x = nn.Linear(256, 256), torch.randn(64, 256, requires_grad=True)
    exact = network(x).sum()
    [wanted] = torch.autograd.grad(exact, x)
    with half_activations(network):
        loss = network(x).sum()
    assert torch.equal(loss, exact)
    [found] = torch.autograd.grad(loss, x)
    assert torch.equal(found, wanted)


def test_parts_of_one_tensor_are_kept_once_and_found_again():
    x = torch.randn(4, 128, 64, requires_grad=True)
    y = (2 * x).transpose(1, 2)
    with half_activations(nn.Identity()):
        loss = (y[:, :, :80] * y[:, :, 48:]).sum() + y[:, ::2].square().sum()
    [found] = torch.autograd.grad(loss, x)
    z = (2 * x).bfloat16().float().transpose(1, 2)
    expected = (z[:, :, :80] * z[:, :, 48:]).sum() + z[:, ::2].square().sum()
    [wanted] = torch.autograd.grad(expected, x)
    torch.testing.assert_close(found, wanted, rtol=2e-2, atol=1e-3)
