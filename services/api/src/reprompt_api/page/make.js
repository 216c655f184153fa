// The strip under the prompt: how long, how many, where, and the button that makes the music.

import { Problem, call, freshKey } from "./api.js";
import { $, fill, h, icon } from "./dom.js";
import { number, t } from "./i18n.js";
import { showProblem, showWait } from "./problems.js";
import { session, whenChanged } from "./session.js";
import { ask, modeNow, wordsNow } from "./words.js";

const MOST_SECONDS = 300;
const MOST_TAKES = 8;
const MOST_SEED = 999_999; // of the dice; any up to 2^53 - 1 may be typed
const FORMATS = ["wav", "flac", "ogg", "mp3"];
const REFRESH_MS = 30_000;

let onMade = () => {};
let places = []; // as GET /v1/generators tells them
let sent = { body: "", key: "" }; // the request of the last key: sent again, it is the same generation
let busy = false;

const field = (name) => $(`make-${name}`);

/** What the strip says: {seconds, takes, seed, generator, format}. */
export function settingsNow() {
  return {
    seconds: Number(field("seconds").value),
    takes: Number(field("takes").value),
    seed: Number(field("seed").value),
    generator: field("generator").value,
    format: field("format").value,
  };
}

export function startMake({ made }) {
  onMade = made;
  draw();
  whenChanged((changed) => {
    if ("answer" in changed) $("make").hidden = session.answer === null;
    drawButton();
  });
  refreshPlaces();
  setInterval(() => document.visibilityState === "visible" && session.answer && refreshPlaces(), REFRESH_MS);
}

function draw() {
  const labelled = (name, control) =>
    h(
      "div",
      { class: `field f-${name}` },
      h("label", { for: `make-${name}` }, () => t(name)),
      control,
    );
  const select = (name, options) =>
    h(
      "select",
      { id: `make-${name}` },
      options.map(([value, text]) => h("option", { value }, text)),
    );
  fill(
    $("make"),
    h("h2", { class: "visually-hidden", id: "make-title" }, () => t("make_title")),
    h(
      "form",
      { class: "settings", novalidate: true, on: { submit: (e) => (e.preventDefault(), make()) } },
      labelled(
        "seconds",
        h("input", {
          id: "make-seconds",
          type: "number",
          inputmode: "decimal",
          min: "1",
          max: MOST_SECONDS,
          step: "any",
          value: "15",
        }),
      ),
      labelled(
        "takes",
        select(
          "takes",
          Array.from({ length: MOST_TAKES }, (_, i) => [String(i + 1), String(i + 1)]),
        ),
      ),
      labelled(
        "seed",
        h(
          "span",
          { class: "with-button" },
          h("input", {
            id: "make-seed",
            type: "number",
            inputmode: "numeric",
            min: "0",
            max: String(Number.MAX_SAFE_INTEGER),
            step: "1",
            value: "0",
            title: () => t("seed_hint"),
          }),
          h(
            "button",
            {
              type: "button",
              class: "icon-button",
              "aria-label": () => t("dice"),
              title: () => t("dice"),
              on: { click: roll },
            },
            icon("dice"),
          ),
        ),
      ),
      labelled("generator", select("generator", [["auto", () => t("generator_auto")]])),
      labelled(
        "format",
        select(
          "format",
          FORMATS.map((f) => [f, f.toUpperCase()]),
        ),
      ),
      h("button", { type: "submit", class: "primary", id: "make-button" }, () => t("make")),
    ),
    h("p", { class: "quiet", id: "make-wait" }),
    h("div", { id: "make-notice" }),
  );
}

function roll() {
  field("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] % (MOST_SEED + 1);
}

/** The settings of a generation that is opened again. */
export function adoptSettings(request) {
  for (const name of ["seconds", "takes", "seed", "format"]) field(name).value = request[name];
  const chosen = field("generator").querySelector(`option[value="${request.generator}"]`);
  if (chosen && !chosen.disabled) field("generator").value = request.generator;
}

function drawButton() {
  const button = field("button");
  // one main action at a time: until the prompt of these words stands, that is to write it
  button.className = session.answer && !session.stale ? "primary" : "secondary";
  button.setAttribute("aria-busy", String(busy));
}

/** Looks again where music can be made. */
export async function refreshPlaces() {
  try {
    places = await call("/v1/generators");
  } catch {
    return; // what was known stays; making tells what is wrong
  }
  const select = field("generator");
  const chosen = select.value;
  fill(
    select,
    h("option", { value: "auto" }, () => t("generator_auto")),
    places.map((p) => h("option", { value: p.generator, disabled: !p.available }, () => placeText(p))),
  );
  const still = select.querySelector(`option[value="${chosen}"]`);
  select.value = still && !still.disabled ? chosen : "auto";
  select.onchange = drawWait;
  drawWait();
}

const placeText = (p) => {
  const name = t(`place_${p.generator}`);
  return p.available ? `${name} · ${waitText(p.wait_s)}` : `${name} · ${t("not_there")}`;
};

const waitText = (s) =>
  s === null ? t("wait_unknown") : s < 1 ? t("wait_none") : t("wait_about", { s: number(Math.ceil(s)) });

/** Where "auto" would make it now, and when; by the order that the API describes. */
function drawWait() {
  const chosen = field("generator").value;
  const there = (name) => places.find((p) => p.generator === name && p.available);
  const place = chosen === "auto" ? (there("runpod") ?? there("musicgen") ?? there("preview")) : there(chosen);
  fill(field("wait"), () => {
    if (!place) return t("nowhere");
    const queue = place.queued > 0 ? ` ${t("in_queue", { n: number(place.queued) })}` : "";
    return `${t(`place_${place.generator}_text`, { model: place.model ?? "MusicGen" })} ${t("starts", { when: waitText(place.wait_s) })}${queue}`;
  });
}

/** What is wrong with the settings, as the API would say it; null: nothing. */
function wrong({ seconds, seed }) {
  const bad = (name) => {
    field(name).focus();
    return new Problem("refused", { status: 422, errors: [{ pointer: `/${name}` }] });
  };
  if (!(seconds >= 1 && seconds <= MOST_SECONDS)) return bad("seconds");
  if (!(Number.isSafeInteger(seed) && seed >= 0)) return bad("seed");
  return null;
}

/** Makes the music of the words that stand there. */
export async function make() {
  if (busy) return;
  const place = field("notice");
  fill(place);
  const settings = settingsNow();
  const problem = wrong(settings);
  if (problem) return showProblem(place, problem);
  busy = true;
  drawButton();
  try {
    // the prompt on show is the one that is made
    if ((session.stale || !session.answer || session.asking) && !(await ask())) return;
    const json = { words: wordsNow(), mode: modeNow(), ...settings };
    if (session.edited !== null) json.prompt = session.edited;
    const body = JSON.stringify(json);
    if (sent.body !== body) sent = { body, key: freshKey() };
    const generation = await call("/v1/generations", {
      method: "POST",
      json,
      headers: { "Idempotency-Key": sent.key },
      onWait: (seconds) => showWait(place, seconds),
    });
    sent = { body: "", key: "" }; // accepted: the same asked again is another one
    onMade(generation);
  } catch (error) {
    showProblem(place, error, make);
  } finally {
    busy = false;
    drawButton();
  }
}
