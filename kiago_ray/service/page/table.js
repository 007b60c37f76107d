// The periodic table, coloured by what each element would do to T_c.

import { byId, kelvin, node, signed } from "./dom.js";
import { openElement } from "./element.js";
import { formulaNode } from "./formula.js";
import { NAMES, SYMBOLS, place } from "./elements.js";

const ROWS = 10;
const COLUMNS = 18;
const LEAST = 0.05; // K: what is less is drawn as nothing

const AT = new Map(SYMBOLS.map((_, at) => [place(at).join(), at]));

let current = null;
let focused = 0;

// `amounts`: of the formula. `from`: {formula, tc_k} of the formula that this table changed into it, if it did.
export function showElements(found, amounts, from) {
  current = { found, amounts, slopes: new Map(found.gradient.map((each) => [each.symbol, each])) };
  const hadFocus = byId("grid").contains(document.activeElement);
  if (!hadFocus) focused = Math.max(SYMBOLS.indexOf(found.elements[0].symbol), 0);
  byId("elements").hidden = false;
  draw();
  if (hadFocus) cell(focused).focus();
  changed(from);
}

// What the last change did, with the way back.
function changed(from) {
  const line = byId("changed");
  line.hidden = !from;
  if (!from) return;
  const { formula, tc_k } = current.found;
  line.replaceChildren(
    "From ",
    formulaNode(from.formula),
    ` (${kelvin(from.tc_k)}) to `,
    formulaNode(formula),
    ` (${kelvin(tc_k)}). `,
    node("button", { type: "button", onclick: undo }, "Undo"),
  );
  line.scrollIntoView({ block: "nearest" });
}

function undo() {
  cell(focused).focus(); // this button is about to go
  history.back();
}

const cell = (at) => byId("grid").querySelector(`[data-at="${at}"]`);
const mode = () => document.querySelector("input[name=mode]:checked").value;

function valueOf(symbol) {
  const slope = current.slopes.get(symbol);
  if (!slope) return null;
  return mode() === "slope" ? slope.dtc_k_per_percent : slope.tc_with_5_percent_k - (current.found.tc_k ?? 0);
}

// What colours are scaled by: nine in ten of the values fit.
function scaleOf() {
  const values = SYMBOLS.map(valueOf).filter((value) => value !== null);
  const sizes = values.map(Math.abs).sort((a, b) => a - b);
  return Math.max(sizes[Math.floor(0.9 * (sizes.length - 1))] ?? 0, 0.1);
}

function draw() {
  const scale = scaleOf();
  const rows = Array.from({ length: ROWS }, (_, row) =>
    node(
      "div",
      { role: "row" },
      ...Array.from({ length: COLUMNS }, (_, column) => {
        const at = AT.get(`${row + 1},${column + 1}`);
        return node("div", { role: "gridcell" }, at === undefined ? "" : button(at, scale));
      }),
    ),
  );
  byId("grid").replaceChildren(...rows);
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
      onclick: () => {
        moveTo(at);
        if (value !== null) openElement(symbol, NAMES[at], current);
      },
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
    ` +${scale.toFixed(1)} and more: ${unit}. Framed: in the formula. Faded: the models don't know it.`,
  );
}

function moveTo(at) {
  cell(focused).tabIndex = -1;
  focused = at;
  cell(at).tabIndex = 0;
  cell(at).focus();
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function move(event) {
  if (event.target.dataset.at === undefined) return;
  let [row, column] = place(Number(event.target.dataset.at));
  let step = STEPS[event.key];
  if (event.key === "Home") [column, step] = [0, STEPS.ArrowRight];
  if (event.key === "End") [column, step] = [COLUMNS + 1, STEPS.ArrowLeft];
  if (!step) return;
  event.preventDefault();
  do {
    row += step[0];
    column += step[1];
  } while (row >= 1 && row <= ROWS && column >= 1 && column <= COLUMNS && !AT.has(`${row},${column}`));
  const next = AT.get(`${row},${column}`);
  if (next !== undefined) moveTo(next);
}

export function startElements() {
  byId("grid").addEventListener("keydown", move);
  document.querySelectorAll("input[name=mode]").forEach((each) => each.addEventListener("change", draw));
}
