"""Options that every command takes, before or after its name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from collector.cli.report import Reporter
from collector.errors import ConfigError
from collector.owner.lock import VALUED_OPTIONS
from collector.redaction import register_secret
from collector.telemetry import log

if TYPE_CHECKING:
    import typer

    from collector.api.gateways import ApiKey
    from collector.settings import Settings

FLAGS = frozenset({"--debug"})


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """What stands on every command line; a command finds it as `ctx.obj`."""

    reporter: Reporter
    config: Path | None = None
    log_level: log.Level | None = None
    log_format: log.Format | None = None

    def settings(self, environ: Mapping[str, str] = os.environ, *, shard: str | None = None) -> Settings:
        """The configuration, and logging set up as it says; the command line goes over both.

        Raises ConfigError.
        """
        # Not every command reads a configuration, and the libraries behind it take a while to load.
        from collector.settings import load

        settings = load(self.config, environ, shard=shard)
        self.reporter.configure(self.log_level or settings.log.level, self.log_format or settings.log.format)
        return settings


def options_of(context: typer.Context) -> GlobalOptions:
    """The global options, inside a command."""
    return cast(GlobalOptions, context.obj)


def key_of(environ: Mapping[str, str] = os.environ) -> ApiKey:
    """The API key, from here on blotted out of everything that is logged or printed.

    It stands in DASHSCOPE_API_KEY, or in the file that DASHSCOPE_API_KEY_FILE names, which is read again when the
    service refuses the key. Raises ConfigError.
    """
    from collector.api.keys import KeyFile
    from collector.settings import API_KEY_VARIABLE, KEY_FILE_VARIABLE, api_key

    if path := environ.get(KEY_FILE_VARIABLE, "").strip():
        if environ.get(API_KEY_VARIABLE, "").strip():
            raise ConfigError([f"{API_KEY_VARIABLE} and {KEY_FILE_VARIABLE}: both are set; expected one of them"])
        return KeyFile(Path(path))
    key = api_key(environ).get_secret_value()
    register_secret(key)
    return key


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line, its global options taken out and spelled `--name=value`."""

    options: tuple[str, ...]
    rest: tuple[str, ...]
    incomplete: str = ""
    """The first global option that stands without its value."""


def hoist(arguments: Sequence[str]) -> CommandLine:
    """Take the global options out, wherever they stand; nothing behind `--` is touched.

    A word that begins with `--` is an option of its own and no value; `--config=--odd` still is one.
    """
    options: list[str] = []
    rest: list[str] = []
    incomplete = ""
    words = list(arguments)
    while words:
        word = words.pop(0)
        name, equals, _ = word.partition("=")
        if word == "--":
            rest += [word, *words]
            break
        if word in FLAGS or (name in VALUED_OPTIONS and equals):
            options.append(word)
        elif word not in VALUED_OPTIONS:
            rest.append(word)
        elif words and not words[0].startswith("--"):
            options.append(f"{word}={words.pop(0)}")
        else:
            incomplete = incomplete or word
    return CommandLine(tuple(options), tuple(rest), incomplete)


def first_logging(options: Sequence[str], environ: Mapping[str, str]) -> tuple[log.Level, log.Format]:
    """Level and format before a configuration is read: from the options, else the environment, else the defaults.

    A word that is none of the choices is passed over here; whoever reads it properly reports it.
    """
    given = dict(word.split("=", 1) for word in options if "=" in word)
    level = given.get("--log-level") or environ.get("PAI_COLLECTOR__LOG__LEVEL")
    format = given.get("--log-format") or environ.get("PAI_COLLECTOR__LOG__FORMAT")
    return (
        cast(log.Level, level) if level in get_args(log.Level) else "info",
        cast(log.Format, format) if format in get_args(log.Format) else "auto",
    )
