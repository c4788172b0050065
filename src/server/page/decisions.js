// The decisions as they come, and the whole explanation of one.
const decisions = { list: [], query: "", colors: new Map() };
function color(plugin) {
  if (!decisions.colors.has(plugin)) decisions.colors.set(plugin, `var(--s${decisions.colors.size % 6})`);
  return decisions.colors.get(plugin);
}
const clock = time => new Date(time).toLocaleTimeString("en-GB");
const ending = d => d.refused ? d.refused.code + (d.refused.reason ? " (" + d.refused.reason + ")" : "")
  : !d.ended ? "goes on" : d.ended.ending + (d.ended.status ? " " + d.ended.status : "");

async function loadDecisions() {
  const wanted = $("decision-filter").value.trim();
  const list = [];
  const ask = new URLSearchParams({ last: 60, brief: "" });
  if ($("refused").checked) ask.set("refused", "");
  if (table.chosen) ask.set("endpoint", table.chosen);
  const tries = wanted ? ["request_id", "model", "endpoint"].map(key => ({ [key]: wanted })) : [{}];
  for (const more of tries) {
    const query = new URLSearchParams(ask);
    for (const [key, value] of Object.entries(more)) query.set(key, value);
    const answer = await get("/debug/decisions?" + query);
    list.push(...answer.decisions);
    decisions.note = answer.note;
    if (list.length) break;
  }
  decisions.list = list;
  showDecisions();
}

function scoreBar(d) {
  const total = d.scores.reduce((sum, s) => sum + Math.abs(s.weight), 0);
  const parts = d.scores.map(s => [total ? clamp(s.score) * Math.abs(s.weight) / total : 0, color(s.plugin)]);
  const bar = track(parts);
  bar.title = d.scores.map(s => `${s.plugin}: ${num(s.score)} × ${num(s.weight)}`).join("\n");
  return bar;
}
function hitWords(d) {
  const believed = d.prefix.map(p => `${p.source} ${percent(p.share)}`).join(", ");
  const e = d.ended;
  const got = e && e.promptTokens ? known(e.cachedTokens) ? "delivered " + percent(e.cachedTokens / e.promptTokens) : "not told" : "";
  return [believed, got].filter(Boolean).join(" → ");
}

function showDecisions() {
  const items = decisions.list.map(d => {
    const failed = d.refused || (d.ended && d.ended.status >= 500);
    const li = make("li", "",
      make("span", "dim", clock(d.time)),
      make("span", "mono", d.request_id || "(no id)"),
      make("span", "", d.model || "(no model)"),
      make("span", d.refused ? "no" : "", d.endpoint || "nowhere"),
      d.scores.length ? scoreBar(d) : make("span", "dim", d.refused ? "" : "no steps kept"),
      make("span", failed ? "no" : "dim", [ending(d), d.ended && d.ended.ttftMs ? "first byte " + span(d.ended.ttftMs) : "",
        hitWords(d)].filter(Boolean).join(" · ")));
    li.tabIndex = 0;
    li.setAttribute("role", "button");
    li.dataset.id = d.request_id;
    li.title = `${d.request_id}\n${ending(d)}\n${hitWords(d)}`;
    li.onclick = () => openDecision(d.request_id);
    li.onkeydown = event => { if (event.key === "Enter") { event.stopPropagation(); openDecision(d.request_id); } };
    return li;
  });
  const list = $("decision-list");
  const focused = [...list.children].indexOf(document.activeElement);
  const id = focused >= 0 ? document.activeElement.dataset.id : null;
  list.replaceChildren(...items);
  if (id !== null) (items.find(li => li.dataset.id === id) || items[focused] || items[0])?.focus({ preventScroll: true });
  say($("decision-note"), decisions.note || (table.chosen ? "sent to " + table.chosen + " (click it again for all)"
    : decisions.list.length ? "the newest " + decisions.list.length : "none yet"));
  $("legend").replaceChildren(...[...decisions.colors].map(([plugin, c]) => {
    const mark = make("span", "", plugin);
    mark.style.setProperty("--c", c);
    return mark;
  }));
}

