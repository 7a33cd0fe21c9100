"""Maps, as programs declare and use them.

A declaration is a value: it owns nothing in the kernel. Its methods can only be called in a BPF program; the agent's
side of a map comes from `pybpfasm.kernel`. A map takes the name by which programs refer to it, unless one is given.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Generic, NoReturn, TypeVar, get_args

from pybpfasm.errors import BpfError
from pybpfasm.lang.context_structs import Sock, SockCommon
from pybpfasm.lang.types import Record, btf_type, value_type
from pybpfasm.records import frozen
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import Helper, MapType

F = TypeVar("F", bound=Callable[..., Any])
K = TypeVar("K")
V = TypeVar("V", bound=Record)
# What only user space reads may be any type that has a layout.
W = TypeVar("W")

BPF_ANY = 0
BPF_NOEXIST = 1
BPF_EXIST = 2
BPF_F_NO_PREALLOC = 1

_COOKIE_BYTES = 8


class OutsideProgramError(BpfError, TypeError):
    """Something that only a BPF program can do was called from ordinary Python."""


def only_in_program(what: str) -> NoReturn:
    """Refuse a call that has a meaning only when compiled."""
    raise OutsideProgramError(f"{what} can only be called in a BPF program")


@frozen
class Method:
    """How a map's method is a helper's call.

    `arguments` are numbers, "map", "size" (of what `data` is), or parameters: `key` and `value` are handed over by
    address, as the map has them, `into` and `data` are structs, `ctx` and `sock` addresses, all others numbers. `gives`
    is "value" (an address or None), "errno" of a map's operation, "signed", "number" or "nothing".
    """

    helper: Helper
    arguments: tuple[str | int, ...]
    gives: str = "errno"


def method(helper: Helper, *arguments: str | int, gives: str = "errno") -> Callable[[F], F]:
    """Mark a method as the typed face of a helper."""

    def mark(function: F) -> F:
        function.__bpf_method__ = Method(helper, arguments, gives)  # type: ignore[attr-defined]  # for the compiler
        return function

    return mark


class MapDeclaration(Generic[K, W]):
    """What all maps have: key and value types, a size, a name."""

    type: ClassVar[MapType]

    def __init__(self, *, max_entries: int, flags: int = 0, name: str | None = None) -> None:
        self.max_entries = max_entries
        self.flags = flags
        self.name = name

    @property
    def key_annotation(self) -> Any:
        """The key's type as it was declared."""
        return self._arguments()[0]

    @property
    def value_annotation(self) -> Any:
        """The value's type as it was declared."""
        return self._arguments()[1]

    def spec(self, name: str, *, max_entries: int | None = None) -> MapSpec:
        """The map to create, under the name given by the program, with another size if one is asked for."""
        return MapSpec(
            name=self.name or name,
            type=self.type,
            key=_described(self.key_annotation),
            value=_described(self.value_annotation),
            max_entries=self.max_entries if max_entries is None else max_entries,
            flags=self.flags,
        )

    def types(self) -> tuple[Any, ...]:
        """What stands in the brackets of its declaration."""
        return self._arguments()

    def _arguments(self) -> tuple[Any, ...]:
        declared = getattr(self, "__orig_class__", None)
        if declared is None:
            raise BpfError(f"{type(self).__name__} needs its types: {type(self).__name__}[u64, Value](…)")
        return get_args(declared)


@lru_cache
def _described(annotation: Any) -> Any:
    """A key's or a value's type for the kernel; None is nothing, 0 bytes."""
    return Untyped(0) if annotation is None else btf_type(value_type(annotation))


class _Entries(MapDeclaration[K, V]):
    """Maps whose entries a program finds by key."""

    @method(Helper.MAP_LOOKUP_ELEM, "map", "key", gives="value")
    def lookup(self, key: K) -> V | None:
        """The value at `key`, in place; None if there is none."""
        only_in_program("lookup")

    @method(Helper.MAP_UPDATE_ELEM, "map", "key", "value", "flags")
    def update(self, key: K, value: V, flags: int = BPF_ANY) -> int:
        """Set the value at `key`: 0, or a negative errno (-E2BIG: the map is full)."""
        only_in_program("update")

    def for_each(self, body: Callable[..., int], context: Record | None = None) -> int:
        """Call `body(key, value, context)` for each entry, until it returns 1 (Linux 5.13); how many there were.

        `body` is a `@callback`; without a context it has two parameters.
        """
        only_in_program("for_each")


class _Keyed(_Entries[K, V]):
    """Maps whose entries come and go."""

    @method(Helper.MAP_DELETE_ELEM, "map", "key")
    def delete(self, key: K) -> int:
        """Remove the entry at `key`: 0, or -ENOENT."""
        only_in_program("delete")


class HashMap(_Keyed[K, V]):
    """BPF_MAP_TYPE_HASH. It never evicts: an update of a full map fails."""

    type = MapType.HASH


