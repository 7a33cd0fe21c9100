"""Where the complete records are in a ring's memory."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from pybpfasm.kernel.events.ring_records import BUSY, DISCARD, find_runs, split, stride_of


def memory(*records: tuple[int, bytes]) -> memoryview:
    """The memory of records, each with the flags of its header."""
    return memoryview(
        b"".join(
            (struct.pack("<II", flags | len(data), 0) + data).ljust(stride_of(len(data)), b"\xee")
            for flags, data in records
        )
    )


def read(view: memoryview, most: int = 1 << 20) -> tuple[list[bytes], int]:
    """The records, and where reading stopped."""
    runs, end = find_runs(view.cast("I"), 0, len(view), most)
    return split(bytes(view[:end]), runs, 0), end


def test_a_busy_record_stops_the_reader() -> None:
    """A record that is being written is not read, nor any behind it, whatever its bytes look like."""
    before, behind = (0, b"complete"), (0, b"later")
    view = memory(before, (BUSY, b"half wri"), behind)
    assert read(view) == ([b"complete"], 16)


def test_a_busy_record_among_many_of_its_size_stops_the_reader() -> None:
    """The quick way for records of one size looks at each header, too."""
    for position in range(300):
        records = [(0, index.to_bytes(8, "little")) for index in range(300)]
        records[position] = (BUSY, records[position][1])
        found, end = read(memory(*records))
        assert (len(found), end) == (position, position * 16)


def test_payload_that_looks_like_a_header_is_not_taken_for_one() -> None:
    """Behind a record of another size the quick way would look into its contents: these are no headers."""
    header = struct.pack("<II", 8, 0)
    records = [b"12345678", header * 5, b"abcdefgh", b"x" * 3]
    assert read(memory(*((0, each) for each in records)))[0] == records


def test_discarded_records_are_passed_over() -> None:
    """They take room and give nothing."""
    view = memory((DISCARD, b"no"), (0, b"yes"), (DISCARD, b"no, too"))
    assert read(view) == ([b"yes"], len(view))


def test_no_more_than_asked_for() -> None:
    """Reading stops at a record's end after so many."""
    view = memory(*((0, b"12345678") for _ in range(1000)))
    assert read(view, 10) == ([b"12345678"] * 10, 160)


@given(st.lists(st.tuples(st.sampled_from([0, 0, 0, DISCARD, BUSY]), st.binary(max_size=20)), max_size=40))
def test_any_sequence(records: list[tuple[int, bytes]]) -> None:
    """Whatever lies there: the complete, kept records up to the first busy one, in their order."""
    busy = next((index for index, (flags, _) in enumerate(records) if flags == BUSY), len(records))
    wanted = [data for flags, data in records[:busy] if not flags]
    assert read(memory(*records))[0] == wanted
