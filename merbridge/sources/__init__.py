"""Where the agent learns of pods and namespaces: each source gives a `merbridge.model.Snapshot`."""

from merbridge.sources.choice import choose_source
from merbridge.sources.errors import SourceError
from merbridge.sources.file import FileSource
from merbridge.sources.kubernetes import KubernetesSource
from merbridge.sources.source import Source, SourceState

__all__ = ["FileSource", "KubernetesSource", "Source", "SourceError", "SourceState", "choose_source"]
