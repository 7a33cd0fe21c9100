"""Where the API is and who we are there: a kubeconfig, or the service account that Kubernetes mounts into a pod.

The package `kubernetes` reads them (certificates, tokens, plugins, proxies), and is imported here alone and late: it
costs some 30 MB. What it makes is a urllib3 pool, which stays all that is used of it.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import yaml

from merbridge.sources.errors import SourceError
from merbridge.sources.kubernetes.errors import one_line

if TYPE_CHECKING:
    from urllib3 import PoolManager

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

# A peer that is gone without a word is noticed after half a minute: 15 s of silence, then three probes.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


@attrs.frozen
class ApiPlace:
    """Which API: `kubeconfig` and `context` as given, None where they are not; `environment` as the process has it.

    Without a kubeconfig and a context, a pod uses its service account; elsewhere it is $KUBECONFIG or ~/.kube/config.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    environment: Mapping[str, str] = attrs.field(factory=lambda: os.environ)
    service_account: Path = SERVICE_ACCOUNT

    @property
    def in_cluster(self) -> bool:
        """Whether the service account is meant."""
        return self.kubeconfig is None and self.context is None and "KUBERNETES_SERVICE_HOST" in self.environment

    @property
    def origin(self) -> str:
        """Where credentials come from, for people."""
        return f"the service account in {self.service_account}" if self.in_cluster else f"kubeconfig {self._paths()}"

    def _paths(self) -> str:
        if self.kubeconfig is not None:
            return str(self.kubeconfig)
        return self.environment.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")

    def connect(self) -> "Session":
        """Read the credentials as they are now; raises `SourceError` if they are unreadable. No request is made."""
        try:
            from kubernetes.client import Configuration, rest
            from kubernetes.config import ConfigException
        except ModuleNotFoundError as missing:
            raise SourceError(
                f"--source kubernetes needs the Python package {missing.name}: pip install 'merbridge[agent]'"
            ) from None
        configuration = Configuration()
        try:
            self._load(configuration)
            pool = rest.RESTClientObject(configuration).pool_manager
        except (ConfigException, OSError, ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError) as error:
            # What it raises for a file of another shape is not always its own exception.
            raise SourceError(
                f"{self.origin}: cannot be used to reach the Kubernetes API: {one_line(str(error))} "
                "(--kubeconfig, --context)"
            ) from None
        # Each release of the package has another way to give socket options, urllib3 has one.
        pool.connection_pool_kw["socket_options"] = list(_KEEPALIVE)
        return Session(configuration.host.rstrip("/"), pool, configuration)

    def _load(self, configuration: Any) -> None:
        if self.in_cluster:
            from kubernetes.config.incluster_config import InClusterConfigLoader

            token, certificate = self.service_account / "token", self.service_account / "ca.crt"
            loader = InClusterConfigLoader(str(token), str(certificate), environ=dict(self.environment))
            loader.load_and_set(configuration)
            return
        from kubernetes.config.kube_config import load_kube_config

        paths = self._paths()
        if not any(os.path.exists(os.path.expanduser(path)) for path in paths.split(os.pathsep)):
            raise FileNotFoundError("no such file")
        load_kube_config(paths, context=self.context, client_configuration=configuration, persist_config=False)


@attrs.frozen
class Session:
    """Connections to the API with one set of credentials. `host` is the URL that paths are appended to."""

    host: str
    pool: "PoolManager"
    _configuration: Any

    def authorization(self) -> dict[str, str]:
        """The header that says who we are, {} where a certificate does; a token that is due is read anew.

        Raises OSError where that fails.
        """
        from kubernetes.config import ConfigException

        try:
            settings = self._configuration.auth_settings().values()
        except ConfigException as error:
            raise OSError(None, f"its token: {one_line(str(error))}") from None
        value = next((each["value"] for each in settings if each["key"] == "authorization"), None)
        return {} if value is None else {"Authorization": str(value)}
