"""Settings' values from where they were given: flag before environment before file before default."""

import difflib
import os
from argparse import ArgumentParser
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs
import yaml

from merbridge.config.config import Config
from merbridge.config.settings import SETTINGS, Environment, Setting, Value
from merbridge.errors import MerbridgeError


class ConfigError(MerbridgeError):
    """A setting is missing or not allowed; the line says where it was given and what is allowed."""


@attrs.frozen
class _Given:
    """A setting's text and the place it comes from, as errors name it."""

    text: str
    place: str


def add_arguments(parser: ArgumentParser, names: Collection[str] = tuple(SETTINGS)) -> None:
    """Add the flags of the settings `names` to a command's parser; values stay texts for `load_config`."""
    for name in names:
        setting = SETTINGS[name]
        parser.add_argument(
            setting.flag,
            dest=setting.attribute,
            metavar=setting.metavar,
            help=_help(setting).replace("%", "%%"),
        )


def load_config(given: Mapping[str, Any], environment: Environment, names: Collection[str] = tuple(SETTINGS)) -> Config:
    """The settings of a command that takes `names`; the others have their defaults.

    `given` is `vars()` of the parsed arguments: None is not given, foreign names are ignored. An empty variable counts
    as not given. A `source` among `names` must be given. Raises `ConfigError`.
    """
    flags_and_environment = _from_environment(environment) | _from_flags(given)
    file = _file_named(flags_and_environment.get("config"))
    texts = (_from_file(file) if file else {}) | flags_and_environment
    # That each parser gives the type of its field in Config is what the tests check.
    values: dict[str, Any] = {
        setting.attribute: _value(setting, texts.get(name) if name in names else None, environment)
        for name, setting in SETTINGS.items()
    }
    if values["source"] is None and "source" in names:
        raise ConfigError(_no_source())
    values["config"] = file
    values["source"] = values["source"] or ""
    return Config(**values)


def _help(setting: Setting) -> str:
    return f"{setting.help} (default: {setting.default_text}; environment: {setting.variable})"


def _from_flags(given: Mapping[str, Any]) -> dict[str, _Given]:
    texts = {name: given.get(setting.attribute) for name, setting in SETTINGS.items()}
    return {name: _Given(str(text), f"flag {SETTINGS[name].flag}") for name, text in texts.items() if text is not None}


def _from_environment(environment: Environment) -> dict[str, _Given]:
    # Unknown MERBRIDGE_… names are not ours to refuse: Kubernetes sets such for a Service named merbridge.
    texts = {name: environment.get(setting.variable) for name, setting in SETTINGS.items()}
    return {name: _Given(text, f"environment {SETTINGS[name].variable}") for name, text in texts.items() if text}


def _file_named(given: _Given | None) -> Path | None:
    if given is None:
        return None
    if not given.text.strip():
        raise ConfigError(_refusal(SETTINGS["config"], given))
    return Path(given.text)


def _from_file(path: Path) -> dict[str, _Given]:
    texts: dict[str, _Given] = {}
    for key, value in _mapping_in(path).items():
        name = _setting_named(path, key)
        if name in texts:
            raise ConfigError(f"{path}: {name} is given twice")
        if not isinstance(value, str):
            raise ConfigError(f"{path}: {key} is not a single value: give {SETTINGS[name].allowed}")
        texts[name] = _Given(value, f"{path}: {key}")
    return texts


def _setting_named(path: Path, key: Any) -> str:
    name = str(key).replace("_", "-")
    if name in SETTINGS and SETTINGS[name].in_file:
        return name
    known = [setting.name for setting in SETTINGS.values() if setting.in_file]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    raise ConfigError(f"{path}: unknown setting {key!r}: {hint}")


def _mapping_in(path: Path) -> Mapping[Any, Any]:
    try:
        # Every scalar stays the text that was written: `node-name: 0123` is a name.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506  # makes only texts
    except OSError as err:
        raise ConfigError(f"{path}: cannot read the configuration file: {os.strerror(err.errno or 0)}") from None
    except yaml.MarkedYAMLError as err:
        raise ConfigError(_marked(path, err)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as err:
        raise ConfigError(f"{path}: broken YAML: {' '.join(str(err).split())}") from None
    if content is None or content == "":
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a mapping of settings to values")
    return content


def _marked(path: Path, err: yaml.MarkedYAMLError) -> str:
    mark = err.problem_mark or err.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{path}: {place}broken YAML: {err.problem}"


def _value(setting: Setting, given: _Given | None, environment: Environment) -> Value:
    if given is None:
        return setting.default(environment)
    try:
        return setting.parse(given.text)
    except ValueError:
        raise ConfigError(_refusal(setting, given)) from None


def _refusal(setting: Setting, given: _Given) -> str:
    return f"{given.place}: {given.text!r} is not allowed: give {setting.allowed}"


def _no_source() -> str:
    setting = SETTINGS["source"]
    return (
        f"no source of pods is given: add {setting.flag} {setting.allowed} (or {setting.variable}, or source: in the "
        "configuration file); such a file has the output of `kubectl get namespaces,pods -A -o yaml`"
    )
