// A or B? The same words with and without rewriting, heard blind; what was what is told after the vote.

import { Problem, call, file } from "./api.js";
import { $, announce, fill, h, sleep } from "./dom.js";
import { t } from "./i18n.js";
import { settingsNow } from "./make.js";
import { hush, player } from "./player.js";
import { notice, showProblem, showWait } from "./problems.js";
import { session, whenChanged } from "./session.js";
import { wordsNow } from "./words.js";

const MOST_SECONDS = 60;
const ENOUGH_S = 2; // of each must have been heard before a vote
const POLL_MS = 600;
let running = null;

export function startCompare() {
  whenChanged((changed) => {
    if ("answer" in changed && session.answer && $("compare").hidden) drawOffer();
    if ("answer" in changed) $("compare").hidden = session.answer === null && running === null;
  });
}

function heading() {
  return h(
    "div",
    { class: "section-head" },
    h("h2", { id: "compare-title" }, () => t("compare")),
  );
}

function drawOffer() {
  const place = h("div");
  const begin = { type: "button", class: "secondary", id: "compare-start", on: { click: () => start(place) } };
  fill(
    $("compare"),
    h(
      "div",
      { class: "offer" },
      h(
        "div",
        {},
        heading(),
        h("p", { class: "compare-text" }, () => t("compare_text")),
      ),
      h("button", begin, () => t("compare_start")),
    ),
    place,
  );
}

async function start(place) {
  fill(place);
  const words = wordsNow();
  if (!/[\p{L}\p{N}]/u.test(words)) {
    showProblem(place, new Problem("empty"));
    return $("words").focus();
  }
  const { seconds, seed, generator } = settingsNow();
  try {
    const comparison = await call("/v1/comparisons", {
      method: "POST",
      json: { words, generator, seed, seconds: Math.min(MOST_SECONDS, Math.max(1, seconds || 10)) },
      onWait: (s) => showWait(place, s),
    });
    history.pushState(null, "", `#c=${comparison.id}`);
    await watch(comparison);
  } catch (problem) {
    showProblem(place, problem, () => start(place));
  }
}

/**
 * Opens a comparison by its id, as a link gives it.
 * @param onWords called with the words that are compared
 */
export async function openComparison(id, onWords) {
  $("compare").hidden = false;
  const place = h("div");
  fill($("compare"), heading(), place);
  try {
    const comparison = await call(`/v1/comparisons/${encodeURIComponent(id)}`);
    onWords(comparison.words);
    await watch(comparison);
  } catch (problem) {
    showProblem(place, problem, () => openComparison(id, onWords));
  }
}

/** Waits until both can be heard. */
async function watch(comparison) {
  running?.abort(new DOMException("another one", "AbortError"));
  const mine = (running = new AbortController());
  hush();
  const place = h("div");
  if (!comparison.ready) {
    const bar = h(
      "div",
      { class: "progress unknown", role: "progressbar", "aria-label": () => t("progress") },
      h("i", { "aria-hidden": "true" }),
    );
    fill(
      $("compare"),
      heading(),
      bar,
      h("p", { class: "progress-text" }, () => t("compare_making")),
      place,
    );
    announce(t("compare_making"));
  }
  for (let wait = POLL_MS; !comparison.ready; wait = Math.min(4000, 1.3 * wait)) {
    const failed = [comparison.a, comparison.b].some((side) => side.status === "failed" || side.status === "cancelled");
    if (failed)
      return fill(
        $("compare"),
        heading(),
        notice(() => t("compare_failed"), "warning"),
        again(),
      );
    try {
      await sleep(wait, mine.signal);
      comparison = await call(`/v1/comparisons/${encodeURIComponent(comparison.id)}`, { signal: mine.signal });
    } catch (problem) {
      if (mine.signal.aborted) return;
      return showProblem(place, problem, () => watch(comparison));
    }
  }
  if (mine.signal.aborted) return;
  drawBoth(comparison);
}

function drawBoth(comparison) {
  const heard = { a: 0, b: 0 };
  const place = h("div");
  const hint = h("p", { class: "quiet", id: "vote-hint" }, () => t("vote_hint"));
  const result = h("div", { class: "result", tabindex: "-1" });
  const tell = { a: h("div", { class: "told" }), b: h("div", { class: "told" }) };
  const button = (choice) =>
    h(
      "button",
      {
        type: "button",
        class: "secondary",
        disabled: true,
        "aria-describedby": "vote-hint",
        on: { click: () => vote(choice) },
      },
      () => t(`vote_${choice}`),
    );
  const buttons = { a: button("a"), none: button("none"), b: button("b") };
  const votes = h(
    "div",
    { class: "votes-row" },
    hint,
    h("div", { class: "vote-buttons" }, buttons.a, buttons.none, buttons.b),
    place,
  );

  function listen(side, seconds) {
    heard[side] = seconds;
    const enough = Math.min(ENOUGH_S, comparison.seconds / 2);
    if (comparison.choice !== null || heard.a < enough || heard.b < enough) return;
    for (const b of Object.values(buttons)) b.disabled = false;
    fill(hint, () => t("vote_now"));
  }

  async function vote(choice) {
    for (const b of Object.values(buttons)) b.disabled = true;
    try {
      comparison = await call(`/v1/comparisons/${encodeURIComponent(comparison.id)}/vote`, {
        method: "POST",
        json: { choice },
      });
      reveal();
    } catch (problem) {
      // a vote from elsewhere stands: then that one is told
      const now = await call(`/v1/comparisons/${encodeURIComponent(comparison.id)}`).catch(() => null);
      if (now?.choice) {
        comparison = now;
        return reveal();
      }
      for (const b of Object.values(buttons)) b.disabled = false;
      showProblem(place, problem);
    }
  }

  function reveal() {
    votes.remove();
    for (const side of ["a", "b"]) {
      fill(
        tell[side],
        h("p", { class: "told-name" }, () => t(comparison[side].is_rewritten ? "with_rewriting" : "without_rewriting")),
        h(
          "p",
          { class: "told-prompt", lang: comparison[side].is_rewritten ? "en" : null },
          comparison[side].prompt ?? "",
        ),
      );
      sides[side].classList.toggle("chosen", comparison.choice === side);
    }
    fill(
      result,
      h("p", { class: "verdict" }, () => t(`preferred_${comparison.preferred}`)),
      again(),
    );
    announce(t(`preferred_${comparison.preferred}`));
    result.focus({ preventScroll: true });
  }

  const sides = Object.fromEntries(
    ["a", "b"].map((side) => [
      side,
      h(
        "div",
        { class: "side" },
        h("h3", {}, side.toUpperCase()),
        player({
          name: () => side.toUpperCase(),
          seconds: comparison.seconds,
          load: (onWait) => file(comparison[side].audio, { onWait }),
          onHeard: (seconds) => listen(side, seconds),
        }),
        tell[side],
      ),
    ]),
  );
  fill(
    $("compare"),
    heading(),
    h(
      "p",
      { class: "compare-words" },
      h("span", { class: "quiet" }, () => t("which_fits")),
      h("q", {}, comparison.words),
    ),
    comparison.is_preview && notice(() => t("compare_preview"), "preview"),
    h("div", { class: "sides" }, sides.a, sides.b),
    votes,
    result,
  );
  if (comparison.choice !== null) reveal();
  else announce(t("compare_ready"));
}

function again() {
  return h(
    "button",
    {
      type: "button",
      class: "secondary",
      on: {
        click: () => {
          hush();
          drawOffer();
          $("compare-start").focus();
        },
      },
    },
    () => t("compare_again"),
  );
}
