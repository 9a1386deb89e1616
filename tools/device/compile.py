"""Compiles the real programs for devices that are not here, and reports memory, time and traffic.

    python -m tools.device.compile --device=v5e:2x4 --config=rstp --set model.dtype=bfloat16
    python -m tools.device.compile --device=h100 --config=rstp:large --set model.dtype=bfloat16
    python -m tools.device.compile --device=rtx4090 --config=icfg --program=rerank --set model.dtype=bfloat16
    python -m tools.device.compile --device=cpu --mesh=2x4x1

The compilers are the devices' own: pip install -e '.[aot-tpu]' or '.[aot-gpu]'. No device is needed
and nothing is run. A full-size training step takes minutes. Times are the compiler's estimates, see
cada_jax/distributed/TPU_AND_GPU.md for what they are worth. --device=cpu simulates a mesh.
"""  # noqa: E501

import argparse
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from cada_jax.common.command_line import run_command
from cada_jax.common.errors import UsageError
from tools import arguments, config_file
from tools.arguments import Parser, integer
from tools.device import collectives, estimate, hlo, report, topology
from tools.device.chips import MODELLED
from tools.device.memory import Memory, compiled_memory, refused_memory
from tools.device.programs import PROGRAMS, Evaluation, Program, describe

PRODUCT = 8192  # side of the product that estimates are compared with
# Asks a GPU's compiler for its estimate.
ESTIMATE: dict[str, Any] = {"xla_gpu_collect_cost_model_stats": True}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All flags; `tools.device.table` passes them on."""
    whole, size = integer(1), Evaluation()
    parser.add_argument("--device", default="cpu", help=topology.KNOWN)
    parser.add_argument(
        "--mesh",
        type=arguments.mesh,
        help="DATAxFSDPxTENSOR, e.g. 2x4x1; all devices on data if left out",
    )
    parser.add_argument("--config", default="rstp", help="rstp, rstp:large, or a path")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="e.g. model.dtype=bfloat16"
    )
    parser.add_argument("--program", choices=PROGRAMS, default="train")
    parser.add_argument("--hlo", type=pathlib.Path, help="file to write the compiled HLO to")
    parser.add_argument(
        "--from_hlo", type=pathlib.Path, help="HLO written before, read in place of compiling"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--rows", type=whole, default=20, help="lines of each list of the largest")
    parser.add_argument("--gallery", type=whole, default=size.gallery, help="images")
    parser.add_argument("--queries", type=whole, default=size.queries, help="captions")
    parser.add_argument("--rerank", type=whole, default=size.rerank, help="images of each caption")
    parser.add_argument(
        "--caption_tokens",
        type=integer(2, 512),
        default=size.caption_tokens,
        help="of a caption to re-rank, on average",
    )


def read_config(flags: argparse.Namespace, target: topology.Target) -> ConfigDict:
    """The configuration with its changes and the mesh, which the flags are given too.

    Raises:
      UsageError: a file or field is wrong, or the mesh does not fit the devices.
    """
    config = config_file.read_config(flags.config, flags.set)
    flags.mesh = topology.set_mesh(config, flags.mesh, target)
    return config


def hlo_path(path: pathlib.Path, program: Program) -> pathlib.Path:
    """The file of a program's HLO: as given, of the captions' encoder with ".captions" added."""
    path = path.expanduser()
    return path.with_name(path.name + ".captions") if program.unit == "captions" else path


def compiled(program: Program, options: dict[str, Any]) -> tuple[str | None, Memory]:
    """(HLO, memory) of a program; no HLO where the compiler refused it for want of memory."""
    import jax

    lowered = program.lower()
    try:
        found = lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as e:
        refused = refused_memory(str(e))
        if refused is None:
            raise
        return None, refused
    return found.as_text() or "", compiled_memory(found)


def described_capability(target: topology.Target) -> tuple[int, int] | None:
    """The capability that a GPU is described with to have an estimate; None: its own."""
    gpu = target.chip.gpu if target.chip else None
    return MODELLED[0] if gpu and gpu.capability not in MODELLED else None


def measured_product(target: topology.Target, device: Any) -> float:
    """FLOP/s that the compiler estimates for a large bfloat16 product on one device."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding

    assert target.chip is not None
    sharding = SingleDeviceSharding(device)
    x = jax.ShapeDtypeStruct((PRODUCT, PRODUCT), jnp.bfloat16, sharding=sharding)
    options: dict[str, Any] = ESTIMATE if target.chip.gpu else {}
    text = jax.jit(lambda a, b: a @ b).lower(x, x).compile(compiler_options=options).as_text()
    return estimate.product_rate(hlo.parse(text or ""), 2 * PRODUCT**3, target.chip)


