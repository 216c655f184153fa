// Why this music: every choice opens to the votes that it came from, with their sources.

import { $, fill, h, icon } from "./dom.js";
import { currentLanguage, decimals, named, t } from "./i18n.js";
import { choices, isOutvoted, originOf, partsOf, winners } from "./plan.js";
import { notice } from "./problems.js";
import { senses } from "./senses.js";
import { session, whenChanged } from "./session.js";
import { told } from "./sayings.js";

const TERMS = new Set(["key", "register", "articulation", "dynamics", "harmony"]); // values that we have words for
const SURE = 10; // the weight of what the person said

export function startReasons() {
  whenChanged((changed) => {
    if ("answer" in changed || "edited" in changed) draw();
  });
}

/** Opens a choice and goes there. */
export function openChoice(id) {
  const details = $(`why-${id}`);
  if (!details) return;
  details.open = true;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  details.scrollIntoView({ block: "center", behavior: calm ? "auto" : "smooth" });
  details.querySelector("summary").focus({ preventScroll: true });
}

function draw() {
  const { answer } = session;
  const place = $("why");
  place.hidden = answer === null;
  if (answer === null) return;
  const isEdited = session.edited !== null && session.edited !== answer.prompt; // and was not made yet
  fill(
    place,
    h(
      "div",
      { class: "section-head" },
      h("h2", { id: "why-title" }, () => t("why")),
    ),
    isEdited && notice(() => t("why_edited")),
    h(
      "div",
      { class: "why-columns" },
      answer.mode === "off"
        ? h("p", { class: "why-off" }, () => t("why_off"))
        : h(
            "div",
            { class: "choices" },
            choices(answer).map((row) => choice(row, answer)),
          ),
      senses(answer),
    ),
  );
}

function choice(row, answer) {
  const first = winners(row)[0];
  const origin = first ? originOf(first, answer) : null;
  return h(
    "details",
    {
      class: "choice",
      id: `why-${row.id}`,
      "data-about": origin?.about ?? "habit",
      "data-mention": origin?.mention ? answer.mentions.indexOf(origin.mention) : null,
    },
    h(
      "summary",
      {},
      h("span", { class: "choice-name" }, () => t(`choice_${row.id}`)),
      h("span", { class: "choice-value" }, ...values(row)),
      h(
        "span",
        { class: "choice-because" },
        h("i", { class: "dot", "aria-hidden": "true" }),
        h("span", {}, () => inShort(row, first, answer)),
      ),
      icon("chevron"),
    ),
    h(
      "ul",
      { class: "votes" },
      row.votes.map((vote) => item(vote, row, answer)),
    ),
    h("p", { class: "quiet statuses" }, () => [...new Set(row.votes.map((v) => v.status))].map(meaning).join(" ")),
  );
}

/** Why, in a line: the strongest vote, or what the row is about. */
function inShort(row, first, answer) {
  if (row.id === "also") return t("also_text");
  return first ? told(partsOf(first).because, answer.mentions) : "";
}

const meaning = (status) => `${named("status", status)}: ${t(`status_${status}_text`)}`;

/** What was chosen: words of ours where we have them, else the model's English. */
function values(row) {
  if (TERMS.has(row.id)) return row.values.map((value) => h("span", {}, () => term(value)));
  return [h("span", { lang: "en" }, row.values.join(", "))];
}

/** "A minor" -> "la menor" in Spanish; a word that is in no dictionary stays as it is. */
function term(value) {
  if (currentLanguage() === "en") return value;
  return value
    .split(" ")
    .map((word) => named("term", word))
    .join(" ");
}

function item(vote, row, answer) {
  const { because, disagreement } = partsOf(vote);
  const outvoted = isOutvoted(vote);
  const share = vote.weight >= SURE ? 1 : Math.min(1, vote.weight);
  const bar = h("i", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", share);
  // one value may be voted for many times; which of several it was is said
  const shown = row.values.length !== 1 || outvoted || vote.value !== row.values[0] ? vote.value : "";
  const about = row.id === "also" ? `${named("choice", vote.parameter)}: ` : "";
  return h(
    "li",
    { class: outvoted ? "vote outvoted" : "vote", "data-about": originOf(vote, answer).about },
    h(
      "div",
      { class: "weight" },
      bar,
      h("span", {}, () => (vote.weight >= SURE ? t("weight_sure") : decimals(vote.weight, 2))),
    ),
    h(
      "div",
      { class: "vote-text" },
      h(
        "p",
        {},
        shown && h("strong", { lang: "en" }, `${about}${shown}`),
        shown && " – ",
        h("span", {}, () => told(because, answer.mentions)),
        outvoted && h("em", {}, () => ` · ${t("outvoted")}`),
      ),
      disagreement &&
        h(
          "p",
          { class: "disagreement" },
          h("span", {}, () => t("disagree")),
          h("span", { lang: "en" }, ` ${disagreement}`),
        ),
      h(
        "p",
        { class: "source" },
        h("span", { class: "status", "data-status": vote.status }, () => named("status", vote.status)),
        source(vote),
      ),
    ),
  );
}

function source(vote) {
  if (!vote.source) return null;
  if (vote.status === "caption") return h("span", {}, () => t("from_corpus", { corpus: vote.source }));
  if (!/^10\.\d{4,9}\/\S+$/.test(vote.doi)) return h("span", { lang: "en" }, vote.source);
  return h(
    "a",
    {
      href: `https://doi.org/${vote.doi.split("/").map(encodeURIComponent).join("/")}`,
      target: "_blank",
      rel: "noopener noreferrer",
      lang: "en",
    },
    vote.source,
    icon("out"),
    h("span", { class: "visually-hidden", lang: currentLanguage() }, () => ` (${t("new_tab")})`),
  );
}
