"""The page about instructions is true."""

from pathlib import Path

from tools.page_examples import asks_to_be_run, program

PAGE = Path(__file__).parents[3] / "docs" / "isa.md"


def test_the_errors_that_are_shown_come() -> None:
    """The page's examples run, and where one shows an error, that error is raised and not passed by."""
    assert asks_to_be_run(PAGE)
    code = program(PAGE)
    assert code.count("\nexcept ") == 4
    strict = code.replace("\nexcept ", "\n    raise AssertionError('no error came')\nexcept ")
    exec(compile(strict, str(PAGE), "exec"), {})  # noqa: S102 - our own page
