"""docs/sim.md names what there is; its examples are run with those of the other pages."""

from pathlib import Path

from pybpfasm import sim

PAGE = (Path(__file__).parents[3] / "docs" / "sim.md").read_text()


def test_the_page_names_the_contexts() -> None:
    """Every context that a test can fill in is on the page."""
    public = {name: getattr(sim, name) for name in sim.__all__}
    contexts = {name for name, each in public.items() if isinstance(each, type) and issubclass(each, sim.Context)}
    assert {name for name in contexts if f"`{name}`" not in PAGE} == {"Context", "TcpSock"}
