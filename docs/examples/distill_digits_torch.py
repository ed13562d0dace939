"""Distil a 50-step rectified-flow teacher into a 2-step student with DMD2, on 8 x 8 digits: PyTorch.

What ``distill_digits.py`` does in JAX, as a PyTorch trainer does it: autograd, a compiled network, images and noise in
bfloat16, and settings from a YAML file with the fields that nvidia-modelopt's fastgen has. ``--processes 2`` trains in
two processes (DDP over gloo), each on its half of the same batches. The figures are those of the JAX program within
what a seed changes.

Every noising, every conversion between x_0, eps and flow and every draw of a timestep is a `fastgen_rf` call. The
program exits with status 1 when a figure misses its bound; the time it takes is reported only.

    python distill_digits_torch.py [--config YAML] [--processes N] [--eager] [--out PNG] [--seed N] [--small]
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import yaml
from digits_metrics import (
    CLASSES,
    PIXEL_VARIANCE,
    PIXELS,
    Digits,
    check_bounds,
    distillation_bounds,
    draw_panels,
    load_digit_images,
    measure,
    show_figures,
)
from torch import Generator, Tensor, nn
from torch.nn.functional import layer_norm, silu
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
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
FINE = make_t_list(50)  # the teacher's fifty steps

BATCH = 256
STEPS, SMALL_STEPS = (3000, 600), (500, 100)  # of the teacher and of the student
SAMPLES_PER_CLASS = 200


# The settings


class Settings(NamedTuple):
    """What a YAML file decides."""

    times: SampleTimestepConfig
    fake_steps: int  # for each step of the student
    decay: float  # of the student's moving average


DONE_HERE = {
    "pred_type": "flow",
    "guidance_scale": None,
    "student_sample_type": "sde",
    "backward_simulation": True,
    "fake_score_pred_type": "flow",
}


def read_settings(path: Path) -> Settings:
    """Read a file with the fields of modelopt's ``DMDConfig``; what this program cannot do is an error."""
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, value in DONE_HERE.items():
        if fields.get(name) != value:
            raise ValueError(f"{path}: {name} must be {value!r} here, got {fields.get(name)!r}")
    times = SampleTimestepConfig(**fields["sample_t_cfg"])
    if times.t_list is None or len(times.t_list) != fields["student_sample_steps"] + 1:
        raise ValueError(f"{path}: t_list must have a rung for each of student_sample_steps, and 0; got {times.t_list}")
    return Settings(times, fields["student_update_freq"], fields["ema"]["decay"])


# The network: a residual MLP whose layer norms are modulated by time, label and rung (adaLN-zero)


class Network(nn.Module):
    """Predicts the flow; what ends a residual branch or the network starts at zero."""

    frequencies: Tensor

    def __init__(self, rungs: int, rng: Generator) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(0, 2, WAVES))  # 1 to 100
        self.time = nn.Linear(2 * WAVES, WIDTH)
        self.label = nn.Embedding(CLASSES, WIDTH)
        self.rung = nn.Embedding(rungs, WIDTH)
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
        self.rung.requires_grad_(False)  # until a fake score learns it

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor, rung: Tensor | None = None) -> Tensor:
        """Predict the flow ``v = eps - x_0``, in float32, from x_t, shape (B, 64); t, label, rung: shape (B,).

        The best guess for x_0 ~ N(0, s) is given, ``(sigma - alpha s) / (sigma^2 + alpha^2 s) x_t``;
        the network learns the rest. The fake score alone is told the rung from which the student
        made its sample.
        """
        x = x_t.float()
        angle = expand_like(t, x) * self.frequencies
        condition = self.time(torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)) + self.label(label)
        if rung is not None:
            condition = condition + self.rung(rung)
        condition = silu(self.condition(silu(condition)))
        h = self.input(x)
        for modulation, up, down in zip(self.modulations, self.ups, self.downs, strict=True):
            shift, scale, gate = modulation(condition).chunk(3, dim=1)
            y = layer_norm(h, (WIDTH,)) * (1 + scale) + shift
            h = h + gate * down(silu(up(y)))
        alpha, sigma, s = rf_alpha(t), rf_sigma(t), PIXEL_VARIANCE
        linear = expand_like((sigma - alpha * s) / (sigma**2 + alpha**2 * s), x)
        return linear * x + self.output(layer_norm(h, (WIDTH,)))


