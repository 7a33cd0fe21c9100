"""Maps, as programs declare and use them.

A declaration is a value: it owns nothing in the kernel. Its methods can only be called in a BPF program; the agent's
side of a map comes from `pybpfasm.kernel`. A map takes the name by which programs refer to it, unless one is given.
"""

from typing import Any, ClassVar, Generic, NoReturn, TypeVar, get_args

from pybpfasm.errors import BpfError
from pybpfasm.lang.contexts import Sock
from pybpfasm.lang.types import Struct, btf_type, value_type
from pybpfasm.spec import MapSpec
from pybpfasm.uapi import MapType

K = TypeVar("K")
V = TypeVar("V", bound=Struct)
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
            key=btf_type(value_type(self.key_annotation)),
            value=btf_type(value_type(self.value_annotation)),
            max_entries=self.max_entries if max_entries is None else max_entries,
            flags=self.flags,
        )

    def _arguments(self) -> tuple[Any, ...]:
        declared = getattr(self, "__orig_class__", None)
        if declared is None:
            raise BpfError(f"{type(self).__name__} needs its types: {type(self).__name__}[u64, Value](…)")
        return get_args(declared)


class _Entries(MapDeclaration[K, V]):
    """Maps whose entries a program finds by key."""

    def lookup(self, key: K) -> V | None:
        """The value at `key`, in place; None if there is none."""
        only_in_program("lookup")


class HashMap(_Entries[K, V]):
    """BPF_MAP_TYPE_HASH. It never evicts: an update of a full map fails."""

    type = MapType.HASH

    def update(self, key: K, value: V, flags: int = BPF_ANY) -> int:
        """Set the value at `key`: 0, or a negative errno (-E2BIG: the map is full)."""
        only_in_program("update")

    def delete(self, key: K) -> int:
        """Remove the entry at `key`: 0, or -ENOENT."""
        only_in_program("delete")


class Array(_Entries[K, V]):
    """BPF_MAP_TYPE_ARRAY, keyed by u32."""

    type = MapType.ARRAY


class PerCpuArray(_Entries[K, V]):
    """BPF_MAP_TYPE_PERCPU_ARRAY, keyed by u32: a program sees the value of the CPU it runs on."""

    type = MapType.PERCPU_ARRAY


class SockHash(MapDeclaration[K, V]):
    """BPF_MAP_TYPE_SOCKHASH: sockets by key. Its value, for user space, is the socket's cookie: a struct of 8 bytes."""

    type = MapType.SOCKHASH

    def delete(self, key: K) -> int:
        """Take the socket at `key` out: 0, or -ENOENT. Bytes that were redirected to it and not read are lost."""
        only_in_program("delete")

    def spec(self, name: str, *, max_entries: int | None = None) -> MapSpec:
        """The map to create, as for others."""
        spec = super().spec(name, max_entries=max_entries)
        if spec.value.size != _COOKIE_BYTES:
            raise BpfError(
                f"the value of a SOCKHASH is a socket's cookie, {_COOKIE_BYTES} bytes, not {spec.value.size}"
            )
        return spec


class SkStorage(MapDeclaration[K, V]):
    """BPF_MAP_TYPE_SK_STORAGE: a value that lives and ends with its socket. Its key is i32."""

    type = MapType.SK_STORAGE

    def __init__(self, *, name: str | None = None) -> None:
        # uapi linux/bpf.h: local storage has no size of its own and must not be preallocated.
        super().__init__(max_entries=0, flags=BPF_F_NO_PREALLOC, name=name)

    def get(self, sock: Sock) -> V | None:
        """The socket's value, in place; None if it has none."""
        only_in_program("get")

    def get_or_create(self, sock: Sock) -> V | None:
        """The socket's value, made of zeros if it had none; None if there is no memory for it."""
        only_in_program("get_or_create")

    def delete(self, sock: Sock) -> int:
        """Remove the socket's value: 0, or -ENOENT."""
        only_in_program("delete")
