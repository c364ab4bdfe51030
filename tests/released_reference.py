"""The public code's gradients of one run, slowly: the steps of released-code.md one by one, with autograd through everything.

Nothing here imports the package. No tensor is detached but where the page says "const"; every derivative is a call of
`torch.autograd.grad` that runs back to step 0. Steps are counted from 0.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from reference import Weights, clip, dense, output_loss


@dataclass(frozen=True)
class ReleasedSettings:
    """The settings of one run; guarded: Ω contributes nothing where |d| = 0."""

    local_loss: str = "log_penalty"
    target_step_size: float = 1.0
    inner_steps: int = 1
    clip_norm: float = 0.0
    regularisation_strength: float = 0.0
    guarded: bool = True


class ReleasedResult(NamedTuple):
    """Gradients, and what each round left."""

    gradients: Weights
    loss: Tensor
    loss_after_target: Tensor
    w_xh_steps: Tensor
    w_hh_steps: Tensor
    b_h_steps: Tensor
    recurrent_norm: Tensor
    input_norm: Tensor
    local_loss: Tensor
    regulariser: Tensor
    target_displacement: Tensor


def local_loss(name: str, z: Tensor, target: Tensor) -> Tensor:
    """l: a mean over batch and units. The logarithm is that of 1 + x^2, not log1p."""
    square = (z - target) ** 2
    return (square if name == "mse" else torch.log(1 + square)).mean()


class ReleasedReference:
    """Steps 1-7. `jitter` disturbs each tanh, as in reference.ReferenceLRA, to see how well conditioned a problem is."""

    def __init__(self, weights: Weights, settings: ReleasedSettings, jitter: float = 0.0):
        self.w, self.s, self.jitter = weights.leaves(), settings, jitter
        self.noise = torch.Generator().manual_seed(0)

    def tanh(self, x: Tensor) -> Tensor:
        """tanh, disturbed by the jitter if there is one."""
        if self.jitter == 0:
            return torch.tanh(x)
        return torch.tanh(x) * (1 + self.jitter * torch.randn(x.shape, generator=self.noise, dtype=x.dtype))

    def omega(self, d: Tensor, weight: Tensor, u: Tensor) -> Tensor:
        """(|s|/|d| - 1)^2, column b of s = W d^T scaled by 1 - tanh(u[b, b])^2."""
        d = d.detach()
        if self.s.guarded and d.norm() == 0:
            return 0.0 * (weight.sum() + u.sum())
        slope = 1 - torch.tanh(torch.stack([u[b, b] for b in range(len(u))])) ** 2
        s = (d @ weight.T).T * slope
        return (torch.linalg.norm(s) / torch.linalg.norm(d) - 1) ** 2

    def clip(self, g: Tensor) -> Tensor:
        """Eq. 3."""
        return clip(g, self.s.clip_norm, "clip")

    def gradients(self, inputs: Tensor, targets: Tensor) -> ReleasedResult:
        """All of it; the lists run over t = 0..T-1."""
        w, s = self.w, self.s
        alpha, beta = s.regularisation_strength, s.target_step_size
        x = dense(inputs, w)
        steps = len(x)

        def grad(value: Tensor, by: Tensor) -> Tensor:
            (found,) = torch.autograd.grad(value, by, retain_graph=True, allow_unused=True)
            return torch.zeros_like(by) if found is None else found

        # 1
        h, z = [], []
        for t in range(steps):
            below = z[-1] if z else torch.zeros(x.shape[1], w.w_hh.shape[0], dtype=x.dtype)
            h.append(x[t] @ w.w_xh + below @ w.w_hh + w.b_h)
            z.append(self.tanh(h[-1]))
        o = z[-1] @ w.w_hy + w.b_y
        loss_before = loss = output_loss(o, targets)
        # 2
        w_hy, b_y = grad(loss, w.w_hy), grad(loss, w.b_y)
        if alpha > 0:
            w_hy = w_hy + alpha * grad(self.omega(grad(loss, o), w.w_hy, h[-1].detach()), w.w_hy)
        w_hy = self.clip(w_hy)
        # 3
        u = h[-1]
        for _ in range(s.inner_steps):
            g = grad(loss, u)
            if alpha > 0:
                g = g + alpha * grad(self.omega(grad(loss, o), w.w_hy, u), u)
            u = u - beta * self.clip(g).detach()
            o = self.tanh(u) @ w.w_hy + w.b_y
            loss = output_loss(o, targets)
        zhat = {steps - 1: self.tanh(u)}
        loss_after_target = loss
        # 4
        loss = local_loss(s.local_loss, z[-1], zhat[steps - 1])
        # 5
        zero = torch.zeros((), dtype=x.dtype)
        w_xh_steps, w_hh_steps, b_h_steps = ([torch.zeros_like(p)] * steps for p in w[:3])
        norms, losses, omegas = [(zero, zero)] * steps, [zero] * steps, [zero] * steps
        for t in range(steps - 1, 0, -1):
            losses[t] = loss  # 7
            w_hh, b_h, w_xh = grad(loss, w.w_hh), grad(loss, w.b_h), grad(loss, w.w_xh)  # 5a
            if alpha > 0 and t < steps - 1 and loss != 0:  # 5b
                w_xh = w_xh + alpha * grad(self.omega(grad(loss, h[t + 1]), w.w_hh, h[t]), w.w_xh)
            norms[t] = w_hh.norm(), w_xh.norm()
            w_xh_steps[t], w_hh_steps[t], b_h_steps[t] = self.clip(w_xh), self.clip(w_hh), b_h  # 5c
            u, q = h[t - 1], z[t]  # 5d
            for k in range(s.inner_steps):
                g = grad(loss, u)
                if alpha > 0:
                    omega = self.omega(grad(loss, q), w.w_hh, u)
                    omegas[t] = omega if k == 0 else omegas[t]
                    g = g + alpha * grad(omega, u)
                u = u - beta * self.clip(g).detach()
                q = self.tanh(self.tanh(u) @ w.w_hh + x[t] @ w.w_xh + w.b_h)
                loss = local_loss(s.local_loss, z[t], q)
            zhat[t - 1] = self.tanh(u)
        stacks = [torch.stack(stack) for stack in (w_xh_steps, w_hh_steps, b_h_steps)]
        found = ReleasedResult(
            gradients=Weights(*(stack.sum(0) for stack in stacks), w_hy, b_y),  # 6
            loss=loss_before,
            loss_after_target=loss_after_target,
            w_xh_steps=stacks[0],
            w_hh_steps=stacks[1],
            b_h_steps=stacks[2],
            recurrent_norm=torch.stack([n[0] for n in norms]),
            input_norm=torch.stack([n[1] for n in norms]),
            local_loss=torch.stack(losses),
            regulariser=torch.stack(omegas),
            target_displacement=torch.stack([(zhat[t] - z[t]).norm() for t in range(steps)]),
        )
        return found._replace(
            gradients=Weights(*(v.detach() for v in found.gradients)),
            **{name: value.detach() for name, value in found._asdict().items() if name != "gradients"},
        )