def programs_of(
    flags: argparse.Namespace, config: ConfigDict, target: topology.Target, devices: list
) -> list[tuple[Program, str | None, Memory | None]]:
    """(program, its HLO, its memory), compiled or read from a file.

    A GPU that the compiler's model does not know is compiled for twice: as it is, which gives the
    memory, and described as one that the model knows, which gives the estimate.
    """
    size = Evaluation(flags.gallery, flags.queries, flags.rerank, flags.caption_tokens)
    found: list[tuple[Program, str | None, Memory | None]] = []
    for program in describe(flags.program, config, devices, size):
        if flags.from_hlo:
            path = hlo_path(flags.from_hlo, program)
            found.append((program, path.read_text(encoding="utf-8"), None))
            continue
        capability = described_capability(target)
        known = target.platform == "gpu" and capability is None
        text, memory = compiled(program, ESTIMATE if known else {})
        if capability and text is not None:
            others = topology.devices_of(target, flags.mesh, capability)
            again = {p.name: p for p in describe(flags.program, config, others, size)}
            text, _ = compiled(again[program.name], ESTIMATE)
        if flags.hlo and text is not None:
            hlo_path(flags.hlo, program).write_text(text, encoding="utf-8")
        found.append((program, text, memory))
    return found


def examine(
    program: Program,
    text: str | None,
    memory: Memory | None,
    target: topology.Target,
    product: float,
) -> report.Result:
    """Reads off a program's HLO what there is.

    Args:
      program: described for the target's devices.
      text: its HLO, None if there is none.
      memory: that it takes, None if nothing was compiled.
      target: whose figures it is held against.
      product: FLOP/s of a large product.

    Raises:
      UsageError: the text is no compiled program.
    """
    result = report.Result(program, program.mesh.size, target.chip, memory, product=product)
    if text is None:
        return result
    try:
        module = hlo.parse(text)
    except ValueError as e:
        raise UsageError(f"{program.name}: {e}") from e
    result = dataclasses.replace(result, sent=collectives.read_collectives(module))
    if target.chip is None:
        return result
    links = estimate.Links(program.mesh.size, target.together)
    words = program.config.model.text.vocab_size
    found = estimate.estimate(module, target.chip, words, links)
    return dataclasses.replace(result, estimate=found)


def run(argv: Sequence[str] | None) -> int:
    """Compiles what the flags describe and prints the report; returns the exit code."""
    parser = Parser("tools.device.compile", __doc__)
    add_flags(parser)
    flags = parser.flags(argv)
    if flags.hlo:
        flags.hlo.expanduser().touch()  # what cannot be written is known before minutes have passed
    target, start = topology.find_target(flags.device), time.monotonic()
    config = read_config(flags, target)
    # What is only read needs no compiler; how pairs are packed depends on the devices.
    reading = flags.from_hlo is not None and flags.program != "rerank"
    described = topology.Target("cpu", "cpu") if reading else target
    topology.prepare(described, flags.mesh)
    devices = topology.devices_of(described, flags.mesh)
    found = programs_of(flags, config, target, devices)
    product = target.chip.product if target.chip else 0.0
    if target.chip and not flags.from_hlo:
        model = topology.devices_of(target, flags.mesh, described_capability(target))
        product = measured_product(target, model[0])
    results = [examine(*each, target, product) for each in found]
    size = Evaluation(flags.gallery, flags.queries, flags.rerank, flags.caption_tokens)
    seconds = time.monotonic() - start
    if flags.json:
        asked = {name: getattr(flags, name) for name in ("device", "mesh", "config", "set")}
        asked["seconds"] = seconds
        print(json.dumps([asked | report.values(result, size) for result in results], indent=1))
        return 0
    what = " ".join([flags.config, *flags.set])
    mesh = "x".join(map(str, flags.mesh))
    for result in results:
        program = result.program
        items = f"{program.items:.0f} {program.unit} over all"
        print(f"{what} on {flags.device}, mesh {mesh}: {program.name}, {items}")
        print(report.text(result, flags.rows))
        if program.name != "train" and result.estimate:
            print(report.evaluation_line(result, size))
    print(f"compiled and read in {seconds:.0f} s")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
