"""The page in a real browser against a real server: from words to audible sound, and what may go wrong on the way."""

import json
import os
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import Browser, Page, Request, Route, expect, sync_playwright  # noqa: E402

CHROMIUM = Path("/usr/bin/chromium")
KEY = "a-key-for-the-tests-of-the-page"
WORDS = "A bowl of spicy ramen under neon signs, no drums"
LONG = {"seconds": "120", "takes": "8"}

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed: apt install chromium"),
    pytest.mark.xdist_group("page"),  # one browser, one server
]


# -- a server and a browser --------------------------------------------------------------------------------------


def api(base: str, path: str, body: Any = None, *, key: str = "", method: str | None = None) -> Any:
    """What the API answers, without the page."""
    request = urllib.request.Request(
        base + path, data=None if body is None else json.dumps(body).encode(), method=method
    )
    request.add_header("Content-Type", "application/json")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    return urllib.request.urlopen(request, timeout=30)


class Wire:
    """A way to a server that can be cut."""

    def __init__(self, port: int) -> None:
        self._port, self._open, self._listening = port, list[socket.socket](), socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> "Wire":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """Ends every connection; new ones may be made."""
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ends = self._listening.accept()[0], socket.create_connection(("127.0.0.1", self._port))
                self._open += ends
                for source, target in (ends, ends[::-1]):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                target.sendall(content)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def base(serve: Callable[..., Any]) -> Iterator[str]:
    """The address of the server."""
    with serve(REPROMPT_API_PREVIEWS="2", REPROMPT_API_GRACE_S="1") as server:
        yield server.url
        assert '"event": "fault"' not in server.logged()


@pytest.fixture(scope="module")
def browser(environment: None) -> Iterator[Browser]:
    expect.set_options(timeout=20_000)  # a limit, not a measure: the machine may be busy
    with sync_playwright() as playwright:
        args = ["--autoplay-policy=no-user-gesture-required", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=args)
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """A visitor's browser, and what it did behind the page."""

    browser: Browser
    refusals: bool = False  # the browser itself logs answers of 4xx and 5xx, which some tests are about
    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def open(self, address: str, *, width: int = 1280, locale: str = "en-US", scheme: Any = "light") -> Page:
        context = self.browser.new_context(
            viewport={"width": width, "height": 860}, locale=locale, color_scheme=scheme, reduced_motion="reduce"
        )
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: self.requests.append(request))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None)
        page.goto(address)
        self.home = urlsplit(address).netloc
        return page


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    visit = Visit(browser)
    yield visit
    for context in browser.contexts:
        context.close()
    unexpected = [c for c in visit.complaints if not (visit.refusals and c.startswith("Failed to load resource"))]
    assert unexpected == []
    elsewhere = [r.url for r in visit.requests if urlsplit(r.url).netloc not in {visit.home, ""}]
    assert [url for url in elsewhere if not url.startswith(("blob:", "data:"))] == []


def answer(page: Page, words: str = WORDS) -> str:
    """Has the prompt written, and gives it."""
    page.get_by_role("textbox", name=re.compile("Your words|Tus palabras")).fill(words)
    with page.expect_response("**/v1/prompts"):
        page.locator("#ask").click()
    expect(page.locator("#prompt-panel")).to_have_attribute("aria-busy", "false")
    return page.locator(".prompt-text").inner_text()


def make(page: Page, **settings: str) -> None:
    for name, value in settings.items():
        control = page.locator(f"#make-{name}")
        if control.evaluate("e => e.localName") == "select":
            control.select_option(value)
        else:
            control.fill(value)
    page.locator("#make-button").click()


def made(page: Page, **settings: str) -> str:
    """Has music made and loaded, and gives the id of the generation."""
    with page.expect_response(lambda r: r.request.method == "POST" and r.url.endswith("/v1/generations")) as accepted:
        make(page, **{"seconds": "4", **settings})
    expect(page.locator("#sound .player[data-loaded]").first).to_be_visible(timeout=30_000)
    return accepted.value.json()["id"]


