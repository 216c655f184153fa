// The left panel: the person's words, with what was understood of them.

import { Problem, call } from "./api.js";
import { $, COMMAND, announce, fill, h } from "./dom.js";
import { number, named, t } from "./i18n.js";
import { wordRuns } from "./marks.js";
import { aboutOf } from "./plan.js";
import { showProblem, showWait } from "./problems.js";
import { change, session, whenChanged } from "./session.js";

const MOST = 2000;
const MODES = ["rewrite", "append", "off"];
const EXAMPLES = 4;

let mode = "rewrite";
let asked = null; // the request under way

export const wordsNow = () => $("words").value.trim();
export const modeNow = () => mode;

export function startWords() {
  fill(
    $("mode"),
    MODES.map((name) =>
      h(
        "label",
        { title: () => t(`mode_${name}_hint`) },
        h("input", {
          type: "radio",
          name: "mode",
          value: name,
          checked: name === mode,
          on: { change: () => chooseMode(name) },
        }),
        h("span", {}, () => t(`mode_${name}`)),
      ),
    ),
  );
  fill($("words-keys"), () => t("keys_hint", { key: COMMAND }));
  const box = $("words");
  box.addEventListener("input", () => {
    change({ stale: session.answer !== null && wordsNow() !== session.answer.words.trim() });
    drawWords();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      ask();
    }
  });
  $("ask").addEventListener("click", () => ask());
  whenChanged((changed) => {
    if ("answer" in changed || "stale" in changed || "asking" in changed) drawWords();
  });
  drawWords();
}

/** Puts words and mode there, without asking. */
export function setWords(words, wanted) {
  $("words").value = words;
  mode = wanted;
  $("mode").querySelector(`[value="${wanted}"]`).checked = true;
}

function chooseMode(name) {
  mode = name;
  if (session.answer) ask();
}

/**
 * Asks for the prompt of the words that stand there.
 * @returns the answer; null where there is none, and the page says why
 */
export async function ask() {
  const words = wordsNow();
  const place = $("words-notice");
  fill(place);
  if (!/[\p{L}\p{N}]/u.test(words)) {
    showProblem(place, new Problem("empty"));
    $("words").focus();
    return null;
  }
  asked?.abort(new DOMException("asked anew", "AbortError"));
  const mine = (asked = new AbortController());
  change({ asking: true });
  try {
    const answer = await call("/v1/prompts", {
      method: "POST",
      json: { words, mode },
      signal: mine.signal,
      onWait: (seconds) => showWait(place, seconds),
    });
    if (mine !== asked) return null;
    change({ answer, edited: null, stale: wordsNow() !== words, asking: false });
    announce(t("prompt_ready"));
    return answer;
  } catch (problem) {
    if (mine !== asked || mine.signal.aborted) return null; // another question is under way
    change({ asking: false });
    showProblem(place, problem, ask);
    return null;
  }
}

function drawWords() {
  const text = $("words").value;
  // while words are typed, what was understood stays marked where it still stands
  const { answer, stale } = session;
  const runs = answer ? wordRuns(text, answer) : [{ text, mark: null }];
  fill(
    $("words-mirror"),
    runs.map(({ text: run, mark }) => (mark === null ? run : h("mark", markProps(mark, answer), run))),
    "\u200b", // an empty last line has its height
  );
  const count = [...text].length;
  const counter = $("words-count");
  counter.hidden = count < 0.75 * MOST;
  counter.classList.toggle("too-many", count > MOST);
  fill(counter, () => t("characters", { n: number([...$("words").value].length), most: number(MOST) }));
  $("ask").disabled = count > MOST;
  $("ask").setAttribute("aria-busy", String(session.asking));
  // one main action at a time: once the prompt stands, that is to make the music
  $("ask").className = answer && !stale ? "secondary" : "primary";
  fill($("words-below"), answer && text ? understood(answer) : examples());
}

function markProps({ mention, vote }, answer) {
  if (vote) return { "data-about": "said" };
  const found = answer.mentions[mention];
  return {
    "data-about": aboutOf(found),
    "data-mention": mention,
    class: found.negated ? "negated" : "",
  };
}

function understood(answer) {
  if (answer.mentions.length === 0) return h("p", { class: "quiet heard-none" }, () => t("heard_nothing"));
  return h(
    "div",
    { class: "heard" },
    h("h3", { class: "quiet" }, () => t("heard")),
    h(
      "ul",
      { class: "chips" },
      once(answer.mentions).map(([m, i]) =>
        h(
          "li",
          { class: "chip", "data-about": aboutOf(m), "data-mention": i },
          h("i", { class: "dot", "aria-hidden": "true" }),
          h("span", {}, () => (m.negated ? `${t("without")} ${m.text}` : m.text)),
          h("span", { class: "quiet" }, () => meaning(m)),
        ),
      ),
    ),
  );
}

/** The mentions with their numbers, each said once however often it stands there. */
function once(mentions) {
  const seen = new Set();
  return mentions
    .map((m, i) => [m, i])
    .filter(([m]) => {
      const key = `${m.concept} ${m.kind} ${m.negated} ${m.text.toLowerCase()}`;
      return !seen.has(key) && seen.add(key);
    });
}

/** What a mention was taken for: its kind, and the concept where the words do not say it. */
function meaning(mention) {
  const kind = named("kind", mention.kind);
  if (mention.via === "nearest") return `≈ ${mention.concept}, ${kind}`;
  return kind;
}

function examples() {
  return h(
    "div",
    { class: "examples" },
    h("h3", { class: "quiet" }, () => t("examples")),
    h(
      "ul",
      { class: "chips" },
      Array.from({ length: EXAMPLES }, (_, i) =>
        h(
          "li",
          {},
          h(
            "button",
            {
              type: "button",
              class: "chip",
              on: {
                click: () => {
                  $("words").value = t(`example_${i + 1}`);
                  ask();
                },
              },
            },
            () => t(`example_${i + 1}`),
          ),
        ),
      ),
    ),
  );
}
