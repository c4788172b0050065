#!/usr/bin/env python3
"""Writes the Envoy configurations of the kustomize overlays from the chart's template.

Kustomize has no templates, so each overlay that brings an Envoy holds a copy of what the chart
renders for that mode. `--check` says which copies are out of date and writes nothing. Only the
standard library is used.
"""

import argparse
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "epp"
# The mode of the proxy, and what the overlay's file says first.
OVERLAYS = {
    "sidecar": "Both run in one pod.",
    "service": "The picker is a Service.",
}


def rendered(helm, mode):
    """envoy.yaml as the chart renders it for a release whose picker is called `epp`."""
    values = CHART / "ci" / f"standalone-{mode}-values.yaml"
    command = [helm, "template", "vllm", CHART, "--values", values,
               "--show-only", "templates/proxy.yaml"]
    text = subprocess.run([str(c) for c in command], check=True, capture_output=True,
                          text=True).stdout
    lines = text.splitlines()
    start = lines.index("  envoy.yaml: |") + 1
    end = next(i for i, line in enumerate(lines[start:], start)
               if line and not line.startswith("    "))
    body = "\n".join(line[4:] for line in lines[start:end]).rstrip()
    return body.replace("address: vllm-epp,", "address: epp,")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--helm", default="helm", help="path of helm")
    parser.add_argument("--check", action="store_true", help="only compare")
    args = parser.parse_args()
    stale = []
    for mode, where in OVERLAYS.items():
        file = ROOT / "deploy/kustomize/overlays" / f"standalone-{mode}" / "envoy.yaml"
        text = (f"# Envoy in front of the workers, asking the picker for each request. {where}\n"
                f"# Written by `make manifests` from the chart's template.\n"
                f"{rendered(args.helm, mode)}\n")
        if file.read_text() == text:
            continue
        if args.check:
            stale.append(str(file.relative_to(ROOT)))
        else:
            file.write_text(text)
    if stale:
        sys.exit(f"out of date, run `make manifests`: {', '.join(stale)}")


if __name__ == "__main__":
    main()