def open_all(page: Page) -> None:
    for details in page.locator("#why details").all():
        if details.get_attribute("open") is None:
            details.locator("summary").click()


def assert_accessible(page: Page) -> None:
    found = [v for v in Axe().run(page).response["violations"] if v["impact"] in {"serious", "critical"}]
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found] == []


def assert_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


# how loud the first player is that plays, over a second at most, and how far it played meanwhile
LISTEN = """async () => {
  const audio = [...document.querySelectorAll("audio")].find((a) => !a.paused);
  const context = new AudioContext();
  await context.resume();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(audio.captureStream()).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const from = audio.currentTime;
  let loudest = 0;
  for (let i = 0; i < 60 && (loudest < 0.05 || audio.currentTime - from < 0.5); i++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    analyser.getFloatTimeDomainData(samples);
    loudest = Math.max(loudest, Math.sqrt(samples.reduce((sum, s) => sum + s * s, 0) / samples.length));
  }
  return { loudest, played: audio.currentTime - from };
}"""

# which part of the canvas is painted, and in how many colours
PICTURE = """(canvas) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Set();
  let painted = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 250) {
    painted++;
    colours.add(`${data[i] >> 5},${data[i + 1] >> 5},${data[i + 2] >> 5}`);
  }
  return { share: (4 * painted) / data.length, colours: colours.size };
}"""


# -- from words to sound -----------------------------------------------------------------------------------------


def test_words_become_audible_music(base: str, visit: Visit) -> None:
    page = visit.open(base)
    assert_accessible(page)
    prompt = answer(page)
    assert "BPM" in prompt
    assert page.locator("#words-mirror mark").all_inner_texts() == ["spicy", "ramen", "neon signs", "drums"]
    assert_accessible(page)

    made(page, seconds="6")
    banner = page.locator("#sound .notice.preview")
    expect(banner).to_contain_text("no music model made this sound")
    quiet = page.locator("#sound canvas").evaluate(PICTURE)
    assert quiet["share"] > 0.03
    assert quiet["colours"] == 1

    page.get_by_role("button", name="Play Take 1").click()
    heard = page.evaluate(LISTEN)
    assert heard["loudest"] >= 0.05
    assert heard["played"] >= 0.5
    assert page.locator("#sound canvas").evaluate(PICTURE)["colours"] == 2  # the played part has a colour of its own
    page.get_by_role("button", name="Pause Take 1").click()

    slider = page.get_by_role("slider", name="Position in Take 1")
    slider.focus()
    slider.press("Home")
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuenow") == "2.0"
    assert slider.get_attribute("aria-valuetext") == "0:02 of 0:06"
    box = slider.bounding_box()
    assert box
    slider.click(position={"x": box["width"] * 0.75, "y": 20})
    assert float(slider.get_attribute("aria-valuenow") or 0) == pytest.approx(4.5, abs=0.1)
    assert "LUFS" in page.locator(".take-details").inner_text()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download Take 1").click()
    assert saved.value.suggested_filename.endswith("-1.wav")
    assert saved.value.path().read_bytes()[:4] == b"RIFF"
    assert_accessible(page)


def test_the_page_does_not_jump_while_it_loads(base: str, visit: Visit) -> None:
    page = visit.open(base)
    expect(page.locator("html")).not_to_have_class("starting")
    page.wait_for_load_state("networkidle")
    shift = page.evaluate("""() => new Promise((resolve) => {
      let sum = 0;
      new PerformanceObserver((list) => list.getEntries().forEach((e) => (sum += e.value)))
        .observe({ type: "layout-shift", buffered: true });
      setTimeout(() => resolve(sum), 100);
    })""")
    assert shift < 0.02


