"""Compiles the real programs for devices that are not here, and reports memory, time and traffic.

    python -m tools.device.compile --device=v5e:2x4 --config=rstp --set model.dtype=bfloat16
    python -m tools.device.compile --device=h100 --config=rstp:large --set model.remat=light
    python -m tools.device.compile --device=v5e:2x4 --program=rerank --set model.dtype=bfloat16
    python -m tools.device.compile --device=cpu --mesh=2x4x1 --no_compile

The compilers are the devices' own: pip install -e '.[aot-tpu]' or '.[aot-gpu]'. No device is needed
and nothing is run. A full-size training step takes minutes. Times are a TPU compiler's estimates,
see cada_jax/distributed/TPU_AND_GPU.md for what they are worth. --device=cpu simulates the mesh:
what an accelerator needs lies between its figure and the count.
"""

import argparse
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
from tools.device import memory as memory_lib
from tools.device.programs import PROGRAMS, Evaluation, Program, describe

PRODUCT = 8192  # side of the product that estimates are compared with


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All flags; `tools.device.table` passes them on."""
    whole = integer(1)
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
    parser.add_argument("--hlo", help="file to write the compiled HLO to")
    parser.add_argument("--from_hlo", help="HLO written before, to read instead of compiling")
    parser.add_argument("--no_compile", action="store_true", help="only count the memory")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--rows", type=whole, default=20, help="lines of each list of the largest")
    size = Evaluation()
    parser.add_argument("--gallery", type=whole, default=size.gallery, help="images to encode")
    parser.add_argument("--queries", type=whole, default=size.queries, help="captions to encode")
    parser.add_argument("--rerank", type=whole, default=size.rerank, help="images of each caption")
    parser.add_argument(
        "--caption_tokens",
        type=integer(2, 512),
        default=size.caption_tokens,
        help="of a caption to re-rank, on average",
    )


def read_config(flags: argparse.Namespace, target: topology.Target) -> ConfigDict:
    """The configuration with its changes and the mesh.

    Raises:
      UsageError: a file or field is wrong, or the mesh does not fit the devices.
    """
    config = config_file.read_config(flags.config, flags.set)
    topology.set_mesh(config, flags.mesh, target)
    return config


def title(flags: argparse.Namespace) -> str:
    """What is compiled, as the flags say it."""
    changes = "".join(f" {change}" for change in flags.set)
    return f"{flags.config}{changes} on {flags.device}, mesh {'x'.join(map(str, flags.mesh))}"


def hlo_path(argument: str, program: Program) -> pathlib.Path:
    """The file of a program's HLO: as given, of the captions' encoder with ".captions" added."""
    path = pathlib.Path(argument).expanduser()
    return path.with_name(path.name + ".captions") if program.unit == "captions" else path


def check_files(flags: argparse.Namespace) -> None:
    """Raises UsageError where --hlo cannot be written or --from_hlo cannot be read."""
    for flag in ("hlo", "from_hlo"):
        argument = getattr(flags, flag)
        if argument is None:
            continue
        path, mode = pathlib.Path(argument).expanduser(), "a" if flag == "hlo" else "r"
        existed = path.exists()
        try:
            with open(path, mode, encoding="utf-8"):
                pass
            if flag == "hlo" and not existed:
                path.unlink()
        except OSError as e:
            raise UsageError(f"--{flag}={argument}: {e.strerror}") from e
    if flags.from_hlo and (flags.hlo or flags.no_compile):
        raise UsageError("--from_hlo compiles nothing: leave out --hlo and --no_compile")


def compile_text(program: Program) -> tuple[str | None, memory_lib.Memory]:
    """The compiled HLO, None if it was refused for want of memory, and the memory it takes."""
    import jax

    lowered = program.lower()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as e:
        refused = memory_lib.refused_memory(str(e))
        if refused is None:
            raise
        return None, refused
    text = compiled.as_text()
    assert text is not None, "every compiler writes its HLO"
    return text, memory_lib.compiled_memory(compiled)


def measured_product(device: Any) -> float:
    """FLOP a cycle that a TPU's compiler estimates for a bfloat16 product on one device."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding

    sharding = SingleDeviceSharding(device)
    x = jax.ShapeDtypeStruct((PRODUCT, PRODUCT), jnp.bfloat16, sharding=sharding)
    text = jax.jit(lambda a, b: a @ b).lower(x, x).compile().as_text()
    return estimate.product_rate(hlo.parse(text or ""), 2 * PRODUCT**3)