class LruHash(_Keyed[K, V]):
    """BPF_MAP_TYPE_LRU_HASH: an update of a full map takes the place of an entry that was long not used."""

    type = MapType.LRU_HASH


class PerCpuHash(_Keyed[K, V]):
    """BPF_MAP_TYPE_PERCPU_HASH: a program sees the value of the CPU it runs on."""

    type = MapType.PERCPU_HASH

    @method(Helper.MAP_LOOKUP_PERCPU_ELEM, "map", "key", "cpu", gives="value")
    def lookup_on(self, key: K, cpu: int) -> V | None:
        """Another CPU's value at `key`, in place (Linux 5.19); None if there is no such entry or CPU."""
        only_in_program("lookup_on")


class LruPerCpuHash(_Keyed[K, V]):
    """BPF_MAP_TYPE_LRU_PERCPU_HASH: both."""

    type = MapType.LRU_PERCPU_HASH

    @method(Helper.MAP_LOOKUP_PERCPU_ELEM, "map", "key", "cpu", gives="value")
    def lookup_on(self, key: K, cpu: int) -> V | None:
        """Another CPU's value at `key`, in place (Linux 5.19); None if there is no such entry or CPU."""
        only_in_program("lookup_on")


class LpmTrie(_Keyed[K, V]):
    """BPF_MAP_TYPE_LPM_TRIE: the entry with the longest prefix that matches.

    The key is a struct: `prefixlen: u32`, and then the data, highest bit first, as an address in network order is.
    """

    type = MapType.LPM_TRIE

    def __init__(self, *, max_entries: int, flags: int = 0, name: str | None = None) -> None:
        super().__init__(max_entries=max_entries, flags=flags | BPF_F_NO_PREALLOC, name=name)


class Array(_Entries[K, V]):
    """BPF_MAP_TYPE_ARRAY, keyed by u32."""

    type = MapType.ARRAY


class PerCpuArray(_Entries[K, V]):
    """BPF_MAP_TYPE_PERCPU_ARRAY, keyed by u32: a program sees the value of the CPU it runs on."""

    type = MapType.PERCPU_ARRAY

    @method(Helper.MAP_LOOKUP_PERCPU_ELEM, "map", "key", "cpu", gives="value")
    def lookup_on(self, key: K, cpu: int) -> V | None:
        """Another CPU's value at `key`, in place (Linux 5.19); None if there is no such entry or CPU."""
        only_in_program("lookup_on")


class LocalStorage(MapDeclaration[K, V]):
    """Values that live and end with something of the kernel's; their key is i32."""

    def __init__(self, *, name: str | None = None) -> None:
        # uapi linux/bpf.h: local storage has no size of its own and must not be preallocated.
        super().__init__(max_entries=0, flags=BPF_F_NO_PREALLOC, name=name)


class SkStorage(LocalStorage[K, V]):
    """BPF_MAP_TYPE_SK_STORAGE: a value that lives and ends with its socket. Its key is i32."""

    type = MapType.SK_STORAGE

    @method(Helper.SK_STORAGE_GET, "map", "sock", 0, 0, gives="value")
    def get(self, sock: SockCommon) -> V | None:
        """The socket's value, in place; None if it has none."""
        only_in_program("get")

    @method(Helper.SK_STORAGE_GET, "map", "sock", 0, 1, gives="value")
    def get_or_create(self, sock: SockCommon) -> V | None:
        """The socket's value, made of zeros if it had none; None if there is no memory for it."""
        only_in_program("get_or_create")

    @method(Helper.SK_STORAGE_DELETE, "map", "sock", gives="signed")
    def delete(self, sock: SockCommon) -> int:
        """Remove the socket's value: 0, or -ENOENT."""
        only_in_program("delete")


class SockHash(MapDeclaration[K, V]):
    """BPF_MAP_TYPE_SOCKHASH: sockets by key. Its value, for user space, is the socket's cookie: a struct of 8 bytes."""

    type = MapType.SOCKHASH

    @method(Helper.MAP_LOOKUP_ELEM, "map", "key", gives="socket")
    def lookup(self, key: K) -> Sock | None:
        """The socket at `key`, or None; it has to be handed to `sk_release`."""
        only_in_program("lookup")

    @method(Helper.MAP_DELETE_ELEM, "map", "key")
    def delete(self, key: K) -> int:
        """Take the socket at `key` out: 0, or -ENOENT. Bytes that were redirected to it and not read are lost."""
        only_in_program("delete")

    def spec(self, name: str, *, max_entries: int | None = None) -> MapSpec:
        """The map to create, as for others. Raises `BpfError` for a value that is no cookie."""
        spec = super().spec(name, max_entries=max_entries)
        if spec.value.size != _COOKIE_BYTES:
            raise BpfError(
                f"the value of a SOCKHASH is a socket's cookie, {_COOKIE_BYTES} bytes, not {spec.value.size}"
            )
        return spec
