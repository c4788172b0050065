#!/usr/bin/env python3
"""The short form of every measurement: epp beside the floor, and beside another picker if given.

Every step is one `epp-bench` command, printed before it runs, so that any of them can be repeated
alone. Reports (HTML and JSON) go to --out. Only the standard library is used.
"""

import argparse
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Where cargo builds, unless told otherwise.
BIN = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
# What a vLLM 0.24 answers to /metrics.
METRICS_BYTES = 107_000

# config/tutorial.yaml, with a file of endpoints that other pickers read too.
CONFIG = """apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: file-discovery
  parameters: {path: %s}
- type: prefix-cache-scorer
- type: load-aware-scorer
  parameters: {threshold: 100}
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: prefix-cache-scorer, weight: 2}
  - {pluginRef: load-aware-scorer, weight: 1}
dataLayer:
  discovery: {pluginRef: file-discovery}
"""

# Samples that replays compare, beside the baselines.
CONFIGS = ("recommended", "default", "sticky-until-saturated", "tutorial")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Bench:
    def __init__(self, args):
        self.args = args
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="epp-bench-"))
        self.children = []
        args.out.mkdir(parents=True, exist_ok=True)

    def start(self, name, command, ready):
        """Starts a program and waits until its log has `ready` in it, or until it calls true."""
        log = self.dir / f"{name}.log"
        with open(log, "wb") as out:
            child = subprocess.Popen([str(c) for c in command], stdout=out, stderr=out)
        self.children.append(child)
        deadline = time.monotonic() + 30
        while not ready(log.read_text(errors="replace")):
            if child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} does not serve:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        return log, child

    def stop(self, children=None):
        children = self.children if children is None else children
        for child in children:
            child.kill()
        for child in children:
            child.wait()
        self.children = [c for c in self.children if c not in children]

    def workers(self, count):
        """Simulated workers, and a configuration that names them."""
        log, child = self.start(
            f"workers-{count}",
            [BIN / "epp-sim", "--port", "0", "--workers", count, "--instant",
             "--metrics-padding", METRICS_BYTES],
            lambda text: text.count("listening on http://") == count)
        lines = [line for line in log.read_text().splitlines() if "listening on http://" in line]
        endpoints = self.dir / f"endpoints-{count}.yaml"
        rows = []
        for i, line in enumerate(lines):
            host, port = line.split("listening on http://")[1].strip().split(":")
            rows.append(f'- {{name: w{i}, address: {host}, port: "{port}", labels: {{pool: p}}}}')
        endpoints.write_text("endpoints:\n" + "\n".join(rows) + "\n")
        config = self.dir / f"config-{count}.yaml"
        config.write_text(CONFIG % endpoints)
        return config, child

    def floor(self):
        log, _ = self.start("floor", [BIN / "epp-bench", "floor", "--listen", "127.0.0.1:0"],
                            lambda text: "listening on" in text)
        return "floor=" + log.read_text().split("listening on ")[1].split()[0]

    def picker(self, name, binary, config):
        """A picker with the reference's flags; returns its NAME=ADDR and its process."""
        grpc, health, metrics = free_port(), free_port(), free_port()

        def serves(_):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=1):
                    return True
            except urllib.error.HTTPError:
                return True
            except OSError:
                return False

        _, child = self.start(f"{name}-{grpc}", [
            binary, "--pool-name", "p", "--secure-serving=false", "--metrics-endpoint-auth=false",
            "--tracing=false", "--grpc-port", grpc, "--grpc-health-port", health,
            "--metrics-port", metrics, "--config-file", config,
            "--refresh-metrics-interval", "50ms",
        ], serves)
        # Let it read every worker's metrics a few times first.
        time.sleep(1)
        return f"{name}=127.0.0.1:{grpc}", child

    def run(self, name, *arguments):
        """One epp-bench command, with reports under its name."""
        out = self.args.out
        command = ["epp-bench", *[str(a) for a in arguments],
                   "--json", str(out / f"{name}.json"), "--html", str(out / f"{name}.html")]
        print(f"\n== {name}\n$ {shlex.join(command)}", flush=True)
        subprocess.run([str(BIN / "epp-bench"), *command[1:]], check=True)

    def pickers(self, config):
        """epp first, then what it is compared with."""
        started = [self.picker("epp", BIN / "epp", config)]
        if self.args.reference:
            started.append(self.picker("reference", self.args.reference, config))
        return [addr for addr, _ in started], [child for _, child in started]

    def over_the_wire(self):
        floor = self.floor()
        config, workers = self.workers(8)
        (epp, *others), children = self.pickers(config)
        vs = [a for addr in [floor, *others] for a in ("--vs", addr)]
        time_each = f"--duration={self.args.seconds}s"
        large = ["--prompt-bytes", "220Ki", "--shared-prefix-bytes", "200Ki", "--streams", "8"]
        self.run("chat-1k", "extproc", epp, *vs, time_each, "--idle", "2s")
        self.run("chat-1k-1000-per-second", "extproc", epp, *vs, time_each, "--rate", "1000")
        self.run("prompt-220k", "extproc", epp, *vs, time_each, *large)
        self.run("sse-100-events", "extproc", epp, *vs, time_each, "--sse-events", "100",
                 "--streams", "8")
        self.stop([*children, workers])
        config, workers = self.workers(100)
        (epp, *others), children = self.pickers(config)
        vs = [a for addr in [floor, *others] for a in ("--vs", addr)]
        # Enough groups that every worker can get its share of them.
        self.run("chat-1k-100-workers", "extproc", epp, *vs, time_each, "--idle", "3s",
                 "--groups", "1000")
        self.stop([*children, workers])

    def in_process(self):
        self.run("decisions", "picker", "--duration", "200ms")

    def replays(self):
        configs = [a for name in CONFIGS for a in ("--config", ROOT / "config" / f"{name}.yaml")]
        for kind in ("shared", "chat", "rag", "bursts"):
            self.run(f"replay-{kind}", "replay", kind, "--requests", "4000", "--rate", "1,2,4",
                     *configs)

    def cluster(self):
        self.run("cluster-chat", "cluster", "chat", "--requests", "200", "--base-rate", "10",
                 "--duration", f"{2 * self.args.seconds}s", "--envoy", self.args.envoy)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target" / "bench")
    parser.add_argument("--envoy", help="path of an Envoy binary; without it, no cluster")
    parser.add_argument("--reference", help="path of another picker with the reference's flags")
    parser.add_argument("--seconds", type=int, default=10, help="of load per picker and step")
    bench = Bench(parser.parse_args())
    began = time.monotonic()
    try:
        bench.over_the_wire()
        bench.in_process()
        bench.replays()
        if bench.args.envoy:
            bench.cluster()
    finally:
        bench.stop()
    print(f"\nreports in {bench.args.out}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
