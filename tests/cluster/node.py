"""Process 1 of a node: what it runs, and starts again when it ends."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from cluster.places import (
    CGROUP,
    CODE,
    CONTAINERD,
    DNS,
    NODE_NET,
    OWN,
    POD_NET,
    PROGRAMS,
    SERVICE_NET,
    SHARED,
    node_address,
    node_name,
    pod_net,
)

PKI = SHARED / "pki"
CNI = OWN / "cni"
VOLUMES = Path("/tmp/hostpath_pv")
"""Of all claims: one folder that all nodes share."""
ANSWER_S = 2.0
LOOK_S = 0.1
REST_S = 1.0


@dataclass(slots=True)
class Program:
    """One that is to run for as long as the node does.

    ``waits_for`` holds its first start back: most would end, or rest for seconds, if they came too early.
    """

    argv: list[str]
    waits_for: Callable[[], bool] = field(default=lambda: True)
    pid: int | None = None
    not_before: float = 0.0

    @property
    def name(self) -> str:
        return Path(self.argv[0]).name

    @property
    def stopped(self) -> bool:
        """Whether somebody outside wants it to rest."""
        return (SHARED / "stopped" / self.name).exists()

    def start(self, log: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.pid = os.posix_spawnp(
            self.argv[0],
            self.argv,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644), (os.POSIX_SPAWN_DUP2, 1, 2)],
            setsid=True,
            # Python ignores this one, and what it starts would inherit that
            setsigdef=[signal.SIGPIPE],
        )


def main(node: int, nodes: int) -> None:
    """Never returns: the node lives until it is killed from outside."""
    _network(node, nodes)
    _pods_network(node, nodes)
    programs = _agents(node)
    if node == 0:
        programs = [*_control_plane(), *programs]
    while True:
        for program in programs:
            if program.pid is None and not program.stopped and time.monotonic() >= program.not_before:
                # asked once only: a program that ended takes its chances
                if program.not_before == 0 and not program.waits_for():
                    continue
                program.start(SHARED / "log" / f"{node_name(node)}-{program.name}")
        _reap(programs)
        _open_volumes()
        time.sleep(LOOK_S)


def _open_volumes() -> None:
    """Whoever a Pod runs as may write to the volume that it claims: their maker leaves them to root."""
    for path in VOLUMES.glob("*"):
        with suppress(FileNotFoundError):  # one that is just being given back
            if path.stat().st_mode & 0o777 != 0o777:
                path.chmod(0o777)


def _reap(programs: Sequence[Program]) -> None:
    """Let go of every process that ended: orphans of this node are process 1's children too."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for program in programs:
            if program.pid == pid:
                _say(f"{program.name} ended: {os.waitstatus_to_exitcode(status)}")
                program.pid, program.not_before = None, time.monotonic() + REST_S


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)


def _write(path: Path, value: dict[str, Any]) -> str:
    """As JSON, which is YAML too."""
    path.write_text(json.dumps(value, indent=1))
    return str(path)


# --- network ----------------------------------------------------------------------------------------------------------


def _network(node: int, nodes: int) -> None:
    """Join the others: the bridge that connects all nodes is in the first one's network."""
    _run("ip link set lo up")
    _run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.route_localnet=1 net.ipv6.conf.all.disable_ipv6=1")
    # else a Pod that asks a service for a Pod on its own bridge gets the answer past kube-proxy's rules
    _run("sysctl -qw net.bridge.bridge-nf-call-iptables=1")
    device = "nodes" if node == 0 else "eth0"
    if node == 0:
        _run(f"ip link add {device} type bridge")
    else:
        while not Path("/sys/class/net", device).exists():
            time.sleep(LOOK_S)
    _run(f"ip addr add {node_address(node)}/24 dev {device}")
    _run(f"ip link set {device} up")
    # kube-proxy's rules rewrite these addresses, but before that a process of the node must find a route for them
    _run(f"ip route add {SERVICE_NET}.0.0/16 dev {device}")
    for other in range(nodes):
        if other != node:
            _run(f"ip route add {pod_net(other)} via {node_address(other)}")
    (SHARED / node_name(node) / "wired").touch()


def _pods_network(node: int, nodes: int) -> None:
    binaries = CNI / "bin"
    binaries.mkdir(parents=True)
    for plugin in Path("/usr/lib/cni").iterdir():
        (binaries / plugin.name).symlink_to(plugin)
    (binaries / "shape").symlink_to(CODE / "shape.py")
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": pod_net(node)}]]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": False}
    shape = {"type": (SHARED / "shaper").read_text(), "capabilities": {"bandwidth": True}}
    (CNI / "net.d").mkdir()
    network = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports, shape]}
    _write(CNI / "net.d" / "pods.conflist", network)


# --- programs ---------------------------------------------------------------------------------------------------------


