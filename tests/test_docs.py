"""The documents: links lead somewhere, commands, flags, fields and paths that they name exist."""

import ast
import functools
import pathlib
import re
import textwrap
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
README_LINES = 160

# Folders of the repository that hold documents; runs and environments beside them are not ours.
_FOLDERS = (".github", "cada_jax", "configs", "tests", "tools")
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(p for f in _FOLDERS for p in (ROOT / f).rglob("*.md"))]
)

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# A command ends with its line, its inline code, a comment or the next command.
_COMMAND = re.compile(r"python (?:-m ((?:cada_jax|tools)[\w.]*)|(tools/\S+\.py))([^\n`]*)")
_END = re.compile(r"\s#\s|\s#$|&&|[;|]")
_FLAG = re.compile(r"(?<![\w-])--(\w+)")
_FIELD = re.compile(r"(?<![\w./])(?:--)?config\.((?:[a-z]\w*\.)*[a-z]\w*)")
_SET = re.compile(r"--set((?:\s+\w+\.\w+=\S+)+)")
_CONFIG_FILE = re.compile(r"configs/(\w+)\.py(?::(\w+))?")
_PATH = re.compile(r"(?<![\w./~-])((?:cada_jax|configs|tests|tools|\.github|\.ci)/[\w./-]*\w)")


def _read(document: str) -> str:
    """A document, with lines that a backslash or an inline code continues joined."""
    text = (ROOT / document).read_text(encoding="utf-8").replace("\\\n", " ")
    inline = r"(?<!`)`(?!`)[^`\n]*\n[^`\n]*`(?!`)"
    return re.sub(inline, lambda match: match[0].replace("\n", " "), text)


def _prose(text: str) -> str:
    return _FENCE.sub("", text)


def _slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def _anchors(path: pathlib.Path) -> set[str]:
    text = _prose(path.read_text(encoding="utf-8"))
    return {_slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def broken_links(document: str, text: str) -> list[str]:
    """The relative links of a document that lead nowhere, anchors included."""
    broken = []
    for link in _LINK.findall(_prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        is_there = path.exists() and path.resolve().is_relative_to(ROOT)
        if not is_there or (anchor and anchor not in _anchors(path)):
            broken.append(link)
    return broken


def commands(text: str) -> Iterator[tuple[str, list[str], str]]:
    """(module, its flags, its arguments as text) of every command that runs a module of ours."""
    for module, script, rest in _COMMAND.findall(text):
        arguments = _END.split(rest, maxsplit=1)[0]
        name = module.rstrip(".") or script.removesuffix(".py").replace("/", ".")
        yield name, _FLAG.findall(arguments), arguments


def _source_of(module: str) -> pathlib.Path | None:
    """The file that `python -m module` runs, or that an import of it reads; None without one.

    Nothing is imported: `importlib.util.find_spec` would import the packages above a module.
    """
    path = ROOT / module.replace(".", "/")
    candidates = (path.with_suffix(".py"), path / "__main__.py", path / "__init__.py")
    return next((p for p in candidates if p.is_file()), None)


@functools.cache
def _tree(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imported(tree: ast.Module) -> Iterator[str]:
    """Modules of ours that a file imports, wherever it does; names that are no modules too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def _flags_in(tree: ast.Module) -> set[str]:
    """Flags that a file defines: strings that begin with "--", and first arguments of DEFINE_*."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {match[1] for match in [re.fullmatch(r"--(\w+)", node.value)] if match}
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "").startswith("DEFINE_"):
            found.add(node.args[0].value)
    return found


@functools.cache
def known_flags(module: str) -> frozenset[str]:
    """Flags of a command: those that its file defines, or a file that it imports.

    Imports of `tools` are followed through, those of the package by one step: most of it is no
    command line.
    """
    found, seen, waiting = {"help", "version"}, set(), [module]
    while waiting:
        name = waiting.pop()
        source = _source_of(name)
        if source is None or source in seen:
            continue
        seen.add(source)
        found |= _flags_in(_tree(source))
        if name == module or name.startswith("tools."):
            waiting += [
                m for m in _imported(_tree(source)) if m.startswith(("cada_jax.", "tools."))
            ]
    return frozenset(found)


@functools.cache
def _subcommands() -> dict[str, str]:
    """Name -> module of the commands of `python -m cada_jax`, read off their table."""
    found = {}
    tables = (n for n in ast.walk(_tree(ROOT / "cada_jax/__main__.py")) if isinstance(n, ast.Dict))
    for key, value in (
        (k, v) for table in tables for k, v in zip(table.keys, table.values, strict=True)
    ):
        strings = (n.value for n in ast.walk(value) if isinstance(n, ast.Constant))
        modules = [s for s in strings if str(s).startswith("cada_jax.")]
        if isinstance(key, ast.Constant) and modules:
            found[key.value] = modules[0]
    return found


def wrong_commands(text: str) -> list[str]:
    """What is wrong with the commands of a document: modules and flags that are not there."""
    wrong = []
    for module, flags, arguments in commands(text):
        if module == "cada_jax":
            name = next(iter(re.findall(r"^\s*([a-z]\w*)", arguments)), None)
            if name is None:  # COMMAND, --help or nothing: there is no module to look at
                continue
            if name not in _subcommands():
                wrong.append(f"python -m cada_jax {name}")
                continue
            module = _subcommands()[name]
        if _source_of(module) is None:
            wrong.append(f"python -m {module}")
            continue
        # `--config.FIELD` is checked as a field.
        unknown = set(flags) - known_flags(module)
        wrong += [f"{module} --{flag}" for flag in sorted(unknown)]
    return wrong


def wrong_fields(text: str, config) -> list[str]:
    """Fields of the configuration that a document names and that are not there."""
    names = [name for name in _FIELD.findall(text) if name.split(".")[-1] not in ("json", "py")]
    for group in _SET.findall(text):
        names += [setting.partition("=")[0] for setting in group.split()]
    wrong = []
    for name in names:
        value = config
        for part in name.split("."):
            if not hasattr(value, "keys") or part not in value:
                wrong.append(name)
                break
            value = value[part]
    return wrong


def missing_paths(text: str) -> list[str]:
    """Paths below our folders that a document names and that are not there."""
    return [path for path in _PATH.findall(text) if not (ROOT / path).exists()]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document):
    assert broken_links(document, _read(document)) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_and_its_flags_exist(document):
    assert wrong_commands(_read(document)) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_field_that_is_named_exists(document, load_config):
    allowed = {"loss.margin_weight"}  # what the guide shows how to add
    found = set(wrong_fields(_read(document), load_config("default")))
    assert found - (allowed if document.endswith("CONTRIBUTING.md") else set()) == set()


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d != "CHANGELOG.md"])
def test_every_path_that_is_named_exists(document):
    new = {"cada_jax/data/datasets/mypeople/builder.py"}  # what the guide shows how to add
    found = set(missing_paths(_read(document)))
    assert found - (new if document.endswith("CONTRIBUTING.md") else set()) == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_configuration_and_variant_that_is_named_exists(document, load_config):
    for name, variant in set(_CONFIG_FILE.findall(_read(document))):
        load_config(name, *([variant] if variant.islower() or variant[:1].isdigit() else []))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_in_a_document_can_be_parsed(document):
    for _, language, body in _FENCE.findall((ROOT / document).read_text(encoding="utf-8")):
        if language == "python":
            ast.parse(textwrap.dedent(body))


