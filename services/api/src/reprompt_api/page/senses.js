// What the words taste and feel like, and the pieces of music that were found near them.

import { h } from "./dom.js";
import { decimals, named, number, signed, t } from "./i18n.js";

const TRAITS = ["temperature", "texture", "aroma", "colour"];
const LEAST = 0.05; // a taste below is not spoken of

export function senses(answer) {
  return h("aside", { class: "senses" }, tastes(answer), feeling(answer), traits(answer), captions(answer));
}

function tastes({ tastes: values }) {
  const tasted = Object.values(values).some((v) => v >= LEAST);
  return h(
    "section",
    {},
    h("h3", {}, () => t("tastes")),
    tasted
      ? h(
          "ul",
          { class: "meters" },
          Object.entries(values).map(([name, value]) => meter(() => named("taste", name), value)),
        )
      : h("p", { class: "quiet" }, () => t("no_taste")),
  );
}

function meter(label, value) {
  const track = h("i", { class: "track", "aria-hidden": "true" });
  track.style.setProperty("--share", Math.min(1, Math.max(0, value)));
  return h(
    "li",
    { class: value >= LEAST ? "" : "none" },
    h("span", {}, label),
    track,
    h("span", { class: "figure" }, () => decimals(value, 2)),
  );
}

function feeling({ emotion }) {
  const axis = (name) => {
    const value = Math.min(1, Math.max(-1, emotion[name]));
    const track = h("i", { class: "track both", "aria-hidden": "true" });
    track.style.setProperty("--from", value < 0 ? 0.5 + value / 2 : 0.5);
    track.style.setProperty("--share", Math.abs(value) / 2);
    return h(
      "li",
      { class: "axis" },
      h("span", { class: "axis-name" }, () => t(name)),
      h("span", { class: "figure" }, () => signed(emotion[name])),
      track,
      h("span", { class: "quiet low", "aria-hidden": "true" }, () => t(`${name}_low`)),
      h("span", { class: "quiet high", "aria-hidden": "true" }, () => t(`${name}_high`)),
    );
  };
  return h(
    "section",
    {},
    h("h3", {}, () => t("feeling")),
    emotion.labels.length > 0 && h("p", { class: "moods", lang: "en" }, emotion.labels.join(", ")),
    h("ul", { class: "meters" }, axis("valence"), axis("arousal")),
  );
}

function traits({ descriptors }) {
  const found = TRAITS.map((dimension) => [
    dimension,
    [...new Set(descriptors.filter((d) => d.dimension === dimension).map((d) => String(d.value)))],
  ]).filter(([, these]) => these.length > 0);
  if (found.length === 0) return null;
  return h(
    "section",
    {},
    h("h3", {}, () => t("traits")),
    h(
      "dl",
      { class: "traits" },
      found.map(([dimension, these]) => [
        h("dt", {}, () => named("kind", dimension)),
        h("dd", { lang: "en" }, these.join(", ")),
      ]),
    ),
  );
}

function captions({ captions: found }) {
  if (found.length === 0) return null;
  return h(
    "details",
    { class: "captions" },
    h("summary", {}, () => t("captions", { n: number(found.length) })),
    h(
      "ul",
      {},
      found.map((c) =>
        h(
          "li",
          {},
          h("p", { lang: "en" }, c.text),
          h("p", { class: "quiet" }, () =>
            [c.corpus, c.license, t("nearness", { value: decimals(c.similarity, 2) })].filter(Boolean).join(" · "),
          ),
        ),
      ),
    ),
  );
}
