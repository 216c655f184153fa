"""The page in a real browser against a real server: one of each for all of its tests."""

import json
import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

CHROMIUM = Path("/usr/bin/chromium")


def _api(base: str, path: str, body: Any = None, *, key: str = "", method: str | None = None) -> Any:
    request = urllib.request.Request(
        base + path, data=None if body is None else json.dumps(body).encode(), method=method
    )
    request.add_header("Content-Type", "application/json")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    return urllib.request.urlopen(request, timeout=30)


@pytest.fixture(scope="session")
def api() -> Callable[..., Any]:
    """What the API answers, without the page."""
    return _api


@pytest.fixture(scope="module")
def base(serve: Callable[..., Any]) -> Iterator[str]:
    """The address of the server."""
    with serve(REPROMPT_API_PREVIEWS="2", REPROMPT_API_GRACE_S="1") as server:
        yield server.url
        assert '"event": "fault"' not in server.logged()


@pytest.fixture(scope="module")  # Playwright has an event loop that runs until it ends: no other file may meet it
def browser(environment: None) -> "Iterator[Browser]":
    playwright_api = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
    if not CHROMIUM.exists():
        pytest.skip("Debian's chromium is not installed: apt install chromium")
    playwright_api.expect.set_options(timeout=20_000)  # a limit, not a measure: the machine may be busy
    with playwright_api.sync_playwright() as playwright:
        args = ["--autoplay-policy=no-user-gesture-required", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=args)
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """A visitor's browser, what the visitor does, and what the browser did behind the page."""

    WORDS: ClassVar[str] = "A bowl of spicy ramen under neon signs, no drums"
    browser: "Browser"
    refusals: bool = False  # the browser itself logs answers of 4xx and 5xx, which some tests are about
    complaints: list[str] = field(default_factory=list)
    requests: "list[Request]" = field(default_factory=list)

    def open(self, address: str, *, width: int = 1280, locale: str = "en-US", scheme: Any = "light") -> "Page":
        """Opens the page, which the visitor then has before them."""
        context = self.browser.new_context(
            viewport={"width": width, "height": 860}, locale=locale, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page = page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: self.requests.append(request))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None)
        page.goto(address)
        self.home = urlsplit(address).netloc
        return page

    def answer(self, words: str = WORDS) -> str:
        """Has the prompt written, and gives it."""
        from playwright.sync_api import expect

        self.page.get_by_role("textbox", name=re.compile("Your words|Tus palabras")).fill(words)
        with self.page.expect_response("**/v1/prompts"):
            self.page.locator("#ask").click()
        expect(self.page.locator("#prompt-panel")).to_have_attribute("aria-busy", "false")
        return self.page.locator(".prompt-text").inner_text()

    def make(self, **settings: str) -> None:
        """Sets what is given, and asks for the music."""
        for name, value in settings.items():
            control = self.page.locator(f"#make-{name}")
            if control.evaluate("e => e.localName") == "select":
                control.select_option(value)
            else:
                control.fill(value)
        self.page.locator("#make-button").click()

    def made(self, **settings: str) -> str:
        """Has music made and loaded, and gives the id of the generation."""
        from playwright.sync_api import expect

        page = self.page
        with page.expect_response(lambda r: r.request.method == "POST" and r.url.endswith("/v1/generations")) as sent:
            self.make(**{"seconds": "4", **settings})
        expect(page.locator("#sound .player[data-loaded]").first).to_be_visible(timeout=30_000)
        return sent.value.json()["id"]

    def open_all(self) -> None:
        """Opens every reason."""
        for details in self.page.locator("#why details").all():
            if details.get_attribute("open") is None:
                details.locator("summary").click()

    def assert_accessible(self) -> None:
        """By axe-core: no violation that is serious."""
        from axe_playwright_python.sync_playwright import Axe

        found = [v for v in Axe().run(self.page).response["violations"] if v["impact"] in {"serious", "critical"}]
        assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found] == []

    def assert_fits(self) -> None:
        """Nothing is wider than the window."""
        assert self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Visit]:
    """A visit; at its end nothing unexpected may have been logged, and nothing asked of other hosts."""
    visit = Visit(browser)
    yield visit
    for context in browser.contexts:
        context.close()
    unexpected = [c for c in visit.complaints if not (visit.refusals and c.startswith("Failed to load resource"))]
    assert unexpected == []
    elsewhere = [r.url for r in visit.requests if urlsplit(r.url).netloc not in {visit.home, ""}]
    assert [url for url in elsewhere if not url.startswith(("blob:", "data:"))] == []
