// The server gives its reasons in English; these are the same sentences as the page tells them.

import { decimals, named, signed, t } from "./i18n.js";

const within = (text) => text.replace(/^“|”$/g, "");

const SAYINGS = [
  [/^the person's words$/, () => t("because_said")],
  [
    /^(sweet|salty|sour|bitter|umami|spicy) (\d\.\d+) \((.*)\)$/,
    ([, taste, value, from]) =>
      t("because_taste", { taste: named("taste", taste), value: decimals(Number(value), 2), from }),
  ],
  [
    /^(valence|arousal) ([+-]\d\.\d+) of the whole$/,
    ([, axis, value]) => t(`because_${axis}`, { value: signed(Number(value)) }),
  ],
  [/^suits (.*)$/, ([, thing], words) => t("because_suits", { thing: words(thing) })],
  [/^energy of (.*)$/, ([, thing], words) => t("because_energy", { thing: words(thing) })],
  [/^usual for (.*)$/, ([, genre]) => t("because_usual", { genre })],
  [/^nothing asks for another$/, () => t("because_nothing")],
  [/^fits the pace and the feeling best$/, () => t("because_fits")],
  [/^near the valence and arousal of the whole$/, () => t("because_near")],
  [/^any key would do; drawn from the words$/, () => t("because_key")],
  [/^what votes for the mode come to$/, () => t("because_mode")],
  [/^stands in for the genre's own$/, () => t("because_stands_in")],
  [/^fits beside what is left out$/, () => t("because_left_out")],
  [
    /^what the pace asks for, near the ([\d-]+) BPM of (.*)$/,
    ([, range, genre]) => t("because_pace", { range: range.replace("-", "–"), genre }),
  ],
  [/^caption near the words: (.*)$/, ([, caption]) => t("because_caption", { caption: within(caption) })],
  [/^the choice of the language model (.*)$/, ([, model]) => t("because_model", { model })],
  [/^([\w -]+): ([\w -]+) \(“(.*)”\)$/, ([, mood, family, from]) => t("because_mood", { mood, family, from })],
  [/^([\w -]+) \(([^:()]*): ([^()]*)\)$/, ([, trait, from, value]) => t("because_trait", { trait, from, value })],
  [/^([\w -]+) \(([^:()]*)\)$/, ([, trait, from]) => t("because_sense", { trait, from })],
];

/** A reason in the visitor's language and words; one that is not known here as the server gave it. */
export function told(because, mentions) {
  const words = (concept) => mentions.find((m) => m.concept === concept)?.text ?? concept;
  for (const [pattern, tell] of SAYINGS) {
    const found = pattern.exec(because);
    if (found) return tell(found, words);
  }
  return because;
}
