// A sound with its waveform: play, seek by pointer and keys. One plays at a time.

import { Problem } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { clock, t } from "./i18n.js";
import { showProblem, showWait } from "./problems.js";
import { draw, peaksOf } from "./waveform.js";

const STEP_S = 1;
let sounding = null; // the <audio> that plays
const players = new Set(); // {element, audio, show} of those on the page

// colours and numbers on a canvas follow when theme or language do
new MutationObserver(() => onPage().forEach(({ show }) => show())).observe(document.documentElement, {
  attributeFilter: ["data-theme", "lang"],
});

/** The players that are on the page; what the others held is given back. */
function onPage() {
  for (const gone of [...players].filter(({ element }) => !element.isConnected)) {
    players.delete(gone);
    URL.revokeObjectURL(gone.audio.src);
  }
  return [...players];
}

/** Stops whatever plays. */
export function hush() {
  sounding?.pause();
}

/**
 * A player.
 * @param name function: what it is called, for labels
 * @param load gives the Blob of the sound, and takes onWait as in api.js; called when the player comes into view
 * @param seconds its length, as far as it is known before it is loaded
 * @param onHeard called with the seconds that were heard of it, as they grow
 * @param download the file name to save it under; null: no saving
 */
export function player({ name, load, seconds, onHeard = () => {}, download = null, details = null }) {
  const audio = h("audio", { preload: "auto" });
  const canvas = h("canvas", { "aria-hidden": "true" });
  const time = h("span", { class: "time" });
  const problem = h("div", { class: "player-problem" });
  const button = h("button", { type: "button", class: "play", "aria-label": () => label(), on: { click: toggle } });
  const slider = h(
    "div",
    {
      class: "wave",
      role: "slider",
      tabindex: "0",
      "aria-label": () => t("seek", { name: name() }),
      "aria-valuemin": "0",
      "aria-valuenow": "0",
      "aria-valuemax": seconds.toFixed(1),
      on: { keydown: byKey, pointerdown: drag },
    },
    canvas,
  );
  const save =
    download !== null &&
    h(
      "a",
      {
        class: "icon-button",
        download,
        "aria-label": () => t("download", { name: name() }),
        title: () => t("download", { name: name() }),
      },
      icon("download"),
    );
  const element = h("div", { class: "player" }, button, slider, time, details, save, audio, problem);

  let peaks = null;
  let loading = null; // a promise, once it was asked for
  let heard = 0;
  let last = 0;

  function length() {
    return Number.isFinite(audio.duration) && audio.duration > 0 ? audio.duration : seconds;
  }

  function label() {
    return t(audio.paused ? "play" : "pause", { name: name() });
  }

  function show() {
    const at = audio.currentTime;
    draw(canvas, peaks, length() > 0 ? at / length() : 0);
    time.textContent = `${clock(at)} / ${clock(length())}`;
    slider.setAttribute("aria-valuenow", at.toFixed(1));
    slider.setAttribute("aria-valuemax", length().toFixed(1));
    slider.setAttribute("aria-valuetext", t("position", { at: clock(at), of: clock(length()) }));
  }

  function follow() {
    show();
    if (!audio.paused) requestAnimationFrame(follow);
  }

  function showButton() {
    fill(button, icon(audio.paused ? "play" : "pause"));
    button.setAttribute("aria-label", label());
    element.classList.toggle("playing", !audio.paused);
  }

  function ready() {
    loading ??= (async () => {
      element.classList.add("loading");
      try {
        const blob = await load((s) => showWait(problem, s));
        onPage();
        players.add({ element, audio, show });
        audio.src = URL.createObjectURL(blob);
        if (save) save.href = audio.src;
        const found = await peaksOf(blob);
        peaks = found.peaks;
        seconds = found.seconds;
        element.dataset.loaded = "";
        show();
      } catch (error) {
        loading = null;
        if (error instanceof Problem) showProblem(problem, error, ready);
        else if (audio.src)
          fill(
            problem,
            h("p", { class: "quiet" }, () => t("cannot_decode")),
          );
      } finally {
        element.classList.remove("loading");
      }
    })();
    return loading;
  }

  async function toggle() {
    if (!audio.paused) return audio.pause();
    await ready();
    if (!audio.src) return; // said why already
    try {
      await audio.play();
    } catch (error) {
      if (error.name !== "AbortError")
        fill(
          problem,
          h("p", { class: "quiet" }, () => t("cannot_play")),
        );
    }
  }

  async function seek(to) {
    await ready();
    audio.currentTime = Math.min(Math.max(0, to), Math.max(0, length() - 0.01));
    last = audio.currentTime;
    show();
  }

  function byKey(event) {
    const at = audio.currentTime;
    const step = event.shiftKey ? 5 * STEP_S : STEP_S;
    const to = {
      ArrowRight: at + step,
      ArrowUp: at + step,
      ArrowLeft: at - step,
      ArrowDown: at - step,
      PageUp: at + length() / 10,
      PageDown: at - length() / 10,
      Home: 0,
      End: length(),
    }[event.key];
    if (to !== undefined) seek(to);
    else if (event.key === " " || event.key === "Enter") toggle();
    else return;
    event.preventDefault();
  }

  function drag(event) {
    if (event.button !== 0) return;
    const go = (e) => {
      const box = slider.getBoundingClientRect();
      seek(((e.clientX - box.left) / box.width) * length());
    };
    const end = () => {
      slider.removeEventListener("pointermove", go);
      slider.removeEventListener("pointerup", end);
      slider.removeEventListener("pointercancel", end);
    };
    slider.setPointerCapture(event.pointerId);
    slider.addEventListener("pointermove", go);
    slider.addEventListener("pointerup", end);
    slider.addEventListener("pointercancel", end);
    go(event);
  }

  audio.addEventListener("play", () => {
    if (sounding !== audio) sounding?.pause();
    sounding = audio;
    last = audio.currentTime;
    showButton();
    follow();
  });
  audio.addEventListener("pause", showButton);
  audio.addEventListener("timeupdate", () => {
    const gone = audio.currentTime - last;
    last = audio.currentTime;
    if (gone > 0 && gone < 2) onHeard((heard += gone)); // a jump was not heard
    show();
  });
  audio.addEventListener("ended", () => {
    onHeard((heard = Math.max(heard, length())));
    showButton();
  });
  new ResizeObserver(show).observe(canvas);
  new IntersectionObserver(
    (seen, observer) => {
      if (!seen.some((s) => s.isIntersecting)) return;
      observer.disconnect();
      ready();
    },
    { rootMargin: "600px" },
  ).observe(element);
  showButton();
  show();
  return element;
}
