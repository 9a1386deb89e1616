"""Bad arguments of every tool: one line, exit code 2, and nothing is made, changed or removed."""

import importlib
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools import arguments

BENCH = [  # of the two benchmarks with a common set of flags
    "--size=large",
    "--size=",
    "--against=tensorflow",
    "--repeats=0",
    "--repeats=-1",
    "--repeats=many",
    "--repeats=1e3",
    "--repeat=3",
    "--dtype=float16",
    "--words 0 5",
    "--words 9 5",
    "--words 5",
    "--words -1 -1",
    "--depth=-1",
    "--depth=1.5",
    "--threads=-1",
    "--threads=99999999999999999999",
    "--clock=sand",
    "--gpu=1",
    "--batch=0",
    "--batch=-4",
    "--batch=",
    "--batch=nan",
    "small",
]
COMPILED = [  # of what compiles a step
    "--config=rstq",
    "--config=",
    "--config=:released",
    "--config=rstp:releasd",
    "--config=default:large",
    "--config=README.md",
    "--config=.",
    "--config=/",
    "--config=~no-such-user/x.py",
    "--config=FILE.py",
    "--config=BROKEN.py",
    "--config=EMPTY.py",
    "--config=NONE.py",
    "--config=RAISES.py",
    f"--config={'x' * 300}.py",
    "--mesh=8",
    "--mesh=0x1x1",
    "--mesh=1x1",
    "--mesh=-1x1x1",
    "--mesh=1x1x1x1",
    "--mesh=axbxc",
    "--mesh=1000x1000x1",
    "--mesh=",
    "--set train.batch=3",
    "--set train.batch_size=few",
    "--set train.batch_size",
    "--set train.batch_size=",
    "--set train.batch_size=1.5",
    "--set train=3",
    "--set =3",
    "--set train.batch_size.x=3",
    "--set eval.track_test=maybe",
    "--set data.image_size=384,128,3",
    "--set data.image_size=384",
    "--set data.image_size=(a,b)",
    "--set optimizer.learning_rate=nan",
    "--set optimizer.learning_rate=inf",
    "--unknown",
]
PATHS = [  # of a folder that a tool makes
    "HELD",
    "FILE",
    "FILE/below",
    "DANGLING",
    "",
    "~no-such-user/x",
    "x" * 300,
]
BAD = {
    "bench.train": [
        *BENCH,
        "--batch=1",
        "--parts",
        "--parts vit tex",
        "--remat=some",
        "--steps=0 --data=synthetic",
        "--data=syntetic",
        "--data=synthetic:tny",
        "--data=synthetic --remat=full",
    ],
    "bench.retrieval": [
        *BENCH,
        "--queries=0",
        "--gallery=-3",
        "--topk=0",
        "--topk=33",
        "--topk=5 --gallery=4",
        "--encode_batch=0",
        "--plot=cost.png",
        "--plot=HELD/paper.svg",
        "--plot=missing/cost.svg",
        "--plot=FILE/cost.svg",
        "--plot=FOLDER.svg",
        "--plot=DANGLING/cost.svg",
        f"--plot={'x' * 300}.svg",
        "--plot=",
        "--plot=new.svg --against=torch",
    ],
    "bench.data": [
        "--images=0",
        "--images=-5",
        "--images=few",
        "--images=1 --batch=3",
        "--size=384",
        "--size=0x128",
        "--size=-3x5",
        "--size=axb",
        "--size=384x128x3",
        "--size=9999x9999",
        "--input_size=224",
        "--batch=0",
        "--batches=0",
        "--workers=-1",
        "--workers=100000",
        "--need=0",
        "--need=-1",
        "--need=nan",
        "--need=inf",
        "--need=much",
        "--folder=missing",
        "--folder=FILE",
        "--folder=DANGLING",
        "--folder=",
        "--image=4",
    ],
    "device.compile": [*COMPILED, "--rows=0", "--rows=-1", "--rows=all"],
    "check_resume": [
        "",
        *(f"--workdir={path}" for path in PATHS),
        *(
            f"--workdir=new {flags}"
            for flags in (
                "--kills=-1",
                "--kills=few",
                "--terms=-1",
                "--seed=-1",
                "--kills=0",
                "--kils=3",
                "--config=syntetic",
                "--config=synthetic:tny",
                "--set train.checkpoint_evry=5",
                "--set train.epochs=two",
            )
        ),
    ],
    "ablate": [
        "",
        "--out=HELD",
        "--out=FILE",
        "--out=",
        *(
            f"--out=new {flags}"
            for flags in (
                "--rows=globl",
                "--rows=global,,atp",
                "--seeds=0",
                "--seeds=-1",
                "--seeds=three",
                "--steps=0",
                "--config=syntetic",
                "--config=synthetic:tny",
                "--set train.epochs=two",
                "--set train.epochs",
                "--set seed=3",
                "--set eval.save_queries=False",
                "--set data.max_length=50",
                "--row=global",
                "--init=",
            )
        ),
    ],
    "pretrain_attributes": [
        "",
        *PATHS,
        "new other",
        "new --steps=0",
        "new --steps=-1",
        "new --steps=x",
        "new --variant=pretran",
    ],
    "export_synthetic": [
        "",
        *(f"--output={path}" for path in PATHS),
        "--output=new --variant=demoo",
        "--output=new --format=market",
        "--output=new --form=rstp",
    ],
    "probe": [
        "",
        "--model=pretrained:synthetic",
        *(f"--model=pretrained:synthetic --out={path}" for path in PATHS),
        *(
            f"--out=new {flags}"
            for flags in (
                "",
                "--model=",
                "--model=missing",
                "--model=FILE",
                "--model=HELD",
                "--model=pretrained:synthetc",
                "--model=pretrained:synthetic --model=missing",
                "--model=pretrained:synthetic --dataset=synthetc",
                "--model=pretrained:synthetic --dataset=synthetic/dmo",
                "--model=pretrained:synthetic --dataset=",
                "--model=pretrained:synthetic --split=all",
                "--model=pretrained:synthetic --limit=1",
                "--model=pretrained:synthetic --limit=few",
                "--model=pretrained:synthetic --data_dir=~no-such-user/x",
                "--modle=pretrained:synthetic",
            )
        ),
    ],
    "ceiling": ["--variant=x", "--split=all", "--varient=demo", "demo"],
}
CASES = [(tool, line) for tool, lines in BAD.items() for line in lines]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with everything that may lie in the way, entered."""
    (tmp_path / "FILE").write_text("mine")
    (tmp_path / "HELD").mkdir()
    (tmp_path / "HELD" / "paper.svg").write_text("<svg/>")
    (tmp_path / "HELD" / "straight").mkdir()
    (tmp_path / "FOLDER.svg").mkdir()
    (tmp_path / "DANGLING").symlink_to("nowhere")
    (tmp_path / "FILE.py").mkdir()
    (tmp_path / "BROKEN.py").write_text("def get_config(:\n")
    (tmp_path / "EMPTY.py").write_text("")
    (tmp_path / "NONE.py").write_text("def get_config():\n    return None\n")
    (tmp_path / "RAISES.py").write_text("def get_config():\n    return 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listing(folder: pathlib.Path) -> list[tuple]:
    return sorted(
        (str(p.relative_to(folder)), p.read_bytes() if p.is_file() else None)
        for p in folder.rglob("*")
        if "__pycache__" not in p.parts
    )


@pytest.mark.parametrize(("tool", "line"), CASES, ids=[f"{t}: {c[:40]}" for t, c in CASES])
def test_a_bad_argument_is_one_line_and_touches_nothing(tool, line, place, capsys, monkeypatch):
    module = importlib.import_module(f"tools.{tool}")  # TensorFlow sets variables of its own
    before, environment = listing(place), dict(os.environ)
    # A path may be empty or hold no blank; an empty line is no argument at all.
    argv = line.split(" ") if line or tool == "pretrain_attributes" else []
    code = module.main(argv)
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1 and printed.err.startswith("error: "), printed.err
    assert listing(place) == before
    assert dict(os.environ) == environment


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
@pytest.mark.parametrize(
    ("tool", "flag"),
    [
        ("bench.retrieval", "--plot=LOCKED/cost.svg"),
        ("bench.data", "--folder=LOCKED"),
        ("ablate", "--out=LOCKED/new"),
        ("check_resume", "--workdir=LOCKED/new"),
        ("pretrain_attributes", "LOCKED/new"),
        ("export_synthetic", "--output=LOCKED/new"),
        ("probe", "--out=LOCKED/new"),
    ],
)
def test_a_place_without_permission_is_refused_before_the_work(tool, flag, place, capsys):
    (place / "LOCKED").mkdir(mode=0o500)
    assert importlib.import_module(f"tools.{tool}").main([flag]) == 2
    assert "LOCKED: Permission denied" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the system has no such folder")
def test_a_place_where_nobody_may_write_is_refused_whatever_its_permissions_say():
    for parse in (arguments.folder, arguments.folder_to_make):
        with pytest.raises(arguments.argparse.ArgumentTypeError, match="cannot write '/proc/new'"):
            parse("/proc/new")


@pytest.mark.parametrize("tool", BAD)
def test_every_tool_has_a_help_with_its_own_command(tool, capsys):
    assert importlib.import_module(f"tools.{tool}").main(["--help"]) == 0
    assert f"python -m tools.{tool}" in capsys.readouterr().out


@given(st.text(max_size=12) | st.integers().map(str) | st.floats().map(str))
def test_whatever_text_a_type_is_given_it_gives_a_value_in_range_or_one_line(text):
    types = {
        arguments.integer(1, 9): lambda v: 1 <= v <= 9,
        arguments.positive_real: lambda v: 0 < v < float("inf"),
        arguments.image_size: lambda v: all(1 <= side <= 4096 for side in v),
        arguments.mesh: lambda v: len(v) == 3 and min(v) >= 1,
        arguments.folder: lambda v: v.is_absolute(),
        arguments.folder_to_make: lambda v: v.is_absolute(),
    }
    for parse, good in types.items():
        try:
            value = parse(text)
        except arguments.argparse.ArgumentTypeError as refused:
            assert "\n" not in str(refused)
        else:
            assert good(value)
