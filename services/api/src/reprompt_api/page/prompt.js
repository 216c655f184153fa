// The right panel: the rewritten prompt, each phrase linked to its reason; edited by hand where the person wants to.

import { $, COMMAND, fill, h, icon } from "./dom.js";
import { number, t } from "./i18n.js";
import { promptRuns } from "./marks.js";
import { choices, originOf, winners } from "./plan.js";
import { notice } from "./problems.js";
import { change, session, whenChanged } from "./session.js";
import { ask } from "./words.js";

const LEGEND = ["taste", "scene", "feeling", "said"];
let editing = false;
let onMake = () => {};

export function startPrompt({ make }) {
  onMake = make;
  whenChanged((changed) => {
    if ("answer" in changed || "generation" in changed) editing = false;
    draw();
  });
  draw();
}

/** The prompt to be made. */
export const promptNow = () => session.edited ?? session.answer?.prompt ?? "";

function draw() {
  const panel = $("prompt-panel");
  const { answer } = session;
  panel.setAttribute("aria-busy", String(session.asking));
  panel.classList.toggle("stale", session.stale);
  panel.classList.toggle("blank", answer === null);
  drawTools();
  if (editing) return; // what is being typed stays
  if (answer === null) {
    fill($("prompt"), steps());
  } else {
    const paragraph = text();
    fill($("prompt"), paragraph, below(paragraph));
  }
}

function steps() {
  return h(
    "ol",
    { class: "steps" },
    [1, 2, 3].map((n) =>
      h(
        "li",
        {},
        h("strong", {}, () => t(`step_${n}`)),
        h("span", {}, () => t(`step_${n}_text`)),
      ),
    ),
  );
}

function drawTools() {
  const { answer, edited } = session;
  const tool = (name, label, click) =>
    h(
      "button",
      { type: "button", class: "plain tool", on: { click } },
      icon(name),
      h("span", {}, () => t(label)),
    );
  fill(
    $("prompt-tools"),
    answer && edited !== null && h("span", { class: "badge" }, () => t("edited")),
    answer && (edited !== null || editing) && tool("undo", "edit_back", undo),
    answer && !editing && tool("edit", "edit", edit),
  );
}

function text() {
  const { answer, edited } = session;
  const prompt = edited ?? answer.prompt;
  const origins = new Map(
    choices(answer).map((row) => [row.id, winners(row)[0] ? originOf(winners(row)[0], answer) : null]),
  );
  const paragraph = h("p", { class: "prompt-text", lang: "en" });
  if (answer.mode === "off") return fill(paragraph, prompt);
  const place = (run, mark) => `${mark} ${run.toLowerCase()}`;
  const written = new Set(promptRuns(answer.prompt, answer).map(({ text: run, mark }) => place(run, mark)));
  for (const { text: run, mark } of promptRuns(prompt, answer)) {
    // what the person put in has no reason among those of the written prompt
    if (mark === null || !written.has(place(run, mark))) {
      paragraph.append(run);
    } else if (mark === "words") {
      paragraph.append(h("span", { class: "own-words", title: () => t("own_words") }, run));
    } else {
      const origin = origins.get(mark);
      paragraph.append(
        h(
          "a",
          {
            class: "phrase",
            href: `#why-${mark}`,
            "data-choice": mark,
            "data-about": origin?.about ?? "habit",
            "data-mention": origin?.mention ? answer.mentions.indexOf(origin.mention) : null,
            title: () => t(`choice_${mark}`),
          },
          run,
        ),
      );
    }
  }
  return paragraph;
}

function below(paragraph) {
  const { answer, edited } = session;
  const shown = new Set([...paragraph.querySelectorAll(".phrase")].map((phrase) => phrase.dataset.about));
  const usual = ["habit", "caption", "model"].some((about) => shown.has(about));
  return [
    answer.mode !== "off" &&
      answer.plan.exclude.length > 0 &&
      h("p", { class: "quiet left-out" }, () => t("left_out"), h("span", {}, ` ${answer.plan.exclude.join(", ")}`)),
    answer.mode !== "off" &&
      h(
        "ul",
        { class: "legend quiet" },
        LEGEND.filter((about) => shown.has(about)).map((about) =>
          h("li", { "data-about": about }, h("i", { class: "dot", "aria-hidden": "true" }), () => t(`from_${about}`)),
        ),
        usual &&
          h("li", { "data-about": "habit" }, h("i", { class: "dot", "aria-hidden": "true" }), () => t("from_habit")),
      ),
    h("p", { class: "quiet writer" }, () => writer(answer, edited)),
    answer.warnings.map((warning) => notice(() => warn(warning), "warning")),
    session.stale && notice(() => t("stale")),
  ];
}

function writer(answer, edited) {
  if (edited !== null || answer.refiner === "person") return t("by_person");
  if (answer.mode === "off") return t("by_nobody");
  const ms = number(Math.round(answer.timings_ms.total ?? 0));
  if (answer.refiner === "llm" && answer.trace) {
    return t("by_model", { model: answer.trace.model, server: answer.trace.server, ms });
  }
  return t("by_rules", { ms });
}

/** A warning in the visitor's language, where it is one that we know. */
function warn(text) {
  const language = /^The words seem to be in language '([\w-]+)'/.exec(text)?.[1];
  if (language) return t("warn_language", { language });
  if (text.startsWith("The prompt was edited by hand")) return t("warn_edited");
  const tokens = /may exceed (\d+) tokens/.exec(text)?.[1];
  if (tokens) return t("warn_long", { tokens });
  const cut = /^The words have more than (\d+) tokens/.exec(text)?.[1];
  if (cut) return t("warn_cut", { tokens: cut });
  return text;
}

function edit() {
  editing = true;
  const mirror = h("div", { class: "mirror", "aria-hidden": "true" });
  const box = h("textarea", { "aria-labelledby": "prompt-title", spellcheck: "false", lang: "en", maxlength: "2000" });
  box.value = promptNow();
  const grow = () => fill(mirror, box.value, "\u200b");
  box.addEventListener("input", () => {
    grow();
    const typed = box.value.trim();
    change({ edited: typed && typed !== session.answer.prompt ? typed : null });
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      done();
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      done();
      onMake();
    }
  });
  grow();
  const close = h("button", { type: "button", class: "secondary", on: { click: done } }, () => t("edit_done"));
  fill(
    $("prompt"),
    h("div", { class: "paper" }, mirror, box),
    h(
      "div",
      { class: "row end" },
      h("span", { class: "quiet grow" }, () => t("edit_hint", { key: COMMAND })),
      close,
    ),
  );
  drawTools();
  box.focus();
}

function done() {
  editing = false;
  draw();
  $("prompt-tools").querySelector("button:last-child").focus();
}

function undo() {
  editing = false;
  // a generation whose prompt was edited holds no other: it is written anew
  if (session.answer.refiner === "person") ask();
  else change({ edited: null });
  $("prompt-tools").querySelector("button:last-child")?.focus();
}
