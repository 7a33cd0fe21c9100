"""Classes of fields: what of attrs they have, and that they are as cheap as they are made for."""

import copy

import attrs
import pytest

from pybpfasm.records import define, evolve, field, fields, frozen


@frozen
class Range:
    """A frozen one, with a default, a private field and one that does not count."""

    start: int
    end: int = 0
    _note: str = field(default="", eq=False, repr=False)


@frozen
class Named(Range):
    """One with a base class, whose fields come first."""

    name: str = "?"


@define
class Bag:
    """One that can be changed, with a list of its own for each instance and a field that is computed."""

    items: list[int] = field(factory=list)
    fields: int = 3
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = sum(self.items)


@define(eq=False, repr=False)
class Thing:
    """One that is only equal to itself."""

    number: int


def test_fields_are_given_by_place_and_by_name() -> None:
    """Inherited ones come first; a private one is given without its underscore."""
    made = Named(1, end=2, note="x", name="n")
    assert (made.start, made.end, made._note, made.name) == (1, 2, "x", "n")
    assert [each.name for each in fields(Named)] == ["start", "end", "_note", "name"]


@pytest.mark.parametrize("arguments", [(), (1, 2, "", 4)])
def test_wrong_arguments_are_told_as_of_any_function(arguments: tuple[int, ...]) -> None:
    """Also by the first call, which writes `__init__`."""
    with pytest.raises(TypeError, match=r"Range\.__init__\(\) (missing 1 required|takes from 2 to 4 positional)"):
        frozen(type("Range", (), {"__annotations__": {"start": int, "end": int, "_note": str}, "end": 0, "_note": ""}))(
            *arguments
        )


def test_equality_and_hash_go_by_what_counts() -> None:
    """Fields with eq=False do not count, and another class is never equal."""
    assert Range(1, 2, "a") == Range(1, 2, "b")
    assert hash(Range(1, 2, "a")) == hash(Range(1, 2, "b"))
    assert Range(1) != Named(1)
    assert Thing(1) != Thing(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Bag())


def test_a_frozen_one_cannot_be_changed() -> None:
    """Neither by assignment nor by deletion."""
    made = Range(1)
    with pytest.raises(AttributeError, match=r"^Range cannot be changed"):
        made.start = 2  # type: ignore[misc]  # that is what is tried
    with pytest.raises(AttributeError, match=r"^Range cannot be changed"):
        del made.start


def test_each_instance_has_its_own_list() -> None:
    """A factory is called for each; what is computed is computed behind the fields."""
    one, other = Bag([1, 2]), Bag()
    other.items.append(5)
    assert (one.total, Bag().items, one.fields) == (3, [], 3)
    with pytest.raises(TypeError):
        Bag(total=3)  # type: ignore[call-arg]  # that is what is tried


def test_evolve_changes_some_fields() -> None:
    """By attrs' function, too: users' code may have it."""
    assert evolve(Named(1, 2, name="n"), end=5) == Named(1, 5, name="n")
    assert attrs.evolve(Named(1, 2, name="n"), end=5) == Named(1, 5, name="n")  # type: ignore[misc]  # not typed for it
    with pytest.raises(TypeError, match="unexpected keyword"):
        evolve(Range(1), stop=2)


def test_they_are_shown_matched_and_copied() -> None:
    """As any object of fields."""
    match Range(1, 2):
        case Range(start, end):
            assert (start, end) == (1, 2)
    assert repr(Named(1, name="n")) == "Named(start=1, end=0, name='n')"
    assert "Thing object" in repr(Thing(1))
    assert copy.copy(Range(1)) == copy.deepcopy(Range(1)) == Range(1)
