"""What the documents name (links, commands, flags, fields, paths), and what of it is missing."""

import ast
import functools
import pathlib
import re
from collections.abc import Iterator

from cada_jax.retrieval.filter import Filter

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Folders of the repository that hold documents; runs and environments beside them are not ours.
_FOLDERS = (".github", "cada_jax", "configs", "tests", "tools")
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(p for f in _FOLDERS for p in (ROOT / f).rglob("*.md"))]
)

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# A command ends with its line, its inline code, a comment or the next command.
_COMMAND = re.compile(r"python (?:-m ((?:cada_jax|tools)[\w.]*)|(tools/\S+\.py))([^\n`]*)")
_END = re.compile(r"\s#\s|\s#$|&&|[;|]")
_FLAG = re.compile(r"(?<![\w-])--(\w+)")
_FIELD = re.compile(r"(?<![\w./])(?:--)?config\.((?:[a-z]\w*\.)*[a-z]\w*)")
_SET = re.compile(r"--set((?:\s+\w+\.\w+=\S+)+)")
CONFIG_FILE = re.compile(r"configs/(\w+)\.py(?::(\w+))?")
_PATH = re.compile(r"(?<![\w./~-])((?:cada_jax|configs|tests|tools|\.github|\.ci)/[\w./-]*\w)")


def read(document: str) -> str:
    """A document, with lines that a backslash or an inline code continues joined."""
    text = (ROOT / document).read_text(encoding="utf-8").replace("\\\n", " ")
    inline = r"(?<!`)`(?!`)[^`\n]*\n[^`\n]*`(?!`)"
    return re.sub(inline, lambda match: match[0].replace("\n", " "), text)


def _prose(text: str) -> str:
    return FENCE.sub("", text)


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
    # The filters of a search are fields of a class, each with its flag.
    filters = {field.name for field in Filter.fields()} if module.endswith(".search") else set()
    found, seen, waiting = {"help", "version", *filters}, set(), [module]
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
            found[key.value] = modules[0].partition(":")[0]
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
