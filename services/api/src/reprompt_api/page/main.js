// Puts the page together: language, theme, the views, and what the address asks for (#g=ID, #c=ID).

import { call } from "./api.js";
import { openComparison, startCompare } from "./compare.js";
import { $, fill, h, icon, kept } from "./dom.js";
import { refreshHistory, startHistory } from "./history.js";
import { bind, bindPage, currentLanguage, preferred, speak, t } from "./i18n.js";
import { adoptSettings, make, refreshPlaces, startMake } from "./make.js";
import { showProblem } from "./problems.js";
import { startPrompt } from "./prompt.js";
import { openChoice, startReasons } from "./reasons.js";
import { change, session } from "./session.js";
import { showSound, startSound } from "./sound.js";
import { setWords, startWords } from "./words.js";

function startLanguage() {
  bindPage();
  bind(document.head.querySelector('meta[name="description"]'), "content", () => t("promise"));
  const buttons = document.querySelectorAll("[data-language]");
  const choose = (language) => {
    speak(language);
    for (const b of buttons) b.setAttribute("aria-pressed", String(b.dataset.language === currentLanguage()));
    document.title = `Reprompt – ${t("headline")}`;
  };
  for (const b of buttons) {
    b.addEventListener("click", () => {
      kept.set("language", b.dataset.language);
      choose(b.dataset.language);
    });
  }
  choose(kept.get("language") ?? preferred());
}

function startTheme() {
  const root = document.documentElement;
  const button = $("theme");
  const show = () => {
    fill(button, icon(root.dataset.theme === "dark" ? "sun" : "moon"));
    for (const name of ["aria-label", "title"]) {
      bind(button, name, () => t(root.dataset.theme === "dark" ? "to_light" : "to_dark"));
    }
  };
  button.addEventListener("click", () => {
    const theme = root.dataset.theme === "dark" ? "light" : "dark";
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    kept.set("theme", theme === system ? null : theme); // back at the system's: it is followed again
    root.dataset.theme = theme;
  });
  new MutationObserver(show).observe(root, { attributeFilter: ["data-theme"] });
  show();
}

/** What came from a mention lights up with it, in the words, the prompt and the reasons. */
function startLinks() {
  const light = (event) => {
    const of = event.target.closest?.("[data-mention]")?.dataset.mention ?? null;
    document.body.classList.toggle("lighting", of !== null);
    for (const element of document.querySelectorAll("[data-mention]")) {
      element.classList.toggle("lit", element.dataset.mention === of);
    }
  };
  for (const event of ["pointerover", "focusin"]) document.addEventListener(event, light);
  document.addEventListener("click", (event) => {
    const phrase = event.target.closest?.("[data-choice]");
    if (!phrase) return;
    event.preventDefault(); // the address stays the one of what is on show
    openChoice(phrase.dataset.choice);
  });
}

/** Shows a generation with its words, prompt and reasons. */
function showGeneration(generation) {
  const { request, reprompt } = generation;
  const { answer } = session;
  const isNew = reprompt.prompt !== answer?.prompt || request.words !== answer.words || request.mode !== answer.mode;
  if (isNew) {
    // what the person has opened and edited stays as it is where it is about the same
    const edited = reprompt.refiner === "person" ? reprompt.prompt : null;
    change({ answer: { ...reprompt, words: request.words }, edited, stale: false, asking: false });
  }
  change({ generation });
  showSound(generation);
}

async function followAddress() {
  const [, kind, id] = /^#(g|c)=([\w-]{1,64})$/.exec(location.hash) ?? [];
  if (kind === "c") return openComparison(id, (words) => setWords(words, "rewrite"));
  if (kind !== "g" || id === session.generation?.id) return;
  try {
    const generation = await call(`/v1/generations/${id}`);
    setWords(generation.request.words, generation.request.mode);
    adoptSettings(generation.request);
    showGeneration(generation);
    scrollTo({ top: 0 });
    $("words").focus({ preventScroll: true });
  } catch (problem) {
    showProblem($("words-notice"), problem, followAddress);
  }
}

startLanguage();
startTheme();
startWords();
startPrompt({ make });
startMake({
  made: (generation) => {
    history.pushState(null, "", `#g=${generation.id}`);
    showGeneration(generation);
    $("sound").focus({ preventScroll: true });
    $("sound").scrollIntoView({ block: "nearest" });
    refreshHistory();
  },
});
startSound({
  ended: () => {
    refreshHistory();
    refreshPlaces();
  },
});
startReasons();
startCompare();
startHistory({
  deleted: (generation) => {
    if (generation.id !== session.generation?.id) return;
    history.replaceState(null, "", location.pathname);
    change({ generation: null });
    showSound(null);
  },
});
startLinks();
addEventListener("hashchange", followAddress);
document.documentElement.classList.remove("starting");
refreshHistory();
followAddress();
