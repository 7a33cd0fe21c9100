"""What the compiler refuses: where it points and what it says, a case for each rule; and what it must not refuse."""

import re
import sys
from collections.abc import Iterator

import pytest
from written_modules import MakeModule
from written_programs import assert_points_at, refusal, with_body

from pybpfasm.compiler import compile_collection, compile_program
from pybpfasm.errors import BpfError

TEST = "p = stats.lookup(1)\nif p is None:\n    return 0\n"
SIGNED = "p = signeds.lookup(1)\nif p is None:\n    return 0\n"
TEXT = "p = texts.lookup(1)\nif p is None:\n    return 0\n"
OUTER = "p = outers.lookup(1)\nif p is None:\n    return 0\n"

# Body | the line and the piece of it that the error points at | the reason, or its beginning.
RULES = [
    # pointers and None
    ("p = stats.lookup(1)\nx = p.a", "x = p.a | p.a", "this may be None: test it first, `if p is None`"),
    ("p = stats.lookup(1)\np.a = 1", "p.a = 1 | p.a", "this may be None: test it first, `if p is None`"),
    ("p = stats.lookup(1)\np.a += 1", "p.a += 1 | p.a", "this may be None: test it first, `if p is None`"),
    ("x = stats.lookup(1).a", "x = stats.lookup(1).a | stats.lookup", "this may be None: test it first, `if stats.loo"),
    ("p = stats.lookup(1)\nq = p\nif q is None:\n    return 0\nx = p.a", "x = p.a | p.a", "this may be None"),
    ("p = stats.lookup(1)\nq = p\nif p is None:\n    return 0\nx = q.a", "x = q.a | q.a", "this may be None"),
    (TEST + "p = stats.lookup(2)\nx = p.a", "x = p.a | p.a", "this may be None"),
    (
        "p = stats.lookup(1)\nif p is not None:\n    p.a = 1\nx = p.a",
        "x = p.a | p.a",
        "this may be None: test it first, `if p is None`",
    ),
    ("p = stats.lookup(1)\nb = p is None\nif b:\n    return 0\nx = p.a", "x = p.a | p.a", "this may be None"),
    ("p = stats.lookup(1)\nif p is None or p.a == 1:\n    p.a = 2", "p.a = 2 | p.a", "this may be None"),
    ("p = stats.lookup(1)\nif p is not None and p.a == 1:\n    return 0\np.a = 2", "p.a = 2 | p.a", "this may be None"),
    ("p = stats.lookup(1)\nx = p.a if p is None else 0", "x = p.a if p is None else 0 | p.a", "this may be None"),
    (
        "p = stats.lookup(1)\nfor i in range(2):\n    if p is None:\n        break\n    x = p.a\nx = p.a",
        "x = p.a | p.a",
        "this may be None",
    ),
    (
        TEST + "for i in range(2):\n    p.a += 1\n    p = stats.lookup(i)",
        "for i in range(2): | for",
        "`p` may be None when the loop comes around, but not where it begins: test it",
    ),
    (
        TEST + "for i in unroll((1, 2)):\n    p.a += 1\n    p = stats.lookup(i)",
        "p.a += 1 | p.a",
        "this may be None: test it first, `if p is None`",
    ),
    (
        "p = stats.lookup(1)\nx = use(p)",
        "x = use(p) | p)",
        "this may be None where Stat is wanted: test `is None` first",
    ),
    (
        "p = stats.lookup(1)\nif p:\n    return 0",
        "if p: | p",
        "a pointer has no truth: write `is None` or `is not None`",
    ),
    ("p = stats.lookup(1)\nif not p:\n    return 0", "if not p: | p", "a pointer has no truth"),
    ("p = stats.lookup(1)\nif p == None:\n    return 0", "if p == None: | p", "pointers are compared with None only"),
    (TEST + "if p is None:\n    return 0", "if p is None: | p", "this is Stat and never None: the test can go"),
    ("if ctx.type is None:\n    return 0", "if ctx.type is None: | ctx", "this is int, which is never None"),
    ("if ctx.type is K:\n    return 0", "if ctx.type is K: | ctx", "`is` compares with None only: use =="),
    (
        "p = stats.lookup(1)\nq = stats.lookup(2)\nif p == q:\n    return 0",
        "if p == q: | p",
        "pointers are compared with",
    ),
    ("p = stats.lookup(1)\nx = p + 1", "x = p + 1 | p", "a number is wanted, this is Stat | None"),
    # byte order
    (
        "ctx.user_port = 80",
        "ctx.user_port = 80 | 80",
        "SockAddr.user_port is be16, this is int: convert it with htons()",
    ),
    ("ctx.user_ip4 = K", "ctx.user_ip4 = K | K", "SockAddr.user_ip4 is be32, this is int: convert it with htonl()"),
    ("ctx.user_port = htonl(80)", "ctx.user_port = htonl(80) | htonl", "SockAddr.user_port is be16, this is be32"),
    (OUTER + "p.inner.port = 80", "p.inner.port = 80 | 80", "Inner.port is be16, this is int: convert it with htons()"),
    (
        "x = Inner(port=80, ip=ctx.user_ip4)",
        "x = Inner(port=80, ip=ctx.user_ip4) | 80",
        "Inner.port is be16, this is int",
    ),
    (
        "if ctx.user_port == 80:\n    return 0",
        "if ctx.user_port == 80: | ctx",
        "be16 is compared with int: convert it with",
    ),
    ("if 80 == ctx.user_port:\n    return 0", "if 80 == ctx.user_port: | 80", "be16 is compared with int: convert it"),
    (
        "if ctx.user_port == ctx.user_ip4:\n    return 0",
        "if ctx.user_port == ctx.user_ip4: | ctx",
        "be16 is compared with be32",
    ),
    (
        "if ctx.user_ip4 < ip4('10.0.0.1'):\n    return 0",
        "if ctx.user_ip4 < ip4('10.0.0.1'): | ctx",
        "be32 has no order",
    ),
    (
        "x = ctx.user_port + 1",
        "x = ctx.user_port + 1 | ctx",
        "a number is wanted, this is be16: convert it with ntohs()",
    ),
    (
        "if ctx.user_port:\n    return 0",
        "if ctx.user_port: | ctx",
        "a number is wanted, this is be16: convert it with ntohs",
    ),
    (
        "x = htons(htons(1))",
        "x = htons(htons(1)) | htons(1)",
        "this is be16 where int is wanted: convert it with ntohs()",
    ),
    ("x = ntohs(80)", "x = ntohs(80) | 80", "this is int where be16 is wanted: convert it with htons()"),
    ("x = ntohl(ctx.user_port)", "x = ntohl(ctx.user_port) | ctx", "this is be16 where be32 is wanted"),
    (
        "p = by_ip.lookup(1)",
        "p = by_ip.lookup(1) | 1",
        "the map's key is be32, this is int: convert it with htonl",
    ),
    (
        "p = stats.lookup(ctx.user_ip4)",
        "p = stats.lookup(ctx.user_ip4) | ctx",
        "the map's key is u32, this is be32",
    ),
    (
        "x = add(ctx.user_port, 1)",
        "x = add(ctx.user_port, 1) | ctx",
        "this is be16 where int is wanted: convert it with ntohs",
    ),
    ("x = ip4('1.2.3')", "x = ip4('1.2.3') | '1.2.3'", "Expected 4 octets in '1.2.3'"),
    # fields
    (TEST + "p.aa = 1", "p.aa = 1 | aa", "Stat has no field `aa`: did you mean `a`?"),
    (
        OUTER + "p.iner.ip = ctx.user_ip4",
        "p.iner.ip = ctx.user_ip4 | iner",
        "Outer has no field `iner`: did you mean `inner`?",
    ),
    ("x = ctx.user_prt", "x = ctx.user_prt | user_prt", "SockAddr has no field `user_prt`: did you mean `user_port`?"),
    (
        "ctx.protocol = 6",
        "ctx.protocol = 6 | ctx",
        "SockAddr.protocol cannot be assigned; these can be: user_ip4, user_port",
    ),
    ("ctx.sk.mark = 6", "ctx.sk.mark = 6 | ctx", "Sock.mark can be assigned in a program's own context only"),
    ("x = Stat(a=1)", "x = Stat(a=1) | Stat", "Stat lacks b"),
    ("x = Stat(a=1, b=2, c=3)", "x = Stat(a=1, b=2, c=3) | c=3", "Stat has no field `c`"),
    ("x = Stat(1, 2)", "x = Stat(1, 2) | 1", "name the fields: Stat(field=…)"),
    ("x = Stat(**K)", "x = Stat(**K) | K", "`**` is not supported: name the fields"),
    ("x = Stat(a=1, b=1 << 32)", "x = Stat(a=1, b=1 << 32) | 1 << 32", "4294967296 does not fit Stat.b, which is u32"),
    (SIGNED + "p.n = 0x80000000", "p.n = 0x80000000 | 0x8", "2147483648 does not fit Signed.n, which is i32"),
    (TEST + "p.a = Stat(a=1, b=2)", "p.a = Stat(a=1, b=2) | Stat", "Stat.a is u64, this is Stat"),
    (OUTER + "p.inner = 5", "p.inner = 5 | 5", "Outer.inner is Inner, this is int"),
    (TEXT + "x = p.name", "x = p.name | p", "an array cannot be given a name: use its elements"),
    ("x = Text(name=5, n=1)", "x = Text(name=5, n=1) | 5", "Text.name is char[16], this is int"),
    ("x = K.real", "x = K.real | K", "a program cannot read attributes of this int: keep the value in a constant"),
    ("x = config.port", "x = config.port | config", "a program cannot read attributes of this SimpleNamespace"),
    ("x = K.nope", "x = K.nope | K", "int has no attribute `nope`"),
    ("x = ctx.args[0]", "x = ctx.args[0] | args", "SockAddr has no field `args`"),
    # integers
    (SIGNED + "x = p.s + ctx.type", "x = p.s + ctx.type | p.s", "one side is signed, the other unsigned"),
    (SIGNED + "if p.s < ctx.type:\n    return 0", "if p.s < ctx.type: | p.s", "one side is signed, the other unsigned"),
    (
        SIGNED + "x = p.s // 2",
        "x = p.s // 2 | p.s",
        "of signed numbers Python's and C's division differ: write bpf.sdiv",
    ),
    (SIGNED + "x = p.s % 2", "x = p.s % 2 | p.s", "of signed numbers Python's and C's division differ: write bpf.smod"),
    (
        SIGNED + "if p.s < 1 << 63:\n    return 0",
        "if p.s < 1 << 63: | p.s",
        "a signed number is compared with 9223372036854",
    ),
    (
        SIGNED + "x = p.s if p.n < 1 else ctx.type",
        "x = p.s if p.n < 1 else ctx.type | p.s",
        "one side is i64, the other u64",
    ),
    (
        "if ctx.type == -1:\n    return 0",
        "if ctx.type == -1: | ctx",
        "an unsigned number is compared with -1, which it cannot",
    ),
    (
        "if ctx.type == 1 << 63 << 1:\n    return 0",
        "if ctx.type == 1 << 63 << 1: | ctx",
        "an unsigned number is compared",
    ),
    ("if ctx.type - 5 < 0:\n    return 0", "if ctx.type - 5 < 0: | ctx", "this number is unsigned and never below 0"),
    ("if ctx.type >= 0:\n    return 0", "if ctx.type >= 0: | ctx", "this number is unsigned and never below 0"),
    ("x = ctx.type / 2", "x = ctx.type / 2 | ctx", "`/` is not supported in a BPF program: use //"),
    ("x = ctx.type ** 2", "x = ctx.type ** 2 | ctx", "`**` is not supported in a BPF program: use <<"),
    ("x = ctx.type @ 2", "x = ctx.type @ 2 | ctx", "`@` is not supported in a BPF program"),
    ("x = ctx.type // 0", "x = ctx.type // 0 | ctx", "division by 0: the divisor has to be positive"),
    ("x = ctx.type % -3", "x = ctx.type % -3 | ctx", "division by -3: the divisor has to be positive"),
    ("x = 5 // (K - 5)", "x = 5 // (K - 5) | 5", "division by 0: the divisor has to be positive"),
    ("x = ctx.type << 64", "x = ctx.type << 64 | ctx", "a shift by 64: 0 to 63 are possible"),
    ("x = ctx.type >> -1", "x = ctx.type >> -1 | ctx", "a shift by -1: 0 to 63 are possible"),
    ("x = 1 << 63 << 1", "x = 1 << 63 << 1 | 1", "18446744073709551616 does not fit 64 bits"),
    (
        "x = ctx.type + (1 << 63 << 1)",
        "x = ctx.type + (1 << 63 << 1) | ctx",
        "18446744073709551616 does not fit 64 bits",
    ),
    (
        "x = 1 << 63 << 9 if ctx.type else 0",
        "x = 1 << 63 << 9 if ctx.type else 0 | 1",
        "4722366482869645213696 does not",
    ),
    ("x: u64 = -1", "x: u64 = -1 | -1", "-1 does not fit u64"),
    ("x: i64 = 1 << 63", "x: i64 = 1 << 63 | 1", "9223372036854775808 does not fit i64"),
    ("x: i64 = ctx.type", "x: i64 = ctx.type | ctx", "this is u64 where i64 is wanted"),
    ("x: u32 = 1 << 32", "x: u32 = 1 << 32 | 1", "4294967296 does not fit u32"),
    ("x: u8 = -1", "x: u8 = -1 | -1", "-1 does not fit u8"),
    ("x: i16 = 1 << 15", "x: i16 = 1 << 15 | 1", "32768 does not fit i16"),
    ("x = bpf.cast(be16, 1)", "x = bpf.cast(be16, 1) | be16", "cast makes numbers: u8, u16, u32, u64, i8"),
    ("x = bpf.cast(u8, ctx.user_port)", "x = bpf.cast(u8, ctx.user_port) | ctx", "a number is wanted, this is be16"),
    ("x = bpf.sdiv(ctx.type, 2)", "x = bpf.sdiv(ctx.type, 2) | ctx", "sdiv is for signed numbers: use // or %"),
    ("x = min(1)", "x = min(1) | min", "min() takes two numbers or more"),
    (SIGNED + "x = max(p.s, ctx.type)", "x = max(p.s, ctx.type) | max", "one side is signed, the other unsigned"),
    ("x = abs(ctx.type)", "x = abs(ctx.type) | abs", "this number is unsigned and never below 0: abs() can go"),
    ("x = len(ctx.type)", "x = len(ctx.type) | ctx", "this has no length: arrays and constants have"),
    ("x = bool(1, 2)", "x = bool(1, 2) | bool", "bool() takes one number"),
    ("x: str = 1", "x: str = 1 | str", "str is no type of a BPF program"),
    ("p: Stat = stats.lookup(1)", "p: Stat = stats.lookup(1) | stats", "this may be None where Stat is wanted"),
    ("x: int|5 = 1", "x: int|5 = 1 | int", "unsupported operand type(s) for |"),
    ("x: ctx = 1", "x: ctx = 1 | ctx", "this has to be known when the program is compiled"),
    ("x: bool = 1", "x: bool = 1 | 1", "this is int where bool is wanted"),
    ("x: u64 = 1\nx: i64 = 2", "x: i64 = 2 | x", "`x` is declared u64 elsewhere"),
    ("p = stats.lookup(1 << 32)", "p = stats.lookup(1 << 32) | 1", "4294967296 does not fit the map's key"),
    ("x = ctx.type or 5", "x = ctx.type or 5 | ctx", "a bool is wanted, this is int: compare it"),
    ("x = odd(1) and ctx.type", "x = odd(1) and ctx.type | ctx", "a bool is wanted, this is int: compare it"),
    ("x = 1 < ctx.type is None", "x = 1 < ctx.type is None | 1", "`is` stands by itself: join the comparisons with"),
    ("x = ctx.type in (1, 2) < 3", "x = ctx.type in (1, 2) < 3 | ctx", "`in` stands at the end of a chain only"),
    ("x = ctx.type in K", "x = ctx.type in K | K", "`in` looks into a tuple of constants: write one"),
    ("x = ctx.user_port in (80,)", "x = ctx.user_port in (80,) | ctx", "be16 is compared with int: convert it with"),
    ("x = stats.lookup(1) == 5", "x = stats.lookup(1) == 5 | stats", "pointers are compared with None only"),
    ("x = 1.5", "x = 1.5 | 1.5", "there are only integers in a BPF program"),
    ("x = WORDS", "x = WORDS | WORDS", "str cannot be given to the name `x`"),
    ("x = None", "x = None | None", "None cannot be given to the name `x`"),
    ("x = (1, 2)", "x = (1, 2) | (1", "tuple cannot be given to the name `x`"),
    ("x = stats", "x = stats | stats", "HashMap cannot be given to the name `x`"),
    ("x = stats.lookup", "x = stats.lookup | stats", "method lookup cannot be given to the name `x`"),
    # names
    ("x = y", "x = y | y", "`y` is not defined"),
    ("x = x", "x = x | x", "`x` has no value yet"),
    ("x = K\nK = 6", "x = K | K", "`K` has no value yet"),
    ("stats = stats.lookup(1)", "stats = stats.lookup(1) | stats.l", "`stats` has no value yet"),
    ("x += 1", "x += 1 | x", "`x` has no value yet"),
    ("if ctx.type == 1:\n    x = 1\ny = x", "y = x | x", "`x` has a value on some paths only: give it one before"),
    ("for i in range(0):\n    pass\nx = i", "x = i | i", "`i` has no value yet"),
    ("for i in range(ctx.type & 7):\n    pass\nx = i", "x = i | i", "`i` has a value on some paths only"),
    ("while ctx.type > 4:\n    y = 1\nx = y", "x = y | y", "`y` has no value yet"),
    (
        "x = 1\nif ctx.type == 1:\n    x = htons(1)\ny = x",
        "y = x | x",
        "`x` is be16 on one path, u64 on another: declare it",
    ),
    (
        "x = 0\nif ctx.type == 1:\n    x = -1\ny = x",
        "y = x | x",
        "`x` is i64 on one path, u64 on another: declare it, `x: i64",
    ),
    (
        "if ctx.type == 1:\n    s = Stat(a=1, b=2)\nelse:\n    s = Stat(a=2, b=2)\nx = s.a",
        "x = s.a | s",
        "`s` has different meanings on different paths",
    ),
    ("ctx = 1", "ctx = 1 | ctx", "`ctx` is a parameter, a loop's name or a struct: use another name"),
    (
        "for i in unroll((1,)):\n    i = 5",
        "i = 5 | i",
        "`i` is a parameter, a loop's name or a struct: use another name",
    ),
    ("s = Stat(a=1, b=2)\ns = 5", "s = 5 | s", "`s` is a parameter, a loop's name or a struct: use another name"),
    (
        "s = Stat(a=1, b=2)\ns = Inner(port=htons(1), ip=ctx.user_ip4)",
        "s = Inner(port=htons(1), ip=ctx.user_ip4) | In",
        "`s` is Stat",
    ),
    # calls
    ("plain(1)", "plain(1) | plain", "plain cannot be called in a BPF program: mark a function of yours with @inline"),
    ("print(1)", "print(1) | print", "print cannot be called in a BPF program"),
    ("K(1)", "K(1) | K", "int cannot be called in a BPF program"),
    ("x = int(ctx.type, 16)", "x = int(ctx.type, 16) | int", "int() takes one number"),
    ("x = str(ctx.type)", "x = str(ctx.type) | str", "str cannot be called in a BPF program"),
    ("stats.lookup(1)(2)", "stats.lookup(1)(2) | stats", "Stat | None cannot be called in a BPF program"),
    ("x = add(1)", "x = add(1) | add", "add(): missing a required argument: 'y'"),
    ("x = add(1, 2, 3)", "x = add(1, 2, 3) | add", "add(): too many positional arguments"),
    ("x = add(1, z=3)", "x = add(1, z=3) | add", "add(): missing a required argument: 'y'"),
    ("x = add(*K)", "x = add(*K) | *K", "`*` is not supported: write the arguments out"),
    ("x = add(**K)", "x = add(**K) | K", "`**` is not supported: write the arguments out"),
    ("x = nothing(1)", "x = nothing(1) | nothing", "None cannot be given to the name `x`"),
    ("if nothing(1):\n    return 0", "if nothing(1): | nothing", "a number is wanted, this is None"),
    (
        "x = recursive(1)",
        "return recursive(x) | recursive",
        "recursive calls itself, which no function can here: write a loop",
    ),
    ("x = ping(1)", "return ping(x) | ping", "ping calls itself, which no function can here: write a loop"),
    (
        "x = h.get_netns_cookie()",
        "x = h.get_netns_cookie() | h",
        "get_netns_cookie(): missing a required argument: 'ctx'",
    ),
    ("x = h.get_netns_cookie(5)", "x = h.get_netns_cookie(5) | 5", "this is int where Context is wanted"),
    (
        "x = h.sock_ops_cb_flags_set(ctx, 1)",
        "x = h.sock_ops_cb_flags_set(ctx, 1) | ctx, 1",
        "this is SockAddr where SockOps",
    ),
    ("x = h.no_such_helper()", "x = h.no_such_helper() | h", "pybpfasm.lang.helpers has no attribute `no_such_helper`"),
    ("stats.lookup()", "stats.lookup() | stats", "lookup(): missing a required argument: 'key'"),
    ("stats.update(1, 2)", "stats.update(1, 2) | 2", "Stat is wanted here, this is int"),
    (
        "stats.update(1, stats.lookup(1))",
        "stats.update(1, stats.lookup(1)) | stats.lookup",
        "Stat is wanted here, this is Stat |",
    ),
    ("stats.clear()", "stats.clear() | stats", "HashMap has no attribute `clear`"),
    ("x = stats.max_entries", "x = stats.max_entries | stats", "a program cannot read attributes of this HashMap"),
    ("x = numbers.lookup(1)", "x = numbers.lookup(1) | numbers", "the map's value is u64: make it a Struct"),
    (
        "untyped.lookup(1)",
        "untyped.lookup(1) | untyped",
        "map `untyped`: HashMap needs its types: HashMap[u64, Value](…)",
    ),
    (
        "for m in unroll(MAPS):\n    m.delete(1)",
        "m.delete(1) | m",
        "this map has no name here: write it by its own name",
    ),
    ("storage.get(ctx)", "storage.get(ctx) | ctx", "this is SockAddr where SockCommon is wanted"),
    ("x = Stat", "x = Stat | Stat", "Stat cannot be given to the name `x`"),
    # loops
    (
        "for i in range(ctx.type):\n    pass",
        "for i in range(ctx.type): | ctx",
        "how far this goes is not known: bound it, as by min(…, 64) or `& 63`",
    ),
    (
        "for i in (1, 2):\n    pass",
        "for i in (1, 2): | (1",
        "a loop counts or repeats constants: write `for name in ra",
    ),
    ("for i in K:\n    pass", "for i in K: | K", "a loop counts or repeats constants"),
    (
        "for i in unroll((1 for _ in ctx)):\n    pass",
        "for i in unroll((1 for _ in ctx)): | (1",
        "`(1 for _ in ctx)` is not supported",
    ),
    (
        "for i in unroll(range(10001)):\n    pass",
        "for i in unroll(range(10001)): | unroll",
        "a loop is unrolled at most 10000 times",
    ),
    (
        "n = 1\nfor i in range(3):\n    n = -1\nx = n",
        "for i in range(3): | for",
        "`n` is u64 where the loop begins, i64 when it comes around: declare it, `n: i64 = …`",
    ),
    (
        "while bpf.can_loop():\n    pass",
        "while bpf.can_loop(): | bpf",
        "can_loop() needs Linux 6.9, this is compiled for 5.10: give the loop a bound",
    ),
    ("while True:\n    pass", "while True: | while", "this loop never ends: leave it by `break` or `return`"),
    ("while ctx:\n    pass", "while ctx: | ctx", "a pointer has no truth: write `is None` or `is not None`"),
    # match
    ("match ctx:\n    case 1:\n        pass", "match ctx: | ctx", "only numbers can be matched"),
    ("match ctx.type:\n    case x:\n        pass", "case x: | x", "a case is a constant, constants joined by |, or _"),
    ("match ctx.type:\n    case [1]:\n        pass", "case [1]: | [1]", "a case is a constant, constants joined by |"),
    ("match ctx.user_port:\n    case 80:\n        pass", "case 80: | 80", "be16 is compared with int: convert it"),
    # assert
    ("assert ctx.type == 1", "assert ctx.type == 1 | ctx", "assert is for what is known when the program is compiled"),
    ("assert K == 4, 'four'", "assert K == 4, 'four'", "this assertion does not hold: four"),
    (
        "for i in unroll(K):\n    pass",
        "for i in unroll(K): | unroll",
        "this cannot be unrolled: 'int' object is not iterable",
    ),
    (
        "for i in range(1, 2, 0):\n    pass",
        "for i in range(1, 2, 0): | 0",
        "the step is a constant other than 0",
    ),
    (
        "for i in range(1 << 60):\n    pass",
        "for i in range(1 << 60): | 1 << 60",
        "a loop of so many rounds is refused: at most 1048576",
    ),
    (
        "for i in range(-(1 << 63) + 1, -1 << 63, -5):\n    pass",
        "for i in range(-(1 << 63) + 1, -1 << 63, -5): | -1 << 63",
        "this loop counts from -9223372036854775812 to -9223372036854775807, which 64 bits do not hold",
    ),
    (
        "for i in range(5, ctx.type & 7, -1 << 62):\n    pass",
        "for i in range(5, ctx.type & 7, -1 << 62): | range",
        "a step of -4611686018427387904 is refused: 1048576 is the most, up or down",
    ),
    (
        "for i in range(-1 << 60, ctx.type & 7):\n    pass",
        "for i in range(-1 << 60, ctx.type & 7): | range",
        "a loop of so many rounds is refused: at most 1048576",
    ),
    (
        "for i, j in range(3):\n    pass",
        "for i, j in range(3): | i",
        "a loop that counts has one name: `for name in range(…):`",
    ),
    (
        "for i, j in unroll(((1, 2), 3)):\n    pass",
        "for i, j in unroll(((1, 2), 3)): | i",
        "this loop has 2 names, one value is here",
    ),
    (
        TEST + "for p.a in unroll((1, 2)):\n    pass",
        "for p.a in unroll((1, 2)): | p.a",
        "a loop gives names: `for name in unroll(…):`",
    ),
    (
        "i: u64 = 0\nfor i in range(-3, 3):\n    pass",
        "for i in range(-3, 3): | range",
        "this is i64 where u64 is wanted",
    ),
    (
        "for i in range(10, h.ktime_get_ns(), -3):\n    pass",
        "for i in range(10, h.ktime_get_ns(), -3): | range",
        "steps of -3 may go past a stop that is not known, and past 0",
    ),
    ("f: bool = False\nfor f in range(4):\n    pass", "for f in range(4): | range", "this is u64 where bool is wanted"),
    (
        "n: be16 = htons(5)\nfor n in range(4):\n    pass",
        "for n in range(4): | range",
        "this is u64 where be16 is wanted: convert it with htons()",
    ),
    # constants of the module
    ("x = LONG", "x = LONG | LONG", "a number of 100001 bits does not fit 64 bits"),
    ("x = 1 << 1023 << 1023", "x = 1 << 1023 << 1023 | 1", "this constant has more than 1024 bits"),
    ("x = len(ENDLESS)", "x = len(ENDLESS) | ENDLESS", "this has no length"),
    (
        "if ctx.type in range(0, 1024, 2):\n    return 0",
        "if ctx.type in range(0, 1024, 2): | range",
        "`in` compares with 256 constants at most: compare with the ends",
    ),
    ("x = MAPS[2]", "x = MAPS[2] | 2", "index 2 is outside its 2 elements"),
    (
        "x = WEEK[ctx.type]",
        "x = WEEK[ctx.type] | ctx",
        "a constant has constant indices: what is looked up at run time is kept in a map or in `ReadOnly` variables",
    ),
    ("WEEK[0] = 3", "WEEK[0] = 3 | WEEK[0]", "a constant cannot be assigned: keep what changes in a Global"),
    (TEST + "p.a = 1 << 64", "p.a = 1 << 64 | 1 << 64", "18446744073709551616 does not fit Stat.a, which is u64"),
    ("x = 1 << 1024", "x = 1 << 1024 | 1 << 1024", "a shift by 1024: 0 to 1023 are possible"),
    # what only a name, or only a number, can do
    (
        TEST + "p.a: u8 = 3",
        "p.a: u8 = 3 | p.a",
        "only a name is declared, a field and an element have their types: `… = …`",
    ),
    (
        TEXT + "p.name += b'a'",
        "p.name += b'a' | p.name",
        "`p.name` is char[16], such operators are for numbers: assign it as a whole",
    ),
    (
        "match ctx.type, 1:\n    case 1, 2:\n        return 0",
        "match ctx.type, 1: | ctx",
        "one number is matched, not several: match one",
    ),
    (
        "match ctx.type:\n    case None:\n        return 0",
        "case None: | None",
        "only numbers can be matched: test `is None` with `if`",
    ),
    # statements
    ("return 2", "return 2 | 2", "2 is no result of this program: 0 to 1 are"),
    ("return -1", "return -1 | -1", "-1 is no result of this program: 0 to 1 are"),
    ("return", "return", "`return` without a value: a program gives a number, 0 to 1"),
    ("return htons(1)", "return htons(1) | htons", "a number is wanted, this is be16"),
    ("return stats.lookup(1)", "return stats.lookup(1) | stats", "a number is wanted, this is Stat | None"),
    ("return 1\nx = 5\nreturn 0", "x = 5", "this is never reached: remove it"),
    ("if ctx.type == 1:\n    return 0\nelse:\n    return 1\nreturn 0", "return 0", "this is never reached: remove it"),
    ("for i in range(3):\n    continue\n    K.x", "K.x", "this is never reached: remove it"),
    ("ctx.type", "ctx.type", "this has no effect: assign it or remove it"),
    ("...", "...", "this has no effect: assign it or remove it"),
    ("ctx.type == 5", "ctx.type == 5", "this has no effect: assign it or remove it"),
    ("x, y = 1", "x, y = 1 | 1", "2 values are wanted here, joined by commas"),
    ("x, y = 1, 2, 3", "x, y = 1, 2, 3 | 1", "2 values are wanted here, joined by commas"),
    ("(x, y), z = 1, 2", "(x, y), z = 1, 2 | (x", "assign to a name, a field or an element"),
    ("x: u64", "x: u64", "`x: u64` is not supported in a BPF program: give it its value where it is declared"),
    ("ctx.user_ip4: u64 = 1", "ctx.user_ip4: u64 = 1 | ctx", "only a name is declared, a field and an element have"),
    ("stats[1] = 5", "stats[1] = 5 | stats", "HashMap cannot be indexed"),
    ("stats[1] += 5", "stats[1] += 5 | stats", "HashMap cannot be indexed"),
    ("x = stats[1]", "x = stats[1] | stats", "HashMap cannot be indexed"),
    ("WORDS.x = 1", "WORDS.x = 1 | WORDS", "str has no fields"),
]


