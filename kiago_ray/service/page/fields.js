// Fields of a form that hold several values: elements as chips, shares of elements as rows.

import { byId, node } from "./dom.js";
import { INDEX, SYMBOLS } from "./elements.js";

// Elements typed one after another; Enter, a comma or a space adds, Backspace in the empty field takes back. What is
// left in the field counts, but becomes no chip when the field is left: the button that is pressed then would move away.
export function chips(id) {
  const input = byId(id);
  const list = node("ul", { class: "chips", "aria-label": input.labels[0].textContent, hidden: true });
  const wrong = node("p", { class: "wrong", role: "status" });
  const held = new Set();
  input.before(list);
  input.after(wrong);

  function draw() {
    list.hidden = held.size === 0;
    list.replaceChildren(
      ...[...held].map((symbol) => {
        const remove = () => {
          held.delete(symbol);
          draw();
          input.focus();
        };
        const cross = node("span", { "aria-hidden": "true" }, " ×");
        const attributes = { type: "button", "aria-label": `Remove ${symbol}`, onclick: remove };
        return node("li", {}, node("button", attributes, symbol, cross));
      }),
    );
  }

  // The elements that the field holds; what is none is named.
  function read() {
    const given = input.value.split(/[\s,;]+/).filter(Boolean);
    const missing = given.filter((each) => !(each in INDEX));
    input.setAttribute("aria-invalid", missing.length > 0);
    wrong.textContent = missing.length ? `There is no element ${missing.join(", ")}.` : "";
    return [given.filter((each) => each in INDEX), missing];
  }

  function take() {
    const [found, missing] = read();
    found.forEach((each) => held.add(each));
    input.value = missing.join(" ");
    draw();
  }

  input.addEventListener("keydown", (event) => {
    if (["Enter", ",", " "].includes(event.key) && input.value.trim()) {
      event.preventDefault();
      take();
    } else if (event.key === "Backspace" && !input.value && held.size) {
      held.delete([...held].pop());
      draw();
    }
  });
  input.addEventListener("change", read);
  return () => {
    take();
    return [...held, ...input.value.split(" ").filter(Boolean)]; // the service names what is wrong
  };
}

// Rows of an element and its share, as [symbol, share] pairs of text.
export function shares(id) {
  const box = byId(id);
  const add = box.querySelector("button");

  function row() {
    const symbol = node("input", { "aria-label": "Element", list: "symbols", spellcheck: "false", placeholder: "O" });
    const share = node("input", { "aria-label": "Share of all atoms", placeholder: "0.25 or 1/4" });
    const remove = () => {
      made.remove();
      add.focus();
    };
    const made = node("div", { class: "share" }, symbol, share, node("button", { type: "button", onclick: remove }, "Remove"));
    add.before(made);
    symbol.focus();
  }

  add.addEventListener("click", row);
  return () =>
    [...box.querySelectorAll(".share")]
      .map((each) => [...each.querySelectorAll("input")].map((input) => input.value.trim()))
      .filter((pair) => pair.some(Boolean));
}

export const symbolList = () => SYMBOLS.map((value) => node("option", { value }));
