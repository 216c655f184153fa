// English and Spanish. Texts on the page are bound to functions, so that they follow when the language is switched.

import { english } from "./english.js";
import { spanish } from "./spanish.js";

const DICTIONARIES = { en: english, es: spanish };
const MARK = "data-said";
const bindings = new WeakMap(); // element -> Map(slot -> function)

let language = "en";

export const currentLanguage = () => language;

/** The text of a key; `{name}` in it is replaced by the value of that name. */
export function t(key, values = {}) {
  const text = DICTIONARIES[language][key] ?? english[key] ?? key;
  if (typeof text === "function") return text(values);
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The text of a key in a family of keys, such as `kind_food`; the plain name where there is none. */
export function named(family, name) {
  const key = `${family}_${name}`;
  return key in DICTIONARIES[language] ? t(key) : String(name);
}

export function number(value, options = {}) {
  return new Intl.NumberFormat(language, options).format(value).replace("-", "−");
}

/** The text of a key that one language alone has, as what the server says in English anyway; else null. */
export const own = (key, values) => (key in DICTIONARIES[language] ? t(key, values) : null);

/** With so many decimals, always. */
export const decimals = (value, digits) =>
  number(value, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A value of a scale with two ends: +0.24, −0.50. */
export const signed = (value) =>
  number(value, { signDisplay: "exceptZero", minimumFractionDigits: 2, maximumFractionDigits: 2 });

export function when(iso) {
  const at = new Date(iso);
  const today = at.toDateString() === new Date().toDateString();
  const options = today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(language, options).format(at);
}

/** Minutes and seconds of a sound: 1:05. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 0.05));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/**
 * Keeps a text of an element in the visitor's language.
 * @param slot the name of an attribute, or a text node in the element
 */
export function bind(element, slot, make) {
  if (!bindings.has(element)) bindings.set(element, new Map());
  bindings.get(element).set(slot, make);
  element.setAttribute(MARK, "");
  say(slot, element, make);
}

function say(slot, element, make) {
  if (slot instanceof Text) slot.data = make();
  else element.setAttribute(slot, make());
}

/** Binds what index.html marks: data-t="key" for its text, data-t-NAME="key" for an attribute. */
export function bindPage(root = document) {
  for (const element of root.querySelectorAll("*")) {
    for (const { name, value } of [...element.attributes]) {
      if (name === "data-t") {
        const text = document.createTextNode("");
        element.replaceChildren(text);
        bind(element, text, () => t(value));
      } else if (name.startsWith("data-t-")) {
        bind(element, name.slice(7), () => t(value));
      }
    }
  }
}

export function speak(wanted) {
  language = wanted in DICTIONARIES ? wanted : "en";
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll(`[${MARK}]`)) {
    for (const [slot, make] of bindings.get(element) ?? []) {
      if (slot instanceof Text && slot.parentNode !== element) continue; // replaced since
      say(slot, element, make);
    }
  }
}

/** The visitor's language, by what the browser says. */
export function preferred() {
  return (navigator.languages ?? [navigator.language]).map((l) => l.slice(0, 2)).find((l) => l in DICTIONARIES) ?? "en";
}
