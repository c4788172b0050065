"""The tutorial's steps, and what happens to such a system afterwards."""

import pathlib

import client
import envoy
import kserve
from client import MODEL, Traffic
from service import Service
from step import eventually, must

DEPLOY = client.ROOT / "deploy/tutorial"
PRESETS = pathlib.Path(__file__).resolve().parent / "presets"


def run(cluster, reporter):
    reporter.step("etcd, the API server, KServe's controller and its presets")
    kserve.install(cluster)
    reporter.done()
    apply_files(cluster, reporter)
    service = Service(cluster, "qwen-instruct", MODEL)
    reporter.step("LLMInferenceService is Ready")
    service.is_ready(pickers=1, workers=4)
    reporter.done()
    gateway = envoy.start(cluster, [service.pool()])
    for step in (first_request, prefixes, scale, worker_killed, picker_killed, rolling_update):
        reporter.step(step.__doc__.rstrip("."))
        reporter.done(step(cluster, service) or "")
    service.patch({"spec": {"replicas": 1}})
    presets = {"plain": preset, "prefill": prefill}
    if is_todays(cluster):
        presets |= {"lora": lora, "template": template}
        cluster.apply(*DEPLOY.glob("[23]0-*.yaml"))
    for name, step in presets.items():
        gateway.kill()
        gateway.wait()
        reporter.step(step.__doc__.rstrip("."))
        cluster.apply(PRESETS / f"{name}.yaml")
        service = Service(cluster, name, f"{name}-model",
                          ["lora-adapter"] if name == "lora" else [])
        service.is_ready(pickers=1, workers=2)
        gateway = envoy.start(cluster, [service.pool()])
        reporter.done(step(service) or "")
    gateway.kill()
    gateway.wait()


def is_todays(cluster):
    """Whether KServe is one that makes pools of both groups, takes configurations in place and
    serves adapters; 0.16 takes no notice of them."""
    return tuple(map(int, cluster.version.split("."))) >= (0, 18)


def apply_files(cluster, reporter):
    """All files of the tutorial, each checked strictly against its schema. For today's KServe
    some of them are others."""
    files = {file.name[:2]: file for file in sorted(DEPLOY.glob("*.yaml"))}
    if is_todays(cluster):
        files |= {file.name[:2]: file for file in (DEPLOY / "today").glob("*.yaml")}
        del files["30"]
    for file in files.values():
        if "aigateway.envoyproxy.io" in file.read_text() and not ai_gateway(cluster):
            reporter.skipped(f"{file.name}: no CRD of Envoy AI Gateway (--ai-gateway-crds)")
            continue
        reporter.step(f"kubectl apply --server-side --validate=strict -f {file.name}")
        cluster.apply(file)
        reporter.done()


def ai_gateway(cluster):
    """Whether the CRDs of Envoy AI Gateway are there to be installed."""
    if not cluster.args.ai_gateway_crds:
        return False
    cluster.apply(cluster.args.ai_gateway_crds / cluster.version)
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return True


def first_request(cluster, service):
    """The tutorial's curl, and `kubectl logs` with the line that it looks for."""
    answer = client.curl(service.model)
    must(answer["choices"][0]["message"]["content"], f"an answer without text: {answer}")
    must(answer["usage"]["total_tokens"] > 0, f"an answer without usage: {answer}")
    handled = eventually("`Request handled` is in the log", lambda: service.handled())
    must(any(w in handled[-1]["endpoint"] for w in service.worker_names()), f"endpoint: {handled}")
    return handled[-1]["endpoint"].split(" Address")[0].lstrip("{")


def prefixes(cluster, service):
    """Similar prompts land together, others spread."""
    places = {}
    for group in range(8):
        head = f"Document {group}. " + f"All of this is about the number {group}. " * 60
        for question in range(4):
            worker = client.ask(service.model, head + f"Question {question}?").worker
            places.setdefault(group, []).append(worker)
    for group, workers in places.items():
        must(len(set(workers)) == 1, f"group {group} went to {workers}")
    used = {workers[0] for workers in places.values()}
    must(len(used) > 1, f"all groups went to {used}")
    return f"8 groups on {len(used)} workers"