def test_reasons_open_with_their_source(base: str, visit: Visit) -> None:
    page = visit.open(base)
    answer(page)
    phrase = page.locator(".phrase", has_text="staccato")
    assert phrase.get_attribute("data-about") == "taste"
    phrase.click()
    choice = page.locator("#why-articulation")
    expect(choice).to_have_attribute("open", "")
    expect(choice.locator("summary")).to_be_focused()
    link = choice.get_by_role("link", name=re.compile("Mesz"))
    assert link.get_attribute("href") == "https://doi.org/10.1068/p6801"
    assert "noopener" in (link.get_attribute("rel") or "")
    first = choice.locator(".vote").first
    expect(first).to_contain_text("confirmed")
    expect(first).to_contain_text(re.compile(r"0\.\d\d"))
    expect(choice.locator(".vote.outvoted").first).to_contain_text("outvoted")
    expect(page.locator("#why-exclude")).to_contain_text("You said so.")
    expect(page.locator(".senses")).to_contain_text("umami")
    open_all(page)
    assert_accessible(page)


def test_the_page_marks_only_what_the_prompt_says(base: str, visit: Visit) -> None:
    page = visit.open(base)
    expected = json.loads(api(base, "/v1/prompts", {"words": WORDS}).read())
    prompt = answer(page)
    assert prompt == expected["prompt"]
    assert page.locator(".phrase[data-choice=tempo]").inner_text() == f"{expected['plan']['tempo_bpm']} BPM"
    assert page.locator(".phrase[data-choice=lead]").inner_text() == expected["plan"]["lead"]
    expect(page.locator(".left-out")).to_have_text("Left out, as you said: drums")


def test_an_edited_prompt_is_what_is_made(base: str, visit: Visit) -> None:
    page = visit.open(base)
    written = answer(page)
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("textbox", name="The prompt").fill("Slow harp solo in D major, 60 BPM.")
    assert_accessible(page)
    page.get_by_role("button", name="Done").click()
    expect(page.locator(".badge")).to_have_text("Edited by hand")
    expect(page.locator("#why")).to_contain_text("You edited the prompt")
    generation = json.loads(api(base, f"/v1/generations/{made(page)}").read())
    assert generation["request"]["words"] == WORDS
    assert generation["request"]["prompt"] == "Slow harp solo in D major, 60 BPM."
    expect(page.locator(".phrase[data-choice=tempo]").last).to_have_text("60 BPM")

    page.get_by_role("button", name="Undo my edit").click()
    expect(page.locator(".prompt-text")).to_have_text(written)
    expect(page.locator(".badge")).to_have_count(0)
    generation = json.loads(api(base, f"/v1/generations/{made(page, seed='7')}").read())
    assert generation["request"]["prompt"] is None
    assert generation["prompt"] == written


def test_append_and_off(base: str, visit: Visit) -> None:
    page = visit.open(base)
    rewritten = answer(page)
    page.get_by_role("radio", name="Append").check()
    expect(page.locator(".prompt-text")).to_have_text(f"{WORDS}. {rewritten}")
    expect(page.locator(".own-words")).to_have_text(WORDS)
    page.get_by_role("radio", name="As is").check()
    expect(page.locator(".prompt-text")).to_have_text(WORDS)
    expect(page.locator("#why")).to_contain_text("Rewriting is off")
    page.locator("#words").press("End")
    page.locator("#words").press_sequentially("!")
    expect(page.locator("#prompt")).to_contain_text("The words have changed")
    assert_accessible(page)


def test_the_banner_is_of_what_was_made(base: str, visit: Visit) -> None:
    page = visit.open(base)
    answer(page)
    held: list[Route] = []
    page.route("**/v1/generations/*/events", lambda route: held.append(route))
    make(page, seconds="2")
    expect(page.locator("#sound .progress")).to_be_visible()
    page.get_by_role("radio", name="As is").check()  # meanwhile the words are asked for otherwise
    expect(page.locator("#why")).to_contain_text("Rewriting is off")
    held[0].continue_()
    expect(page.locator("#sound .notice.preview")).to_contain_text("plays the plan")