@pytest.mark.parametrize(
    ("body", "place", "reason"), RULES, ids=[f"{rule[0].splitlines()[-1]} ({n})" for n, rule in enumerate(RULES)]
)
def test_rule(write_module: MakeModule, body: str, place: str, reason: str) -> None:
    """Each rule, broken once: the error stands at the right line and column and says what is wrong."""
    error = refusal(write_module, with_body(body))
    assert error.reason.startswith(reason)
    assert_points_at(error, place)


# --- programs that are right -----------------------------------------------------------------------------------------

RIGHT = [
    "p = stats.lookup(1)\nif p is not None and p.a == 1:\n    p.a = 2",
    "p = stats.lookup(1)\nif not (p is None or p.a == 1):\n    p.a = 2",
    "p = stats.lookup(1)\nx = 0 if p is None else p.a",
    "p = stats.lookup(1)\nif p is None:\n    p = stats.lookup(2)\nif p is None:\n    return 0\np.a = 1",
    "if ctx.type:\n    p = stats.lookup(1)\nelse:\n    p = stats.lookup(2)\nif p is None:\n    return 0\np.a = 1",
    "p = stats.lookup(1)\nif p is not None:\n    q = p\nelse:\n    return 0\nq.a = 1",
    "p = stats.lookup(1)\nfor i in range(3):\n    if p is None:\n        continue\n    p.a = i",
    "p = find(1)\nif p is None:\n    return 0\nx = use(p)",
    "p = find(1)\nif p is None:\n    return 0\nx = maybe(p)",
    "x = maybe(find(1))",
    "x = maybe(None)",
    "x = maybe(Stat(a=1, b=2))",
    "p: Stat | None = stats.lookup(1)\nif p is None:\n    return 0\np.a = 1",
    "if TRACE:\n    p = stats.lookup(1)\n    p.a = 1",
    "for i in unroll((htons(1), htons(2))):\n    if ctx.user_port == i:\n        return 0",
    "for m in unroll((stats, other_stats)):\n    m.delete(1)",
    "for i in range(2):\n    s = Stat(a=i, b=2)\n    stats.update(i, s)",
    "x: u64 = 5\nx = 6",
    "x: i64 = 5\nif ctx.type == 1:\n    x = -3\nif x < 0:\n    return 0",
    "s: Stat = Stat(a=1, b=2)\nx = s.a",
    "x = Color.RED + Settings.PORT",
    "return True",
    "return odd(ctx.type)",
    "return 1 if odd(ctx.type) else 0",
]


