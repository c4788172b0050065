#!/usr/bin/env python3
"""The main job on this machine: simulated workers, epp and Envoy, with real requests through them.

Shows which worker served each request and why, then leaves everything running to try.
Only the standard library is used. `--once` ends after the requests.
"""

import argparse
import signal
import sys

from gateway import MODEL, Gateway, why

WORKERS = 4


def talk(gateway):
    print(f"\n{WORKERS} simulated workers, epp with config/tutorial.yaml, Envoy in front.")
    print("Three chats of four turns, interleaved. A turn carries all turns before it, so the")
    print("worker that served the last turn has most of the prompt in its KV cache.\n")
    print(f"{'chat':<5}{'turn':<5}{'worker':<10}{'prompt':>7}{'cached':>8}{'TTFT':>9}   why")
    chats = {}
    for name in "ABC":
        rules = " ".join(f"Rule {i} of chat {name}: answer in one sentence." for i in range(40))
        chats[name] = [{"role": "system", "content": rules}]
    for turn in range(1, 5):
        for name, messages in chats.items():
            messages.append({"role": "user", "content": f"Question {turn} of chat {name}? " * 8})
            request_id = f"demo-{name}-{turn}"
            answer = gateway.chat(request_id, messages)
            messages.append({"role": "assistant", "content": answer.text})
            explanation = gateway.explanation(request_id)
            reason = why(explanation["profiles"][0]) if explanation else "?"
            print(f"{name:<5}{turn:<5}{answer.worker:<10}{answer.usage.get('prompt_tokens', 0):>7}"
                  f"{answer.cached():>8}{answer.ttft * 1000:>6.0f} ms   {reason}")


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
            talk(gateway)
            if not args.once:
                goodbye(gateway, programs[0])
                signal.pause()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