def test_hostile_words_stay_words(base: str, visit: Visit) -> None:
    page = visit.open(base)
    words = '<img src=x onerror="document.title=1"><script>document.title=2</script> {n} espresso'
    page.get_by_role("radio", name="As is").check()
    assert answer(page, words) == words
    made(page, seconds="1")
    expect(page.locator(".made-words").first).to_have_text(words)
    assert page.locator("main img, main script, dialog script").count() == 0
    assert page.title().startswith("Reprompt")


# -- what may go wrong -------------------------------------------------------------------------------------------


def test_errors_are_told_where_they_happen(base: str, visit: Visit) -> None:
    visit.refusals = True
    page = visit.open(base)
    page.locator("#ask").click()
    expect(page.locator("#words-notice")).to_contain_text("Write something first")
    expect(page.locator("#words")).to_be_focused()
    page.locator("#words").fill("a" * 2001)
    expect(page.locator("#words-count")).to_have_text("2,001 of 2,000 characters")
    expect(page.locator("#ask")).to_be_disabled()

    page.context.set_offline(True)
    page.locator("#words").fill(WORDS)
    page.locator("#ask").click()
    expect(page.get_by_role("alert")).to_contain_text("You are offline")
    assert_accessible(page)
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".prompt-text")).to_contain_text("BPM")
    expect(page.get_by_role("alert")).to_have_count(0)

    make(page, seconds="900")
    expect(page.locator("#make-notice")).to_contain_text("from 1 to 300 seconds")
    expect(page.locator("#make-seconds")).to_be_focused()
    page.goto(f"{base}/#g=00000000-0000-0000-0000-000000000000")
    page.reload()
    expect(page.locator("#words-notice")).to_contain_text("This is not there any more")


def test_a_key_is_asked_for_and_waits_are_kept(visit: Visit, serve: Callable[..., Any]) -> None:
    visit.refusals = True
    settings = {"KEYS": f"visitor:{KEY}", "RATE_PER_MINUTE": "60", "STREAMS": "1", "GRACE_S": "1"}
    with serve(**{f"REPROMPT_API_{name}": value for name, value in settings.items()}) as server:
        page = visit.open(server.url)
        dialog = page.get_by_role("dialog", name="An API key is needed")
        expect(dialog).to_be_visible()
        assert_accessible(page)
        dialog.get_by_label("API key").fill("not-the-key-that-is-needed")
        dialog.get_by_role("button", name="Use it").click()
        expect(dialog).to_contain_text("This key is not accepted")
        dialog.get_by_label("API key").fill(KEY)
        dialog.get_by_role("button", name="Use it").click()
        expect(dialog).to_be_hidden()
        answer(page)

        # the only event stream that is allowed is taken, by one that waits for a worker: the page asks instead
        waiting = {"words": "rain", "generator": "musicgen"}
        other = json.loads(api(server.url, "/v1/generations", waiting, key=KEY).read())
        with api(server.url, f"/v1/generations/{other['id']}/events", key=KEY) as stream:
            assert stream.readline()
            make(page, seconds="2")
            expect(page.locator("#sound .player")).to_be_visible()
        polled = [r for r in visit.requests if re.search(r"/generations/[\w-]{36}$", r.url)]
        assert len(polled) >= 2

        spend(server.url)
        page.locator("#ask").click()
        expect(page.locator("#words-notice")).to_contain_text("Trying again in")
        expect(page.locator("#words-notice")).to_be_empty(timeout=10_000)
        expect(page.locator("#prompt-panel")).to_have_attribute("aria-busy", "false")
        assert all(KEY not in r.url for r in visit.requests)
        page.reload()  # the key is kept for the tab
        expect(page.locator(".prompt-text")).to_contain_text("BPM")


def spend(base: str) -> None:
    """Uses up the requests that a key has in this minute."""

    def ask() -> None:
        for _ in range(120):
            api(base, "/v1/corpora", key=KEY)

    with pytest.raises(urllib.error.HTTPError, match="429"):
        ask()


