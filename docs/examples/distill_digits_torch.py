"""Distill a 50-step rectified-flow teacher into a 2-step student with DMD2, on 8 x 8 digits, in PyTorch.

This program does what ``distill_digits.py`` does in JAX, as a PyTorch trainer does it: autograd, a compiled network,
images and noise in bfloat16, and settings from a YAML file with the fields of nvidia-modelopt's ``DMDConfig``. The
metrics agree with those of the JAX program as well as those of two seeds do.

All noising, all conversions between x_0, eps and flow, and all timesteps come from `fastgen_rf`. The program exits with
status 1 if a metric is out of its bounds; the run time is only printed.

    python distill_digits_torch.py [--config YAML] [--eager] [--out PNG] [--seed N] [--small]
"""

import argparse
import math
import sys
import time
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from digits_metrics import (
    CLASSES,
    PIXEL_VARIANCE,
    PIXELS,
    Digits,
    check_bounds,
    distillation_bounds,
    load_digit_images,
    measure,
    save_rows,
    show_metrics,
)
from torch import Generator, Tensor, nn
from torch.nn.functional import layer_norm, silu
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from fastgen_rf import (
    SampleTimestepConfig,
    add_noise,
    expand_like,
    flow_step,
    make_t_list,
    pred_x0_from_flow,
    rf_alpha,
    rf_sigma,
    sample_from_t_list,
    sample_timesteps,
)

WIDTH, BLOCKS, WAVES = 128, 3, 32
TEACHER_T_LIST = make_t_list(50)

BATCH = 256
STEPS, SMALL_STEPS = (3000, 600), (500, 100)  # for the teacher and for the student
SAMPLES_PER_CLASS = 200


# Settings


class Settings(NamedTuple):
    """The settings that the YAML file contains."""

    times: SampleTimestepConfig
    t_list: tuple[float, ...]  # the student's timesteps
    fake_steps: int  # fake score steps for each step of the student
    decay: float  # of the student's moving average


SUPPORTED = {
    "pred_type": "flow",
    "guidance_scale": None,
    "student_sample_type": "sde",
    "backward_simulation": True,
    "fake_score_pred_type": "flow",
}


def read_settings(path: Path) -> Settings:
    """Read a file with the fields of modelopt's ``DMDConfig``; a setting that is not supported is an error."""
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, value in SUPPORTED.items():
        if fields.get(name) != value:
            raise ValueError(f"{path}: {name} must be {value!r} here, got {fields.get(name)!r}")
    times = SampleTimestepConfig(**fields["sample_t_cfg"])
    steps = fields["student_sample_steps"]
    if times.t_list is None or len(times.t_list) != steps + 1:
        raise ValueError(f"{path}: t_list must have student_sample_steps + 1 = {steps + 1} entries, got {times.t_list}")
    return Settings(times, times.t_list, fields["student_update_freq"], fields["ema"]["decay"])


# The network


class Network(nn.Module):
    """Predict the flow with a residual MLP; time, label and start modulate its layer norms (adaLN-zero).

    The last layers of the residual branches and of the network start at zero.
    """

    frequencies: Tensor

    def __init__(self, student_steps: int, rng: Generator) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(0, 2, WAVES))  # 1 to 100
        self.time = nn.Linear(2 * WAVES, WIDTH)
        self.label = nn.Embedding(CLASSES, WIDTH)
        self.start = nn.Embedding(student_steps, WIDTH)
        self.condition = nn.Linear(WIDTH, WIDTH)
        self.input = nn.Linear(PIXELS, WIDTH)
        self.modulations = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(BLOCKS))
        self.ups = nn.ModuleList(nn.Linear(WIDTH, 2 * WIDTH) for _ in range(BLOCKS))
        self.downs = nn.ModuleList(nn.Linear(2 * WIDTH, WIDTH) for _ in range(BLOCKS))
        self.output = nn.Linear(WIDTH, PIXELS)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        for layer in (self.time, self.condition, self.input, *self.ups, *self.downs):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=rng)
        nn.init.normal_(self.label.weight, std=0.5, generator=rng)

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor, start: Tensor | None = None) -> Tensor:
        """Predict the flow ``v = eps - x_0``, in float32, from x_t, shape (B, 64); t, label and start have shape (B,).

        The network learns the difference to the exact flow of Gaussian data x_0 ~ N(0, s), which is
        ``(sigma - alpha s) / (sigma^2 + alpha^2 s) x_t``. Only the fake score receives ``start``: the index in t_list
        of the timestep at which the student predicted its sample.
        """
        x = x_t.float()
        angle = expand_like(t, x) * self.frequencies
        condition = self.time(torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)) + self.label(label)
        if start is not None:
            condition = condition + self.start(start)
        condition = silu(self.condition(silu(condition)))
        h = self.input(x)
        for modulation, up, down in zip(self.modulations, self.ups, self.downs, strict=True):
            shift, scale, gate = modulation(condition).chunk(3, dim=1)
            y = layer_norm(h, (WIDTH,)) * (1 + scale) + shift
            h = h + gate * down(silu(up(y)))
        alpha, sigma, s = rf_alpha(t), rf_sigma(t), PIXEL_VARIANCE
        linear = expand_like((sigma - alpha * s) / (sigma**2 + alpha**2 * s), x)
        return linear * x + self.output(layer_norm(h, (WIDTH,)))