@pytest.mark.parametrize("body", RIGHT)
def test_right_programs_compile(write_module: MakeModule, body: str) -> None:
    """Programs that are right, and that a compiler with simpler rules would refuse."""
    before = "@bpf.inline\ndef maybe(p: Stat | None) -> int:\n    if p is None:\n        return 0\n    return p.a\n"
    assert compile_program(write_module(with_body(body, before)).prog).instructions


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def usual_recursion_limit() -> Iterator[None]:
    """Python's own: mypy, which other tests call, raises it for the whole process."""
    raised = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(raised)


def test_deep_nesting(write_module: MakeModule, usual_recursion_limit: None) -> None:
    """Nesting compiles as deep as Python's own compiler goes, or is refused at the program: no traceback."""
    compile_program(write_module(with_body("x = " + "(" * 150 + "ctx.type" + ")" * 150)).prog)
    # Twice Python's recursion limit: too deep whatever already lies on the stack.
    deep = "x = " + "~" * 2000 + "ctx.type"
    error = refusal(write_module, with_body(deep))
    assert error.reason.startswith("the program is nested too deeply")
    assert_points_at(error, "def prog(ctx: SockAddr) -> int:")
    chain = "x = ctx.type\nif x == 0:\n    return 0\n" + "".join(
        f"elif x == {i}:\n    return 0\n" for i in range(1, 2000)
    )
    error = refusal(write_module, with_body(chain))
    assert error.reason.startswith("the program is nested too deeply")


