"""What was made before, and what is better: the history and the blind comparison."""

import json
import re
import urllib.error

import pytest

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.xdist_group("page")  # one browser, one server


def test_history_outlives_the_page_and_is_deleted(api, base, visit):
    page = visit.open(base)
    visit.answer("Lemon sorbet on a warm evening")
    id = visit.made(seconds="3", takes="2", format="ogg")
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
    visit.assert_accessible()
    row.get_by_role("button", name="Keep").click()
    row.get_by_role("button", name="Delete").click()
    row.get_by_role("button", name="Delete").click()
    expect(page.locator(f".made a[data-id='{id}']")).to_have_count(0)
    expect(page.locator("#sound")).to_be_hidden()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        api(base, f"/v1/generations/{id}")


def test_older_ones_are_shown_on_demand(api, base, visit):
    for seed in range(8):
        api(base, "/v1/generations", {"words": f"rain number {seed}", "seconds": 1, "seed": seed})
    page = visit.open(base)
    expect(page.locator(".made li")).to_have_count(6)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".made li").nth(7)).to_contain_text("rain number 0")
    expect(page.locator(".made li a").nth(6)).to_be_focused()


def test_a_blind_comparison_to_its_reveal(api, base, visit):
    page = visit.open(base)
    visit.answer()
    page.locator("#make-seconds").fill("5")
    page.locator("#words").fill(" ")
    page.get_by_role("button", name="Compare blind").click()
    expect(page.locator("#compare [role=alert]")).to_contain_text("Write something first")
    page.locator("#words").fill(visit.WORDS)
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
    visit.assert_accessible()
    page.get_by_role("button", name="Play B").click()
    expect(page.get_by_role("button", name="Play A")).to_be_visible()  # one plays at a time
    expect(vote).to_be_enabled(timeout=10_000)
    vote.click()
    expect(page.locator(".verdict")).to_have_text(re.compile("You preferred (the rewritten prompt|your own words)."))
    names = page.locator(".told-name").all_inner_texts()
    assert sorted(names) == ["With rewriting", "Your words as they are"]
    own = page.locator(".side", has_text="Your words as they are")
    expect(own.locator(".told-prompt")).to_have_text(visit.WORDS)
    expect(page.locator(".side.chosen h3")).to_have_text("A")
    preferred = json.loads(api(base, f"/v1/comparisons/{page.url.partition('#c=')[2]}").read())["preferred"]
    assert (preferred == "rewritten") == (names[0] == "With rewriting")
    visit.assert_accessible()
    page.reload()
    expect(page.locator(".verdict")).to_be_visible()
