"""KServe's tutorial on this machine, whole: `make tutorial`.

etcd and a Kubernetes API server, KServe's own controller, a stand-in for the kubelet that starts
`epp` and `epp-sim` with exactly what KServe writes, and a real Envoy programmed as Envoy AI Gateway
programs it. Then the steps of the tutorial, and what may happen to such a system afterwards.
Only the standard library is used, and kubectl, openssl and the tools of util-linux and iproute2.
"""

import argparse
import os
import pathlib
import shutil
import sys
import time
import traceback

import namespaces
from cluster import Cluster
from step import Failed, Reporter

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
VERSIONS = ("0.16.0", "0.20.0")


def arguments():
    parser = argparse.ArgumentParser(prog="tutorial", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envoy", type=pathlib.Path, required=True)
    parser.add_argument("--tools", type=pathlib.Path, default=ROOT / ".tools/kube",
                        help="where `make tutorial-tools` put things")
    parser.add_argument("--bin", type=pathlib.Path, default=TARGET / "debug",
                        help="the folder of epp and epp-sim")
    parser.add_argument("--kserve", action="append", choices=VERSIONS,
                        help="one version of KServe instead of both")
    parser.add_argument("--ai-gateway-crds", type=pathlib.Path,
                        default=os.environ.get("AI_GATEWAY_CRDS"),
                        help="a folder with Envoy AI Gateway's CRDs, one folder for each version of"
                             " KServe below it; without it AIGatewayRoutes are not checked")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the logs of everything")
    return parser.parse_args()


def run(args, version, reporter):
    """All steps for a version of KServe, in a cluster of its own."""
    import tutorial
    here = namespaces.scratch(version)
    cluster = Cluster(here, args, version)
    try:
        cluster.start()
        tutorial.run(cluster, reporter)
    except Exception as failure:  # whatever it is, the logs say more
        reporter.failed(failure if isinstance(failure, Failed) else traceback.format_exc())
        cluster.last_words()
        return False
    finally:
        if args.keep:
            shutil.copytree(here / "logs", args.keep / version, dirs_exist_ok=True)
        cluster.stop()
    return True


def main():
    args = arguments()
    if not namespaces.inside():
        sys.exit(namespaces.enter())
    namespaces.end_with_parent()
    started, good = time.monotonic(), True
    for version in args.kserve or VERSIONS:
        reporter = Reporter(version)
        good = run(args, version, reporter) and good
    print(f"tutorial: {'all of it works' if good else 'FAILED'},"
          f" {time.monotonic() - started:.0f} s", flush=True)
    # The first process of its namespace: the others end with it.
    os._exit(0 if good else 1)


main()