def denoise(network: nn.Module, x_t: Tensor, t: Tensor, label: Tensor, rung: Tensor | None = None) -> Tensor:
    """Predict ``x_0 = x_t - t v``, in x_t's dtype."""
    return pred_x0_from_flow(network(x_t, t, label, rung), x_t, t)


# Sampling


@torch.no_grad()
def sample_flow(network: nn.Module, noise: Tensor, label: Tensor, times: tuple[float, ...]) -> Tensor:
    """Take Euler steps along the flow."""
    x = noise
    for t, t_next in pairwise(times):
        v = network(x, torch.full((len(x),), t), label)
        x = flow_step(v.to(x.dtype), x, t, t_next)
    return x


@torch.no_grad()
def roll_out(network: nn.Module, noises: Tensor, label: Tensor, rungs: tuple[float, ...]) -> Tensor:
    """Walk down the rungs, with fresh noise on each; return x at all of them, shape of noises and of x alike."""
    path = [noises[0]]
    for noise, (t, t_next) in zip(noises[1:], pairwise(rungs), strict=True):
        x0 = denoise(network, path[-1], torch.full((len(noise),), t), label)
        path.append(add_noise(x0, noise, t_next))
    return torch.stack(path)


# What a step draws: each process draws the whole batch from the same generator, and takes its share


