"""Who is who in a cluster: an authority, a certificate for each program, and the kubeconfigs that hold them."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cluster.places import API, NODE_NET, PORT, SERVICE_NET, node_address, node_name
from cluster.progress import Failed

DAYS = "365"
# More than Go asks for, but from Python 3.13 on its TLS takes no certificate without these.
AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash")
HOLDER = (
    "authorityKeyIdentifier=keyid",
    "basicConstraints=critical,CA:FALSE",
    "extendedKeyUsage=serverAuth,clientAuth",
    "keyUsage=critical,digitalSignature",
    "subjectKeyIdentifier=hash",
)
API_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
API_ADDRESSES = ("127.0.0.1", f"{NODE_NET}.1", f"{SERVICE_NET}.0.1")


class Authority:
    """Signs certificates, in one folder: NAME.key and NAME.crt."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self._sign("ca", "/CN=kubernetes-ca", "-signkey ca.key", AUTHORITY)

    def certify(self, name: str, subject: str, alternatives: str = "") -> None:
        """A key and its certificate, for a server and a client alike."""
        names = [f"subjectAltName={alternatives}"] if alternatives else []
        self._sign(name, subject, "-CA ca.crt -CAkey ca.key -CAcreateserial", (*HOLDER, *names))

    def accounts(self) -> None:
        """The pair of keys that signs and checks the tokens of service accounts."""
        self._key("accounts")
        self._openssl("ec -in accounts.key -pubout -out", "accounts.pub")

    def kubeconfig(self, name: str, server: str) -> str:
        """How ``name`` finds the API server and proves who it is, all in one file."""

        def data(file: str) -> str:
            return base64.b64encode((self.folder / file).read_bytes()).decode()

        user = {"client-certificate-data": data(f"{name}.crt"), "client-key-data": data(f"{name}.key")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "codexbench",
            "clusters": [
                {"name": "codexbench", "cluster": {"server": server, "certificate-authority-data": data("ca.crt")}}
            ],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "codexbench", "context": {"cluster": "codexbench", "user": name}}],
        }
        return json.dumps(config, indent=1)

    def _sign(self, name: str, subject: str, by: str, extensions: Sequence[str]) -> None:
        self._key(name)
        (self.folder / f"{name}.ext").write_text("\n".join(extensions))
        self._openssl(f"req -new -key {name}.key -out {name}.csr -subj", subject)
        self._openssl(f"x509 -req -sha256 {by} -in {name}.csr -extfile {name}.ext -out {name}.crt -days", DAYS)

    def _key(self, name: str) -> None:
        self._openssl("ecparam -name prime256v1 -genkey -noout -out", f"{name}.key")

    def _openssl(self, options: str, last: str) -> None:
        argv = ["openssl", *options.split(), last]
        run = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, check=False)
        if run.returncode:
            raise Failed(f"`{' '.join(argv)}` exited with {run.returncode}: {run.stderr.strip()}")


def certify_all(folder: Path, nodes: int) -> str:
    """Make all that a cluster of so many nodes needs; return the administrator's kubeconfig, for use on the machine."""
    authority = Authority(folder)
    authority.accounts()
    names = ",".join([*(f"IP:{address}" for address in API_ADDRESSES), *(f"DNS:{name}" for name in API_NAMES)])
    authority.certify("apiserver", "/CN=kube-apiserver", names)
    authority.certify("apiserver-kubelet-client", "/O=system:masters/CN=apiserver-kubelet-client")
    authority.certify("admin", "/O=system:masters/CN=admin")
    (folder / "inside.conf").write_text(authority.kubeconfig("admin", API))
    for component in ("controller-manager", "scheduler", "proxy"):
        authority.certify(component, f"/CN=system:kube-{component}")
        (folder / f"{component}.conf").write_text(authority.kubeconfig(component, API))
    for index in range(nodes):
        name = node_name(index)
        authority.certify(name, f"/O=system:nodes/CN=system:node:{name}", f"DNS:{name},IP:{node_address(index)}")
        (folder / f"{name}.conf").write_text(authority.kubeconfig(name, API))
    return authority.kubeconfig("admin", f"https://127.0.0.1:{PORT}")
