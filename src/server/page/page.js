// Asks for the data, and shows the pool as a whole.
const page = { state: null, history: {}, historyAt: 0, allPicks: [], paused: false, answered: 0 };
async function get(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" }, cache: "no-store" });
  if (!answer.ok) throw new Error(answer.status + " " + path);
  return answer.json();
}

function showFindings() {
  const list = page.state.findings.map(f => {
    const li = make("li", f.level, make("b", "", f.what), f.why + ". ", make("br"), "Change: ", make("code", "", f.change));
    return li;
  });
  const text = JSON.stringify(page.state.findings);
  if (text === page.findings) return;
  page.findings = text;
  if (!list.length) list.push(make("p", "well", "Nothing that can be seen from here."));
  $("finding-list").replaceChildren(...list);
}

function showNumbers() {
  const { endpoints, lately } = page.state;
  const sum = f => endpoints.reduce((total, e) => total + f(e), 0);
  const flow = page.state.flowControl;
  const numbers = [
    ["picks a second", num(lately.sum.picksPerSecond)], ["in flight", short.format(sum(e => e.inFlight))],
    ["queued at engines", short.format(sum(e => e.waiting))], ["waiting here", flow.on ? short.format(flow.requests) : "off"],
    ["first byte, mean", span(lately.sum.ttftMs)], ["failed", num(lately.sum.failed)],
  ];
  const box = $("numbers");
  if (!box.children.length) {
    box.append(...numbers.map(([name]) => make("div", "number", make("b", ""), make("span", "dim", name))));
  }
  numbers.forEach(([, value], i) => say(box.children[i].firstChild, value));
}

const HITS = [["predicted", "predictedTokens"], ["indexed", "indexedTokens"], ["delivered", "deliveredTokens"]];
function showHits() {
  const past = Object.values(page.history);
  const prompts = grouped(added(past.map(h => h.promptTokens)));
  $("hit-bars").replaceChildren(...HITS.map(([name, key]) => {
    const share = page.state.lately.sum[name];
    const line = known(share) ? spark(shares(grouped(added(past.map(h => h[key]))), prompts), 1, "long") : make("span");
    return make("div", "hit", make("span", "", name), track([[share]]), make("b", "", percent(share)), line);
  }));
}

function showFlow() {
  const flow = page.state.flowControl;
  $("flow").hidden = !flow.on;
  if (!flow.on) return;
  say($("flow-sum"), `${num(flow.requests)} requests, pool ${percent(flow.saturation.effective)} full` + (flow.saturation.effective >= 1 ? ": saturated" : ""));
  const bands = flow.bands.map(b => {
    const share = b.maxRequests ? b.requests / b.maxRequests : 0;
    const flows = b.flows.slice(0, 8).map(f => `${f.fairnessId}: ${num(f.requests)}, the first for ${span(f.headWaitMs)}`);
    if (b.flows.length > 8) flows.push(`and ${b.flows.length - 8} more`);
    return make("div", "band", make("span", "", "priority " + b.priority), track([[share]], share > 0.9),
      make("span", "dim", `${num(b.requests)} of ${short.format(b.maxRequests)} requests, ${bytes(b.bytes)} of ${bytes(b.maxBytes)}`),
      flows.length ? make("span", "flows", flows.join(" · ")) : null);
  });
  $("bands").replaceChildren(...bands);
}

function showState() {
  const s = page.state;
  const ready = $("ready");
  say(ready, s.notReady ? "not ready" : "ready");
  ready.className = "pill " + (s.notReady ? "bad" : "good");
  ready.title = s.notReady || "";
  say($("version"), s.version);
  for (const show of [showFindings, showNumbers, showHits, showFlow, showEndpoints]) show();
}

async function loadHistory() {
  const answer = await get("/debug/history");
  page.history = answer.endpoints;
  page.historyAt += 1;
  page.allPicks = grouped(added(Object.values(page.history).map(h => h.picks)));
}
async function loadConfig() {
  const config = await get("/debug/config");
  page.configHash = config.hash;
  say($("config-source"), config.source);
  $("config-lines").replaceChildren(...config.lines.flatMap(l => [make("span", l.default ? "default" : "", l.text), "\n"]));
}

