"""A certificate authority and a server's certificate for 127.0.0.1, made anew with the openssl command."""

import shutil
import ssl
import subprocess
from pathlib import Path


def server_context(directory: Path) -> ssl.SSLContext:
    """A TLS context for the server; the authority's certificate is `ca.crt` in the directory."""
    program = shutil.which("openssl")
    assert program, "openssl is missing, and the tests need it: tools/install-test-packages installs it"
    key, certificate = directory / "server.key", directory / "ca.crt"
    line = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    done = subprocess.run(
        [*line, *names, "-keyout", str(key), "-out", str(certificate)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
