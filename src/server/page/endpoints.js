// The table of endpoints.
const COLUMNS = [
  ["endpoint", "Endpoint", e => e.id],
  ["state", "State", e => (e.out ? 0 : e.stale ? 1 : 2)],
  ["queue", "Queue", e => e.waiting],
  ["running", "Running", e => e.running],
  ["inflight", "In flight", e => e.inFlight],
  ["kv", "KV use", e => e.kv],
  ["hits", "Hit rate", e => e.lately.delivered ?? -1],
  ["hits-line", "", null],
  ["share", "Share of picks", e => e.pickShare ?? -1],
  ["share-line", "", null],
  ["rate", "Picks/s", e => e.lately.picksPerSecond ?? -1],
  ["ttft", "First byte", e => e.lately.ttftMs ?? -1],
  ["failed", "Failed", e => e.lately.failed],
  ["age", "Metrics", e => e.ageMs ?? Infinity],
];
const table = { sort: "endpoint", up: true, chosen: null, rows: new Map() };

function heads() {
  $("heads").replaceChildren(...COLUMNS.map(([key, label, by], at) => {
    const th = make("th");
    th.scope = "col";
    if (!by) return th;
    if (key === "state") th.style.textAlign = "left";
    const button = make("button", "", label);
    if (at < 9) button.title = "sort: key " + (at + 1);
    button.onclick = () => sortBy(key);
    if (table.sort === key) th.setAttribute("aria-sort", table.up ? "ascending" : "descending");
    th.append(button);
    return th;
  }));
}
function sortBy(key) {
  // Numbers are looked at from the largest on.
  table.up = table.sort === key ? !table.up : key === "endpoint" || key === "state";
  table.sort = key;
  heads();
  showEndpoints();
}

function row(e) {
  const tr = make("tr");
  tr.tabIndex = 0;
  tr.dataset.id = e.id;
  tr.onclick = () => choose(e.id);
  tr.onkeydown = event => { if (event.key === "Enter") { event.stopPropagation(); choose(e.id); } };
  for (const [key, label] of COLUMNS) {
    const td = make("td", key === "state" ? "state" : key.endsWith("line") ? "spark-cell" : "");
    td.dataset.label = label;
    tr.append(td);
  }
  return tr;
}
function choose(id) {
  table.chosen = table.chosen === id ? null : id;
  showEndpoints();
  decisions.query = "";
  loadDecisions();
}

function fill(tr, e) {
  const cells = [...tr.children];
  const set = (key, ...parts) => {
    const cell = cells[COLUMNS.findIndex(([name]) => name === key)];
    if (parts.length === 1 && typeof parts[0] === "string") say(cell, parts[0]);
    else cell.replaceChildren(...parts);
  };
  if (!cells[0].firstChild) set("endpoint", e.id, e.id.endsWith(e.address) ? "" : make("span", "sub", e.address));
  const state = e.out ? ["no", "out"] : e.stale ? ["meh", known(e.ageMs) ? "stale" : "no metrics"]
    : ["ok", e.standing && e.standing !== "healthy" ? e.standing : "ok"];
  const word = make("span", state[0], state[1]);
  if (e.out) word.title = e.out;
  set("state", word);
  set("queue", num(e.waiting));
  set("running", num(e.running));
  set("inflight", num(e.inFlight));
  set("kv", make("span", "cell", percent(e.kv), track([[e.kv]], e.kv > 0.95)));
  set("hits", percent(e.lately.delivered));
  set("share", percent(e.pickShare));
  set("rate", num(e.lately.picksPerSecond));
  set("ttft", span(e.lately.ttftMs));
  set("failed", num(e.lately.failed));
  set("age", known(e.ageMs) ? span(e.ageMs) : "never");
  const past = page.history[e.id];
  if (past && past.drawn !== page.historyAt) {
    past.drawn = page.historyAt;
    set("hits-line", spark(shares(grouped(past.deliveredTokens), grouped(past.promptTokens)), 1));
    set("share-line", spark(shares(grouped(past.picks), page.allPicks.slice(-grouped(past.picks).length))));
  }
  tr.classList.toggle("chosen", table.chosen === e.id);
  tr.setAttribute("aria-selected", table.chosen === e.id);
}

function showEndpoints() {
  if (!page.state) return;
  const wanted = $("filter").value.trim().toLowerCase();
  const all = page.state.endpoints;
  const shown = all.filter(e => !wanted || (e.id + " " + e.address).toLowerCase().includes(wanted));
  const by = COLUMNS.find(([key]) => key === table.sort)[2];
  const order = (a, b) => { const [x, y] = [by(a), by(b)]; return x < y ? -1 : x > y ? 1 : 0; };
  shown.sort((a, b) => (table.up ? 1 : -1) * order(a, b) || (a.id < b.id ? -1 : 1));
  const rows = shown.map(e => {
    let tr = table.rows.get(e.id);
    if (!tr) table.rows.set(e.id, tr = row(e));
    fill(tr, e);
    return tr;
  });
  const body = $("rows");
  // Moving rows takes the focus away from them: only where the order has changed.
  if (rows.length !== body.children.length || rows.some((tr, i) => body.children[i] !== tr)) {
    const focused = document.activeElement;
    body.replaceChildren(...rows);
    if (focused && body.contains(focused)) focused.focus({ preventScroll: true });
  }
  const there = new Set(all.map(e => e.id));
  for (const id of table.rows.keys()) if (!there.has(id)) table.rows.delete(id);
  const more = page.state.endpointsInAll - all.length;
  say($("endpoint-count"), (shown.length === all.length ? all.length : shown.length + " of " + all.length)
    + (more > 0 ? " shown of " + page.state.endpointsInAll : ""));
}
