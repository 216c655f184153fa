"""Languages, colours, sizes."""

import re

import pytest

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.xdist_group("page")  # one browser, one server


def test_spanish(base, visit):
    page = visit.open(base, locale="es-MX")
    expect(page.locator("html")).to_have_attribute("lang", "es")
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "Di una escena, un plato, un ánimo. Escúchalo como música."
    )
    page.get_by_role("button", name="Noche de lluvia").click()
    expect(page.locator("#why-key .choice-value")).to_have_text("si menor")
    expect(page.locator("#why-genre .choice-because")).to_have_text("va con Noche")
    visit.made()
    expect(page.locator("#sound .notice.preview")).to_contain_text("ningún modelo de música")
    visit.assert_accessible()
    english = page.get_by_role("button", name="English")
    english.click()
    expect(page.locator("#sound .notice.preview")).to_contain_text("no music model")
    expect(page.locator("#why-key .choice-value")).to_have_text("B minor")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Hear it as music")  # it is remembered
    expect(english).to_have_attribute("aria-pressed", "true")


def test_reasons_are_told_in_spanish(base, visit):
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


SENTENCES = [  # as the server says them
    "Too much is under way; try again in a moment.",
    "1,000 generations are waiting already, and no more are accepted; try again in a while.",
    "The database is not available at the moment; try again in a few seconds.",
    "The audio store is not available at the moment; try again in a few seconds.",
    "The service is starting or stopping; try again.",
    "The server is stopping; try again.",
]
EXPLAIN = """async (sentences) => {
  const { explain } = await import("/page/problems.js");
  const { Problem } = await import("/page/api.js");
  return sentences.map((detail) => explain(new Problem("refused", { status: 503, detail })).join(" "));
}"""


def test_what_the_server_says_is_told_in_spanish(base, visit):
    assert visit.open(base).evaluate(EXPLAIN, SENTENCES) == SENTENCES
    told = visit.open(base, locale="es-ES").evaluate(EXPLAIN, [*SENTENCES, "Something new."])
    assert not [text for text in told[:-1] if re.search(r"\b(the|is|try|again)\b", text, re.IGNORECASE)]
    assert told[-1].startswith("El servidor no puede atender esto ahora.")
    assert told[-1].endswith("Something new.")


def test_both_dictionaries_say_the_same(base, visit):
    page = visit.open(base)
    english, spanish = page.evaluate("""async () => Promise.all(
      [["english.js", "english"], ["spanish.js", "spanish"]].map(async ([file, name]) =>
        Object.fromEntries(Object.entries((await import(`/page/${file}`))[name]).map(([k, v]) => [k, String(v)]))))""")
    assert set(english) == {k for k in spanish if not k.startswith(("term_", "server_"))}
    for key, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", spanish[key])), key


def test_dark(base, visit):
    page = visit.open(base, scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(19, 20, 22)"
    visit.answer()
    page.locator("#why-articulation summary").click()
    visit.made()
    visit.assert_accessible()
    page.get_by_role("button", name="Light colours").click()
    assert page.evaluate(ground) == "rgb(246, 246, 244)"
    page.reload()
    assert page.evaluate(ground) == "rgb(246, 246, 244)"  # it is remembered


def test_a_phone(base, visit):
    page = visit.open(base, width=360)
    visit.assert_fits()
    visit.answer(f"{visit.WORDS} {'andonandon' * 12} in a stream of words with no end")
    visit.open_all()
    visit.assert_fits()
    visit.made(takes="2", format="mp3")
    visit.assert_fits()
    page.get_by_role("button", name="Compare blind").click()
    expect(page.locator(".side .player[data-loaded]").first).to_be_visible(timeout=30_000)
    visit.assert_fits()
    visit.assert_accessible()