class Draws:
    """The batches of one of so many processes."""

    def __init__(self, times: SampleTimestepConfig, rank: int, processes: int, rng: Generator) -> None:
        self.times, self.share, self.rng = times, slice(rank, None, processes), rng
        self.rungs = times.t_list or ()

    def images(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Draw from a data set."""
        batch = torch.randint(len(images), (BATCH,), generator=self.rng)[self.share]
        return images[batch], labels[batch]

    def labels(self) -> Tensor:
        """Draw class labels."""
        return torch.randint(CLASSES, (BATCH,), generator=self.rng)[self.share]

    def noise(self) -> Tensor:
        """Draw noise for a batch."""
        return torch.randn(BATCH, PIXELS, generator=self.rng, dtype=torch.bfloat16)[self.share]

    def noises(self) -> Tensor:
        """Draw the noise of a roll-out: its start's, and each rung's."""
        return torch.stack([self.noise() for _ in self.rungs])

    def noised(self, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw t and eps for each sample; return ``x_t = (1 - t) x_0 + t eps``, t and eps."""
        t = sample_timesteps(BATCH, self.times, rng=self.rng)[self.share]
        eps = self.noise()
        return add_noise(x0, eps, t), t, eps

    def rung(self) -> tuple[Tensor, Tensor]:
        """Draw a rung for each sample; return its time and its index."""
        t, index = sample_from_t_list(BATCH, self.rungs, rng=self.rng, return_index=True)
        return t[self.share], index[self.share].long()


# Losses


def flow_loss(network: nn.Module, x0: Tensor, label: Tensor, draws: Draws, rung: Tensor | None = None) -> Tensor:
    """Compute ``mean (v(x_t, t) - (eps - x_0))^2``: how the teacher and the fake score learn."""
    x_t, t, eps = draws.noised(x0)
    return torch.mean((network(x_t, t, label, rung) - (eps.float() - x0.float())) ** 2)


def generate(student: nn.Module, label: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Predict x_0 from a random rung of a roll-out (DMD2's backward simulation); return both.

    Gradients reach that one prediction only.
    """
    t, rung = draws.rung()
    path = roll_out(plain(student), draws.noises(), label, draws.rungs)
    return denoise(student, path[rung, torch.arange(len(label))], t, label), rung


@torch.no_grad()
def vsd_gradient(
    sample: Tensor, rung: Tensor, teacher: nn.Module, fake: nn.Module, label: Tensor, draws: Draws
) -> Tensor:
    """Return ``(fake_x0 - teacher_x0) / mean |sample - teacher_x0|``, both predicted from one noised copy of a sample.

    It pulls the student's samples to where the teacher sees more density than the fake score does. Predicted,
    subtracted and averaged in float32: the two are close, and their difference in bfloat16 is mostly rounding.
    """
    x_t, t, _ = draws.noised(sample)
    teacher_x0 = denoise(teacher, x_t.float(), t, label)
    fake_x0 = denoise(fake, x_t.float(), t, label, rung)
    scale = torch.mean(torch.abs(sample.float() - teacher_x0), dim=1) + 1e-6
    return (fake_x0 - teacher_x0) / expand_like(scale, teacher_x0)


# Training


class Trainer:
    """A network, its optimizer and its learning rate; the step that they take."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, rate: Callable[[int], float]) -> None:
        self.network = DistributedDataParallel(network) if dist.is_initialized() else network
        self.optimizer, self.schedule = optimizer, LambdaLR(optimizer, rate)

    def descend(self, loss: Tensor, gradient: Tensor | None = None) -> None:
        """Take one step down the loss, or against the gradient of something that is none."""
        self.optimizer.zero_grad()
        loss.backward(gradient)
        self.optimizer.step()
        self.schedule.step()


def plain(network: nn.Module) -> nn.Module:
    """Return the network itself: what makes its processes agree on gradients is not asked where there are none."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Keep a moving average of a network's parameters."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))


def progress(steps: int, title: str) -> Any:
    """Count steps; the bar is shown on a terminal, by the first process."""
    shown_elsewhere = dist.is_initialized() and dist.get_rank() > 0
    return tqdm(range(steps), desc=title, unit="step", disable=True if shown_elsewhere else None)


def train_teacher(network: Network, images: Tensor, labels: Tensor, draws: Draws, steps: int) -> Network:
    """Learn the flow of the digits; return the moving average of the parameters."""
    average = averaged(network, 1 - 3 / steps)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
    trainer = Trainer(network, optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / steps))
    for _ in progress(steps, "teacher"):
        x0, label = draws.images(images, labels)
        trainer.descend(flow_loss(trainer.network, x0, label, draws))
        average.update_parameters(network)
    return average.module


def distill(teacher: Network, draws: Draws, steps: int, settings: Settings, compiled: bool) -> Network:
    """Run DMD2 from the teacher; return the moving average of the student's parameters."""
    student, fake = deepcopy(teacher), deepcopy(teacher)
    fake.rung.requires_grad_(True)
    average = averaged(student, settings.decay ** (STEPS[1] / steps))  # the same share of a shorter training
    for network in (student, fake) if compiled else ():
        network.compile()
    student_trainer = Trainer(
        student,
        torch.optim.Adam(student.parameters(), lr=3e-4, betas=(0.0, 0.999), fused=True),
        lambda step: min(step / 20, 1.0),
    )
    fake_trainer = Trainer(
        fake,
        torch.optim.Adam(fake.parameters(), lr=1e-3, betas=(0.0, 0.999), fused=True),
        lambda step: min(step / 100, 1.0),
    )
    for _ in progress(steps, "student"):
        for _ in range(settings.fake_steps):
            label = draws.labels()
            with torch.no_grad():
                sample, rung = generate(student, label, draws)
            fake_trainer.descend(flow_loss(fake_trainer.network, sample, label, draws, rung))
        label = draws.labels()
        sample, rung = generate(student_trainer.network, label, draws)
        gradient = vsd_gradient(sample.detach(), rung, teacher, fake, label, draws)
        student_trainer.descend(sample, (gradient / gradient.numel()).to(sample.dtype))
        average.update_parameters(student)
    return average.module


class Plan(NamedTuple):
    """What the command line decides."""

    processes: int
    seed: int
    steps: tuple[int, int]
    compiled: bool


def train(rank: int, plan: Plan, settings: Settings, folder: str) -> None:
    """Train and distil as one of the processes; the first writes both networks into the folder."""
    if plan.processes > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // plan.processes))
        meeting = f"file://{folder}/meeting"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=plan.processes)
    rng = Generator().manual_seed(plan.seed)
    draws = Draws(settings.times, rank, plan.processes, rng)
    data, _ = load_digit_images()
    images, labels = torch.from_numpy(data.images).bfloat16(), torch.from_numpy(data.labels)
    network = Network(len(draws.rungs) - 1, rng)
    if plan.compiled:
        network.compile()
    teacher_steps, student_steps = plan.steps
    teacher = train_teacher(network, images, labels, draws, teacher_steps)
    student = distill(teacher, draws, student_steps, settings, plan.compiled)
    if rank == 0:
        torch.save({"teacher": teacher.state_dict(), "student": student.state_dict()}, f"{folder}/networks.pt")
    if plan.processes > 1:
        dist.barrier()  # see train_fsdp.py
        dist.destroy_process_group()


def load(rungs: int, state: dict[str, Tensor]) -> Network:
    """Build a network with these parameters."""
    network = Network(rungs, Generator())
    network.load_state_dict(state)
    return network


def train_in_processes(plan: Plan, settings: Settings) -> tuple[Network, Network]:
    """Return the teacher and the student; one process is this one."""
    with tempfile.TemporaryDirectory(prefix="distil-") as folder:
        if plan.processes > 1:
            torch.multiprocessing.spawn(train, args=(plan, settings, folder), nprocs=plan.processes)
        else:
            train(0, plan, settings, folder)
        states = torch.load(f"{folder}/networks.pt")
    rungs = settings.times.t_list or ()
    teacher, student = (load(len(rungs) - 1, states[name]) for name in ("teacher", "student"))
    return teacher, student


def main() -> int:
    """Train, distil, measure, draw; return 0 when every figure keeps within its bounds, else 1."""
    parser = argparse.ArgumentParser(description="Distil a flow of digits into two steps (DMD2, PyTorch).")
    parser.add_argument(
        "--config", type=Path, default=Path(__file__).with_name("dmd2_digits.yaml"), help="the settings"
    )
    parser.add_argument("--processes", type=int, default=1, help="over which to spread each batch (DDP, gloo)")
    parser.add_argument("--eager", action="store_true", help="do not compile: no C++ compiler is needed")
    parser.add_argument("--out", type=Path, default=Path("distill_digits_torch.png"), help="the picture")
    parser.add_argument("--seed", type=int, default=0, help="of everything but the data's split")
    parser.add_argument("--small", action="store_true", help="train less, for tests, with bounds to match")
    options = parser.parse_args()
    start = time.perf_counter()

    settings = read_settings(options.config)
    plan = Plan(options.processes, options.seed, SMALL_STEPS if options.small else STEPS, not options.eager)
    teacher, student = train_in_processes(plan, settings)

    rng = Generator().manual_seed(options.seed + 1)
    label = torch.arange(CLASSES).repeat_interleave(SAMPLES_PER_CLASS)
    rungs = settings.times.t_list or ()
    noises = torch.randn(len(rungs), len(label), PIXELS, generator=rng, dtype=torch.bfloat16)
    samples = {  # all three start from the same
        "teacher, 50 steps": sample_flow(teacher, noises[0], label, FINE),
        "teacher, 2 steps": sample_flow(teacher, noises[0], label, rungs),
        "student, 2 steps": roll_out(student, noises, label, rungs)[-1],
    }
    train_set, held_out = load_digit_images()
    digits = {name: Digits(x.float().numpy(), label.numpy()) for name, x in samples.items()}
    figures = {name: measure(x, train_set, held_out) for name, x in digits.items()}
    verdicts, all_hold = check_bounds(distillation_bounds(*figures.values(), small=options.small))
    floor = {"real digits, other ones": measure(train_set, train_set, held_out)}
    print(f"\n{show_figures(floor | figures)}\n\n{verdicts}\n")
    draw_panels({"real digits": held_out} | digits, floor | figures, options.out, accent="student")
    print(f"{options.out} drawn; {time.perf_counter() - start:.0f} s in all")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