# -- what was made, and what is better ---------------------------------------------------------------------------


def test_history_outlives_the_page_and_is_deleted(base: str, visit: Visit) -> None:
    page = visit.open(base)
    answer(page, "Lemon sorbet on a warm evening")
    id = made(page, seconds="3", takes="2", format="ogg")
    page.goto(base)
    row = page.locator(".made li").first
    expect(row).to_contain_text("Lemon sorbet on a warm evening")
    expect(row).to_contain_text("2 takes of 3 s")
    row.get_by_role("link").click()
    expect(page.locator(".player[data-loaded]")).to_have_count(2)
    assert page.url.endswith(f"#g={id}")

    page.reload()  # a link leads there, too
    expect(page.locator(".player[data-loaded]")).to_have_count(2)
    expect(page.locator("#words")).to_have_value("Lemon sorbet on a warm evening")
    expect(page.locator("#make-takes")).to_have_value("2")
    expect(page.locator(".made a[aria-current]")).to_have_attribute("data-id", id)
    row.get_by_role("button", name="Delete").click()
    assert_accessible(page)
    row.get_by_role("button", name="Keep").click()
    row.get_by_role("button", name="Delete").click()
    row.get_by_role("button", name="Delete").click()
    expect(page.locator(f".made a[data-id='{id}']")).to_have_count(0)
    expect(page.locator("#sound")).to_be_hidden()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        api(base, f"/v1/generations/{id}")


def test_older_ones_are_shown_on_demand(base: str, visit: Visit) -> None:
    for seed in range(8):
        api(base, "/v1/generations", {"words": f"rain number {seed}", "seconds": 1, "seed": seed})
    page = visit.open(base)
    expect(page.locator(".made li")).to_have_count(6)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".made li").nth(7)).to_contain_text("rain number 0")
    expect(page.locator(".made li a").nth(6)).to_be_focused()


def test_a_blind_comparison_to_its_reveal(base: str, visit: Visit) -> None:
    page = visit.open(base)
    answer(page)
    page.locator("#make-seconds").fill("5")
    page.locator("#words").fill(" ")
    page.get_by_role("button", name="Compare blind").click()
    expect(page.locator("#compare [role=alert]")).to_contain_text("Write something first")
    page.locator("#words").fill(WORDS)
    page.get_by_role("button", name="Compare blind").click()
    vote = page.get_by_role("button", name="A fits better")
    expect(vote).to_be_disabled(timeout=30_000)
    expect(page.locator("#compare .notice")).to_contain_text("Both are previews")
    assert "Rewrit" not in page.locator(".sides").inner_text()
    expect(page.locator(".side .player[data-loaded]")).to_have_count(2)
    page.get_by_role("button", name="Play A").click()
    position = page.get_by_role("slider", name="Position in A")
    expect(position).to_have_attribute("aria-valuenow", re.compile(r"^(2\.[3-9]|[3-9])"))
    expect(vote).to_be_disabled()  # one of two
    assert_accessible(page)
    page.get_by_role("button", name="Play B").click()
    expect(page.get_by_role("button", name="Play A")).to_be_visible()  # one plays at a time
    expect(vote).to_be_enabled(timeout=10_000)
    vote.click()
    expect(page.locator(".verdict")).to_have_text(re.compile("You preferred (the rewritten prompt|your own words)."))
    names = page.locator(".told-name").all_inner_texts()
    assert sorted(names) == ["With rewriting", "Your words as they are"]
    own = page.locator(".side", has_text="Your words as they are")
    expect(own.locator(".told-prompt")).to_have_text(WORDS)
    expect(page.locator(".side.chosen h3")).to_have_text("A")
    preferred = json.loads(api(base, f"/v1/comparisons/{page.url.partition('#c=')[2]}").read())["preferred"]
    assert (preferred == "rewritten") == (names[0] == "With rewriting")
    assert_accessible(page)
    page.reload()
    expect(page.locator(".verdict")).to_be_visible()