def _api_ready() -> bool:
    context = ssl.create_default_context(cafile=str(PKI / "ca.crt"))
    connection = HTTPSConnection(f"{NODE_NET}.1", 6443, timeout=ANSWER_S, context=context)
    with closing(connection), suppress(OSError, HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    return False


def _control_plane() -> list[Program]:
    etcd = "http://127.0.0.1:2379"
    return [
        Program(
            [
                f"{PROGRAMS}/etcd",
                # in memory, and never synced: nothing of a cluster is to outlive it
                f"--data-dir={OWN}/etcd",
                "--unsafe-no-fsync",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--log-level=warn",
            ]
        ),
        Program(
            [
                f"{PROGRAMS}/kube-apiserver",
                f"--etcd-servers={etcd}",
                f"--advertise-address={node_address(0)}",
                "--secure-port=6443",
                f"--service-cluster-ip-range={SERVICE_NET}.0.0/16",
                "--authorization-mode=Node,RBAC",
                "--allow-privileged",
                f"--client-ca-file={PKI}/ca.crt",
                f"--tls-cert-file={PKI}/apiserver.crt",
                f"--tls-private-key-file={PKI}/apiserver.key",
                f"--kubelet-certificate-authority={PKI}/ca.crt",
                f"--kubelet-client-certificate={PKI}/apiserver-kubelet-client.crt",
                f"--kubelet-client-key={PKI}/apiserver-kubelet-client.key",
                "--kubelet-preferred-address-types=InternalIP",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-key-file={PKI}/accounts.pub",
                f"--service-account-signing-key-file={PKI}/accounts.key",
                # nobody is such a proxy, but without an authority for them others look for it in vain, again and again
                f"--requestheader-client-ca-file={PKI}/ca.crt",
                "--requestheader-allowed-names=nobody",
                "--endpoint-reconciler-type=lease",
                "--profiling=false",
            ]
        ),
        # A socket in a file can be reached from any network: this is the machine's way in.
        Program(["socat", f"UNIX-LISTEN:{SHARED}/api.sock,fork,backlog=128", "TCP:127.0.0.1:6443"]),
        Program(
            [
                f"{PROGRAMS}/kube-controller-manager",
                *_as("controller-manager"),
                "--leader-elect=false",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={PKI}/accounts.key",
                f"--root-ca-file={PKI}/ca.crt",
                f"--cluster-signing-cert-file={PKI}/ca.crt",
                f"--cluster-signing-key-file={PKI}/ca.key",
                "--enable-hostpath-provisioner",
                # with the usual 20 a second its controllers take four seconds to start, one after the other
                "--kube-api-qps=200",
                "--kube-api-burst=400",
            ],
            _api_ready,
        ),
        Program([f"{PROGRAMS}/kube-scheduler", *_as("scheduler"), "--leader-elect=false"], _api_ready),
        Program([f"{PROGRAMS}/coredns", "-conf", _corefile()], _api_ready),
    ]


def _as(component: str) -> list[str]:
    config = PKI / f"{component}.conf"
    return [f"--{use}={config}" for use in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")]


def _corefile() -> str:
    path = OWN / "Corefile"
    path.write_text(f"""\
.:53 {{
    bind {node_address(0)}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {PKI}/inside.conf
        pods insecure
        ttl 5
    }}
    cache 5
}}
""")
    return str(path)


def _agents(node: int) -> list[Program]:
    name = node_name(node)

    def kubelet_may_start() -> bool:
        return CONTAINERD.exists() and _api_ready()

    return [
        Program(["containerd", "--config", _containerd(), "--log-level", "warn"]),
        Program(
            [
                f"{PROGRAMS}/kubelet",
                f"--config={_kubelet(node)}",
                f"--kubeconfig={PKI}/{name}.conf",
                f"--hostname-override={name}",
                f"--node-ip={node_address(node)}",
            ],
            kubelet_may_start,
        ),
        Program([f"{PROGRAMS}/kube-proxy", f"--config={_proxy(node)}"], _api_ready),
    ]


def _containerd() -> str:
    path = OWN / "containerd.toml"
    path.write_text(f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE, as in many virtual machines, an oom_score_adj below 0 is refused, and runc says
  # no more than "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{CNI}/bin"
  conf_dir = "{CNI}/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
""")
    return str(path)


def _kubelet(node: int) -> str:
    resolver = OWN / "resolv.conf"
    resolver.touch()
    full = {f"{place}.{what}": "0%" for place in ("nodefs", "imagefs") for what in ("available", "inodesFree")}
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{PKI}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{PKI}/{node_name(node)}.crt",
        "tlsPrivateKeyFile": f"{PKI}/{node_name(node)}.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}/{node_name(node)}",
        # 1.34 takes version 1 of control groups as they are; later releases do if this is said
        "failCgroupV1": False,
        "failSwapOn": False,
        # as restrict_oom_score_adj in _containerd()
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS],
        "resolvConf": str(resolver),
        "maxPods": 200,
        "serializeImagePulls": False,
        # images came by `load` and cannot be pulled again: a full disk must neither remove them nor evict Pods
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi", **full},
    }
    return _write(OWN / "kubelet.json", config)


def _proxy(node: int) -> str:
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"{PKI}/proxy.conf"},
        "hostnameOverride": node_name(node),
        "oomScoreAdj": 0,
        "clusterCIDR": f"{POD_NET}.0.0/16",
        "nodePortAddresses": [f"{node_address(node)}/32"],
        # zeroes: leave what the kernel has, as only the machine's own network may change it
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    return _write(OWN / "proxy.json", config)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
