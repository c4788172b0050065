#!/usr/bin/env python3
"""The short form of every measurement: epp beside the floor, and beside another picker if given.

Every step is one `epp-bench` command, printed before it runs, so that any of them can be repeated
alone. Reports (HTML and JSON) go to --out. Only the standard library is used.
"""

import argparse
import pathlib
import shlex
import subprocess
import time

from launcher import ROOT, TARGET, Launcher, answers, free_port

BIN = TARGET / "release"
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


class Bench:
    def __init__(self, args, launcher):
        self.args = args
        self.launcher = launcher
        args.out.mkdir(parents=True, exist_ok=True)

    def workers(self, count):
        """Simulated workers, and a configuration that names them."""
        program = self.launcher.start(
            f"workers-{count}",
            [BIN / "epp-sim", "--port", "0", "--workers", count, "--instant",
             "--metrics-padding", METRICS_BYTES],
            lambda p: p.output().count("listening on http://") == count)
        lines = [line for line in program.output().splitlines() if "listening on http://" in line]
        endpoints = self.launcher.dir / f"endpoints-{count}.yaml"
        rows = []
        for i, line in enumerate(lines):
            host, port = line.split("listening on http://")[1].strip().split(":")
            rows.append(f'- {{name: w{i}, address: {host}, port: "{port}", labels: {{pool: p}}}}')
        endpoints.write_text("endpoints:\n" + "\n".join(rows) + "\n")
        config = self.launcher.dir / f"config-{count}.yaml"
        config.write_text(CONFIG % endpoints)
        return config, program

    def floor(self):
        command = [BIN / "epp-bench", "floor", "--listen", "127.0.0.1:0"]
        program = self.launcher.start("floor", command, lambda p: "listening on" in p.output())
        return "floor=" + program.output().split("listening on ")[1].split()[0]

    def picker(self, name, binary, config):
        """A picker with the reference's flags; returns its NAME=ADDR and its process."""
        grpc, health, metrics = free_port(), free_port(), free_port()
        program = self.launcher.start(f"{name}-{grpc}", [
            binary, "--pool-name", "p", "--secure-serving=false", "--metrics-endpoint-auth=false",
            "--tracing=false", "--grpc-port", grpc, "--grpc-health-port", health,
            "--metrics-port", metrics, "--config-file", config,
            "--refresh-metrics-interval", "50ms",
        ], lambda _: answers(f"http://127.0.0.1:{metrics}/metrics", errors=True))
        # Let it read every worker's metrics a few times first.
        time.sleep(1)
        return f"{name}=127.0.0.1:{grpc}", program

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
        return [addr for addr, _ in started], [program for _, program in started]

    def over_the_wire(self):
        floor = self.floor()
        config, workers = self.workers(8)
        (epp, *others), pickers = self.pickers(config)
        vs = [a for addr in [floor, *others] for a in ("--vs", addr)]
        time_each = f"--duration={self.args.seconds}s"
        large = ["--prompt-bytes", "220Ki", "--shared-prefix-bytes", "200Ki", "--streams", "8"]
        self.run("chat-1k", "extproc", epp, *vs, time_each, "--idle", "2s")
        self.run("chat-1k-1000-per-second", "extproc", epp, *vs, time_each, "--rate", "1000")
        self.run("prompt-220k", "extproc", epp, *vs, time_each, *large)
        self.run("sse-100-events", "extproc", epp, *vs, time_each, "--sse-events", "100",
                 "--streams", "8")
        self.launcher.stop([*pickers, workers], grace=0)
        config, workers = self.workers(100)
        (epp, *others), pickers = self.pickers(config)
        vs = [a for addr in [floor, *others] for a in ("--vs", addr)]
        # Enough groups that every worker can get its share of them.
        self.run("chat-1k-100-workers", "extproc", epp, *vs, time_each, "--idle", "3s",
                 "--groups", "1000")
        self.launcher.stop([*pickers, workers], grace=0)

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
    args = parser.parse_args()
    began = time.monotonic()
    with Launcher("epp-bench-") as launcher:
        bench = Bench(args, launcher)
        bench.over_the_wire()
        bench.in_process()
        bench.replays()
        if args.envoy:
            bench.cluster()
    print(f"\nreports in {args.out}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
