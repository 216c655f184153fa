// Finds things in text: the mentions in the person's words, the musical choices in the prompt.

/** A run of text: {text, mark}; mark is null between the marks. */
function cut(text, marks) {
  const runs = [];
  let at = 0;
  for (const { start, end, mark } of marks.sort((a, b) => a.start - b.start)) {
    if (start > at) runs.push({ text: text.slice(at, start), mark: null });
    runs.push({ text: text.slice(start, end), mark });
    at = end;
  }
  if (at < text.length) runs.push({ text: text.slice(at), mark: null });
  return runs;
}

class Marks {
  constructor(text) {
    this.text = text;
    this.found = [];
  }

  isFree(start, end) {
    return this.found.every((m) => end <= m.start || start >= m.end);
  }

  add(start, end, mark) {
    if (end > start && this.isFree(start, end)) this.found.push({ start, end, mark });
  }

  /** Marks the first free place of a phrase that stands as words of its own. */
  phrase(phrase, mark) {
    if (!phrase) return false;
    const inWord = /[\p{L}\p{N}]/u;
    const whole = this.text.toLowerCase();
    const wanted = phrase.toLowerCase();
    if (whole.length !== this.text.length) return false; // a letter that lowering made longer: places would be off
    for (let at = whole.indexOf(wanted); at >= 0; at = whole.indexOf(wanted, at + 1)) {
      const end = at + wanted.length;
      const apart = !inWord.test(whole[at - 1] ?? " ") && !inWord.test(whole[end] ?? " ");
      if (apart && this.isFree(at, end)) {
        this.add(at, end, mark);
        return true;
      }
    }
    return false;
  }

  /** Marks what a pattern matches, all of it or its first group. */
  pattern(pattern, mark, { all = false } = {}) {
    for (const match of this.text.matchAll(pattern)) {
      const inner = match[1] ?? match[0];
      const start = match.index + match[0].indexOf(inner);
      if (!this.isFree(start, start + inner.length)) continue;
      this.add(start, start + inner.length, mark);
      if (!all) return;
    }
  }

  runs() {
    return cut(this.text, this.found);
  }
}

/**
 * The words as runs, each marked with {mention, vote}: the mention's number, or the vote that repeats music words which
 * are no mention ("90 bpm").
 */
export function wordRuns(words, answer) {
  const marks = new Marks(words);
  // longest first: a phrase that was understood as a whole is not hidden by a part of it
  const order = answer.mentions.map((m, i) => [m, i]).sort(([a], [b]) => b.text.length - a.text.length);
  for (const [mention, i] of order) marks.phrase(mention.text, { mention: i, vote: null });
  for (const vote of answer.reasons.filter((r) => r.status === "stated")) {
    const bpm = /^(\d+) BPM$/.exec(vote.value)?.[1];
    if (bpm) marks.pattern(new RegExp(`(?<!\\d)${bpm}(?!\\d)(?: ?bpm)?`, "gi"), { mention: null, vote });
    else marks.phrase(vote.value, { mention: null, vote });
  }
  return marks.runs();
}

// The parts of a sentence that speak of one parameter, from comma to comma: "crisp staccato phrasing".
const PART = "[^,.;]*";
const SPEAKS = [
  ["articulation", /legato|staccato|articulation|short and long notes|marcato/],
  ["harmony", /consonant|dissonant|harmon(?:y|ies)|chords|intervals/],
  ["dynamics", /dynamics|softly|hushed|loud\b|powerful playing|forceful|quiet(?:ly)?\b|volume/],
];

/**
 * The prompt as runs, each phrase marked with the id of the choice that it tells, as in plan.js, or with "words"
 * where it repeats the person's own words.
 */
export function promptRuns(prompt, answer) {
  const { plan, words } = answer;
  const marks = new Marks(prompt);
  const said = words.trim().replace(/[\s.,;]+$/, "");
  if (said && prompt.startsWith(said)) marks.add(0, said.length, "words");
  marks.phrase(plan.rhythm, "rhythm");
  const genres = answer.reasons.filter((r) => r.parameter === "genre" && r.status === "stated").map((r) => r.value);
  const names = [
    ...[...new Set([plan.genre, ...genres])].map((name) => [name, "genre"]),
    [plan.lead, "lead"],
    ...plan.accompaniment.map((name) => [name, "accompaniment"]),
  ];
  // longest first: "jazz guitar" before "jazz"
  for (const [name, id] of names.sort(([a], [b]) => b.length - a.length)) marks.phrase(name, id);
  for (const mood of plan.moods) marks.phrase(mood, "moods");
  marks.pattern(/\b\d+ ?BPM\b/gi, "tempo");
  marks.pattern(/\b(?:slow|fast|mid-tempo|moderate tempo)\b/gi, "tempo");
  marks.pattern(
    /\b[A-G](?:#|b|♯|♭| flat| sharp)? (?:major|minor|dorian|mixolydian|phrygian|lydian|pentatonic)\b/gi,
    "key",
  );
  marks.pattern(/\b(?:a|in an?) (?:major|minor|dorian|mixolydian|phrygian|lydian|pentatonic) key\b/gi, "key");
  marks.pattern(/\b(?:(?:high|low|mid)[- ](?:register|pitched)|deep low)\b/gi, "register", { all: true });
  marks.pattern(/\bloud, (?:full sound|forceful dynamics)/gi, "dynamics"); // the only part with a comma inside
  for (const [id, speaks] of SPEAKS) {
    for (const match of prompt.matchAll(new RegExp(`${PART}(?:${speaks.source})${PART}`, "gi"))) {
      const text = match[0].trim();
      marks.add(match.index + match[0].indexOf(text), match.index + match[0].indexOf(text) + text.length, id);
    }
  }
  for (const timbre of plan.timbres) {
    marks.pattern(new RegExp(`(?<![\\p{L}])${escaped(timbre)}(?: sound)?(?![\\p{L}])`, "giu"), "timbre");
  }
  return marks.runs();
}

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
