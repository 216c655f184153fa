// The API key, where the service asks for one: kept for this tab alone.

import { $, fill, h } from "./dom.js";
import { t } from "./i18n.js";

const NAME = "api-key";
let held = null;
let asking = null;

export function apiKey() {
  try {
    held ??= sessionStorage.getItem(NAME);
  } catch {
    // then it is held in memory
  }
  return held;
}

function keep(key) {
  held = key;
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // as above
  }
}

/**
 * Asks the visitor for the key, once for all who wait for it.
 * @param refused the key that was not accepted, or null
 * @returns whether there is another key to try
 */
export function askForKey(refused) {
  if (apiKey() !== refused) return Promise.resolve(true); // it was given meanwhile
  asking ??= dialog(refused !== null).finally(() => {
    asking = null;
  });
  return asking;
}

function dialog(wrong) {
  const element = $("key-dialog");
  const before = document.activeElement;
  return new Promise((resolve) => {
    const input = h("input", {
      id: "key-input",
      type: "password",
      autocomplete: "off",
      spellcheck: "false",
      "aria-describedby": "key-why",
    });
    let given = false;
    const form = h(
      "form",
      {
        on: {
          submit: (event) => {
            event.preventDefault();
            const key = input.value.trim();
            if (!key) return input.focus();
            keep(key);
            given = true;
            element.close();
          },
        },
      },
      h("h2", { id: "key-title" }, () => t("key_title")),
      h("p", { id: "key-why" }, () => t(wrong ? "key_wrong" : "key_why")),
      h("label", { for: "key-input" }, () => t("key_label")),
      input,
      h(
        "div",
        { class: "row end" },
        h("button", { type: "button", class: "plain", on: { click: () => element.close() } }, () => t("not_now")),
        h("button", { type: "submit", class: "primary" }, () => t("key_use")),
      ),
    );
    fill(element, form);
    element.addEventListener(
      "close",
      () => {
        fill(element);
        before?.focus?.();
        resolve(given);
      },
      { once: true },
    );
    element.showModal();
    input.focus();
  });
}