# -- languages, colours, sizes -----------------------------------------------------------------------------------


def test_spanish(base: str, visit: Visit) -> None:
    page = visit.open(base, locale="es-MX")
    expect(page.locator("html")).to_have_attribute("lang", "es")
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "Di una escena, un plato, un ánimo. Escúchalo como música."
    )
    page.get_by_role("button", name="Noche de lluvia").click()
    expect(page.locator("#why-key .choice-value")).to_have_text("si menor")
    expect(page.locator("#why-genre .choice-because")).to_have_text("va con Noche")
    made(page)
    expect(page.locator("#sound .notice.preview")).to_contain_text("ningún modelo de música")
    assert_accessible(page)
    english = page.get_by_role("button", name="English")
    english.click()
    expect(page.locator("#sound .notice.preview")).to_contain_text("no music model")
    expect(page.locator("#why-key .choice-value")).to_have_text("B minor")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Hear it as music")  # it is remembered
    expect(english).to_have_attribute("aria-pressed", "true")


def test_reasons_are_told_in_spanish(base: str, visit: Visit) -> None:
    page = visit.open(base, locale="es-ES")
    reasons = ["cold (coffee)", "hot (bowl of ramen: hot)", "usual for jazz"]
    said = page.evaluate(
        """async (reasons) => {
          const { told } = await import("/page/sayings.js");
          return reasons.map((reason) => told(reason, []));
        }""",
        reasons,
    )
    assert said == ["cold, por «coffee»", "hot, por bowl of ramen (hot)", "habitual en jazz"]


def test_both_dictionaries_say_the_same(base: str, visit: Visit) -> None:
    page = visit.open(base)
    english, spanish = page.evaluate("""async () => Promise.all(
      [["english.js", "english"], ["spanish.js", "spanish"]].map(async ([file, name]) =>
        Object.fromEntries(Object.entries((await import(`/page/${file}`))[name]).map(([k, v]) => [k, String(v)]))))""")
    assert set(english) == {k for k in spanish if not k.startswith("term_")}
    for key, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", spanish[key])), key


def test_dark(base: str, visit: Visit) -> None:
    page = visit.open(base, scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(19, 20, 22)"
    answer(page)
    page.locator("#why-articulation summary").click()
    made(page)
    assert_accessible(page)
    page.get_by_role("button", name="Light colours").click()
    assert page.evaluate(ground) == "rgb(246, 246, 244)"
    page.reload()
    assert page.evaluate(ground) == "rgb(246, 246, 244)"  # it is remembered


def test_a_phone(base: str, visit: Visit) -> None:
    page = visit.open(base, width=360)
    assert_fits(page)
    answer(page, f"{WORDS} {'andonandon' * 12} in a stream of words with no end")
    open_all(page)
    assert_fits(page)
    made(page, takes="2", format="mp3")
    assert_fits(page)
    page.get_by_role("button", name="Compare blind").click()
    expect(page.locator(".side .player[data-loaded]").first).to_be_visible(timeout=30_000)
    assert_fits(page)
    assert_accessible(page)


# -- last, as what it leaves behind keeps a core busy for some seconds --------------------------------------------


def test_what_runs_is_taken_up_again_and_cancelled(base: str, visit: Visit) -> None:
    visit.refusals = True
    with Wire(urlsplit(base).port or 0) as wire:
        page = visit.open(wire.address)
        answer(page)
        make(page, **LONG)
        expect(page.locator(".progress-text")).to_have_text("Making take 1 of 8…")
        with page.expect_request(lambda r: r.url.endswith("/events") and "last-event-id" in r.headers) as again:
            wire.cut()
        assert int(again.value.headers["last-event-id"]) > 0
        assert_accessible(page)
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#sound .notice")).to_have_text("Cancelled. Nothing was kept.")
        expect(page.locator(".made li").first).to_contain_text("cancelled")
        assert_accessible(page)
