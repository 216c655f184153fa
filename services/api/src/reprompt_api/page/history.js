// What was made before: newest first, opened or deleted from here.

import { call } from "./api.js";
import { $, announce, fill, h, icon } from "./dom.js";
import { number, t, when } from "./i18n.js";
import { showProblem } from "./problems.js";
import { session, whenChanged } from "./session.js";

const PAGE = 6; // at first
const MORE = 20;
let items = [];
let next = null;
let onDeleted = () => {};

export function startHistory({ deleted }) {
  onDeleted = deleted;
  fill(
    $("history"),
    h(
      "div",
      { class: "section-head" },
      h("h2", { id: "history-title" }, () => t("history")),
    ),
    h("ul", { class: "made", id: "history-list" }),
    h("div", { id: "history-notice" }),
    h("button", { type: "button", class: "secondary", id: "history-more", hidden: true, on: { click: more } }, () =>
      t("more"),
    ),
  );
  whenChanged((changed) => "generation" in changed && mark());
}

/** Looks again at the newest page. */
export async function refreshHistory() {
  try {
    const page = await call(`/v1/generations?limit=${PAGE}`);
    items = page.items;
    next = page.next;
    fill($("history-notice"));
    draw();
  } catch (problem) {
    $("history").hidden = false;
    showProblem($("history-notice"), problem, refreshHistory);
  }
}

async function more() {
  try {
    const page = await call(`/v1/generations?limit=${MORE}&cursor=${encodeURIComponent(next)}`);
    const first = items.length;
    const known = new Set(items.map((g) => g.id));
    items = [...items, ...page.items.filter((g) => !known.has(g.id))];
    next = page.next;
    draw();
    $("history-list").children[first]?.querySelector("a").focus();
  } catch (problem) {
    showProblem($("history-notice"), problem, more);
  }
}

function draw() {
  $("history").hidden = items.length === 0;
  $("history-more").hidden = next === null;
  fill($("history-list"), items.map(row));
  mark();
}

function mark() {
  for (const link of $("history-list").querySelectorAll("a")) {
    if (link.dataset.id === session.generation?.id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function row(generation) {
  const { request } = generation;
  const tools = h("div", { class: "made-tools" });
  const element = h(
    "li",
    {},
    h(
      "a",
      { href: `#g=${generation.id}`, "data-id": generation.id },
      h("span", { class: "made-words" }, request.words),
      h(
        "span",
        { class: "quiet made-details" },
        h("time", { datetime: generation.created_at }, () => when(generation.created_at)),
        h("span", {}, () => t("made_length", { n: number(request.takes), s: number(request.seconds) })),
        h("span", {}, () => t(`place_${generation.generator}`)),
        generation.status !== "succeeded" &&
          h("span", { class: `state ${generation.status}` }, () => t(`state_${generation.status}`)),
      ),
    ),
    tools,
  );
  drawTools(generation, tools);
  return element;
}

function drawTools(generation, tools) {
  const name = () => generation.request.words.slice(0, 60);
  const ask = () => {
    const no = h(
      "button",
      {
        type: "button",
        class: "plain",
        on: { click: () => (drawTools(generation, tools), tools.querySelector("button").focus()) },
      },
      () => t("keep"),
    );
    const yes = h("button", { type: "button", class: "plain danger", on: { click: () => remove(generation) } }, () =>
      t("delete_yes"),
    );
    fill(tools, yes, no);
    no.focus();
  };
  fill(
    tools,
    h(
      "button",
      {
        type: "button",
        class: "icon-button",
        "aria-label": () => t("delete", { name: name() }),
        title: () => t("delete_short"),
        on: { click: ask },
      },
      icon("trash"),
    ),
  );
}

async function remove(generation) {
  const path = `/v1/generations/${encodeURIComponent(generation.id)}`;
  const at = items.findIndex((g) => g.id === generation.id);
  try {
    // one that is still being made is cancelled by the first, removed by the second
    if ((await call(path, { method: "DELETE" })) !== null) return await refreshHistory();
  } catch (problem) {
    if (problem.status !== 404) return showProblem($("history-notice"), problem);
  }
  items = items.filter((g) => g.id !== generation.id);
  draw();
  announce(t("deleted"));
  onDeleted(generation);
  const links = $("history-list").querySelectorAll("a");
  (links[Math.min(at, links.length - 1)] ?? $("words")).focus();
}