def read_module(text: str, source: str) -> hlo.Module:
    """A module; raises UsageError where the text of `source` is none."""
    try:
        return hlo.parse(text)
    except ValueError as e:
        raise UsageError(f"{source}: {e}") from e


def examine(
    program: Program, target: topology.Target, flags: argparse.Namespace, product: float
) -> report.Result:
    """Compiles a program, or reads its HLO, and reads off what there is.

    Args:
      program: described for the target's devices.
      target: whose figures it is held against.
      flags: `hlo`, `from_hlo` and `no_compile` are used.
      product: FLOP/s of a large product on a TPU.
    """
    start, text, used = time.monotonic(), None, None
    counted = {}
    if program.name == "train":
        counted = memory_lib.counted(program.config, program.state, program.mesh.shape)
    if flags.from_hlo:
        path = hlo_path(flags.from_hlo, program)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise UsageError(f"{path}: cannot be read: {e}") from e
    elif not flags.no_compile:
        text, used = compile_text(program)
        if flags.hlo and text is not None:
            hlo_path(flags.hlo, program).write_text(text, encoding="utf-8")
    result = report.Result(program, program.mesh.size, target.chip, used, counted)
    if text is None:
        return result
    module = read_module(text, flags.from_hlo or "the compiled program")
    found = None
    if target.platform == "tpu" and target.chip is not None:
        words = program.config.model.text.vocab_size
        found = estimate.estimate(module, target.chip, words)
    return report.Result(
        program=program,
        devices=program.mesh.size,
        chip=target.chip,
        memory=used,
        counted=counted,
        sent=collectives.read_collectives(module),
        kernels=estimate.fused_kernels(module),
        estimate=found,
        product=product,
        seconds=time.monotonic() - start,
    )


def run(argv: Sequence[str] | None) -> int:
    """Compiles what the flags describe and prints the report; returns the exit code."""
    parser = Parser("tools.device.compile", __doc__)
    add_flags(parser)
    flags = parser.flags(argv)
    target = topology.find_target(flags.device)
    config = read_config(flags, target)
    flags.mesh = (config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    check_files(flags)
    # What is only read needs no compiler; how pairs are packed depends on the devices.
    reading = flags.from_hlo is not None and flags.program != "rerank"
    described = topology.Target("cpu", "cpu") if reading else target
    topology.prepare(described, flags.mesh)
    devices = topology.devices_of(described, flags.mesh)
    size = Evaluation(flags.gallery, flags.queries, flags.rerank, flags.caption_tokens)
    programs = describe(flags.program, config, devices, size)
    product = target.chip.product if target.chip and target.chip.clock else 0.0
    if target.platform == "tpu" and target.chip and not (flags.from_hlo or flags.no_compile):
        product = target.chip.clock * measured_product(devices[0])
    results = [examine(program, target, flags, product) for program in programs]
    if flags.json:
        asked = {name: getattr(flags, name) for name in ("device", "mesh", "config", "set")}
        found = [asked | report.values(result, size) for result in results]
        print(json.dumps(found, indent=1))
        return 0
    for result in results:
        program = result.program
        print(f"{title(flags)}: {program.name}, {program.items:.0f} {program.unit} over all")
        if result.seconds and not flags.from_hlo:
            print(f"compiled and read in {result.seconds:.0f} s; each device:")
        print(report.text(result, flags.rows))
        refused = result.memory is not None and result.memory.refused
        if program.name != "train" and result.chip and not refused:
            print(report.evaluation_line(result, size))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
