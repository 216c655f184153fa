// Elements. Data reaches the page as text nodes and attributes alone: nothing here parses HTML.

import { bind } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element.
 * @param tag its name
 * @param props attributes; `on`: listeners by event; a function: a text that follows the language
 * @param children elements, texts, functions (texts that follow the language); null and false are left out
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (typeof value === "function") {
      bind(element, name, value);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  fill(element, ...children);
  return element;
}

/** Replaces what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren();
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    if (typeof child === "function") {
      const text = document.createTextNode("");
      element.append(text);
      bind(element, text, child);
    } else {
      element.append(child);
    }
  }
  return element;
}

/** One of the icons that stand in index.html; decoration, so its button needs a label. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** The key of shortcuts on this machine. */
export const COMMAND = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘" : "Ctrl";

export const $ = (id) => document.getElementById(id);

/** Tells a screen reader, without moving anything. */
export function announce(text) {
  $("announcer").textContent = text;
}

/** Waits; ends early, with the signal's reason, when it is aborted. */
export function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** What the visitor chose earlier, where the browser lets us keep it. */
export const kept = {
  get(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      if (value === null) localStorage.removeItem(name);
      else localStorage.setItem(name, value);
    } catch {
      // then it holds until the page is left
    }
  },
};
