// The periodic table, coloured by what each element would do to T_c, and the dialog of one element.

import { byId, kelvin, node, signed } from "./dom.js";
import { write } from "./formula.js";
import { NAMES, SYMBOLS, place } from "./elements.js";

const ROWS = 10;
const COLUMNS = 18;
const LEAST = 0.05; // K: what is less is drawn as nothing

let current = null;
let focused = 0;

// `amounts`: of the formula. `choose`: is called with a new formula.
export function showElements(found, amounts, choose) {
  current = { found, amounts, choose, slopes: new Map(found.gradient.map((each) => [each.symbol, each])) };
  byId("elements").hidden = false;
  const first = SYMBOLS.indexOf(found.elements[0].symbol);
  focused = first < 0 ? 0 : first;
  draw();
}

const mode = () => document.querySelector("input[name=mode]:checked").value;

function valueOf(symbol) {
  const slope = current.slopes.get(symbol);
  if (!slope) return null;
  return mode() === "slope" ? slope.dtc_k_per_percent : slope.tc_with_5_percent_k - (current.found.tc_k ?? 0);
}

// What colours are scaled by: nine in ten of the values fit.
function scaleOf() {
  const sizes = SYMBOLS.map(valueOf).filter((value) => value !== null).map(Math.abs).sort((a, b) => a - b);
  return Math.max(sizes[Math.floor(0.9 * (sizes.length - 1))] ?? 0, 0.1);
}

function draw() {
  const scale = scaleOf();
  const grid = byId("grid");
  const hadFocus = grid.contains(document.activeElement);
  const cells = Array.from({ length: ROWS }, () => Array(COLUMNS).fill(null));
  SYMBOLS.forEach((_, at) => {
    const [row, column] = place(at);
    cells[row - 1][column - 1] = at;
  });
  grid.replaceChildren(
    ...cells.map((row) =>
      node("div", { role: "row" }, ...row.map((at) => node("div", { role: "gridcell" }, at === null ? "" : button(at, scale)))),
    ),
  );
  if (hadFocus) grid.querySelector(`[data-at="${focused}"]`)?.focus();
  legend(scale);
}

function button(at, scale) {
  const symbol = SYMBOLS[at];
  const value = valueOf(symbol);
  const there = current.amounts.has(symbol);
  const unit = mode() === "slope" ? "kelvin for each per cent" : "kelvin with 5 per cent";
  const words = value === null ? "not known to the models" : `${signed(value)} ${unit}`;
  const made = node(
    "button",
    {
      type: "button",
      "data-at": at,
      tabindex: at === focused ? 0 : -1,
      class: `cell${there ? " there" : ""}`,
      "aria-disabled": value === null ? "true" : null,
      "aria-label": `${symbol}, ${NAMES[at]}${there ? ", in the formula" : ""}: ${words}`,
      title: `${NAMES[at]}: ${words}`,
      onclick: () => value !== null && openElement(symbol, NAMES[at]),
    },
    node("span", {}, symbol),
    node("small", {}, value === null ? "" : signed(value, Math.abs(value) < 9.95 ? 1 : 0)),
  );
  if (value !== null && Math.abs(value) >= LEAST) {
    made.style.setProperty("--share", `${Math.round(Math.min(Math.abs(value) / scale, 1) * 100)}%`);
    made.classList.add(value > 0 ? "up" : "down");
  }
  return made;
}

function legend(scale) {
  const unit = mode() === "slope" ? "K for each % of the atoms" : "K, once 5 % of the atoms are this element";
  const swatch = (kind, share) => {
    const made = node("span", { class: `swatch ${kind}` });
    made.style.setProperty("--share", `${share}%`);
    return made;
  };
  byId("legend").replaceChildren(
    `−${scale.toFixed(1)} and less `,
    swatch("down", 100),
    swatch("down", 50),
    swatch("none", 0),
    swatch("up", 50),
    swatch("up", 100),
    ` +${scale.toFixed(1)} and more: ${unit}. Framed: in the formula. Grey: the models don't know it.`,
  );
}

function move(event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!step) return;
  event.preventDefault();
  let [row, column] = place(focused);
  for (;;) {
    row += step[0];
    column += step[1];
    if (row < 1 || row > ROWS || column < 1 || column > COLUMNS) return;
    const next = SYMBOLS.findIndex((_, at) => place(at).join() === `${row},${column}`);
    if (next >= 0) {
      byId("grid").querySelector(`[data-at="${focused}"]`).tabIndex = -1;
      focused = next;
      const to = byId("grid").querySelector(`[data-at="${focused}"]`);
      to.tabIndex = 0;
      to.focus();
      return;
    }
  }
}

function openElement(symbol, name) {
  const { found, amounts, slopes } = current;
  focused = SYMBOLS.indexOf(symbol);
  const slope = slopes.get(symbol);
  byId("element-title").textContent = `${symbol}, ${name}`;
  byId("element-facts").replaceChildren(
    `Now ${kelvin(found.tc_k)}; once 5 % of the atoms are ${symbol}, ${kelvin(slope.tc_with_5_percent_k)}. `,
    `The slope here is ${signed(slope.dtc_k_per_percent, 2)} K for each %.`,
  );
  const others = [...amounts.keys()].filter((each) => each !== symbol);
  byId("element-swap").replaceChildren(...others.map((each) => node("option", { value: each }, `${each} (${amounts.get(each)})`)));
  byId("element-swap-line").hidden = byId("element-swap-button").hidden = others.length === 0;
  const dialog = byId("element-dialog");
  dialog.dataset.symbol = symbol;
  dialog.returnValue = "";
  dialog.showModal();
}

function closed() {
  const dialog = byId("element-dialog");
  const symbol = dialog.dataset.symbol;
  const amount = Number(byId("element-amount").value);
  const amounts = new Map(current.amounts);
  if (dialog.returnValue === "add" && amount > 0) {
    amounts.set(symbol, (amounts.get(symbol) ?? 0) + amount);
  } else if (dialog.returnValue === "swap") {
    const other = byId("element-swap").value;
    const added = (amounts.get(symbol) ?? 0) + amounts.get(other);
    const swapped = [...amounts].filter(([each]) => each !== symbol).map(([each, held]) => (each === other ? [symbol, added] : [each, held]));
    current.choose(write(new Map(swapped)));
    return;
  } else {
    return;
  }
  current.choose(write(amounts));
}

export function startElements() {
  byId("grid").addEventListener("keydown", move);
  byId("element-dialog").addEventListener("close", closed);
  document.querySelectorAll("input[name=mode]").forEach((each) => each.addEventListener("change", () => current && draw()));
}