def denoise(network: nn.Module, x_t: Tensor, t: Tensor, label: Tensor, start: Tensor | None = None) -> Tensor:
    """Predict ``x_0 = x_t - t v``, in x_t's dtype."""
    return pred_x0_from_flow(network(x_t, t, label, start), x_t, t)


# Sampling


@torch.no_grad()
def sample_flow(network: nn.Module, noise: Tensor, label: Tensor, t_list: tuple[float, ...]) -> Tensor:
    """Take Euler steps along the flow."""
    x = noise
    for t, t_next in pairwise(t_list):
        v = network(x, torch.full((len(x),), t), label)
        x = flow_step(v.to(x.dtype), x, t, t_next)
    return x


@torch.no_grad()
def sample_path(network: nn.Module, noises: Tensor, label: Tensor, t_list: tuple[float, ...]) -> Tensor:
    """Predict x_0 and re-noise it, step by step; return x at all of t_list. The result has the shape of noises."""
    path = [noises[0]]
    for noise, (t, t_next) in zip(noises[1:], pairwise(t_list), strict=True):
        x0 = denoise(network, path[-1], torch.full((len(noise),), t), label)
        path.append(add_noise(x0, noise, t_next))
    return torch.stack(path)


def random_labels(rng: Generator) -> Tensor:
    """Sample a batch of class labels."""
    return torch.randint(CLASSES, (BATCH,), generator=rng)


def random_noise(rng: Generator) -> Tensor:
    """Sample the noise of a batch."""
    return torch.randn(BATCH, PIXELS, generator=rng, dtype=torch.bfloat16)