def test_the_readme_is_a_door():
    lines = len((ROOT / "README.md").read_text(encoding="utf-8").splitlines())
    assert lines <= README_LINES


def test_the_readme_keeps_its_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    demo = "python -m cada_jax.main --config=configs/synthetic.py --workdir=runs/demo"
    tests = "pip install torch==2.13.0 && pip install -e '.[dev,torch]' && python -m pytest -q"
    blocks = [body.strip() for _, _, body in _FENCE.findall(text)]
    assert tests in blocks
    assert any(b.startswith("git clone") and b.endswith(demo) and "\n" not in b for b in blocks)


# What follows shows that the checks can fail.


@pytest.mark.parametrize(
    "link", ["no_such_file.md", "../README.md", "LICENSE#no-such-heading", "#no-such-heading"]
)
def test_a_broken_link_is_noticed(link):
    assert broken_links("README.md", f"See [this]({link}).") == [link]


def test_good_links_pass():
    text = "[a](LICENSE) ![b](.github/images/retrieval.png) [c](#results) [d](https://x.org/y)"
    assert broken_links("README.md", text) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`python -m cada_jax.no_such --x`", "python -m cada_jax.no_such"),
        ("python tools/no_such.py", "python -m tools.no_such"),
        ("python -m cada_jax.main --no_such=1  # --config", "cada_jax.main --no_such"),
        ("| `python tools/check_parity.py \\\n--no_such` |", "tools.check_parity --no_such"),
    ],
)
def test_a_command_that_is_not_there_is_noticed(text, wrong):
    assert wrong_commands(text.replace("\\\n", " ")) == [wrong]


def test_the_flags_of_good_commands_are_found():
    text = "python -m cada_jax.main --config=x --workdir=y --config.seed=1 && ls --all"
    assert list(commands(text))[0][1] == ["config", "workdir", "config"]
    assert wrong_commands(text) == []


@pytest.mark.parametrize(
    "text", ["--config.train.bach_size=4", "`config.no_such`", "--set train.no_such=2 seed.x=1"]
)
def test_a_field_that_is_not_there_is_noticed(text, load_config):
    assert wrong_fields(text, load_config("default"))


def test_good_fields_pass(load_config):
    text = "`config.json` cada_jax.config `config.mesh.data` --set model.remat=full train.epochs=2"
    assert wrong_fields(text, load_config("default")) == []


def test_a_path_that_is_not_there_is_noticed():
    text = "`tests/test_no_such.py`, [x](../../tools/none), `tools/parity` and cada_jax/config"
    assert missing_paths(text) == ["tests/test_no_such.py"]
