// Errors in plain words: what happened and what to do, where it happened.

import { Problem } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { currentLanguage, number, own, t } from "./i18n.js";

const FIELDS = new Set(["words", "prompt", "seconds", "takes", "seed"]);
const KNOWN = { 401: "key", 404: "gone", 413: "large", 429: "rate", 500: "fault", 504: "slow" };
const SAID = [
  [/^Too much is under way/, "under_way"],
  [/generations are waiting already/, "queue"],
  [/^The database is not available/, "database"],
  [/^The audio store is not available/, "store"],
  [/ is (starting or )?stopping/, "stopping"],
  [/^Without API keys/, "host"],
  [/^The body was not there/, "body"],
  [/^No language model is set up/, "refiner"],
  [/^RunPod is not (set up|configured)/, "runpod"],
  [/^There was a vote/, "voted"],
  [/: cancel it first/, "running"],
];

/** What went wrong, as lines of text. */
export function explain(problem) {
  if (!(problem instanceof Problem)) return [t("problem_page")];
  if (problem.kind !== "refused") return [t(`problem_${problem.kind}`)];
  const fields = problem.errors.map((e) => String(e.pointer ?? "").replace(/^\//, "")).filter((f) => FIELDS.has(f));
  if (fields.length > 0) return [...new Set(fields)].map((field) => t(`problem_field_${field}`));
  const name = KNOWN[problem.status];
  if (name) return [t(`problem_${name}`, { id: problem.instance || "–" })];
  // the server's own sentence says more where the status alone says little
  const said = serverSays(problem.detail);
  if (said) return [said];
  const general = problem.status === 503 ? t("problem_busy") : t("problem_other", { status: problem.status });
  return problem.detail ? [general, problem.detail] : [general];
}

/** A sentence of the server in the visitor's language; null: it is not known here. */
function serverSays(detail) {
  if (currentLanguage() === "en") return detail || null;
  const key = SAID.find(([pattern]) => pattern.test(detail))?.[1];
  return key ? own(`server_${key}`) : null;
}

/** Shows a problem at a place of the page, with a way to try again where there is one. */
export function showProblem(place, problem, retry) {
  if (!(problem instanceof Problem)) console.error(problem); // a fault of this page
  const message = h("div", { class: "notice problem", role: "alert" }, icon("warning"));
  const text = h("div", {}, () => explain(problem).join(" "));
  message.append(text);
  if (retry) {
    const again = () => {
      fill(place);
      retry();
    };
    message.append(h("button", { type: "button", class: "plain", on: { click: again } }, () => t("try_again")));
  }
  fill(place, message);
}

/** Says that the server asked to wait, and counts down; 0 takes it away. */
export function showWait(place, seconds) {
  clearInterval(place.waiting);
  if (seconds === 0) return fill(place);
  const until = Date.now() + 1000 * seconds;
  const left = () => t("waiting", { seconds: number(Math.max(1, Math.ceil((until - Date.now()) / 1000))) });
  const shown = h("span", {}, left);
  place.waiting = setInterval(() => {
    if (shown.isConnected) shown.firstChild.data = left();
    else clearInterval(place.waiting);
  }, 500);
  return fill(place, h("div", { class: "notice", role: "status" }, icon("info"), shown));
}

/** Something to know that is no error. */
export function notice(text, kind = "info") {
  return h("div", { class: `notice ${kind}` }, icon(kind === "warning" ? "warning" : "info"), h("div", {}, text));
}
