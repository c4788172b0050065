#!/usr/bin/env python3
"""Holds learned-saturation-detector against thresholds found by trial.

    python3 tools/learned_saturation.py --traces DIR --epp-bench target/release/epp-bench --part test

Every workload is replayed at several multiples of what the workers can serve, once with each
`maxConcurrency` of a list and once with the detector that learns. The best threshold is the one with
the most good answers on that workload at that load, over all seeds: what somebody would find who
tried them all. Traces and seeds are divided into a part to develop on and one to be looked at once,
as in held_out.py.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

from held_out import SEEDS, trace

THRESHOLDS = [4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384]
LOADS = [0.9, 1.5, 3.0]
PROFILES = ["h200-qwen7b", "h100-qwen3b"]
# What the table calls it, the trace or workload, the options.
WORKLOADS = [
    ("shared", "shared", ["--requests", "3000"]),
    ("chat", "chat", ["--requests", "4000"]),
    ("rag", "rag", ["--requests", "2500"]),
    ("bursts", "bursts", ["--requests", "3000"]),
    ("documents", "documents", ["--requests", "1500"]),
    ("mix", "mix", ["--requests", "3000"]),
    ("overload", "overload", ["--requests", "3000"]),
    ("Mooncake conversation", "mooncake-conversation.jsonl.gz", ["--requests", "1500"]),
    ("coding agents", "agentic-coding.jsonl.gz", ["--requests", "2000"]),
    ("agent prompts as text", "agent-miniswe-text.jsonl.gz", ["--requests", "2000", "--repeat", "5"]),
]
CONFIG = """apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
- {{type: approx-prefix-cache-producer, parameters: {{capacityByTokens: true}}}}
- type: expected-delay-scorer
- type: round-robin-fairness-policy
- {{name: detector, {detector}}}
schedulingProfiles:
- name: default
  plugins: [{{pluginRef: expected-delay-scorer}}]
flowControl:
  saturationDetector: {{pluginRef: detector}}
  defaultRequestTTL: {ttl}
  defaultPriorityBand: {{fairnessPolicyRef: round-robin-fairness-policy}}
"""


def configurations(into, ttl):
    """Names and files: each threshold, and what finds one by itself."""
    detectors = {
        str(n): f"type: concurrency-detector, parameters: {{maxConcurrency: {n}}}" for n in THRESHOLDS
    }
    detectors["learned"] = "type: learned-saturation-detector"
    detectors["utilization"] = "type: utilization-detector"
    files = {}
    for name, detector in detectors.items():
        files[name] = into / f"{name}.yaml"
        files[name].write_text(CONFIG.format(detector=detector, ttl=ttl))
    return files


def replay(args, source, options, profile, seed, files, into):
    """Share of the requests with a good answer, by load and configuration."""
    out = into / f"{profile}-{pathlib.Path(str(source)).name}-{seed}.json"
    command = [args.epp_bench, "replay", source, *options, "--seed", str(seed), "--quiet"]
    command += ["--no-baselines", "--workers", "4", "--profile", profile, "--jobs", "1"]
    command += ["--load", ",".join(map(str, args.loads)), "--json", out]
    for name, file in files.items():
        command += ["--config", f"{name}={file}"]
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)
    rows = json.loads(out.read_text())["results"]["simulations"]
    return {(row["load"], row["policy"]): row["good_share"] for row in rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=pathlib.Path, required=True)
    parser.add_argument("--epp-bench", default="target/release/epp-bench")
    parser.add_argument("--part", choices=SEEDS, default="dev")
    parser.add_argument("--ttl", default="1s", help="how long requests may wait in the queue")
    parser.add_argument("--loads", type=float, nargs="*", default=LOADS)
    parser.add_argument("--profiles", nargs="*", default=PROFILES)
    parser.add_argument("--only", nargs="*", help="names of workloads")
    parser.add_argument("--seeds", type=int, help="so many of the part's seeds")
    args = parser.parse_args()
    seeds = SEEDS[args.part][: args.seeds]
    print("| workload | engine | load | best threshold | its good answers | learned | of the best |"
          " utilization, of the best |")
    print("|---|---|---|---|---|---|---|---|")
    ratios = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        into = pathlib.Path(folder)
        files = configurations(into, args.ttl)
        for label, source, options in WORKLOADS:
            if args.only and label not in args.only:
                continue
            file = trace(args.traces, source, args.part, into)
            for profile in args.profiles:
                jobs = [(args, file, options, profile, seed, files, into) for seed in seeds]
                runs = list(pool.map(lambda job: replay(*job), jobs))
                for load in args.loads:
                    good = {
                        name: statistics.mean(run[(load, name)] for run in runs) for name in files
                    }
                    best = max(map(str, THRESHOLDS), key=lambda name: good[name])
                    learned = good["learned"] / max(good[best], 1e-9)
                    ratios.append(learned)
                    other = good["utilization"] / max(good[best], 1e-9)
                    print(
                        f"| {label} | {profile} | {load} | {best} | {good[best] * 100:.1f} %"
                        f" | {good['learned'] * 100:.1f} % | {learned:.3f} | {other:.3f} |",
                        flush=True,
                    )
    below = sum(ratio < 0.98 for ratio in ratios)
    print(f"\nof the best, mean {statistics.mean(ratios):.3f}, least {min(ratios):.3f};"
          f" below 0.98: {below} of {len(ratios)}")


if __name__ == "__main__":
    main()