def test_long_chains_of_elif(write_module: MakeModule) -> None:
    """A hundred `elif` are no problem."""
    chain = "x = ctx.type\nif x == 0:\n    return 0\n" + "".join(
        f"elif x == {i}:\n    return 0\n" for i in range(1, 100)
    )
    assert compile_program(write_module(with_body(chain)).prog).instructions


def test_a_struct_larger_than_the_stack(write_module: MakeModule) -> None:
    """The stack has 512 bytes; what needs more is refused with the number."""
    before = (
        "class Huge(Struct):\n"
        + "".join(f"    f{i}: u64\n" for i in range(65))
        + "huges = HashMap[u32, Huge](max_entries=1)\n"
    )
    arguments = ", ".join(f"f{i}={i}" for i in range(65))
    error = refusal(write_module, with_body(f"x = Huge({arguments})\nhuges.update(1, x)", before))
    assert re.match(r"the program needs 5\d\d bytes of stack, 512 are there: keep it in a map$", error.reason)


def test_keys_share_the_stack(write_module: MakeModule) -> None:
    """A key is kept only for its call: any number of lookups fit the stack, also one inside another's arguments."""
    body = "for i in unroll(range(500)):\n    stats.delete(i)\nx = add(stats.delete(1) == 0, 2) if K == 4 else 0\n"
    assert compile_program(write_module(with_body(body)).prog).instructions