let turn = 0;
async function poll() {
  // A page that nobody looks at asks for nothing.
  if (!page.paused && !document.hidden) {
    try {
      if (turn % 5 === 0) await loadHistory();
      page.state = await get("/debug/state");
      page.answered = Date.now();
      showState();
      if (!$("dialog").open) await loadDecisions();
      if (page.state.configHash !== page.configHash) await loadConfig();
      turn += 1;
      document.body.dataset.turn = turn;
    } catch (error) { page.error = String(error); }
  }
  setTimeout(poll, 2000);
}
function showAge() {
  if (!page.answered) return say($("age"), page.error ? "no answer: " + page.error : "");
  const seconds = Math.round((Date.now() - page.answered) / 1000);
  const old = seconds > 6 && !page.paused;
  document.body.classList.toggle("old", old);
  say($("age"), page.paused ? "paused" : old ? `no answer for ${seconds} s: this is old` : "live");
}

function pause() {
  page.paused = !page.paused;
  $("pause").setAttribute("aria-pressed", page.paused);
  say($("pause"), page.paused ? "Go on" : "Pause");
  showAge();
}
function theme(wanted) {
  document.documentElement.dataset.theme = wanted;
  try { localStorage.setItem("epp-theme", wanted); } catch { /* not allowed: it lasts for this page */ }
}
function help() {
  say($("dialog-title"), "Keys");
  const keys = [["/", "filter the endpoints"], ["1 … 9", "sort by that column, again: the other way"], ["j k", "next, previous endpoint or decision"],
    ["d e", "to the decisions, to the endpoints"], ["Enter", "endpoint: its decisions; decision: the whole of it"], ["p", "pause"], ["t", "light or dark"], ["Esc", "close, or show all"]];
  const list = make("dl");
  for (const [key, what] of keys) list.append(make("dt", "", make("kbd", "", key)), make("dd", "", what));
  $("dialog-body").replaceChildren(list);
  $("dialog").showModal();
}
function move(step) {
  const here = document.activeElement;
  const list = here && here.closest("#decision-list") ? $("decision-list") : $("rows");
  const items = [...list.children];
  const at = items.indexOf(here);
  items[Math.max(0, Math.min(items.length - 1, at < 0 ? 0 : at + step))]?.focus();
}
function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if ($("dialog").open) return;
    if (event.target.matches("input")) { event.target.value = ""; event.target.blur(); }
    else if (table.chosen) choose(table.chosen);
    showEndpoints();
    return;
  }
  if (event.target.matches("input") || $("dialog").open) return;
  const to = { "/": () => $("filter").focus(), p: pause, t: flip, "?": help, j: () => move(1), k: () => move(-1),
    d: () => $("decision-list").firstElementChild?.focus(), e: () => $("rows").firstElementChild?.focus() }[event.key];
  const column = COLUMNS[Number(event.key) - 1];
  if (to) to(); else if (column && column[2]) sortBy(column[0]); else return;
  event.preventDefault();
}
const flip = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");

let stored = null;
try { stored = localStorage.getItem("epp-theme"); } catch { /* not allowed */ }
const dark = matchMedia("(prefers-color-scheme: dark)");
document.documentElement.dataset.theme = stored || (dark.matches ? "dark" : "light");
dark.onchange = () => { if (!stored) document.documentElement.dataset.theme = dark.matches ? "dark" : "light"; };
$("pause").onclick = pause;
$("theme").onclick = flip;
$("help").onclick = help;
$("close").onclick = () => $("dialog").close();
$("filter").oninput = showEndpoints;
$("refused").onchange = loadDecisions;
$("decision-filter").oninput = loadDecisions;
document.addEventListener("keydown", keys);
document.addEventListener("visibilitychange", showAge);
heads();
poll();
setInterval(showAge, 1000);
