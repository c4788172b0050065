#!/usr/bin/env python3
"""Judges configurations on traffic that none of them was tuned to.

    python3 tools/held_out.py --traces DIR --epp-bench target/release/epp-bench --part test

DIR holds the public traces that docs/performance.md names. Each is split: every other conversation
(or session, or half of the time) is the part to develop on, `--part dev`, the rest is the part to be
looked at once. Built-in workloads are split by their seeds. Prints a table: means over the seeds,
with the least and the greatest for what is judged first.
"""

import argparse
import gzip
import json
import pathlib
import statistics
import subprocess
import tempfile

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "config"
SEEDS = {"dev": [1, 2, 3], "test": [11, 12, 13, 14, 15]}
SLOW = [x for _ in range(3) for x in ("--fault", "slow=2@0s")]
LOST = ["--lose-worker", "30s,30s", "--lose-worker", "60s,30s"]
AGENTS, MIX = ["--repeat", "2"], ["--requests", "6000"]
# What the table calls it, the trace or workload, the options.
WORKLOADS = [
    ("coding agents", "agentic-coding.jsonl.gz", ["--rate", "3,4,6", *AGENTS]),
    ("Mooncake conversation", "mooncake-conversation.jsonl.gz", ["--rate", "1,2"]),
    ("agent prompts as text", "agent-miniswe-text.jsonl.gz", ["--rate", "32,64", "--repeat", "5"]),
    ("shared", "shared", ["--requests", "6000", "--rate", "4,10"]),
    ("chat", "chat", ["--requests", "12000", "--rate", "40"]),
    ("rag", "rag", ["--requests", "4000", "--rate", "2,4"]),
    ("bursts", "bursts", ["--requests", "5000", "--rate", "4,8"]),
    ("bursts, `--waves 2s`", "bursts", ["--requests", "5000", "--rate", "4", "--waves", "2s"]),
    ("mix", "mix", [*MIX, "--rate", "2,6"]),
    ("mix, two endpoints lost", "mix", [*MIX, "--rate", "4", *LOST]),
    ("mix, `--metrics-delay 2s`", "mix", [*MIX, "--rate", "4", "--metrics-delay", "2s"]),
    ("mix, three of eight at half speed", "mix", [*MIX, "--rate", "4", *SLOW]),
    ("mix, `--profile h100-qwen3b`", "mix", [*MIX, "--rate", "4", "--profile", "h100-qwen3b"]),
    (
        "coding agents, `--profile h100-qwen3b`",
        "agentic-coding.jsonl.gz",
        ["--rate", "2", "--profile", "h100-qwen3b", *AGENTS],
    ),
]


def halves(name, lines):
    """The lines of a trace, divided into the part to develop on and the part to judge by."""
    if name.startswith("mooncake"):
        middle = len(lines) // 2
        start = json.loads(lines[middle])["timestamp"]
        late = [json.loads(line) for line in lines[middle:]]
        return lines[:middle], [json.dumps({**r, "timestamp": r["timestamp"] - start}) for r in late]
    if name.startswith("agent-"):
        session = [json.loads(line)["session_id"] for line in lines]
        known = set(sorted(set(session))[::2])
        pairs = list(zip(lines, session))
        return [x for x, s in pairs if s in known], [x for x, s in pairs if s not in known]
    return lines[::2], lines[1::2]


def trace(directory, name, part, into):
    """The part of a trace as a file; a built-in workload by its name."""
    if not name.endswith(".gz"):
        return name
    with gzip.open(directory / name, "rt") as file:
        dev, test = halves(name, file.read().splitlines())
    out = into / f"{part}-{name}"
    with gzip.open(out, "wt") as file:
        file.write("\n".join(dev if part == "dev" else test) + "\n")
    return out


def configurations(into):
    """Names and files: the samples, and what is compared with them."""
    recommended = (CONFIGS / "recommended.yaml").read_text()
    scorer = "- type: expected-delay-scorer"
    variants = {
        "without copies": recommended.replace(scorer, scorer + "\n  parameters: {copyWeight: 0}"),
        "lmetric": recommended.replace("expected-delay-scorer", "lmetric-scorer"),
    }
    files = {"recommended": CONFIGS / "recommended.yaml"}
    for name, text in variants.items():
        files[name] = into / f"{name.replace(' ', '-')}.yaml"
        files[name].write_text(text)
    for name in ("default", "sticky-until-saturated", "least-tokens"):
        files[name] = CONFIGS / f"{name}.yaml"
    return files


def replay(bench, source, options, seed, files, into):
    out = into / "result.json"
    command = [bench, "replay", source, *options, "--seed", str(seed), "--no-baselines", "--quiet"]
    command += ["--json", out]
    for name, file in files.items():
        command += ["--config", f"{name}={file}"]
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)
    return json.loads(out.read_text())["results"]["simulations"]


def spread(values, digits):
    mean = statistics.mean(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def row(label, policy, runs):
    def mean(of):
        return statistics.mean(of(run) for run in runs)

    cells = [
        label,
        policy,
        f"{mean(lambda r: r['hit_rate']) * 100:.1f} %",
        f"{mean(lambda r: r['ttft']['p50_ms']):.0f}",
        spread([r["ttft"]["p90_ms"] for r in runs], 0),
        f"{mean(lambda r: r['ttft']['p99_ms']):.0f}",
        f"{mean(lambda r: r['e2e']['mean_ms']):.0f}",
        spread([r["good_share"] * 100 for r in runs], 1) + " %",
    ]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=pathlib.Path, required=True)
    parser.add_argument("--epp-bench", type=pathlib.Path, default="target/release/epp-bench")
    parser.add_argument("--part", choices=SEEDS, default="dev")
    args = parser.parse_args()
    print("| workload, rate | configuration | hits | TTFT p50 ms | p90 | p99 | E2E mean ms | good |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        into = pathlib.Path(folder)
        files = configurations(into)
        for name, source, options in WORKLOADS:
            source = trace(args.traces, source, args.part, into)
            runs = {}
            for seed in SEEDS[args.part]:
                for run in replay(args.epp_bench, source, options, seed, files, into):
                    runs.setdefault((run["rate"], run["policy"]), []).append(run)
            rates = list(dict.fromkeys(rate for rate, _ in runs))
            for rate in rates:
                for i, policy in enumerate(files):
                    label = f"{name}, x{rate:g}" if i == 0 else ""
                    print(row(label, policy, runs[rate, policy]), flush=True)


if __name__ == "__main__":
    main()
