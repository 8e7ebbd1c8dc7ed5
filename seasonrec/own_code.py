"""A user's own code, which configs name beside ours: another version of it is another experiment."""

import ast
import hashlib
import site
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any, Final

# What lies there is installed, and changes with its version.
INSTALLED: Final = tuple({Path(sysconfig.get_path(each)).resolve() for each in ("stdlib", "platstdlib", "purelib", "platlib")})
USERS: Final = tuple(Path(each).resolve() for each in (*site.getsitepackages(), site.getusersitepackages()))


# Parts of a config that a joint model's numbers do not depend on, and the data, which are told apart by a digest of their own.
APART: Final = ("baseline", "data", "logger", "callbacks")


def own_code(config: Mapping[str, Any]) -> dict[str, str]:
    """A digest of each module of a user's own that a config's classes are of, and of what these import in turn, by module.

    Only of what the joint model's numbers depend on.
    """
    return _own_of({key: part for key, part in config.items() if key not in APART})


def own_part(config: Mapping[str, Any], part: str) -> dict[str, str]:
    """The same of one part of a config alone, e.g. "baseline"."""
    return _own_of(config.get(part))


def recorded_code(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What a run's record says of its own code: that of the joint model, of its baselines and of who reads its data."""
    return {"own": own_code(config), "baselines": own_part(config, "baseline"), "data": own_part(config, "data")}


def changed_code(record: Mapping[str, Any]) -> list[str]:
    """The modules of a user's own that are not here as they were when a run began; none of a part of which a record does not say."""
    code, changed = record.get("code") or {}, set()
    for part, now in recorded_code(record.get("config") or {}).items():
        if (was := code.get(part)) is not None:
            changed |= {name for name in was.keys() | now.keys() if was.get(name) != now.get(name)}
    return sorted(changed)


def _own_of(node: Any) -> dict[str, str]:
    return digests(target.rpartition(".")[0] for target in _targets(node))


def digests(modules: Iterable[str]) -> dict[str, str]:
    """A digest of those of some modules that are a user's own, and of those that these import in turn, by module.

    Args:
        modules: dotted names, which may go on below a module, as a class within a class does.
    """
    found: dict[str, str] = {}
    to_read = list(modules)
    while to_read:
        parts = to_read.pop().split(".")
        for n in range(1, len(parts) + 1):
            name = ".".join(parts[:n])
            if (spec := _own(name)) is None:
                break
            is_package = spec.submodule_search_locations is not None
            if spec.has_location and name not in found:  # a folder without an __init__.py has none
                if (content := _content(str(spec.origin))) is None:
                    break
                found[name] = hashlib.sha256(content).hexdigest()[:12]
                to_read += _imports(content, name if is_package else name.rpartition(".")[0])
            if not is_package:  # what is named below it is no module
                break
    return dict(sorted(found.items()))


def _own(module: str) -> ModuleSpec | None:
    """A module of a user's own, as it would be imported; None of any other, and of what is no module."""
    try:
        spec = find_spec(module)
    except Exception:  # what is above it is imported, and may raise anything: it is not of this run then
        return None
    if spec is None or (spec.has_location and not str(spec.origin).endswith(".py")):
        return None
    places = [spec.origin] if spec.has_location else spec.submodule_search_locations or ()
    others = (*INSTALLED, *USERS, Path(__file__).resolve().parent)
    own = [place for place in places if not any(Path(str(place)).resolve().is_relative_to(folder) for folder in others)]
    return spec if own else None


def _content(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError:  # in an archive, or gone since it was imported
        return None


def _imports(source: bytes, package: str) -> Iterator[str]:
    """The dotted names that a source imports, wherever in it; what comes from a module may be a module too."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # of a file that is imported on some machines only
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            try:
                base = resolve_name(name, package) if node.level else name
            except ImportError:  # beyond the top, e.g. of a file that is a module here and a part of a package elsewhere
                continue
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(target := node.get("_target_"), str):
            yield target
        for child in node.values():
            yield from _targets(child)
    elif isinstance(node, list | tuple):
        for child in node:
            yield from _targets(child)
