"""bpf_conformance is written in uBPF's syntax: all of it is read, and comes back from bytes and from text."""

from conformance.vectors import need_vectors, vectors

from pybpfasm import isa


def test_the_suite_is_read() -> None:
    """Every program of the suite parses, and what it parses to is printed and encoded and comes back."""
    found = vectors()
    need_vectors(found)
    for vector in found:
        program = list(vector.instructions)
        assert program, vector.name
        assert isa.decode(isa.encode(program)) == program, vector.name
        assert isa.parse(isa.format(program)) == program, vector.name
        assert isa.parse(isa.format(program, "llvm"), "llvm") == program, vector.name