function facts(pairs) {
  const list = make("dl");
  for (const [name, value] of pairs) if (value) list.append(make("dt", "", name), make("dd", "", value));
  return list;
}
async function openDecision(id) {
  const answer = await get("/debug/decisions?" + new URLSearchParams({ request_id: id, last: 5 }));
  const body = $("dialog-body");
  say($("dialog-title"), "Request " + (id || "(no id)"));
  body.replaceChildren(...answer.decisions.flatMap(whole));
  if (!answer.decisions.length) body.append(make("p", "", "It is no longer kept: see --explain-decisions."));
  if (!$("dialog").open) $("dialog").showModal();
}
function whole(d) {
  const e = d.ended;
  const parts = [facts([
    ["time", d.time], ["model", d.model + (d.incomingModel ? " (asked for as " + d.incomingModel + ")" : "")],
    ["sent to", d.endpoint ? d.endpoint + " (" + d.address + ")" : "nowhere"],
    ["refused", d.refused && ending(d) + ": " + d.refused.message],
    ["priority", String(d.priority)], ["in the queue", known(d.queuedMs) && span(d.queuedMs)],
    ["deciding took", known(d.schedulingUs) && num(d.schedulingUs) + " µs"],
    ...d.prefix.map(p => [p.source, `${p.cachedBlocks} of ${p.promptBlocks} blocks, ${num(p.cachedTokens)} tokens (${percent(p.share)}) cached there`]),
    ["ended", e ? `${ending(d)} after ${span(e.durationMs)}` : "goes on"],
    ["first byte", e && known(e.ttftMs) && "after " + span(e.ttftMs)],
    ["tokens", e && known(e.promptTokens) && `${num(e.promptTokens)} of the prompt, ${known(e.cachedTokens) ? num(e.cachedTokens) + " of them cached (" + percent(e.cachedTokens / e.promptTokens) + ")" : "cached ones not told"}, ${num(e.completionTokens)} of the answer`],
  ])];
  const x = d.explanation;
  if (!x) { parts.push(make("p", "dim", d.refused ? "It was refused before candidates were looked at." : "Its steps were not kept: see --explain-share.")); return parts; }
  const name = i => x.candidates[i];
  const names = list => list.map(name).join(", ");
  parts.push(facts([
    ["candidates", x.candidates.length + (x.poolSize ? " of " + x.poolSize + " endpoints" : "")],
    ["screened out", x.screenedOut && x.screenedOut.join(", ")],
    ["left out", x.health && x.health.leftOut && x.health.leftOut.map(l => `${l.endpoint} is ${l.standing}`).join(", ")],
    ["tried", x.health && x.health.tried && x.health.tried + ", to see whether it is back"],
  ]));
  for (const p of x.profiles) parts.push(...profile(p, x, names));
  return parts;
}
function profile(p, x, names) {
  const filters = p.filters.map(f => [f.plugin, (f.dropped.length ? "dropped " + names(f.dropped) : "kept all") + (f.wants ? ` (wants ${f.wants})` : "")]);
  const picker = p.picks.length ? `${names(p.picks)} by ${p.picker.plugin}` : "nothing";
  const tie = p.picker.tied.length ? [["equally good", `${names(p.picker.tied)}; decided by ${p.picker.tieRule}`]] : [];
  const parts = [make("h3", "", "Profile " + p.name), facts([...filters, ["picked", picker], ...tie])];
  const scored = p.totals.map((total, i) => [i, total]).filter(([, total]) => known(total));
  scored.sort((a, b) => (b[0] === p.picks[0]) - (a[0] === p.picks[0]) || b[1] - a[1]);
  if (!scored.length) return parts;
  const most = Math.max(...scored.map(([, total]) => total), 1e-9);
  const head = ["Candidate", "In flight", "Queue", "KV use", ...x.prefixes.map(f => f.source), ...p.scorers.map(s => `${s.plugin} × ${num(s.weight)}`), "Total"];
  const rows = scored.map(([i, total]) => {
    const cells = [x.candidates[i], num(x.in_flight[i]), num(x.seen.waiting[i]), percent(x.seen.kvCacheUsage[i]),
      ...x.prefixes.map(f => `${f.blocks[i]}/${f.promptBlocks}`)].map(text => make("td", "", text));
    for (const s of p.scorers) cells.push(make("td", "", num(s.scores[i]), track([[s.scores[i], color(s.plugin)]])));
    cells.push(make("td", "", num(total), track([[total / most]])));
    return make("tr", i === p.picks[0] ? "target" : "", ...cells);
  });
  const heading = make("tr", "", ...head.map(text => make("th", "", text)));
  parts.push(make("div", "scroll", make("table", "", make("thead", "", heading), make("tbody", "", ...rows))));
  return parts;
}
