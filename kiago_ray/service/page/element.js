// The dialog of one element: put it into the formula, or in the place of another.

import { byId, kelvin, node, signed, words } from "./dom.js";
import { write } from "./formula.js";

let opened = null;

// `current`: what the periodic table shows.
export function openElement(symbol, name, current) {
  const { found, amounts, slopes } = current;
  const slope = slopes.get(symbol);
  opened = { symbol, found, amounts };
  byId("element-title").textContent = `${symbol}, ${name}`;
  byId("element-facts").replaceChildren(
    ...words(
      `T_c now ${kelvin(found.tc_k)}; once 5 % of the atoms are ${symbol}, ${kelvin(slope.tc_with_5_percent_k)}. ` +
        `The model's slope here is ${signed(slope.dtc_k_per_percent, 2)} K for each % of the atoms, which is no promise.`,
    ),
  );
  const others = [...amounts.keys()].filter((each) => each !== symbol);
  const there = (each) => `${each}, of which there is ${shown(amounts.get(each))}`;
  const options = others.map((each) => node("option", { value: each }, there(each)));
  byId("element-swap").replaceChildren(...options);
  byId("element-swap-line").hidden = byId("element-swap-button").hidden = others.length === 0;
  byId("element-amount").value = 1;
  const dialog = byId("element-dialog");
  dialog.returnValue = "";
  dialog.showModal();
}

const shown = (amount) => String(Number(amount.toPrecision(6)));

// The amounts with `amount` of the element added, taken from those of `other` as far as there are any.
function put({ symbol, amounts }, amount, other) {
  const left = other === undefined ? 0 : amounts.get(other) - amount;
  const added = other !== undefined && left < 0 ? amounts.get(other) : amount;
  const after = new Map();
  for (const [each, held] of amounts) {
    if (each !== other) after.set(each, held);
    else if (left > 1e-9) after.set(each, left);
    if (each === other && !amounts.has(symbol)) after.set(symbol, 0);
  }
  return after.set(symbol, (after.get(symbol) ?? 0) + added);
}

export function startElement(change) {
  const dialog = byId("element-dialog");
  dialog.addEventListener("close", () => {
    const amount = Number(byId("element-amount").value);
    if (!dialog.returnValue || !(amount > 0)) return;
    const other = dialog.returnValue === "swap" ? byId("element-swap").value : undefined;
    const { formula, tc_k } = opened.found;
    change(write(put(opened, amount, other)), { formula, tc_k });
  });
}
