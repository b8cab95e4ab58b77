"""One frozen dataclass per script: default < `--config preset.yaml` < flag, and a complete `--help`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from aneurysm.package import preset_path, version

Config = TypeVar("Config")


def run_script(
    main: Callable[[Config], int | None], config_class: type[Config], script_doc: str, named: str = ""
) -> None:
    """Calls `main` with the configuration and exits with what it returns; a ValueError gives one line and exit code 1.

    `named` as in parse_config. Characters that stdout cannot encode are printed as backslash escapes.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "30")  # seconds between the bars in a log file
    try:
        raise SystemExit(main(parse_config(config_class, _as_called(script_doc, main.__module__), named=named)))
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error


def parse_config(config_class: type[Config], script_doc: str, args: list[str] | None = None, named: str = "") -> Config:
    """The script's configuration from the command line; a misspelt or ill-typed name ends the program with exit code 2.

    Every field of `config_class` is a flag of the same name, and the string literal below it is its help.
    `script_doc` is the script's docstring, shown above the flags; `args` replaces sys.argv[1:]. The field `named`, a
    tuple, takes the positional arguments (one or more). `--version` prints the version of the project.
    """
    from docstring_parser import parse_from_object  # comes with jsonargparse
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        description=script_doc,
        formatter_class=_formatter(),
        usage=f"%(prog)s {f'{named} ... ' if named else ''}[--flag value ...]",  # listing all flags would fill a screen
        version=version(),
    )
    parser.add_argument(
        "--config",
        action=_preset_action(),
        help="a YAML file, or the name of a preset of the project (stage1/demo); flags after it win",
    )
    if named:
        words = {param.arg_name: param.description for param in parse_from_object(config_class).params}
        kind, _ = get_args(get_type_hints(config_class)[named])
        parser.add_argument(named, nargs="+", type=kind, help=words[named])
    parser.add_class_arguments(config_class, as_group=False, skip={named})
    settings = parser.instantiate(parser.parse_args(_spelt_out(sys.argv[1:] if args is None else args, config_class)))
    values = {k: tuple(v) if k == named else v for k, v in vars(settings).items() if k != "config"}
    return config_class(**values)


def _spelt_out(args: list[str], config_class: type) -> list[str]:
    """The arguments in the form that jsonargparse reads: `--resume` as `--resume true`, `--views a,b` as `[a,b]`."""
    kinds = dict(_flags(config_class))
    words = []
    for arg, after in zip(args, [*args, "-"][1:], strict=True):
        switched_on = kinds.get(arg) is bool and after.startswith("-")
        is_list = words and get_origin(kinds.get(words[-1])) is tuple and not arg.startswith("[")
        words += [arg, "true"] if switched_on else [f"[{arg}]" if is_list else arg]
    return words


def _flags(config_class: type, prefix: str = "--") -> Iterator[tuple[str, Any]]:
    """Each flag and its type."""
    for name, kind in get_type_hints(config_class).items():
        if is_dataclass(kind):
            yield from _flags(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, kind


def from_saved(config_class: type[Config], saved: dict[str, Any]) -> Config:
    """The configuration from a saved `dataclasses.asdict`; ValueError for an unknown name."""
    types = get_type_hints(config_class)
    unknown = set(saved) - set(types)
    if unknown:
        raise ValueError(f"{config_class.__name__}: expected {', '.join(types)}, found {', '.join(sorted(unknown))}")
    values = {name: from_saved(types[name], v) if is_dataclass(types[name]) else v for name, v in saved.items()}
    return config_class(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def subset(config_class: type[Config], config: Any) -> Config:
    """An instance of `config_class` with its fields taken from `config`, which has them all."""
    return config_class(**{field.name: getattr(config, field.name) for field in fields(config_class)})


def _as_called(script_doc: str, module: str) -> str:
    """The docstring; for an installed command, with its name in place of `python script.py`."""
    if module == "__main__":
        return script_doc
    script = rf"(?:scripts/)?{module.rpartition('.')[2]}\.py"
    script_doc = re.sub(rf"python (?:{script}|-m {re.escape(module)})(?= )", Path(sys.argv[0]).name, script_doc)
    return re.sub(rf"(torchrun .*?){script}(?= )", rf"\1-m {module}", script_doc)


def _preset_action() -> type:
    """An action for `--config` that also accepts the name of a preset."""
    from jsonargparse import ActionConfigFile

    class Preset(ActionConfigFile):
        def __call__(self, parser, settings, given, option_string=None):
            try:
                path = preset_path(given)
            except ValueError as error:
                parser.error(f"--config {error}")
            super().__call__(parser, settings, str(path), option_string)

    return Preset


def _formatter() -> type:
    """A help formatter that keeps the line breaks of the script's docstring."""
    from argparse import RawDescriptionHelpFormatter

    from jsonargparse import DefaultHelpFormatter

    class Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
        def _expand_help(self, action):
            words = super()._expand_help(action).replace("<class 'Path'>", "Path")
            return words.replace("Path to a configuration file.", "a YAML file of the following alone")

    return Formatter
