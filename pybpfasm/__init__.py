"""Write, check, load and attach eBPF programs from Python, with no C toolchain.

This is what a program's author imports; the compiler and the kernel's side are imported from their own modules, and
so cost nothing until they are used.
"""

from pybpfasm.lazy import lazy_attributes

TYPE_CHECKING = False  # as typing has it, which costs more to import than all of this
if TYPE_CHECKING:
    from pybpfasm.lang import helpers
    from pybpfasm.lang.buffers import Buffer
    from pybpfasm.lang.callbacks import loop
    from pybpfasm.lang.contexts import SkMsg, Sock, SockAddr, SockOps, Sockopt
    from pybpfasm.lang.globals import Global, ReadOnly
    from pybpfasm.lang.maps import (
        BPF_ANY,
        BPF_EXIST,
        BPF_F_NO_PREALLOC,
        BPF_NOEXIST,
        Array,
        HashMap,
        LpmTrie,
        LruHash,
        LruPerCpuHash,
        PerCpuArray,
        PerCpuHash,
        SkStorage,
        SockHash,
    )
    from pybpfasm.lang.numbers import can_loop, cast, sdiv, smod
    from pybpfasm.lang.packets import SkBuff, XdpMd
    from pybpfasm.lang.printing import printk
    from pybpfasm.lang.programs import (
        Program,
        callback,
        connect4,
        connect6,
        getsockopt,
        inline,
        sk_msg,
        sock_ops,
        subprogram,
        tc,
        unroll,
        xdp,
    )
    from pybpfasm.lang.queues import (
        BPF_F_CURRENT_CPU,
        BloomFilter,
        PerfEventArray,
        Queue,
        RingBuf,
        Stack,
        StackTrace,
    )
    from pybpfasm.lang.targets import (
        CgroupArray,
        CpuMap,
        DevMap,
        DevMapHash,
        ProgArray,
        ReuseportSockArray,
        SockMap,
        XskMap,
    )
    from pybpfasm.lang.types import (
        Bits,
        Length,
        Struct,
        Union,
        be16,
        be32,
        be64,
        htonl,
        htonll,
        htons,
        i8,
        i16,
        i32,
        i64,
        ip4,
        ntohl,
        ntohll,
        ntohs,
        u8,
        u16,
        u32,
        u64,
    )

if not TYPE_CHECKING:
    __getattr__ = lazy_attributes(
        __name__,
        {
            "lang": "helpers",
            "lang.buffers": "Buffer",
            "lang.callbacks": "loop",
            "lang.contexts": "SkMsg Sock SockAddr SockOps Sockopt",
            "lang.globals": "Global ReadOnly",
            "lang.maps": """BPF_ANY BPF_EXIST BPF_F_NO_PREALLOC BPF_NOEXIST Array HashMap LpmTrie LruHash
                LruPerCpuHash PerCpuArray PerCpuHash SkStorage SockHash""",
            "lang.numbers": "can_loop cast sdiv smod",
            "lang.packets": "SkBuff XdpMd",
            "lang.printing": "printk",
            "lang.programs": """Program callback connect4 connect6 getsockopt inline sk_msg sock_ops subprogram tc
                unroll xdp""",
            "lang.queues": "BPF_F_CURRENT_CPU BloomFilter PerfEventArray Queue RingBuf Stack StackTrace",
            "lang.targets": "CgroupArray CpuMap DevMap DevMapHash ProgArray ReuseportSockArray SockMap XskMap",
            "lang.types": """Bits Length Struct Union be16 be32 be64 htonl htonll htons i8 i16 i32 i64 ip4 ntohl ntohll
                ntohs u8 u16 u32 u64""",
        },
    )

__all__ = [
    "BPF_ANY",
    "BPF_EXIST",
    "BPF_F_CURRENT_CPU",
    "BPF_F_NO_PREALLOC",
    "BPF_NOEXIST",
    "Array",
    "Bits",
    "BloomFilter",
    "Buffer",
    "CgroupArray",
    "CpuMap",
    "DevMap",
    "DevMapHash",
    "Global",
    "HashMap",
    "Length",
    "LpmTrie",
    "LruHash",
    "LruPerCpuHash",
    "PerCpuArray",
    "PerCpuHash",
    "PerfEventArray",
    "ProgArray",
    "Program",
    "Queue",
    "ReadOnly",
    "ReuseportSockArray",
    "RingBuf",
    "SkBuff",
    "SkMsg",
    "SkStorage",
    "Sock",
    "SockAddr",
    "SockHash",
    "SockMap",
    "SockOps",
    "Sockopt",
    "Stack",
    "StackTrace",
    "Struct",
    "Union",
    "XdpMd",
    "XskMap",
    "be16",
    "be32",
    "be64",
    "callback",
    "can_loop",
    "cast",
    "connect4",
    "connect6",
    "getsockopt",
    "helpers",
    "htonl",
    "htonll",
    "htons",
    "i8",
    "i16",
    "i32",
    "i64",
    "inline",
    "ip4",
    "loop",
    "ntohl",
    "ntohll",
    "ntohs",
    "printk",
    "sdiv",
    "sk_msg",
    "smod",
    "sock_ops",
    "subprogram",
    "tc",
    "u8",
    "u16",
    "u32",
    "u64",
    "unroll",
    "xdp",
]
