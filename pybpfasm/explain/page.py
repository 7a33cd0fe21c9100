"""The table as one HTML page that needs nothing else: no script from elsewhere, no font, no picture.

To the left the Python lines with the share of the program that each takes; to the right its operations, instructions
and the verifier's state. Lines of one place light up together; a jump is a link to where it leads.
"""

import html

from pybpfasm.explain.table import Explanation, Group, Line

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --dim: #66727f; --rule: #dde3e9; --paper: #fff; --head: #f4f6f8;
  --mark: #fff4cf; --bar: #7fa7d8; --link: #1f5fa8; --line: #0b6b3a; }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe6ee; --dim: #8b98a6; --rule: #2c3742; --paper: #12181f;
  --head: #1a222b; --mark: #3a3317; --bar: #3f6ea3; --link: #7db3f0; --line: #7fd6a4; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 14px/1.5 system-ui, sans-serif; }
header { padding: 1rem 1.5rem; background: var(--head); border-bottom: 1px solid var(--rule); }
h1 { margin: 0 0 .3rem; font-size: 1.25rem; }
dl { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; margin: 0; }
dt { color: var(--dim); display: inline; } dt::after { content: " "; } dd { display: inline; margin: 0; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th { position: sticky; top: 0; background: var(--head); text-align: left; font-weight: 600; padding: .4rem .75rem;
  border-bottom: 1px solid var(--rule); z-index: 1; }
td { vertical-align: top; padding: .3rem .75rem; border-top: 1px solid var(--rule); overflow-wrap: anywhere; }
td, code { font: 12.5px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap; }
col.python { width: 30%; } col.ir { width: 24%; } col.code { width: 24%; } col.state { width: 22%; }
tr.function td { background: var(--head); font-weight: 600; }
tr.lit td { background: var(--mark); }
.place { color: var(--dim); } .source { color: var(--line); display: block; }
.bar { display: inline-block; height: .5em; background: var(--bar); border-radius: 2px; vertical-align: middle; }
.slots { color: var(--dim); } .slot { color: var(--dim); } .state, .operations { color: var(--dim); }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
.line:target { background: var(--mark); outline: 2px solid var(--bar); }
@media (max-width: 60rem) { col.ir, .ir { width: 0; display: none; } }
"""

_WIDEST_BAR = 120  # pixels

# Lines of one place light up together; without scripts the page only lacks this.
_SCRIPT = """
for (const row of document.querySelectorAll("tr[data-place]")) {
  const all = document.querySelectorAll(`tr[data-place="${row.dataset.place}"]`);
  row.addEventListener("mouseenter", () => all.forEach((each) => each.classList.add("lit")));
  row.addEventListener("mouseleave", () => all.forEach((each) => each.classList.remove("lit")));
}
"""


def as_page(table: Explanation) -> str:
    """The page, in UTF-8."""
    places = {place: number for number, place in enumerate(table.slots_by_place())}
    most = max(table.slots_by_place().values(), default=1)
    shares = table.slots_by_place()
    rows = "\n".join(_row(group, places[group.place], shares[group.place], most) for group in table.groups)
    facts = "".join(f"<div><dt>{_safe(name)}</dt><dd>{_safe(value)}</dd></div>" for name, value in _facts(table))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_safe(table.name)}: Python, operations, instructions</title>
<style>{_STYLE}</style>
</head>
<body>
<header><h1>{_safe(table.name)}</h1><dl>{facts}</dl></header>
<main><table>
<colgroup><col class="python"><col class="ir"><col class="code"><col class="state"></colgroup>
<thead><tr><th>Python</th><th class="ir">Operations</th><th>Instructions</th>
<th>What the verifier knows</th></tr></thead>
<tbody>
{rows}
</tbody>
</table></main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _facts(table: Explanation) -> list[tuple[str, str]]:
    return [("length", f"{table.slots} slots"), *table.facts]


def _row(group: Group, place: int, share: int, most: int) -> str:
    head = f'<tr class="function"><td colspan="4">{_safe(group.function)}</td></tr>\n' if group.function else ""
    where = f"{group.file.rpartition('/')[2]}:{group.line}" if group.file else "no line"
    width = max(3, round(_WIDEST_BAR * share / most))
    python = (
        f'<span class="place">{_safe(where)}</span> <span class="bar" style="width:{width}px"></span> '
        f'<span class="slots">{share}</span><span class="source">{_safe(group.text)}</span>'
    )
    operations = "\n".join(map(_safe, group.operations))
    lines = "".join(map(_instruction, group.lines))
    states = "\n".join(f"{line.slot}: {_safe(line.state)}" for line in group.lines if line.state)
    return (
        f'{head}<tr data-place="{place}"><td>{python}</td><td class="ir operations">{operations}</td>'
        f'<td>{lines}</td><td class="state">{states}</td></tr>'
    )


def _instruction(line: Line) -> str:
    text = _safe(line.text)
    if line.target is not None:
        text += f' <a href="#slot{line.target}">→ {line.target}</a>'
    return f'<div class="line" id="slot{line.slot}"><span class="slot">{line.slot:4}</span> {text}</div>'


def _safe(text: str) -> str:
    return html.escape(text)
