// Reads the plan and its reasons: the rows that are shown, what won each of them, and what that came from.

// What a mention is about, in the four colours of the page.
const ABOUT = {
  food: "taste",
  drink: "taste",
  taste: "taste",
  texture: "taste",
  temperature: "taste",
  colour: "taste",
  aroma: "taste",
  place: "scene",
  time: "scene",
  weather: "scene",
  activity: "scene",
  occasion: "scene",
  ambience: "scene",
  mood: "feeling",
  instrument: "said",
  genre: "said",
};

/** "taste", "scene", "feeling" or "said": what a mention is about. */
export const aboutOf = (mention) => ABOUT[mention.kind] ?? "scene";

/** The rows of the plan: {id, values, isOpen(text), votes}; values in English, as the model is told. */
export function choices(answer) {
  const { plan, reasons } = answer;
  const band = new Set([plan.lead, ...plan.accompaniment]);
  const row = (id, values, parameters) => ({
    id,
    values: values.filter(Boolean),
    votes: reasons.filter((r) => parameters.includes(r.parameter)),
  });
  const asked = (mine) => (r) => r.parameter === "instrument" && mine(r.value);
  const lead = row("lead", [plan.lead], ["lead"]);
  lead.votes.unshift(...reasons.filter(asked((value) => value === plan.lead || !band.has(value))));
  const accompaniment = row("accompaniment", plan.accompaniment, ["accompaniment"]);
  accompaniment.votes.unshift(...reasons.filter(asked((value) => plan.accompaniment.includes(value))));
  const genres = reasons.filter((r) => r.parameter === "genre" && r.status === "stated").map((r) => r.value);
  const rows = [
    row("genre", [...new Set([plan.genre, ...genres])], ["genre"]),
    row("tempo", [`${plan.tempo_bpm} BPM`], ["tempo"]),
    row("key", [[plan.key, plan.mode].filter(Boolean).join(" ")], ["key", "mode"]),
    row("moods", plan.moods, ["moods"]),
    lead,
    accompaniment,
    row("register", [plan.register], ["register"]),
    row("articulation", [plan.articulation], ["articulation"]),
    row("dynamics", [plan.dynamics], ["dynamics"]),
    row("harmony", [plan.harmony], ["harmony"]),
    row("rhythm", [plan.rhythm], ["rhythm"]),
    row("timbre", plan.timbres, ["timbre"]),
    row("exclude", plan.exclude, ["exclude"]),
  ];
  const shown = new Set(rows.flatMap((r) => r.votes));
  rows.push({ id: "also", values: [], votes: reasons.filter((r) => !shown.has(r)) });
  return rows.filter((r) => r.values.length > 0 || r.votes.length > 0);
}

export const isOutvoted = (vote) => vote.because.endsWith("; outvoted");

/** A vote's parts: {because, disagreement}, without the word that it was outvoted. */
export function partsOf(vote) {
  const because = vote.because.replace(/; outvoted$/, "");
  const found = /^(.*); sources disagree \((.*)\)$/.exec(because);
  return found ? { because: found[1], disagreement: found[2] } : { because, disagreement: "" };
}

/** The votes that carried the row, strongest first. */
export function winners(row) {
  return row.votes.filter((v) => !isOutvoted(v)).sort((a, b) => b.weight - a.weight);
}

/**
 * What a vote came from: {about, mention}; about is "said", "taste", "scene", "feeling", "caption", "model" or
 * "habit", mention the one of the answer that it names, or null.
 */
export function originOf(vote, answer) {
  const mention = mentionOf(vote, answer.mentions);
  if (vote.status === "stated") return { about: mention ? aboutOf(mention) : "said", mention };
  if (vote.status === "caption") return { about: "caption", mention: null };
  if (vote.status === "model") return { about: "model", mention: null };
  if (mention) return { about: aboutOf(mention), mention };
  if (/\b(valence|arousal)\b/.test(vote.because)) return { about: "feeling", mention: null };
  if (vote.status === "confirmed" || vote.status === "recalled") return { about: "taste", mention: null };
  return { about: "habit", mention: null };
}

function mentionOf(vote, mentions) {
  const live = mentions.filter((m) => !m.negated);
  if (vote.status === "stated") {
    const said = vote.value.toLowerCase();
    const pool = vote.parameter === "exclude" ? mentions.filter((m) => m.negated) : live;
    return pool.find((m) => [m.text, m.concept].some((name) => name.toLowerCase() === said)) ?? null;
  }
  // "umami 0.80 (bowl of ramen)", "hot (bowl of ramen: hot)", "sad: sadness (“feel sad”)"
  const inside = /\(“?([^()“”]*)”?\)/.exec(vote.because)?.[1] ?? "";
  const named = inside && live.find((m) => inside === m.text || inside.split(/: |, /).includes(m.text));
  if (named) return named;
  const concept = /^(?:suits|energy of) ([^;]*)/.exec(vote.because)?.[1];
  return (concept && live.find((m) => m.concept === concept)) || null;
}
