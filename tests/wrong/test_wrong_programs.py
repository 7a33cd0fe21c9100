"""Programs with one mistake each, as authors make them: where they are refused, with which words, and by whose eyes.

A file of `programs/` marks its wrong line: `# error: COLUMN: the message`; with `(typed)` type checkers see it, too.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from pybpfasm.cli import main

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).with_name("programs")
FILES = sorted(FOLDER.glob("*.py"))
_MARK = re.compile(r"  # error(?P<typed> \(typed\))?: (?P<column>\d+): (?P<message>.+)$")


@attrs.frozen
class Mistake:
    """What a file says of its mistake; `line` and `column` count from 1."""

    line: int
    column: int
    message: str
    typed: bool


def mistake(path: Path) -> Mistake:
    """The one that a file marks."""
    marked = [
        (number, found) for number, line in enumerate(path.read_text().splitlines(), 1) if (found := _MARK.search(line))
    ]
    assert len(marked) == 1, f"{path.name} marks {len(marked)} lines"
    line, found = marked[0]
    return Mistake(line, int(found["column"]), found["message"], found["typed"] is not None)


def test_there_are_enough() -> None:
    """Sixty rules at least, one a file, with messages of their own; twenty of them type checkers can see."""
    mistakes = [mistake(path) for path in FILES]
    assert len(mistakes) >= 60
    assert sum(each.typed for each in mistakes) >= 20
    rules = [path.read_text().partition('"""')[2].partition('"""')[0] for path in FILES]
    assert len(set(rules)) == len(FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_refused_at_its_place(path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """`check` says one thing, at the marked line and column, in these words; the program is right otherwise."""
    expected = mistake(path)
    status = main(["check", str(path)])
    said = capfdbinary.readouterr().out.decode()
    assert said == f"{path}:{expected.line}:{expected.column}: error: {expected.message}\n"
    assert status == 1


# What a message says besides what is wrong: what to write, or what there is instead.
_HELP = re.compile(r": |; |\bare\b|\bis\b|\bwants?\b|\bneeds\b")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_message_helps(path: Path) -> None:
    """It is one line, has no words of our internals, and goes on to what is possible."""
    message = mistake(path).message
    assert _HELP.search(message)
    assert not re.search(r"Traceback|AssertionError|NoneType|<class|object at 0x|ast\.|lowering", message)


def _errors_of_mypy() -> Mapping[str, set[int]]:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", *map(str, FILES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found: dict[str, set[int]] = defaultdict(set)
    for line in done.stdout.splitlines():
        told = re.match(r"(.+\.py):(\d+): error:", line)
        if told:
            found[Path(told[1]).name].add(int(told[2]))
    return found


def _pyright(folders: list[Path], config: Path) -> list[dict[str, object]]:
    """What pyright says, in its strict mode, of folders: of errors the file and the line."""
    settings = {"include": [str(each) for each in folders], "typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    config.write_text(json.dumps(settings))
    program = Path(sys.executable).with_name("basedpyright")
    command = [str(program), "--pythonpath", sys.executable, "-p", str(config), "--outputjson"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    return [each for each in report["generalDiagnostics"] if each["severity"] == "error"]


def _errors_of_pyright(config: Path) -> Mapping[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for each in _pyright([FOLDER], config):
        where: dict[str, dict[str, int]] = each["range"]  # type: ignore[assignment]  # JSON
        found[Path(str(each["file"])).name].add(where["start"]["line"] + 1)
    return found


def test_type_checkers_see_what_types_express(tmp_path: Path) -> None:
    """mypy and pyright, both strict, each tell of the marked line of every file that says so."""
    by_mypy, by_pyright = _errors_of_mypy(), _errors_of_pyright(tmp_path / "pyrightconfig.json")
    typed = {path.name: mistake(path).line for path in FILES if mistake(path).typed}
    assert {name for name, line in typed.items() if line not in by_mypy[name]} == set()
    assert {name for name, line in typed.items() if line not in by_pyright[name]} == set()


def test_pyright_finds_nothing_in_what_is_right(tmp_path: Path) -> None:
    """The mesh's programs and the examples, in its strict mode; mypy looks at them with all else."""
    found = _pyright([ROOT / "programs", ROOT / "examples"], tmp_path / "pyrightconfig.json")
    assert [f"{each['file']}: {each['message']}" for each in found] == []
