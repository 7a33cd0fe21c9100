"""A context from options: which type, which fields, which packet; and what a run has changed of it."""

import types
from typing import Any, get_args, get_type_hints

import attrs

from pybpfasm import sim
from pybpfasm.cli.errors import UsageError
from pybpfasm.cli.literals import bytes_of, number_of, pair_of
from pybpfasm.sim.contexts import Context, default_context
from pybpfasm.sim.contexts.fields import Pointer
from pybpfasm.spec import ProgramSpec

_CONTEXTS: tuple[type[Context], ...] = (
    sim.SkBuff,
    sim.Xdp,
    sim.SockAddr,
    sim.SockOps,
    sim.SkMsg,
    sim.Sockopt,
    sim.Sock,
    sim.SkLookup,
    sim.SkReuseport,
    sim.Sysctl,
    sim.Device,
    sim.PerfEvent,
    sim.RegistersX86,
    sim.RegistersArm64,
    sim.Tracepoint,
    sim.Arguments,
    sim.Bytes,
)


def context_names() -> dict[str, type[Context]]:
    """The types of contexts by the names of their structs in C; where several have one, the first."""
    names: dict[str, type[Context]] = {}
    for each in _CONTEXTS:
        names.setdefault(each.uapi, each)
    return names


def new_context(type_name: str | None, spec: ProgramSpec | None) -> Context | None:
    """A context of that type, else that of the program's type; None if neither says one. Raises `UsageError`."""
    if type_name is None:
        return default_context(spec.type) if spec is not None else None
    names = context_names()
    if type_name.removeprefix("struct ") not in names:
        raise UsageError(f"--ctx {type_name!r} is not known: {', '.join(names)} are")
    return names[type_name.removeprefix("struct ")]()


def set_fields(context: Context | None, settings: list[str]) -> None:
    """Set fields, `field=value` each; a field of a socket that the context has is `sk.field`. Raises `UsageError`."""
    for setting in settings:
        path, value = pair_of(setting, "--set", "field=value")
        holder: Any = context
        if holder is None:
            raise UsageError("--set: there is no context to set fields of: say --ctx TYPE")
        *outer, name = path.split(".")
        for each in outer:
            holder = _inner(holder, each, path)
        _set(holder, name, value, path)
        _check(holder, name, path)


def with_packet(context: Context | None, packet: bytes | None) -> Context | None:
    """The context made anew with its packet, which decides some fields. Raises `UsageError` if it can have none."""
    if packet is None:
        return context
    if context is None or context.packet_attribute is None:
        what = f"struct {context.uapi} has none" if context is not None else "there is no context: say --ctx xdp_md"
        raise UsageError(f"--packet: {what}")
    return type(context)(**{context.packet_attribute: packet})


def field_values(context: Context | None, prefix: str = "") -> dict[str, Any]:
    """All fields that are set, by name, those of inner contexts behind a dot; bytes as hex."""
    values: dict[str, Any] = {}
    for attribute in _attributes(context) if context is not None else ():
        value = getattr(context, attribute.name)
        if isinstance(value, Context):
            # A listener that is its own, or a socket within a socket, ends here.
            if prefix.count(".") < 2:
                values |= field_values(value, f"{prefix}{attribute.name}.")
        elif isinstance(value, bytes | bytearray):
            values[prefix + attribute.name] = value.hex()
        elif isinstance(value, int | str):
            values[prefix + attribute.name] = value
        elif isinstance(value, list):
            values[prefix + attribute.name] = [each if isinstance(each, int) else str(each) for each in value]
        elif isinstance(value, dict):
            values[prefix + attribute.name] = {str(key): str(each) for key, each in value.items()}
    return values


def _attributes(context: Any) -> tuple["attrs.Attribute[Any]", ...]:
    found: tuple[attrs.Attribute[Any], ...] = attrs.fields(type(context))
    return found


def _inner(holder: Any, name: str, path: str) -> Any:
    """A context within a context, made if there is none yet."""
    possible = [each for each in _types(holder, name, path) if isinstance(each, type) and issubclass(each, Context)]
    if not possible:
        raise UsageError(f"--set {path}: {name} has no fields")
    if getattr(holder, name) is None:
        setattr(holder, name, possible[0]())
    return getattr(holder, name)


def _set(holder: Any, name: str, text: str, path: str) -> None:
    possible = _types(holder, name, path)
    current = getattr(holder, name)
    if bytes in possible or bytearray in possible:
        data = bytes_of(text, f"--set {path}")
        setattr(holder, name, bytearray(data) if isinstance(current, bytearray) else data)
    elif int in possible or Any in possible:
        setattr(holder, name, number_of(text, f"--set {path}"))
    elif str in possible:
        setattr(holder, name, text)
    elif isinstance(current, list):
        setattr(holder, name, [number_of(each, f"--set {path}") for each in text.split(",")])
    else:
        raise UsageError(f"--set {path}: this field cannot be set here")


def _check(holder: Any, name: str, path: str) -> None:
    """Whether the value has a place in the struct's bytes: an address that is one. Raises `UsageError`."""
    for field in holder.fields:
        if field.name == name and not isinstance(field.kind, Pointer):
            try:
                field.kind.pack(getattr(holder, name), field.width, "little")
            except (sim.SimError, ValueError, TypeError) as error:
                raise UsageError(f"--set {path}: {error}") from None


def _types(holder: Any, name: str, path: str) -> tuple[Any, ...]:
    """The types that a field may have. Raises `UsageError` with the fields that there are."""
    names = [each.name for each in _attributes(holder)]
    if name not in names:
        raise UsageError(f"--set {path}: {type(holder).uapi} has no field {name!r}: it has {', '.join(names)}")
    hint = get_type_hints(type(holder))[name]
    return get_args(hint) if isinstance(hint, types.UnionType) or type(None) in get_args(hint) else (hint,)
