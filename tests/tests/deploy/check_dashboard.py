"""Checks a dashboard against the types that Grafana publishes: `check_dashboard.py FILE`.

Every field must be one that Grafana knows, and have a value of its type.
"""

import enum
import json
import sys
import types
import typing

from grafana_foundation_sdk.cog import encoder, plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def main():
    plugins.register_default_plugins()
    with open(sys.argv[1], encoding="utf-8") as file:
        written = json.load(file)
    errors = []
    check(written, Dashboard, "dashboard", errors)
    print("\n".join(errors) or "valid")
    sys.exit(bool(errors))


def check(written, kind, path, errors):
    """Reads an object as Grafana's types do, and compares."""
    understood = kind.from_json(written)
    check_types(understood, kind, path, errors)
    read_back = json.loads(json.dumps(understood, cls=encoder.JSONEncoder))
    check_fields(written, read_back, path, errors)


def check_fields(written, read_back, path, errors):
    """What is not read back as it was written is unknown to Grafana."""
    if isinstance(written, dict) and isinstance(read_back, dict):
        for name, value in written.items():
            if name in read_back:
                check_fields(value, read_back[name], f"{path}.{name}", errors)
            else:
                errors.append(f"{path}.{name}: there is no such field")
    elif isinstance(written, list) and isinstance(read_back, list) and len(written) == len(read_back):
        for number, (one, other) in enumerate(zip(written, read_back)):
            check_fields(one, other, f"{path}[{number}]", errors)
    elif written != read_back:
        errors.append(f"{path}: {written!r} is read as {read_back!r}")


def check_types(value, kind, path, errors):
    """Goes through all values with the types that the fields are declared with."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is typing.Any or kind is object:
        if hasattr(type(value), "from_json"):
            check_types(value, type(value), path, errors)
    elif origin is typing.Union or origin is types.UnionType:
        attempts = []
        for choice in arguments:
            found = []
            check_types(value, choice, path, found)
            attempts.append(found)
        if all(attempts):
            # That of the choice that fits best: the one whose error lies deepest.
            errors.extend(max(attempts, key=lambda found: len(found[0].split(": ")[0])))
    elif origin is list:
        if not isinstance(value, list):
            errors.append(f"{path}: {value!r} is no list")
            return
        for number, item in enumerate(value):
            check_types(item, arguments[0], f"{path}[{number}]", errors)
    elif origin is dict:
        if not isinstance(value, dict):
            errors.append(f"{path}: {value!r} is no object")
            return
        for name, item in value.items():
            check_types(item, arguments[1], f"{path}.{name}", errors)
    elif origin is typing.Literal:
        if value not in arguments:
            errors.append(f"{path}: {value!r} is none of {arguments}")
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        if value not in [choice.value for choice in kind]:
            errors.append(f"{path}: {value!r} is none of {[choice.value for choice in kind]}")
    elif kind is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            errors.append(f"{path}: {value!r} is no number")
    elif kind is int:
        if isinstance(value, bool) or not isinstance(value, int):
            errors.append(f"{path}: {value!r} is no whole number")
    elif isinstance(kind, type) and hasattr(kind, "from_json"):
        if isinstance(value, dict):
            # The reader leaves some objects as they were written.
            check(value, kind, path, errors)
            return
        if not isinstance(value, kind):
            errors.append(f"{path}: {value!r} is no {kind.__name__}")
            return
        for name, field in typing.get_type_hints(kind).items():
            check_types(getattr(value, name), field, f"{path}.{name}", errors)
    elif isinstance(kind, type):
        # An interface: what stands for it is one of its classes.
        if hasattr(type(value), "from_json"):
            check_types(value, type(value), path, errors)
        elif not isinstance(value, kind):
            errors.append(f"{path}: {value!r} is no {kind.__name__}")


main()