def noised(x0: Tensor, times: SampleTimestepConfig, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sample t and eps for each image; return ``x_t = (1 - t) x_0 + t eps``, t and eps."""
    t = sample_timesteps(BATCH, times, rng=rng)
    eps = random_noise(rng)
    return add_noise(x0, eps, t), t, eps


def generate(student: nn.Module, label: Tensor, settings: Settings, rng: Generator) -> tuple[Tensor, Tensor]:
    """Return an x_0 prediction at a random timestep of a student's path, and the index of the timestep.

    This is DMD2's backward simulation. Gradients reach only this prediction, not the path that leads to it.
    """
    t, start = sample_from_t_list(BATCH, settings.t_list, rng=rng, return_index=True)
    start = start.long()
    noises = torch.stack([random_noise(rng) for _ in settings.t_list])
    path = sample_path(student, noises, label, settings.t_list)
    return denoise(student, path[start, torch.arange(BATCH)], t, label), start


# Losses


def flow_loss(
    network: nn.Module,
    x0: Tensor,
    label: Tensor,
    times: SampleTimestepConfig,
    rng: Generator,
    start: Tensor | None = None,
) -> Tensor:
    """Compute ``mean (v(x_t, t) - (eps - x_0))^2``, the loss of the teacher and of the fake score."""
    x_t, t, eps = noised(x0, times, rng)
    return torch.mean((network(x_t, t, label, start) - (eps.float() - x0.float())) ** 2)


@torch.no_grad()
def vsd_gradient(
    sample: Tensor,
    start: Tensor,
    teacher: nn.Module,
    fake: nn.Module,
    label: Tensor,
    times: SampleTimestepConfig,
    rng: Generator,
) -> Tensor:
    """Return ``(fake_x0 - teacher_x0) / mean |sample - teacher_x0|``, with both predictions from one noised sample.

    The gradient moves the samples to where the teacher's density is higher than that of the fake score. The two
    predictions are close, so in bfloat16 their difference would be mostly rounding error. All of this is in float32.
    """
    x_t, t, _ = noised(sample, times, rng)
    teacher_x0 = denoise(teacher, x_t.float(), t, label)
    fake_x0 = denoise(fake, x_t.float(), t, label, start)
    scale = torch.mean(torch.abs(sample.float() - teacher_x0), dim=1) + 1e-6
    return (fake_x0 - teacher_x0) / expand_like(scale, teacher_x0)


# Training


def descend(
    optimizer: torch.optim.Optimizer, schedule: LRScheduler, loss: Tensor, gradient: Tensor | None = None
) -> None:
    """Take one optimizer step. ``loss`` may be any tensor if its gradient is given."""
    optimizer.zero_grad()
    loss.backward(gradient)
    optimizer.step()
    schedule.step()


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return a moving average of a network's parameters."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))


def train_teacher(
    network: Network, images: Tensor, labels: Tensor, times: SampleTimestepConfig, steps: int, rng: Generator
) -> Network:
    """Learn the flow of the digits; return the moving average of the parameters."""
    average = averaged(network, 1 - 3 / steps)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
    schedule = LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / steps))
    for _ in tqdm(range(steps), desc="teacher", unit="step", disable=None):
        batch = torch.randint(len(images), (BATCH,), generator=rng)
        descend(optimizer, schedule, flow_loss(network, images[batch], labels[batch], times, rng))
        average.update_parameters(network)
    return average.module


def distill(teacher: Network, settings: Settings, steps: int, compiled: bool, rng: Generator) -> Network:
    """Run DMD2 from the teacher; return the moving average of the student's parameters."""
    student, fake = deepcopy(teacher), deepcopy(teacher)
    average = averaged(student, settings.decay ** (STEPS[1] / steps))  # Shorter training, shorter average.
    if compiled:
        student.compile()
        fake.compile()
    student_optimizer = torch.optim.Adam(student.parameters(), lr=3e-4, betas=(0.0, 0.999), fused=True)
    student_schedule = LambdaLR(student_optimizer, lambda step: min(step / 20, 1.0))
    fake_optimizer = torch.optim.Adam(fake.parameters(), lr=1e-3, betas=(0.0, 0.999), fused=True)
    fake_schedule = LambdaLR(fake_optimizer, lambda step: min(step / 100, 1.0))
    for _ in tqdm(range(steps), desc="student", unit="step", disable=None):
        for _ in range(settings.fake_steps):
            label = random_labels(rng)
            with torch.no_grad():
                sample, start = generate(student, label, settings, rng)
            descend(fake_optimizer, fake_schedule, flow_loss(fake, sample, label, settings.times, rng, start))
        label = random_labels(rng)
        sample, start = generate(student, label, settings, rng)
        gradient = vsd_gradient(sample.detach(), start, teacher, fake, label, settings.times, rng)
        # No loss with this gradient is needed: backward accepts the gradient itself.
        descend(student_optimizer, student_schedule, sample, (gradient / gradient.numel()).to(sample.dtype))
        average.update_parameters(student)
    return average.module


def train(settings: Settings, steps: tuple[int, int], compiled: bool, seed: int) -> tuple[Network, Network]:
    """Train the teacher and distill it; return the teacher and the student."""
    rng = Generator().manual_seed(seed)
    data, _ = load_digit_images()
    images, labels = torch.from_numpy(data.images).bfloat16(), torch.from_numpy(data.labels)
    network = Network(len(settings.t_list) - 1, rng)
    if compiled:
        network.compile()
    teacher = train_teacher(network, images, labels, settings.times, steps[0], rng)
    return teacher, distill(teacher, settings, steps[1], compiled, rng)


def main() -> int:
    """Train, distill, measure and draw; return 0 if all metrics are within their bounds, else 1."""
    parser = argparse.ArgumentParser(description="Distill a flow of digits into two steps (DMD2, PyTorch).")
    settings_file = Path(__file__).with_name("dmd2_digits.yaml")
    parser.add_argument("--config", type=Path, default=settings_file, help="the settings")
    parser.add_argument("--eager", action="store_true", help="do not compile; then no C++ compiler is needed")
    parser.add_argument("--out", type=Path, default=Path("distill_digits_torch.png"), help="the picture")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything except the split of the data")
    parser.add_argument("--small", action="store_true", help="train less, with wider bounds, for tests")
    options = parser.parse_args()
    start = time.perf_counter()

    settings = read_settings(options.config)
    steps = SMALL_STEPS if options.small else STEPS
    teacher, student = train(settings, steps, not options.eager, options.seed)

    rng = Generator().manual_seed(options.seed + 1)
    label = torch.arange(CLASSES).repeat_interleave(SAMPLES_PER_CLASS)
    # The first noise is the starting point of all three.
    noises = torch.randn(len(settings.t_list), len(label), PIXELS, generator=rng, dtype=torch.bfloat16)
    samples = {
        "teacher, 50 steps": sample_flow(teacher, noises[0], label, TEACHER_T_LIST),
        "teacher, 2 steps": sample_flow(teacher, noises[0], label, settings.t_list),
        "student, 2 steps": sample_path(student, noises, label, settings.t_list)[-1],
    }
    train_set, held_out = load_digit_images()
    digits = {name: Digits(x.float().numpy(), label.numpy()) for name, x in samples.items()}
    metrics = {name: measure(x, train_set, held_out) for name, x in digits.items()}
    verdicts, all_hold = check_bounds(distillation_bounds(*metrics.values(), small=options.small))
    digits = {"real (training set)": train_set} | digits
    metrics = {"real (training set)": measure(train_set, train_set, held_out)} | metrics
    print(f"\n{show_metrics(metrics)}\n\n{verdicts}\n")
    save_rows(digits, metrics, options.out, accent="student")
    print(f"{options.out} drawn; {time.perf_counter() - start:.0f} s in total")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
