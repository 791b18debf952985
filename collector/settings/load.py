"""The one door through which a user's configuration comes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from collector.errors import ConfigError
from collector.settings import kinds
from collector.settings.checks import cross_mistakes
from collector.settings.layers import Layer, LayerSource, environment_layer, file_layer, line
from collector.settings.model import Origins, Settings
from collector.settings.reading import KeyPath

DEFAULT_FILE = Path("collector.toml")
FILE_VARIABLE = "PAI_COLLECTOR_CONFIG"
SHARD_PLACE = "{shard}"


def locate(path: Path | None, environ: Mapping[str, str]) -> Path:
    """The configuration file to read: `path`, else $PAI_COLLECTOR_CONFIG, else ./collector.toml."""
    if path is not None:
        return path
    named = environ.get(FILE_VARIABLE, "")
    return Path(named) if named else DEFAULT_FILE


def load(path: Path | None, environ: Mapping[str, str], *, shard: str | None = None) -> Settings:
    """Read, merge and check the configuration; the environment goes over the file, and `shard` over both.

    Relative paths in it are taken from the file's folder. Raises ConfigError with one line for
    each mistake of file and environment together.
    """
    file = locate(path, environ)
    environment = environment_layer(environ)
    if not file.exists():
        raise ConfigError([_absent(file, path, environ), *environment.lines], hint=_ABSENT_HINT)
    layer = file_layer(file)
    settings = anchored(Settings(_build_sources=((LayerSource(environment), LayerSource(layer)), {})), file.parent)
    lines = [*layer.lines, *environment.lines]
    unreadable = layer.lines and not layer.failed
    if not unreadable:
        mistakes = cross_mistakes(settings, [*layer.failed, *environment.failed])
        lines += [line(mistake, environment.origins) for mistake in mistakes]
    if shard is not None:
        try:
            settings = settings.model_copy(update={"shard": kinds.shard().read(shard)})
        except ValueError as error:
            lines.append(f"--shard: got {shard!r}; expected {error}")
    if lines:
        raise ConfigError(lines)
    return placed(settings.with_origins(_origins(file, layer, environment, shard)))


def _origins(file: Path, layer: Layer, environment: Layer, shard: str | None) -> Origins:
    found: dict[KeyPath, str] = dict.fromkeys(_leaves(layer.values), "file")
    for path in _leaves(environment.values):
        lengths = range(len(path), 0, -1)
        found[path] = next(environment.origins[path[:n]] for n in lengths if path[:n] in environment.origins)
    if shard is not None:
        found["shard",] = "--shard"
    return Origins(str(file.absolute()), found)


def _leaves(values: Mapping[str, Any], path: KeyPath = ()) -> Iterator[KeyPath]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


def placed(settings: Settings) -> Settings:
    """The same settings with the number of the shard in place of `{shard}` in paths, and `auto` made a number.

    Raises ConfigError where the host name has no number, or too high a one.
    """
    try:
        share = settings.share
    except ValueError as error:
        raise ConfigError([f"shard: {error}"]) from None
    store, journal = (
        section.model_copy(update={"path": Path(str(section.path).replace(SHARD_PLACE, str(share.index)))})
        for section in (settings.store, settings.journal)
    )
    shard = "" if share.is_alone else str(share)
    return settings.model_copy(update={"store": store, "journal": journal, "shard": shard})


def anchored(settings: Settings, folder: Path) -> Settings:
    """The same settings with every path absolute, relative ones taken from `folder`."""
    # Not resolved: a mounted configuration is often a link into a folder that comes and goes.
    root = folder.absolute()
    paths = {"ca_file": settings.store.ca_file, "fault_rules": settings.store.fault_rules}
    store = settings.store.model_copy(
        update={"path": root / settings.store.path}
        | {name: None if path is None else root / path for name, path in paths.items()}
    )
    journal = settings.journal.model_copy(update={"path": root / settings.journal.path})
    return settings.model_copy(update={"store": store, "journal": journal})


_ABSENT_HINT = "write one with: pai-collector init"


def _absent(file: Path, path: Path | None, environ: Mapping[str, str]) -> str:
    if path is not None:
        return f"--config: got {file}; expected an existing file"
    if environ.get(FILE_VARIABLE):
        return f"{FILE_VARIABLE}: got {file}; expected an existing file"
    return f"{file}: no such file here; name another with --config or {FILE_VARIABLE}"
