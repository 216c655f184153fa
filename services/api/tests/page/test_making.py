"""From words to audible music: the prompt, its reasons, editing it, hearing it."""

import json
import re

import pytest

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.xdist_group("page")  # one browser, one server

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


def test_words_become_audible_music(base, visit):
    page = visit.open(base)
    visit.assert_accessible()
    prompt = visit.answer()
    assert "BPM" in prompt
    assert page.locator("#words-mirror mark").all_inner_texts() == ["spicy", "ramen", "neon signs", "drums"]
    visit.assert_accessible()

    visit.made(seconds="6")
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
    visit.assert_accessible()


def test_the_page_does_not_jump_while_it_loads(base, visit):
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


def test_reasons_open_with_their_source(base, visit):
    page = visit.open(base)
    visit.answer()
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
    visit.open_all()
    visit.assert_accessible()


def test_the_page_marks_only_what_the_prompt_says(api, base, visit):
    page = visit.open(base)
    expected = json.loads(api(base, "/v1/prompts", {"words": visit.WORDS}).read())
    prompt = visit.answer()
    assert prompt == expected["prompt"]
    assert page.locator(".phrase[data-choice=tempo]").inner_text() == f"{expected['plan']['tempo_bpm']} BPM"
    assert page.locator(".phrase[data-choice=lead]").inner_text() == expected["plan"]["lead"]
    expect(page.locator(".left-out")).to_have_text("Left out, as you said: drums")


def test_an_edited_prompt_is_what_is_made(api, base, visit):
    page = visit.open(base)
    written = visit.answer()
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("textbox", name="The prompt").fill("Slow harp solo in D major, 60 BPM.")
    visit.assert_accessible()
    page.get_by_role("button", name="Done").click()
    expect(page.locator(".badge")).to_have_text("Edited by hand")
    expect(page.locator("#why")).to_contain_text("You edited the prompt")
    expect(page.locator(".phrase[data-choice=key]")).to_have_count(0)  # nothing of the words asked for D major
    generation = json.loads(api(base, f"/v1/generations/{visit.made()}").read())
    assert generation["request"]["words"] == visit.WORDS
    assert generation["request"]["prompt"] == "Slow harp solo in D major, 60 BPM."
    expect(page.locator(".phrase[data-choice=tempo]").last).to_have_text("60 BPM")
    expect(page.locator("#why")).not_to_contain_text("You edited the prompt")  # the reasons are of what was made

    page.get_by_role("button", name="Undo my edit").click()
    expect(page.locator(".prompt-text")).to_have_text(written)
    expect(page.locator(".badge")).to_have_count(0)
    generation = json.loads(api(base, f"/v1/generations/{visit.made(seed='7')}").read())
    assert generation["request"]["prompt"] is None
    assert generation["prompt"] == written


def test_append_and_off(base, visit):
    page = visit.open(base)
    rewritten = visit.answer()
    page.get_by_role("radio", name="Append").check()
    expect(page.locator(".prompt-text")).to_have_text(f"{visit.WORDS}. {rewritten}")
    expect(page.locator(".own-words")).to_have_text(visit.WORDS)
    page.get_by_role("radio", name="As is").check()
    expect(page.locator(".prompt-text")).to_have_text(visit.WORDS)
    expect(page.locator("#why")).to_contain_text("Rewriting is off")
    page.locator("#words").press("End")
    page.locator("#words").press_sequentially("!")
    expect(page.locator("#prompt")).to_contain_text("The words have changed")
    visit.assert_accessible()


def test_the_banner_is_of_what_was_made(base, visit):
    page = visit.open(base)
    visit.answer()
    held = []
    page.route("**/v1/generations/*/events", lambda route: held.append(route))
    visit.make(seconds="2")
    expect(page.locator("#sound .progress")).to_be_visible()
    page.get_by_role("radio", name="As is").check()  # meanwhile the words are asked for otherwise
    expect(page.locator("#why")).to_contain_text("Rewriting is off")
    held[0].continue_()
    expect(page.locator("#sound .notice.preview")).to_contain_text("plays the plan")


def test_hostile_words_stay_words(base, visit):
    page = visit.open(base)
    words = '<img src=x onerror="document.title=1"><script>document.title=2</script> {n} espresso'
    page.get_by_role("radio", name="As is").check()
    assert visit.answer(words) == words
    visit.made(seconds="1")
    expect(page.locator(".made-words").first).to_have_text(words)
    assert page.locator("main img, main script, dialog script").count() == 0
    assert page.title().startswith("Reprompt")
