"""Slow references for one run, written from method.md with plain autograd: what the package is compared with.

Nothing here imports the package. Every sub-graph of LRA is built afresh and cut with `detach`, gradients come from
`torch.autograd.grad` on the true losses with their reduction, and Ω is differentiated from its definition.
Shapes: inputs (T, B, I) real or (T, B) symbols, targets (B,) classes or (B, O) real; lists over time start at t = 1.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Weights(NamedTuple):
    """The five tensors of one run, or their gradients."""

    w_xh: Tensor
    w_hh: Tensor
    b_h: Tensor
    w_hy: Tensor
    b_y: Tensor

    def leaves(self) -> "Weights":
        """Copies that autograd can differentiate with respect to, joined to nothing."""
        return Weights(*(w.detach().clone().requires_grad_() for w in self))


@dataclass(frozen=True)
class Settings:
    """The settings of one LRA run; None for a target clip means: as for the weight gradients."""

    local_loss: str = "log_penalty"
    reduction: str = "mean"
    target_step_size: float = 1.0
    inner_steps: int = 1
    clip_norm: float = 0.0
    clip_mode: str = "clip"
    target_clip_norm: float | None = None
    target_clip_mode: str | None = None
    regularisation_strength: float = 0.0
    regularisation_scope: str = "batch"
    regularise_targets: bool = True
    regularise_recurrent: bool = True
    regularise_readout: bool = True
    regularise_input: bool = False


class LRAResult(NamedTuple):
    """Gradients and what is measured on the way; the lists run over t = 1..T."""

    gradients: Weights
    loss: Tensor
    recurrent_norm: list[Tensor]
    input_norm: list[Tensor]
    target_displacement: list[Tensor]
    local_loss: list[Tensor]
    regulariser: list[Tensor]


class LocalUpdate(NamedTuple):
    """One step's gradients before clipping, l_t, Ω_t and dΩ_t/dh_{t-1}."""

    w_hh: Tensor
    w_xh: Tensor
    b_h: Tensor
    loss: Tensor
    omega: Tensor
    pull_below: Tensor


def dense(inputs: Tensor, weights: Weights) -> Tensor:
    """Symbols (T, B) as one-hot rows (T, B, I); real inputs as they are."""
    if inputs.is_floating_point():
        return inputs
    return functional.one_hot(inputs, weights.w_xh.shape[0]).to(weights.w_xh.dtype)