def test_a_program_too_long_for_its_jumps(write_module: MakeModule) -> None:
    """A branch over more than 32767 instructions is refused at the program, not by the assembler's words."""
    loop = "    for i in unroll(range(3700)):\n        stats.update(i, s)\n"
    body = f"s = Stat(a=1, b=2)\nif ctx.type == 1:\n{loop}if ctx.type == 3:\n    return 0"
    error = refusal(write_module, with_body(body))
    assert error.reason.startswith("the program is too long")


# --- constants -------------------------------------------------------------------------------------------------------


def test_constants_are_replaced_everywhere(write_module: MakeModule) -> None:
    """A constant given at compile time takes the module's place, in inline functions too, and decides branches."""
    before = "PORTS = (1, 2)\n@bpf.inline\ndef f(x: int) -> int:\n    return x + K\n"
    module = write_module(
        with_body("x = f(ctx.type)\nfor p in unroll(PORTS):\n    if x == p:\n        return 0", before)
    )
    immediates = {each.imm for each in compile_program(module.prog).instructions}
    assert {5, 1, 2} <= immediates
    replaced = {each.imm for each in compile_program(module.prog, K=77, PORTS=(33,)).instructions}
    assert {77, 33} <= replaced
    assert not {5, 2} & replaced


def test_a_decided_branch_leaves_nothing(write_module: MakeModule) -> None:
    """What only a false constant guards is not in the program, nor is its map."""
    module = write_module(with_body("if TRACE:\n    stats.delete(1)"))
    assert len(compile_program(module.prog).instructions) == 2
    assert not compile_program(module.prog).maps
    assert set(compile_program(module.prog, TRACE=True).maps) == {"stats"}


def test_an_unknown_constant(write_module: MakeModule) -> None:
    """A constant that no program uses is an error that names it, for one program and for several."""
    module = write_module(with_body("x = K"))
    with pytest.raises(BpfError, match=r"^program prog uses no constant called PORT$"):
        compile_program(module.prog, PORT=1)
    with pytest.raises(BpfError, match=r"^no program uses PORT, nowhere$"):
        compile_collection([module.prog], {"PORT": 1, "K": 2}, {"nowhere": 5})


def test_a_map_by_two_names(write_module: MakeModule) -> None:
    """One map called by two names, or two maps by one, is an error at the second name."""
    error = refusal(write_module, with_body("stats.delete(1)\nsame.delete(1)", "same = stats\n"))
    assert error.reason.startswith("this map is called `stats` elsewhere")
    error = refusal(
        write_module, with_body("stats.delete(1)\nm.delete(1)", "m = HashMap[u64, Stat](max_entries=1, name='stats')\n")
    )
    assert error.reason == "two different maps are called `stats`"
