"""The table of options: every field of `Config` is in it, and code and text are held to the same words."""

import inspect
import re
from dataclasses import fields
from typing import Any

import microasgi_server
import pytest
from microasgi_server import Config
from microasgi_server.command.foreign import FOREIGN
from microasgi_server.command.parser import DEFAULTS, SERVE_GROUPS, TARGET_GROUP, Parser, add_target
from microasgi_server.kinds import (
    BYTES,
    COUNT,
    DIRECTORY,
    FLAG,
    INTERVAL,
    PATH,
    PORT,
    PREFIX,
    SECONDS,
    SIZE,
    SOME,
    TEXT,
    WINDOW,
    Kind,
    choice,
)
from microasgi_server.options import OPTIONS, Option


def test_every_field_of_the_config_is_in_the_table() -> None:
    """Each field but the limits is a row, and so can be chosen on a command line; each has its words in the docstring."""
    names = [field.name for field in fields(Config)]
    assert {*names} - {"limits"} == {option.name for option in OPTIONS}
    assert len({*OPTIONS}) == len(OPTIONS)
    assert re.findall(r":param (\w+):", inspect.getdoc(Config) or "") == names


def test_an_option_has_a_name_for_each_place() -> None:
    """A command line writes it with dashes, and the environment in capitals behind ours."""
    option = Option("timeout_header", SECONDS, "")
    assert (option.flag, option.variable) == ("--timeout-header", "MICROASGI_TIMEOUT_HEADER")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (TEXT, "", ""),
        (PATH, "app.sock", "app.sock"),
        (DIRECTORY, ".", "."),
        (FLAG, "1", True),
        (FLAG, "Off", False),
        (PORT, "0", 0),
        (PORT, "65535", 65535),
        (COUNT, "12", 12),
        (BYTES, "0", 0),
        (SECONDS, "0.5", 0.5),
        (SECONDS, "inf", float("inf")),
        (PREFIX, "/api/", "/api"),
        (PREFIX, "/", ""),
        (INTERVAL, "inf", float("inf")),
        (SOME, "1", 1),
        (WINDOW, "On", 12),
        (WINDOW, "false", 0),
        (WINDOW, "15", 15),
        (choice("a", "b"), "b", "b"),
    ],
)
def test_a_text_is_read(kind: Kind, text: str, value: Any) -> None:
    """A text of a kind stands for a value that code could have given, too."""
    option = Option("it", kind, "")
    assert option.read(text, "it") == value
    assert option.check(value, "it") == value


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (PATH, "", ""),
        (DIRECTORY, "", None),
        (FLAG, "perhaps", 1),
        (PORT, "65536", 65536),
        (PORT, "-1", True),
        (PORT, "\uff18\uff10", "80"),
        (PORT, "1_000", 1.0),
        (COUNT, "1.5", 1.5),
        (BYTES, "-1", -1),
        (BYTES, "", None),
        (SECONDS, "nan", float("nan")),
        (SECONDS, "-1", "1"),
        (PREFIX, "api", "/api/"),
        (PREFIX, "api/", "/"),
        (INTERVAL, "0", 0),
        (SOME, "0", None),
        (SIZE, "0", 0),
        (WINDOW, "8", True),
        (WINDOW, "perhaps", 16),
        (choice("a", "b"), "c", None),
    ],
)
def test_what_is_wrong_is_the_same_sentence_from_a_text_and_from_code(kind: Kind, text: str, value: Any) -> None:
    """Both are told what the option is, by the name that they know it by, and what they have given."""
    option = Option("it", kind, "")
    with pytest.raises(ValueError, match=f"^--it is {re.escape(kind.wanted)}, not {re.escape(repr(text))}$"):
        option.read(text, "--it")
    with pytest.raises(ValueError, match=f"^it is {re.escape(kind.wanted)}, not {re.escape(repr(value))}$"):
        option.check(value, "it")


def test_no_advice_is_given_about_an_option_that_exists() -> None:
    """Of other servers' options only those are explained that aren't ours, too."""
    ours = {option.flag for groups in (SERVE_GROUPS, TARGET_GROUP) for group in groups.values() for option in group}
    assert not ours & FOREIGN.keys()


def test_a_parsers_defaults_are_the_configs() -> None:
    """Who chooses nothing on a command line gets what who chooses nothing in code gets."""
    parser = Parser(prog="test")
    add_target(parser, "")
    parser.add_options(SERVE_GROUPS, {**DEFAULTS, **vars(Config())})
    chosen = vars(parser.parse_args(["main:app"]))
    assert {name: chosen[name] for name in vars(Config()) if name != "limits"} == {
        name: value for name, value in vars(Config()).items() if name != "limits"
    }


def test_the_errors_are_public() -> None:
    """Whoever calls `run` can catch what it raises."""
    assert issubclass(microasgi_server.TargetError, microasgi_server.StartupError)
