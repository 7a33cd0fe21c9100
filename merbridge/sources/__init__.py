"""Where the agent learns of pods and namespaces: each source gives a `merbridge.model.Snapshot`."""

from merbridge.sources.errors import SourceError
from merbridge.sources.file import FileSource, parse_source

__all__ = ["FileSource", "SourceError", "parse_source"]