def scale(cluster, service):
    """Scaled to 2 and to 6, under load."""
    with Traffic(service.model) as traffic:
        for replicas in (2, 6):
            service.patch({"spec": {"replicas": replicas}})
            service.is_ready(pickers=1, workers=replicas)
            wanted = set(service.worker_names())
            must(len(wanted) == replicas, f"workers: {wanted}")
            eventually(lambda: f"requests go to {wanted}, not {traffic.recent()}",
                       lambda: traffic.recent() == wanted)
    traffic.all_good()
    return f"{traffic.count()} requests, none failed"


def worker_killed(cluster, service):
    """A worker is killed and comes back."""
    with Traffic(service.model) as traffic:
        traffic.reaches(20)
        victim = service.workers()[0]
        victim.main().kill()
        eventually("the worker is ready again",
                   lambda: victim.main().restarts == 1 and victim.is_ready())
        eventually("the worker gets requests again", lambda: victim.name in traffic.recent())
    # What it was working on when it died, and what was sent to it before anybody could know.
    must(len(traffic.failures()) < 20, f"failed: {traffic.failures()}")
    return f"{len(traffic.failures())} of {traffic.count()} requests failed"


def picker_killed(cluster, service):
    """The picker is killed and comes back; the gateway fails closed until then."""
    with Traffic(service.model) as traffic:
        traffic.reaches(20)
        service.pickers()[0].main().kill()
        eventually("a request fails", traffic.failures)
        eventually("requests are answered again", lambda: traffic.good_since_failure() > 50)
    must({status for status, _ in traffic.failures()} <= {500, 503}, f"{traffic.failures()}")
    return f"{len(traffic.failures())} of {traffic.count()} requests got 500 in between"


def rolling_update(cluster, service):
    """A rolling update of the workers and of the picker, under load."""
    before = set(service.worker_names())
    with Traffic(service.model) as traffic:
        traffic.reaches(20)
        service.patch({"spec": {"replicas": 3}})
        service.is_ready(pickers=1, workers=3)
        service.set_environment("ROLLED", "true")
        eventually("all workers are new", lambda: not before & set(service.worker_names()))
        service.is_ready(pickers=1, workers=3)
        wanted = set(service.worker_names())
        eventually(lambda: f"requests go to {wanted}, not {traffic.recent()}",
                   lambda: traffic.recent() == wanted)
        during_workers = len(traffic.failures())
        old = service.pickers()[0]
        cluster.kubectl("rollout", "restart", f"deployment/{service.picker_deployment()}",
                        "-n", service.namespace)
        eventually("the picker is a new one", old.stopping.is_set)
        service.is_ready(pickers=1, workers=3)
        traffic.reaches(traffic.count() + 50)
    must(during_workers == 0, f"failed while workers were replaced: {traffic.failures()}")
    # A Service moves at once here, under connections too: what was being asked then is lost.
    must(len(traffic.failures()) < 10, f"failed while the picker moved: {traffic.failures()}")
    return f"{traffic.count()} requests, {len(traffic.failures())} failed while the picker moved"


def preset(service):
    """KServe's preset for workers that are all alike."""
    workers = {client.ask(service.model, f"Request {n} " * 30).worker for n in range(20)}
    must(workers == set(service.worker_names()), f"requests went to {workers}")
    must(service.handled(), "no `Request handled` in the log")


def template(service):
    """The tutorial's own template, older than this KServe."""
    preset(service)
    names = [c.spec["name"] for c in service.pickers()[0].containers]
    must("tokenizer" in names, f"containers: {names}")


def prefill(service):
    """KServe's presets for prompts and answers on different workers."""
    prompter = service.of("llminferenceservice-workload-prefill")
    must(len(prompter) == 1, f"workers for prompts: {prompter}")
    answer = client.ask(service.model, "A long text, of which nothing was seen before. " * 100)
    must(answer.worker in service.worker_names(), f"{answer.worker} answered")
    must(answer.prefill == f"{prompter[0].ip}:8000", f"{answer.prefill} computed the prompt")
    short = client.ask(service.model, "Hi").prefill
    # Today's preset has every prompt computed elsewhere, 0.16's only those that are worth it.
    wanted = f"{prompter[0].ip}:8000" if is_todays(service.cluster) else None
    must(short == wanted, f"{short} computed a prompt of two letters, not {wanted}")


def lora(service):
    """KServe's preset with a LoRA adapter."""
    for model in (service.model, *service.adapters):
        answer = client.ask(model, "What are you?")
        must(f'"model":"{model}"' in answer.text.replace(" ", ""), f"{model}: {answer.text[:300]}")
