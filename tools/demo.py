#!/usr/bin/env python3
"""The main job on this machine: simulated workers, epp and Envoy, with real requests through them.

Shows which worker served each request and why, and the same requests in round robin; then leaves
everything running to try. Only the standard library is used. `--once` ends after the requests.
"""

import argparse
import random
import signal
import statistics
import sys

from gateway import MODEL, Gateway, why

WORKERS = 4
CHATS = "ABCDE"
TURNS = 4


def chats(ask):
    """Asks for every turn of every chat, in an order as clients have it, the same each time;
    returns the answers in that order as (chat, turn, answer)."""
    order, answers, talks = random.Random(3), [], {}
    for name in CHATS:
        rules = " ".join(f"Rule {i} of chat {name}: answer in one sentence." for i in range(120))
        talks[name] = [{"role": "system", "content": rules}]
    for turn in range(1, TURNS + 1):
        for name in order.sample(CHATS, len(CHATS)):
            messages = talks[name]
            messages.append({"role": "user", "content": f"Question {turn} of chat {name}? " * 8})
            answer = ask(name, turn, messages)
            messages.append({"role": "assistant", "content": answer.text})
            answers.append((name, turn, answer))
    return answers


def row(name, turn, answer):
    return (f"{name:<5}{turn:<5}{answer.worker:<10}{answer.usage.get('prompt_tokens', 0):>7}"
            f"{answer.cached():>8}{answer.ttft * 1000:>6.0f} ms")


def talk(gateway):
    print(f"\n{WORKERS} simulated workers, epp with config/tutorial.yaml, Envoy in front.")
    print(f"{len(CHATS)} chats of {TURNS} turns. A turn carries all turns before it, so the")
    print("worker that served the last turn has most of the prompt in its KV cache.\n")
    print(f"{'chat':<5}{'turn':<5}{'worker':<10}{'prompt':>7}{'cached':>8}{'TTFT':>9}   why")

    def ask(name, turn, messages):
        request_id = f"demo-{name}-{turn}"
        answer = gateway.chat(request_id, messages)
        explanation = gateway.explanation(request_id)
        reason = why(explanation["profiles"][0]) if explanation else "?"
        print(f"{row(name, turn, answer)}   {reason}", flush=True)
        return answer

    return chats(ask)


def take_turns(gateway):
    """The same requests where Envoy takes the workers in turn."""
    port = gateway.start_round_robin()
    gateway.empty_caches()
    print("\nThe same requests, caches emptied, where Envoy takes the workers in turn:\n")
    print(f"{'chat':<5}{'turn':<5}{'worker':<10}{'prompt':>7}{'cached':>8}{'TTFT':>9}")

    def ask(name, turn, messages):
        answer = gateway.chat(f"turns-{name}-{turn}", messages, port=port)
        print(row(name, turn, answer), flush=True)
        return answer

    return chats(ask)


def compare(contestants):
    print(f"\n{'turns 2 on':<14}{'from the cache':>16}{'TTFT, median':>16}{'TTFT, worst':>15}")
    for name, answers in contestants:
        later = [answer for _, turn, answer in answers if turn > 1]
        prompts = sum(answer.usage.get("prompt_tokens", 0) for answer in later)
        hits = sum(answer.cached() for answer in later) / max(prompts, 1)
        times = [answer.ttft * 1000 for answer in later]
        print(f"{name:<14}{hits:>16.0%}{statistics.median(times):>13.0f} ms"
              f"{max(times):>12.0f} ms")


def goodbye(gateway, a_worker):
    print(f"""
Running; Ctrl-C ends it. Until then its logs are in {gateway.dir}. Try:

  curl -s {gateway.url()}/v1/models
  curl -s {gateway.url()}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model":"{MODEL}","messages":[{{"role":"user","content":"hello"}}]}}'
  curl -s -i {gateway.url()}/v1/chat/completions -d 'not JSON'

  http://127.0.0.1:{gateway.metrics}/                  epp's own pages: metrics, endpoints, decisions
  grep 'Request handled' {gateway.dir}/epp.log
  kill {a_worker.child.pid}                             ends one worker: see where its chats go
""", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envoy", required=True, help="path of an Envoy binary")
    parser.add_argument("--once", action="store_true", help="end after the requests")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with Gateway(args.envoy) as gateway:
            programs = [gateway.start_worker(f"worker-{i}") for i in range(WORKERS)]
            gateway.start_epp("tutorial.yaml")
            gateway.start_envoy()
            with_epp = talk(gateway)
            compare([("epp", with_epp), ("round robin", take_turns(gateway))])
            if not args.once:
                goodbye(gateway, programs[0])
                signal.pause()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