def forward(weights: Weights, inputs: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Eqs. 1-2 as a loop: pre-activations h_1..h_T, states z_0..z_T, logits."""
    x = dense(inputs, weights)
    z = [torch.zeros(x.shape[1], weights.w_hh.shape[0], dtype=x.dtype)]
    h = []
    for x_t in x:
        h.append(x_t @ weights.w_xh + z[-1] @ weights.w_hh + weights.b_h)
        z.append(torch.tanh(h[-1]))
    return h, z, z[-1] @ weights.w_hy + weights.b_y


def output_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy for classes, mean squared error for real targets."""
    if targets.is_floating_point():
        return ((logits - targets) ** 2).mean()
    return -torch.log_softmax(logits, dim=1)[torch.arange(len(targets)), targets].mean()


def distance(name: str, state: Tensor, target: Tensor) -> Tensor:
    """Of each example (B,): the sum over its units, or one minus the cosine; 0 where a vector is 0."""
    if name == "cosine":
        sizes = state.norm(dim=1), target.norm(dim=1)
        whole = (sizes[0] > 0) & (sizes[1] > 0)
        cosine = (state[whole] * target[whole]).sum(1) / sizes[0][whole] / sizes[1][whole]
        return torch.zeros(len(state), dtype=state.dtype).masked_scatter(whole, 1 - cosine)
    size = (state - target).abs()
    elements = {
        "mse": size**2,
        "log_penalty": torch.log1p(size**2),
        "huber": torch.where(size <= 1, size**2 / 2, size - 0.5),
        "l1": size,
    }
    return elements[name].sum(1)


def local_loss(name: str, reduction: str, state: Tensor, target: Tensor) -> Tensor:
    """Eq. 5 with its reduction: the examples' distances over B H (`mean`) or over B (`per_example`)."""
    examples, units = state.shape
    return distance(name, state, target).sum() / (examples * (units if reduction == "mean" else 1))


def clip(gradient: Tensor, norm: float, mode: str) -> Tensor:
    """Eq. 3; norm 0 switches it off in both modes, and a zero gradient stays zero."""
    size = gradient.norm()
    if norm == 0 or size == 0 or (mode == "clip" and size < norm):
        return gradient
    return gradient * (norm / size)


def omega(error: Tensor, weight: Tensor, preactivation: Tensor, scope: str) -> Tensor:
    """Eq. 8 as a scalar for autograd: d held constant, 0 where |d| or |s * phi'| is 0."""
    if scope == "example":
        rows = range(error.shape[0])
        return torch.stack([omega(error[[b]], weight, preactivation[[b]], "batch") for b in rows]).mean()
    d = error.detach()
    pulled_back = (d @ weight.T) * (1 - torch.tanh(preactivation) ** 2)
    if d.norm() == 0 or pulled_back.norm() == 0:
        return 0.0 * (weight.sum() + preactivation.sum())
    return (pulled_back.norm() / d.norm() - 1) ** 2


def omega_gradients(error: Tensor, weight: Tensor, preactivation: Tensor, scope: str) -> tuple[Tensor, ...]:
    """Value, dΩ/dW and dΩ/du by autograd."""
    w, u = weight.detach().clone().requires_grad_(), preactivation.detach().clone().requires_grad_()
    value = omega(error, w, u, scope)
    return value.detach(), *torch.autograd.grad(value, (w, u))


class ReferenceLRA:
    """LRA of one run, equations 3 to 8, every sub-graph cut at both ends.

    `jitter` multiplies each tanh by 1 + jitter * noise: how far the result then moves says how well conditioned the
    problem is (Ω and rescaling amplify the direction of a vanishing error), and so what 1e-10 can mean.
    """

    def __init__(self, weights: Weights, settings: Settings, jitter: float = 0.0):
        self.weights = Weights(*(w.detach() for w in weights))
        self.settings = settings
        self.jitter = jitter
        self.noise = torch.Generator().manual_seed(0)

    def tanh(self, x: Tensor) -> Tensor:
        """tanh, disturbed by the jitter if there is one."""
        if self.jitter == 0:
            return torch.tanh(x)
        return torch.tanh(x) * (1 + self.jitter * torch.randn(x.shape, generator=self.noise, dtype=x.dtype))

    def gradients(self, inputs: Tensor, targets: Tensor) -> LRAResult:
        """The sum over t of the local updates, and the measurements of each step."""
        x = dense(inputs, self.weights)
        h, z, logits = forward(self.weights, inputs)
        h, z = [s.detach() for s in h], [s.detach() for s in z]
        zhat = self.targets_of_states(x, h, targets)
        steps = [self.local_update(t, x, h, z, zhat) for t in range(len(x))]
        for t in range(len(x) - 1):
            if self.settings.regularise_input:  # Ω_{t+1} sees W_xh through h_t, one step
                pull = self.settings.regularisation_strength * steps[t + 1].pull_below
                steps[t] = steps[t]._replace(w_xh=steps[t].w_xh + x[t].T @ pull)
        w_hy, b_y = self.output_update(h[-1], targets)
        gradients = Weights(
            w_xh=torch.stack([self.clip_weights(step.w_xh) for step in steps]).sum(0),
            w_hh=torch.stack([self.clip_weights(step.w_hh) for step in steps]).sum(0),
            b_h=torch.stack([step.b_h for step in steps]).sum(0),
            w_hy=self.clip_weights(w_hy),
            b_y=b_y,
        )
        return LRAResult(
            gradients=gradients,
            loss=output_loss(logits, targets).detach(),
            recurrent_norm=[step.w_hh.norm() for step in steps],
            input_norm=[step.w_xh.norm() for step in steps],
            target_displacement=[(zhat[t] - z[t + 1]).norm() for t in range(len(x))],
            local_loss=[step.loss for step in steps],
            regulariser=[step.omega for step in steps],
        )

    def clip_weights(self, gradient: Tensor) -> Tensor:
        """N_c of one step's gradient of one weight matrix."""
        return clip(gradient, self.settings.clip_norm, self.settings.clip_mode)

    def targets_of_states(self, x: Tensor, h: list[Tensor], targets: Tensor) -> list[Tensor]:
        """zhat_1..zhat_T: the last by eq. 4, the others backwards by eq. 7."""
        zhat = [self.top_target(h[-1], targets)]
        for t in range(len(h) - 1, 0, -1):
            zhat.insert(0, self.earlier_target(h[t - 1], x[t], zhat[0]))
        return zhat

    def top_target(self, h_last: Tensor, targets: Tensor) -> Tensor:
        """Eq. 4."""
        w = self.weights
        u = h_last.detach()
        for _ in range(self.settings.inner_steps):
            u = u.clone().requires_grad_()
            logits = self.tanh(u) @ w.w_hy + w.b_y
            gradient, d = torch.autograd.grad(output_loss(logits, targets), (u, logits))
            u = self.target_step(u.detach(), gradient, d, w.w_hy)
        return self.tanh(u).detach()

    def earlier_target(self, h_before: Tensor, x_t: Tensor, zhat_t: Tensor) -> Tensor:
        """Eq. 7: from zhat_t, a constant, to zhat_{t-1}."""
        w, s = self.weights, self.settings
        u = h_before.detach()
        for _ in range(s.inner_steps):
            u = u.clone().requires_grad_()
            h_t = self.tanh(u) @ w.w_hh + x_t @ w.w_xh + w.b_h
            loss = local_loss(s.local_loss, s.reduction, self.tanh(h_t), zhat_t.detach())
            gradient, e = torch.autograd.grad(loss, (u, h_t))
            u = self.target_step(u.detach(), gradient, e, w.w_hh)
        return self.tanh(u).detach()

    def target_step(self, u: Tensor, gradient: Tensor, d: Tensor, weight: Tensor) -> Tensor:
        """One inner step of eqs. 4 and 7: u - beta N_c(g + alpha dΩ/du)."""
        s = self.settings
        if s.reduction == "per_example":
            gradient = gradient * u.shape[0]
        _, _, pull = omega_gradients(d, weight, u, s.regularisation_scope)
        norm = s.clip_norm if s.target_clip_norm is None else s.target_clip_norm
        mode = s.clip_mode if s.target_clip_mode is None else s.target_clip_mode
        if s.regularise_targets:
            gradient = gradient + s.regularisation_strength * pull
        return u - s.target_step_size * clip(gradient, norm, mode)

    def local_update(
        self, t: int, x: Tensor, h: list[Tensor], z: list[Tensor], zhat: list[Tensor]
    ) -> LocalUpdate:
        """Eq. 6 for step t + 1 (t is 0-based), before clipping."""
        s, w = self.settings, self.weights.leaves()
        h_t = x[t] @ w.w_xh + z[t].detach() @ w.w_hh + w.b_h
        loss = local_loss(s.local_loss, s.reduction, self.tanh(h_t), zhat[t].detach())
        w_hh, w_xh, b_h, d = torch.autograd.grad(loss, (w.w_hh, w.w_xh, w.b_h, h_t))
        value, pull_below = torch.zeros((), dtype=x.dtype), torch.zeros_like(h_t)
        if t > 0:
            value, pull, pull_below = omega_gradients(d, w.w_hh, h[t - 1], s.regularisation_scope)
            if s.regularise_recurrent:
                w_hh = w_hh + s.regularisation_strength * pull
        return LocalUpdate(w_hh, w_xh, b_h, loss.detach(), value, pull_below)

    def output_update(self, h_last: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 6 for W_hy and b_y, with z_T a constant, before clipping."""
        s, w = self.settings, self.weights.leaves()
        logits = self.tanh(h_last).detach() @ w.w_hy + w.b_y
        w_hy, b_y, d = torch.autograd.grad(output_loss(logits, targets), (w.w_hy, w.b_y, logits))
        _, pull, _ = omega_gradients(d, w.w_hy, h_last, s.regularisation_scope)
        if s.regularise_readout:
            w_hy = w_hy + s.regularisation_strength * pull
        return w_hy, b_y


def bptt_gradients(
    weights: Weights,
    inputs: Tensor,
    targets: Tensor,
    clip_norm: float = 0.0,
    regularisation_strength: float = 0.0,
    regularisation_scope: str = "batch",
) -> Weights:
    """The exact gradient of L, Pascanu's Ω with everything but W_hh constant, then one clip over all five."""
    w = weights.leaves()
    h, _, logits = forward(w, inputs)
    found = torch.autograd.grad(output_loss(logits, targets), (*w, *h))
    gradients, errors = list(found[:5]), found[5:]
    for t in range(1, len(h)):
        _, pull, _ = omega_gradients(errors[t], w.w_hh, h[t - 1], regularisation_scope)
        gradients[1] = gradients[1] + regularisation_strength * pull
    size = torch.cat([g.flatten() for g in gradients]).norm()
    if clip_norm > 0 and size >= clip_norm:
        gradients = [g * (clip_norm / size) for g in gradients]
    return Weights(*gradients)


class TPTTResult(NamedTuple):
    """Gradients of the network and of its inverse, and what is measured on the way; the lists run over t = 1..T."""

    gradients: Weights
    v: Tensor
    c: Tensor
    recurrent_norm: list[Tensor]
    input_norm: list[Tensor]
    target_displacement: list[Tensor]
    local_loss: list[Tensor]
    inverse_loss: list[Tensor]  # of t = 2..T


def tptt_gradients(
    weights: Weights,
    inverse: tuple[Tensor, Tensor],
    inputs: Tensor,
    targets: Tensor,
    noise: Tensor,
    target_step_size: float = 1.0,
    clip_norm: float = 0.0,
) -> TPTTResult:
    """Target propagation through time: targets from the formulas as they stand, every squared error differentiated on its own.

    inverse: V (H, H) and c (H,). noise: n (T - 1, B, H), for z_1..z_{T-1}.
    """
    x, w = dense(inputs, weights), weights.leaves()
    v, c = (tensor.detach().clone().requires_grad_() for tensor in inverse)
    _, z, _ = forward(weights, inputs)
    z = [state.detach() for state in z]
    last, steps = z[-1].clone().requires_grad_(), len(x)

    def network_step(x_t: Tensor, state: Tensor) -> Tensor:
        return torch.tanh(x_t @ w.w_xh + state @ w.w_hh + w.b_h)

    def inverse_step(x_t: Tensor, state: Tensor) -> Tensor:
        return torch.tanh(x_t @ w.w_xh.detach() + state @ v + c)

    def squared_error(found: Tensor, wanted: Tensor) -> Tensor:
        return ((found - wanted.detach()) ** 2).sum(1).mean()

    loss = output_loss(last @ w.w_hy + w.b_y, targets)
    w_hy, b_y, top = torch.autograd.grad(loss, (w.w_hy, w.b_y, last))
    zhat = [z[-1] - target_step_size * top]
    for t in range(steps, 1, -1):
        carried = inverse_step(x[t - 1], zhat[0]) - inverse_step(x[t - 1], z[t])
        zhat.insert(0, (z[t - 1] + carried).detach())
    local_losses = [squared_error(network_step(x[t], z[t]), zhat[t]) for t in range(steps)]
    local = [torch.autograd.grad(loss, (w.w_xh, w.w_hh, w.b_h)) for loss in local_losses]
    inverse_losses = []
    for t in range(1, steps):
        start = z[t] + noise[t - 1]
        inverse_losses.append(squared_error(inverse_step(x[t], network_step(x[t], start).detach()), start))
    slopes = torch.autograd.grad(sum(inverse_losses), (v, c)) if steps > 1 else [0 * v, 0 * c]
    return TPTTResult(
        Weights(
            w_xh=sum(clip(step[0], clip_norm, "clip") for step in local),
            w_hh=sum(clip(step[1], clip_norm, "clip") for step in local),
            b_h=sum(step[2] for step in local),
            w_hy=clip(w_hy, clip_norm, "clip"),
            b_y=b_y,
        ),
        *(slope.detach() for slope in slopes),
        recurrent_norm=[step[1].norm() for step in local],
        input_norm=[step[0].norm() for step in local],
        target_displacement=[(zhat[t] - z[t + 1]).norm() for t in range(steps)],
        local_loss=[loss.detach() for loss in local_losses],
        inverse_loss=[loss.detach() for loss in inverse_losses],
    )
