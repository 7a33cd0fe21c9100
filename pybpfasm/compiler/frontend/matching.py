"""`match` on numbers: each case is a comparison with constants, from top to bottom."""

import ast
from typing import TYPE_CHECKING

from pybpfasm.compiler.frontend.values import Constant, Value

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering
    from pybpfasm.compiler.frontend.paths import Junction


class Matching:
    """Compiles `match`."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def compile(self, node: ast.Match) -> None:
        """The subject is evaluated once; a case's guard only where its pattern matches."""
        lowering = self._lowering
        if isinstance(node.subject, ast.Tuple | ast.List):
            lowering.fail(node.subject, "one number is matched, not several: match one, and test the others in guards")
        subject = lowering.expressions.value(node.subject)
        if lowering.expressions.scalar_type_or_none(subject) is None:
            lowering.fail(node.subject, "only numbers can be matched: test structs' fields and None with `if`")
        end = lowering.junction()
        for case in node.cases:
            if not lowering.reachable:
                break  # the subject is a constant, and is decided
            following = lowering.junction()
            matched = lowering.junction()
            self._pattern(case.pattern, subject, matched, following)
            lowering.enter(matched)
            if lowering.reachable:
                self._guarded(case, following)
                lowering.goto(end, case.pattern)
            lowering.enter(following)
        lowering.goto(end, node)
        lowering.enter(end)

    def _guarded(self, case: ast.match_case, following: "Junction") -> None:
        lowering = self._lowering
        if case.guard is not None:
            passed = lowering.junction()
            lowering.conditions.branch(case.guard, passed, following)
            lowering.enter(passed)
        if lowering.reachable:
            lowering.statements.suite(case.body)

    def _pattern(self, pattern: ast.pattern, subject: Value, yes: "Junction", no: "Junction") -> None:
        lowering = self._lowering
        match pattern:
            case ast.MatchValue(value=value):
                constant = lowering.expressions.constant(value)
                lowering.conditions.equal(pattern, subject, Constant(constant), yes, no)
            case ast.MatchSingleton(value=bool() as constant):
                lowering.conditions.equal(pattern, subject, Constant(constant), yes, no)
            case ast.MatchSingleton(value=None):
                lowering.fail(pattern, "only numbers can be matched: test `is None` with `if`, before the `match`")
            case ast.MatchOr(patterns=patterns):
                for each in patterns:
                    following = lowering.junction()
                    self._pattern(each, subject, yes, following)
                    lowering.enter(following)
                    if not lowering.reachable:
                        return
                lowering.goto(no, pattern)
            case ast.MatchAs(pattern=None, name=None):
                lowering.goto(yes, pattern)
            case _:
                reason = (
                    "a case is a constant, constants joined by |, or _: name the subject before, and test it with `if`"
                )
                lowering.fail(pattern, reason)
