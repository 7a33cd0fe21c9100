"""From settings to the source that `--source` names."""

from pathlib import Path

from merbridge.config import Config
from merbridge.sources.errors import SourceError
from merbridge.sources.file import FileSource
from merbridge.sources.kubernetes import Api, ApiPlace, KubernetesSource


def choose_source(config: Config) -> FileSource | KubernetesSource:
    """The source of pods; raises `SourceError` for one that does not exist, or credentials that cannot be used."""
    if config.source == "kubernetes":
        return KubernetesSource(Api(ApiPlace(config.kubeconfig, config.context)), config.node_name)
    kind, colon, rest = config.source.partition(":")
    if kind == "file" and rest:
        return FileSource(Path(rest))
    what = "a file: source without a path" if kind == "file" and colon else "no such source"
    raise SourceError(
        f"--source {config.source!r}: {what}: what exists is kubernetes, and file:PATH with the output of "
        "`kubectl get namespaces,pods -A -o yaml`"
    )
