"""What may go wrong while the page is used, and what it says then."""

import json
import re
import socket
import threading
import urllib.error
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.xdist_group("page")  # one browser, one server

KEY = "a-key-for-the-tests-of-the-page"
LONG = {"seconds": "300", "takes": "8"}  # made in most of a minute


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


def test_errors_are_told_where_they_happen(base, visit):
    visit.refusals = True
    page = visit.open(base)
    page.locator("#ask").click()
    expect(page.locator("#words-notice")).to_contain_text("Write something first")
    expect(page.locator("#words")).to_be_focused()
    page.locator("#words").fill("a" * 2001)
    expect(page.locator("#words-count")).to_have_text("2,001 of 2,000 characters")
    expect(page.locator("#ask")).to_be_disabled()

    page.context.set_offline(True)
    page.locator("#words").fill(visit.WORDS)
    page.locator("#ask").click()
    expect(page.get_by_role("alert")).to_contain_text("You are offline")
    visit.assert_accessible()
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".prompt-text")).to_contain_text("BPM")
    expect(page.get_by_role("alert")).to_have_count(0)

    visit.make(seconds="900")
    expect(page.locator("#make-notice")).to_contain_text("from 1 to 300 seconds")
    expect(page.locator("#make-seconds")).to_be_focused()
    page.goto(f"{base}/#g=00000000-0000-0000-0000-000000000000")
    page.reload()
    expect(page.locator("#words-notice")).to_contain_text("This is not there any more")


def test_a_key_is_asked_for_and_waits_are_kept(api, visit, serve):
    visit.refusals = True
    settings = {"KEYS": f"visitor:{KEY}", "RATE_PER_MINUTE": "60", "STREAMS": "1", "GRACE_S": "1"}
    with serve(**{f"REPROMPT_API_{name}": value for name, value in settings.items()}) as server:
        page = visit.open(server.url)
        dialog = page.get_by_role("dialog", name="An API key is needed")
        expect(dialog).to_be_visible()
        visit.assert_accessible()
        dialog.get_by_label("API key").fill("not-the-key-that-is-needed")
        dialog.get_by_role("button", name="Use it").click()
        expect(dialog).to_contain_text("This key is not accepted")
        dialog.get_by_label("API key").fill(KEY)
        dialog.get_by_role("button", name="Use it").click()
        expect(dialog).to_be_hidden()
        visit.answer()

        # the only event stream that is allowed is taken, by one that waits for a worker: the page asks instead
        waiting = {"words": "rain", "generator": "musicgen"}
        other = json.loads(api(server.url, "/v1/generations", waiting, key=KEY).read())
        with api(server.url, f"/v1/generations/{other['id']}/events", key=KEY) as stream:
            assert stream.readline()
            visit.make(seconds="2")
            expect(page.locator("#sound .player")).to_be_visible()
        polled = [r for r in visit.requests if re.search(r"/generations/[\w-]{36}$", r.url)]
        assert len(polled) >= 2

        def spend():
            for _ in range(120):
                api(server.url, "/v1/corpora", key=KEY)

        with pytest.raises(urllib.error.HTTPError, match="429"):
            spend()
        page.locator("#ask").click()
        expect(page.locator("#words-notice")).to_contain_text("Trying again in")
        expect(page.locator("#words-notice")).to_be_empty(timeout=10_000)
        expect(page.locator("#prompt-panel")).to_have_attribute("aria-busy", "false")
        assert all(KEY not in r.url for r in visit.requests)
        page.reload()  # the key is kept for the tab
        expect(page.locator(".prompt-text")).to_contain_text("BPM")


def test_what_runs_is_taken_up_again_and_cancelled(base, visit):
    visit.refusals = True
    with Wire(urlsplit(base).port or 0) as wire:
        page = visit.open(wire.address)
        visit.answer()
        visit.make(**LONG)
        making = re.compile("Making take [1-8] of 8…")  # the first may be made before the page hears of anything
        expect(page.locator(".progress-text")).to_have_text(making)
        page.route("**/events", lambda route: route.abort())
        wire.cut()
        expect(page.locator(".progress-text")).to_contain_text("The server cannot be reached")
        with page.expect_request(lambda r: r.url.endswith("/events") and "last-event-id" in r.headers) as again:
            page.unroute("**/events")
        assert int(again.value.headers["last-event-id"]) > 0
        expect(page.locator(".progress-text")).to_have_text(making)
        visit.assert_accessible()
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#sound .notice")).to_have_text("Cancelled. Nothing was kept.")
        expect(page.locator(".made li").first).to_contain_text("cancelled")
        visit.assert_accessible()


def test_what_is_finished_when_cancel_is_pressed_is_kept(api, base, visit):
    page = visit.open(base)
    visit.answer()
    held = []
    page.route("**/v1/generations/*/events", lambda route: held.append(route))
    with page.expect_response(lambda r: r.request.method == "POST" and r.url.endswith("/v1/generations")) as sent:
        visit.make(seconds="2", seed="41")
    path = f"/v1/generations/{sent.value.json()['id']}"
    api(base, f"{path}/events").read()  # to its end
    with page.expect_response(lambda r: r.request.method == "DELETE"):
        page.get_by_role("button", name="Cancel").click()
    held[0].continue_()
    expect(page.locator("#sound .player[data-loaded]")).to_have_count(1)
    assert json.loads(api(base, path).read())["status"] == "succeeded"
