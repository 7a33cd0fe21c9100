"""The source `kubernetes`: this node's pods and all namespaces, listed and watched through the Kubernetes API."""

from merbridge.sources.kubernetes.api import Api, Timing
from merbridge.sources.kubernetes.credentials import ApiPlace
from merbridge.sources.kubernetes.source import KubernetesSource

__all__ = ["Api", "ApiPlace", "KubernetesSource", "Timing"]
