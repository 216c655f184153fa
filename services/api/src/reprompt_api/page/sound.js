// The generation on show: its progress while it is made, then its takes.

import { call, file } from "./api.js";
import { $, announce, fill, h, icon } from "./dom.js";
import { decimals, number, own, t } from "./i18n.js";
import { happenings } from "./events.js";
import { hush, player } from "./player.js";
import { notice, showProblem } from "./problems.js";
import { promptNow } from "./prompt.js";
import { change, session, whenChanged } from "./session.js";

const FINAL = new Set(["succeeded", "failed", "cancelled"]);
let following = null; // stops listening to the events of the last one
let onEnd = () => {};

export function startSound({ ended }) {
  onEnd = ended;
  whenChanged(drawOf);
}

/** Says what the sound was made of, once the words or the prompt on show are others. */
function drawOf() {
  const place = $("sound-of");
  const { generation } = session;
  if (!place || !generation) return;
  place.hidden = generation.prompt === promptNow();
  fill(place, () => t("sound_of", { words: generation.request.words }));
}

/** Shows a generation and follows it to its end. */
export function showSound(generation) {
  following?.abort(new DOMException("another one", "AbortError"));
  hush();
  if (generation === null) {
    $("sound").hidden = true;
    return;
  }
  $("sound").hidden = false;
  if (FINAL.has(generation.status)) return drawEnd(generation);
  const mine = (following = new AbortController());
  const view = progressView(generation);
  follow(generation, view, mine.signal);
}

function head(generation, ...tools) {
  return [
    h(
      "div",
      { class: "section-head" },
      h("h2", { id: "sound-title" }, () => t(generation.is_preview ? "sound_preview" : "sound")),
      ...tools,
    ),
    h("p", { class: "quiet", id: "sound-of", hidden: true }),
  ];
}

function progressView(generation) {
  const takes = generation.request.takes;
  const text = h("p", { class: "progress-text" });
  const fillBar = h("i", { "aria-hidden": "true" });
  const bar = h(
    "div",
    {
      class: "progress",
      role: "progressbar",
      "aria-label": () => t("progress"),
      "aria-valuemin": "0",
      "aria-valuemax": "100",
    },
    fillBar,
  );
  const stop = h("button", { type: "button", class: "secondary" }, () => t("cancel"));
  const problem = h("div");
  const state = {
    status: generation.status,
    ready: generation.takes.length,
    progress: generation.progress,
    stopping: false,
    away: false,
  };
  stop.addEventListener("click", async () => {
    state.stopping = true;
    stop.disabled = true;
    show();
    try {
      // what was finished at this moment is kept: it was only to stop
      await call(`/v1/generations/${encodeURIComponent(generation.id)}?done=keep`, { method: "DELETE" });
    } catch (error) {
      state.stopping = false;
      stop.disabled = false;
      show();
      showProblem(problem, error);
    }
  });
  const sentence = () => {
    if (state.stopping) return t("stopping");
    if (state.away) return t("away");
    if (state.status === "queued") return t("queued");
    if (takes > 1) return t("making_takes", { n: number(Math.min(takes, state.ready + 1)), of: number(takes) });
    return t("making");
  };
  let announced = "";
  function show() {
    fill(text, sentence);
    const done = Math.max(state.progress, state.ready / takes);
    const known = state.status === "running" && done > 0 && !state.away;
    bar.classList.toggle("unknown", !known);
    fillBar.style.setProperty("--share", known ? done : 0);
    if (known) bar.setAttribute("aria-valuenow", String(Math.round(100 * done)));
    if (announced !== sentence()) announce((announced = sentence()));
  }
  fill($("sound"), head(generation, stop), bar, text, problem);
  show();
  return { state, show, problem };
}

async function follow(generation, view, signal) {
  const { id } = generation;
  try {
    for await (const { kind, data } of happenings(id, signal)) {
      view.state.away = kind === "away";
      if (kind === "status") view.state.status = data.status;
      if (kind === "progress") view.state.progress = Math.max(view.state.progress, data.progress);
      if (kind === "take") view.state.ready = Math.max(view.state.ready, data.number + 1);
      if (kind === "generation") {
        view.state.status = data.status;
        view.state.progress = Math.max(view.state.progress, data.progress);
        view.state.ready = Math.max(view.state.ready, data.takes.length);
      }
      view.show();
    }
    const made = await call(`/v1/generations/${encodeURIComponent(id)}`, { signal });
    if (signal.aborted) return;
    const inView = $("sound").getBoundingClientRect().top < innerHeight;
    change({ generation: made });
    drawEnd(made);
    if (inView) $("sound").scrollIntoView({ block: "nearest" });
    onEnd(made);
  } catch (error) {
    if (signal.aborted) return;
    showProblem(view.problem, error, () => follow(generation, view, signal));
  }
}

function drawEnd(generation) {
  const { status, error, takes } = generation;
  if (status !== "succeeded") {
    const why = () => (error ? (own(`server_failed_${error.code}`) ?? error.message) : "");
    const text = () => (status === "cancelled" ? t("cancelled") : `${t("failed")} ${why()}`);
    announce(text());
    return fill($("sound"), head(generation), notice(text, status === "failed" ? "warning" : "info"));
  }
  fill(
    $("sound"),
    head(generation),
    generation.is_preview &&
      notice(() => t(generation.request.mode === "off" ? "preview_off_banner" : "preview_banner"), "preview"),
    h(
      "ol",
      { class: "takes" },
      takes.map((take) => h("li", {}, takePlayer(generation, take))),
    ),
  );
  announce(t("sound_ready", { n: number(takes.length) }));
}

function takePlayer(generation, take) {
  const name = () => t("take", { n: number(take.number + 1) });
  return player({
    name,
    seconds: take.seconds,
    load: (onWait) => file(take.audio, { onWait }),
    download: `reprompt-${generation.id.slice(0, 8)}-${take.number + 1}.${take.format}`,
    details: h(
      "span",
      { class: "take-details quiet" },
      generation.takes.length > 1 && h("span", {}, name),
      h("span", { title: () => t("loudness") }, () => `${decimals(take.loudness_lufs, 1)} LUFS`),
      h("span", {}, () => `${t("seed")} ${take.seed}`),
    ),
  });
}
