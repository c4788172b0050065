"use strict";
// Everything that came from outside is put in as text, never as HTML.
const $ = id => document.getElementById(id);
function make(tag, cls, ...inside) {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  node.append(...inside.filter(part => part !== null && part !== undefined));
  return node;
}
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const size = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; count >= 1024 && at < 4; at++) count /= 1024;
  return size.format(count) + " " + units[at];
}
const known = value => value !== null && value !== undefined;
const num = value => known(value) ? number.format(value) : "–";
const percent = value => known(value) ? Math.round(value * 100) + " %" : "–";
const span = ms => !known(ms) ? "–" : ms < 1000 ? num(Math.round(ms)) + " ms" : num(ms / 1000) + " s";
const clamp = share => Math.max(0, Math.min(1, share || 0));
// Sets text only where it changed, so that what somebody marks or reads aloud stays.
function say(node, text) { if (node.textContent !== text) node.textContent = text; }

function track(parts, full) {
  const bar = make("span", "track");
  for (const [share, color] of parts) {
    const part = document.createElement("i");
    part.style.width = (clamp(share) * 100).toFixed(1) + "%";
    if (color) part.style.background = color;
    if (full) part.className = "full";
    bar.append(part);
  }
  return bar;
}

const SVG = "http://www.w3.org/2000/svg";
function spark(values, top, cls) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "spark " + (cls || ""));
  svg.setAttribute("viewBox", "0 0 100 20");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  if (values.length < 2) return svg;
  const most = top || Math.max(...values.map(v => v || 0), 1e-9);
  const points = values.map((v, i) =>
    (i * 100 / (values.length - 1)).toFixed(1) + " " + (19 - 18 * clamp((v || 0) / most)).toFixed(1));
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", "M" + points.join("L"));
  const area = document.createElementNS(SVG, "path");
  area.setAttribute("d", "M0 20L" + points.join("L") + "L100 20Z");
  area.setAttribute("class", "area");
  svg.append(area, line);
  return svg;
}

// Sums of several samples, so that a line of 150 points is one of 30 that says something.
function grouped(list, size = 5) {
  const sums = [];
  for (let end = list.length; end > 0; end -= size) {
    sums.unshift(list.slice(Math.max(0, end - size), end).reduce((a, b) => a + b, 0));
  }
  return sums;
}
const shares = (parts, wholes) => parts.map((part, i) => wholes[i] ? part / wholes[i] : 0);
function added(lists) {
  const most = Math.max(0, ...lists.map(list => list.length));
  const sum = new Array(most).fill(0);
  for (const list of lists) list.forEach((v, i) => { sum[most - list.length + i] += v; });
  return sum;
}
