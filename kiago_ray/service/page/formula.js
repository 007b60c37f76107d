// Formulas as people type them: read well enough to help while typing. The service has the last word.

import { INDEX } from "./elements.js";
import { node } from "./dom.js";

const TOKEN = /([A-Z][a-z]?)|(\d+\.?\d*|\.\d+)|([([{])|([)\]}])|(\s+)|(.)/gu;
const CLOSING = { "(": ")", "[": "]", "{": "}" };
const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";

const plain = (text) =>
  text
    .replace(/[₀-₉]/g, (digit) => SUBSCRIPTS.indexOf(digit))
    .replace(/[\u200b\ufeff]/g, " ")
    .replace(/[\u2024\uff0e]/g, ".");

// {amounts: Map of symbol to amount} or {error: a sentence}.
export function parse(text, known) {
  const open = [{ amounts: new Map(), close: "" }];
  const missing = new Set(); // such symbols do not exist
  const unknown = new Set(); // to the models
  let part = null;
  const add = () => {
    const group = open[open.length - 1].amounts;
    for (const [symbol, amount] of part ?? []) group.set(symbol, (group.get(symbol) ?? 0) + amount);
    part = null;
  };
  for (const [token, symbol, number, opening, closing, space] of plain(text).matchAll(TOKEN)) {
    if (space) continue;
    if (number) {
      if (!part) return { error: `The amount ${number} follows no element.` };
      if (!Number(number)) return { error: "An amount of 0 means nothing: leave the element out." };
      part = new Map([...part].map(([name, amount]) => [name, amount * Number(number)]));
      add();
      continue;
    }
    add();
    if (symbol) {
      if (!(symbol in INDEX)) missing.add(symbol);
      else if (known && !known.has(symbol)) unknown.add(symbol);
      part = new Map([[symbol, 1]]);
    } else if (opening) {
      open.push({ amounts: new Map(), close: CLOSING[opening] });
    } else if (closing) {
      const group = open.length > 1 ? open.pop() : null;
      if (!group || group.close !== closing) return { error: `No bracket is open for ${closing}.` };
      part = group.amounts;
    } else {
      return { error: `“${token}” can't be read; a formula is elements and amounts, such as La1.85Sr0.15CuO4.` };
    }
  }
  add();
  if (missing.size) return { error: `There is no element ${[...missing].join(", ")}.` };
  if (unknown.size) return { error: `The models don't know ${[...unknown].join(", ")}.` };
  if (open.length > 1) return { error: "A bracket is never closed." };
  return open[0].amounts.size ? { amounts: open[0].amounts } : { error: "" };
}

const decimal = (amount) => (amount === 1 ? "" : String(Number(amount.toPrecision(6))));

export const write = (amounts) => [...amounts].map(([symbol, amount]) => symbol + decimal(amount)).join("");

// The general formula of a series, La2-xSrxCuO4, with subscripts that any text can hold.
export const seriesText = (text) =>
  text.replace(/([A-Z][a-wyz]?)([-+.\dx]+)/g, (_, symbol, amount) =>
    symbol + amount.replace(/[-+\dx]/g, (sign) => "₀₁₂₃₄₅₆₇₈₉₊₋ₓ"["0123456789+-x".indexOf(sign)]),
  );

// A reaction or a sum, whose formulas have their amounts as subscripts: "2 LaCuO3 → La2O3 + 2 CuO".
export const reaction = (text) =>
  node("span", {}, ...text.split(/(\s+)/).map((part) => (/^[A-Z]/.test(part) ? formulaNode(part) : part)));

// The formula with its amounts as subscripts.
export function formulaNode(text) {
  const shown = node("span", { class: "formula" });
  for (const piece of text.split(/(\d+\.?\d*|\.\d+)/)) {
    if (piece) shown.append(/\d/.test(piece) ? node("sub", {}, piece) : piece);
  }
  return shown;
}
