"""Measures data preparation and the input pipeline in images a second of one core.

python -m tools.bench.data                     # 5,000 generated JPEG files of 384x128
python -m tools.bench.data --images=20000 --size=256x128 --workers=8

Preparation reads every image, to see that it can be decoded, and cleans, tokenizes and tags its
captions; "ratio" says how near it comes to reading and decoding alone. Rates are per second of CPU
time, so that they hold on a machine that does something else besides; "wall" is what the clock
said. Worker processes take about two seconds each to start, which counts.
"""

import argparse
import io
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from cada_jax.common.command_line import run_command
from cada_jax.config import load_config
from cada_jax.data.datasets.synthetic.people import DEMO, generate
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from cada_jax.data.preparation.reader import load_encoder, read_all
from cada_jax.data.preparation.source import read_source
from cada_jax.text.taggers import DEFAULT_TAGGER
from tools.arguments import Parser, image_size, integer, positive_real, writable_folder

# Worker processes import this file again: what imports TensorFlow is imported in functions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

DRAWN = 200  # different pictures; the files repeat them under other names
MAX_LENGTH = 73
CAPTIONS = 2  # of a generated image


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the flags."""
    parser = Parser("tools.bench.data", __doc__)
    add = parser.add_argument
    add("--images", type=integer(1, 10_000_000), default=5000,
        help="files to prepare (default: 5000)")  # fmt: skip
    add("--size", type=image_size, default="384x128",
        help="height x width of the files (default: 384x128)")  # fmt: skip
    add("--input_size", type=image_size, default="224x224",
        help="of the model's input (default: 224x224)")  # fmt: skip
    add("--batch", type=integer(1), default=120, help="pairs in a training batch (default: 120)")
    add("--batches", type=integer(1), default=20, help="training batches to read (default: 20)")
    add("--workers", type=integer(0, 1024), default=0,
        help="processes of a second preparation (default: none)")  # fmt: skip
    add("--need", type=positive_real, default=1000.0,
        help="pairs/s of the train step (default: 1000)")  # fmt: skip
    add("--folder", type=writable_folder, help="where to write (default: a temporary folder)")
    arguments = parser.flags(argv)
    pairs = CAPTIONS * arguments.images
    if arguments.batch > pairs:
        parser.error(f"--batch={arguments.batch} exceeds the {pairs} pairs of --images")
    return arguments


def cpu_seconds() -> float:
    """CPU time of this process, all its threads, and the processes it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def measure(name: str, count: int, work: Callable[[], object]) -> float:
    """Runs `work` on `count` images, prints its rates, returns images per CPU second."""
    start, cpu = time.monotonic(), cpu_seconds()
    work()
    cpu, wall = cpu_seconds() - cpu, time.monotonic() - start
    print(f"{name:44} {count / cpu:9,.0f} /s of a core {count / wall:9,.0f} /s wall", flush=True)
    return count / cpu


def make_folder(folder: Path, images: int, size: tuple[int, int]) -> Path:
    """Writes generated people, enlarged, in RSTPReid's format; returns the folder."""
    drawn = []
    examples = generate(DEMO, "train")
    for _ in tqdm(range(min(DRAWN, images)), desc="drawing", unit=" images"):
        example = next(examples)
        picture = Image.open(io.BytesIO(example.jpeg)).resize(size[::-1], Image.Resampling.BICUBIC)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=90)
        drawn.append((file.getvalue(), [caption.text for caption in example.captions]))
    (folder / "imgs").mkdir(parents=True)
    entries = []
    for number in range(images):
        data, captions = drawn[number % len(drawn)]
        path = f"{number:06d}.jpg"
        (folder / "imgs" / path).write_bytes(data)
        person = {"id": number // 5, "img_path": path, "captions": captions, "split": "train"}
        entries.append(person)
    (folder / "data_captions.json").write_text(json.dumps(entries), encoding="utf-8")
    size_kb = sum(len(data) for data, _ in drawn) / len(drawn) / 1e3
    print(f"{images} files of {size[0]}x{size[1]}, {size_kb:.1f} kB each, {CAPTIONS} captions each")
    return folder


def prepare(source: Path, out: Path, workers: int):
    """Prepares the folder; returns the builder."""
    from cada_jax.data.datasets.rstp.builder import Rstp
    from cada_jax.data.preparation.features import caption_config
    from cada_jax.data.preparation.prepared_folder import write_records

    builder = Rstp(data_dir=str(out), config=caption_config(str(VOCAB_PATH), MAX_LENGTH))
    builder.workers = workers
    write_records(builder, source)
    return builder


def bench_preparation(source: Path, root: Path, workers: int) -> None:
    """Plain decoding, the captions alone, and the preparation as a whole."""
    from cada_jax.data.datasets.rstp.builder import Rstp

    entries = read_source(Rstp.LAYOUT, source).entries
    settings = (str(VOCAB_PATH), MAX_LENGTH, DEFAULT_TAGGER, "word")
    encoder = load_encoder(settings)
    encoder.encode(entries[0].captions, "")  # loads the tagger's lexicon

    def decode():
        for entry in entries:
            with Image.open(entry.path) as image:
                image.load()

    def check():
        assert not any(read.problem for read in read_all(entries, None))

    def encode():
        for entry in entries:
            encoder.encode(entry.captions, entry.image)

    plain = measure("plain reading and decoding", len(entries), decode)
    measure("reading and checking images", len(entries), check)
    measure("captions: clean, tokenize, tag", len(entries), encode)
    for number in [0, workers] if workers else [0]:
        name = f"preparation, {number} worker processes"
        out = root / str(number)
        rate = measure(name, len(entries), lambda n=number, out=out: prepare(source, out, n))
        print(f"{'  its ratio to plain decoding':44} {rate / plain:9.2f}", flush=True)


def bench_pipeline(root: Path, arguments: argparse.Namespace) -> None:
    """The training batches of the prepared records."""
    from cada_jax.data.batches import train_batches
    from cada_jax.data.preparation.features import caption_config
    from cada_jax.data.split import load_split

    config = load_config("default")
    config.data.variant = caption_config(str(VOCAB_PATH), MAX_LENGTH).name
    config.data.data_dir = str(root / "0")
    config.data.image_size = arguments.input_size
    config.data.max_length = MAX_LENGTH
    config.train.batch_size = arguments.batch
    split = load_split(config, "train")
    batches = train_batches(split, config, 0, 0, 1)
    next(batches)  # the graph is built and its threads are started
    count = arguments.batches * arguments.batch
    name = "input pipeline at {}x{}".format(*arguments.input_size)
    rate = measure(name, count, lambda: [next(batches) for _ in range(arguments.batches)])
    print(
        f"{arguments.need:,.0f} pairs/s need {arguments.need / rate:.1f} such cores; "
        f"{os.cpu_count()} are here"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the measurements; returns the exit code."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root = Path(folder)
        source = make_folder(root / "RSTPReid", arguments.images, arguments.size)
        # TensorFlow's own start is not what is measured.
        from cada_jax.data.registry import hide_accelerators

        hide_accelerators()
        bench_preparation(source, root, arguments.workers)
        bench_pipeline(root, arguments)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: run(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
