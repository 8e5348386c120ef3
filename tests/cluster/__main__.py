"""The command `kube`: a real Kubernetes on this machine, for tests."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from cluster import api, argo, machines
from cluster.build import build, programs
from cluster.check import check
from cluster.down import down
from cluster.image import Config, Layer, write_image
from cluster.load import load
from cluster.places import CACHE, STATE
from cluster.progress import Failed, alone, say, timed
from cluster.up import up

LOCK = CACHE / "kubernetes.cluster.lock"


def main() -> int:
    """Do what was asked for."""
    # split by hand: argparse takes an optional argument as missing when it meets the first option
    arguments, command = sys.argv[1:], []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, command = arguments[:cut], arguments[cut + 1 :]
    options = _parser().parse_args(arguments, argparse.Namespace(command=command))
    try:
        options.act(options)
    except (Failed, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: `kube down` removes what there is of a cluster\n")
        return 130
    return 0


def _build(options: argparse.Namespace) -> None:
    build(argo.parts() if options.argo else ())


def _programs(options: argparse.Namespace) -> None:
    part = argo.programs() if options.argo else programs()
    sys.stdout.write(f"{part.get()}\n")


def _up(options: argparse.Namespace) -> None:
    with timed("up"), alone(LOCK, "up"):
        kubeconfig = up(options.nodes, options.images, options.kubeconfig, options.usual_burst)
    sys.stdout.write(f"export KUBECONFIG={kubeconfig} PATH={programs().get()}:$PATH\n")


def _down(_: argparse.Namespace) -> None:
    with timed("down"), alone(LOCK, "down"):
        down()


def _load(options: argparse.Namespace) -> None:
    with timed("load"):
        load(options.images)


def _image(options: argparse.Namespace) -> None:
    env = dict(text.partition("=")[::2] for text in options.env)
    config = Config(options.command, options.user, options.workdir, env)
    pip = [*options.pip, *(f"--requirement={file}" for file in options.requirements)]
    with timed("image"):
        if options.argo:
            argo.write_image(options.image, options.name, options.layer)
        else:
            write_image(options.image, options.name, options.layer, config, pip, options.wheel)


def _stop(options: argparse.Namespace) -> None:
    with alone(LOCK, "stop"):
        if options.what == "api":
            api.stop()
        else:
            machines.switch_off(_number(options.what))
    say(f"{options.what} is stopped")


def _start(options: argparse.Namespace) -> None:
    with alone(LOCK, "start"):
        if options.what == "api":
            api.start()
        else:
            machines.switch_on(_number(options.what))
    say(f"{options.what} is started")


def _check(_: argparse.Namespace) -> None:
    check()


def _number(node: str) -> int:
    return int(node.removeprefix("node"))


def _what(text: str) -> str:
    if not STATE.exists():
        raise argparse.ArgumentTypeError("there is no cluster")
    if not re.fullmatch(r"api|node\d+", text):
        raise argparse.ArgumentTypeError(f"{text} is neither api nor a node, as node1")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kube", description="A real Kubernetes on this machine, for tests.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("build", help="make what a cluster is made of, once: some ten minutes")
    command.add_argument("--argo", action="store_true", help="also Argo Workflows and Argo CD: some seven minutes more")
    command.set_defaults(act=_build)

    command = commands.add_parser("programs", help="say where kubectl and helm are, once they are built")
    command.add_argument("--argo", action="store_true", help="say where argo and argocd are, and their manifests")
    command.set_defaults(act=_programs)

    command = commands.add_parser("up", help="bring a cluster up")
    command.add_argument("-n", "--nodes", type=int, default=1, metavar="N", help="how many nodes it has (default: 1)")
    command.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help=f"write it there (default: {STATE}/admin.conf)"
    )
    command.add_argument(
        "--usual-burst",
        action="store_true",
        help="leave bandwidth limits as they usually are: they let the first 512 MB of a Pod pass",
    )
    command.add_argument("images", nargs="*", type=Path, metavar="IMAGE.tar")
    command.set_defaults(act=_up)

    command = commands.add_parser("load", help="put images into all nodes")
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE.tar")
    command.set_defaults(act=_load)

    command = commands.add_parser("down", help="take the cluster down, or what is left of one; leaves nothing")
    command.set_defaults(act=_down)

    for name, act, text in (
        ("stop", _stop, "end the API server, or all that runs on a node, without warning"),
        ("start", _start, "start it again"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("what", type=_what, metavar="api|nodeN")
        command.set_defaults(act=act)

    command = commands.add_parser(
        "image",
        help="make an image: Debian with Python 3.11, and what is put on top",
        usage="kube image IMAGE.tar NAME:TAG [options] [-- COMMAND...]",
    )
    command.add_argument("image", type=Path, metavar="IMAGE.tar")
    command.add_argument("name", metavar="NAME:TAG", help="with a tag other than latest, else nodes try to pull it")
    command.add_argument(
        "--layer",
        action="append",
        default=[],
        type=Layer.parse,
        metavar="SOURCE[:DESTINATION]",
        help="a file or folder",
    )
    command.add_argument("--pip", nargs="+", action="extend", default=[], metavar="WHAT", help="wheels or requirements")
    command.add_argument(
        "--wheel", nargs="+", action="extend", default=[], metavar="FILE", help="wheels without their dependencies"
    )
    command.add_argument(
        "--requirements", action="append", default=[], type=Path, metavar="FILE", help="pip's --requirement"
    )
    command.add_argument("--user", default="", metavar="UID[:GID]", help="by number (default: root)")
    command.add_argument("--workdir", default="/", metavar="FOLDER")
    command.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    command.add_argument("--argo", action="store_true", help="Argo's: with all of its programs, Git and Redis")
    command.set_defaults(act=_image)

    command = commands.add_parser("check", help="prove that all this works; some five minutes")
    command.set_defaults(act=_check)
    return parser


if __name__ == "__main__":
    sys.exit(main())
