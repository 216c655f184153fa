"""The report: what is on the page, what is left out and said, hostile text, and how it looks in a browser."""

import base64
import hashlib
import html
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from reprompt_eval.clips import embed
from reprompt_eval.errors import RunFolderError
from reprompt_eval.markup import Markup, el, join, typeset
from reprompt_eval.paired import Sampling
from reprompt_eval.plots import Axis
from reprompt_eval.report import render, write_report
from reprompt_eval.run_folder import Audio, read_run_folder

QUICK = Sampling(resamples=499)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked=1'> \"quoted\" & $body \x07 \u202e"
LONG = "ramen" * 60  # a word with nowhere to break
ARMS = ("raw", "rules", "llm")


def tone(pitch: float, seconds: float = 1.0, rate: int = 22_050) -> Any:
    t = np.arange(int(seconds * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * pitch * t)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with everything: three arms, two checkpoints, two seeds, a control, audio, votes."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "audio").mkdir()
    rng = np.random.default_rng(0)
    prompts: list[dict[str, Any]] = []
    rows = ["prompt_id,arm,seed,text,text_of,checkpoint,score,error"]
    manifest: list[dict[str, Any]] = []
    for i in range(16):
        id = f"p{i:02}"
        words = {0: HOSTILE, 1: LONG, 2: "Noche de lluvia, chocolate amargo"}.get(i, f"dish {i}")
        written = {"rules": f"Slow strings {HOSTILE}", "llm": "Fast brass"}
        prompts.append({"id": id, "words": words, "prompts": written, "taste": ["sweet", "sour"][i % 2]})
        level = rng.normal(0.1, 0.05)
        for at in ("music_audioset", "630k-audioset"):
            for arm, lift in zip(ARMS, (0.0, 0.01, 0.1), strict=True):
                # prompt 0 loses most, so that its words are on the page
                lift -= 0.5 if (i, arm) == (0, "rules") else -0.5 if (i, arm) == (1, "rules") else 0.0
                for seed in range(2):
                    own = level + lift + rng.normal(0, 0.02)
                    failed = (id, arm, seed) == ("p05", "llm", 1)
                    rows.append(f"{id},{arm},{seed},own,,{at},{'' if failed else own},{'silent' if failed else ''}")
                    rows.append(f"{id},{arm},{seed},shuffled,p{(i + 1) % 16:02},{at},{own - 0.05},")
                    if arm != "raw":
                        rows.append(f"{id},{arm},{seed},refined,,{at},{own + 0.1},")
        for arm in ARMS:
            name = f"audio/{id}-{arm}.{'ogg' if arm == 'raw' else 'wav'}"
            soundfile.write(folder / name, tone(220 + 10 * i), 22_050)
            content = (folder / name).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            manifest.append({"path": name, "prompt_id": id, "arm": arm, "seed": 0, "sha256": digest})
    (folder / "scores.csv").write_text("\n".join(rows), "utf-8")
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)), "utf-8")
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, manifest)), "utf-8")
    plan = f"title = {json.dumps('A <b>title</b>')}\nbound = 0.02\nstrata = ['taste']\n[primary]\narm = 'rules'\n"
    (folder / "plan.toml").write_text(plan, "utf-8")
    (folder / "versions.json").write_text(json.dumps({"laion-clap": "1.1.7", "<i>": "<u>"}), "utf-8")
    votes = [{"id": str(i), "words": HOSTILE if i % 2 else "dish", "seed": 0, "order": "ab", "choice": "ab"[i % 2],
              "preferred": ["raw", "rewritten"][i % 2], "generator": "musicgen"} for i in range(20)]  # fmt: skip
    (folder / "votes.jsonl").write_text("\n".join(map(json.dumps, votes)), "utf-8")
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return render(read_run_folder(run), two_things=True, sampling=QUICK)


class _Reader(HTMLParser):
    """Elements, attributes and the text that is shown."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script", "title"} & set(self.open):
            self.text += data


def shown(page: str) -> str:
    """The text, with plain spaces and hyphens."""
    return " ".join(_Reader(page).text.replace("\u2212", "-").split())


def test_the_page_says_what_was_found(page: str) -> None:
    text = shown(page)
    assert "No evidence that rewriting with “rules” helped on the person's own words: the score moved by" in text
    assert "Rewriting with “llm” helped on the person's own words, by music_audioset" in text
    for part in (
        "Two texts, two audios", "Prompt by prompt", "All arms and checkpoints", "By taste", "Lost most", "Gained most",
        "What listeners preferred", "What was not measured", "Every figure", "Control: the words of other prompts",
        "changes two things at once", "Methods", "laion-clap", "1.1.7", "A <b>title</b>", "silent",
        "Not scored: refined text on the audio of raw.", "The words as they are.",
    ):  # fmt: skip
        assert part in text, part


def test_every_element_is_closed_and_nothing_comes_from_elsewhere(page: str) -> None:
    reader = _Reader(page)
    assert reader.open == []
    for tag, attributes in reader.elements:
        assert tag not in {"iframe", "object", "embed", "img", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style"
            if name in {"src", "href"}:
                assert value
                assert value.startswith("data:"), (tag, name, value)
    assert "url(" not in page
    assert "@import" not in page


def test_hostile_words_are_text(page: str) -> None:
    text = _Reader(page).text
    shown_words = HOSTILE.replace("\x07", "\ufffd")
    assert shown_words in text
    assert page.count("<script") == 1
    assert "\x07" not in page


def test_every_mean_and_difference_stands_with_its_n_and_interval(page: str) -> None:
    text = shown(page)
    forest = re.findall(r"[+-]0\.\d{4}95 % CI [+-]0\.\d{4} to [+-]0\.\d{4}, n = (\d+)", text)
    assert forest == ["16"] * 4 + ["8"] * 8  # arms by checkpoints, strata of each
    # elsewhere: a figure with four decimals is an end of an interval, stands before one, or is an SD, a bound or so
    _, _, facts = text.partition("Every figure")
    for found in re.finditer(r"[+-]?0\.\d{4}(.{0,16})", facts):
        before = facts[max(0, found.start() - 60) : found.start()]
        stands = found[1].startswith((" (95 % CI", " to ", ", n =")) or re.search(
            r"(to|SD|CI [+-]?0\.\d{4} to|bound of|detectable) ?$", before
        )
        assert stands, facts[found.start() - 60 : found.end()]


def test_the_two_by_two(page: str) -> None:
    cells = re.search(r'<table class="cells">(.*?)</table>', page, re.S)
    assert cells
    text = shown(cells[1])
    assert len(re.findall(r"0\.\d{4}95 % CI -?0\.\d{4} to 0\.\d{4}, n = 16", text)) == 3
    assert text.count("not measured") == 1
    assert cells[1].count('class="primary"') == 2


def test_pictures_have_titles(page: str) -> None:
    pictures = re.findall(r"<svg(.*?)</svg>", page, re.S)
    assert len(pictures) >= 2 + 1 + 4 + 8
    for picture in pictures:
        assert "<title" in picture or 'aria-hidden="true"' in picture
    assert page.count('class="slope ') == 16
    assert page.count('class="bar ') == 16


def test_audio_is_on_the_page_and_can_be_played(page: str) -> None:
    sources = [a["src"] or "" for tag, a in _Reader(page).elements if tag == "audio"]
    assert len(sources) == 2 * page.count("<article") >= 12  # up to five prompts of each end, two audios each
    kinds = {s.partition(";")[0] for s in sources}
    assert kinds == {"data:audio/ogg", "data:audio/mpeg"}
    for source in sources:
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert rate == 22_050
        assert np.abs(samples).max() > 0.2


def test_the_same_folder_gives_the_same_page(run: Path, page: str) -> None:
    assert render(read_run_folder(run), two_things=True, sampling=QUICK) == page


def test_scores_alone_are_enough(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},0.{i},0.{i + 1}" for i in range(1, 9))
    (tmp_path / "scores.csv").write_text(f"pair,user_text_user_audio,user_text_refined_audio\n{rows}\n", "utf-8")
    text = shown(render(read_run_folder(tmp_path), sampling=QUICK))
    for part in (
        "No clear evidence", "all prompts moved alike", "The words and prompts are not in this folder",
        "Nobody listened",
        "One seed a prompt", "One checkpoint scored", "The audio is not in this folder", "No bound of equivalence",
        "There is no control", "Gained most",
    ):  # fmt: skip
        assert part in text, part
    assert "two things" not in text
    assert "No audio in the manifest" not in text  # no cards without anything on them
    (tmp_path / "prompts.jsonl").write_text('{"id": "1", "words": "lemon cake"}', "utf-8")
    text = shown(render(read_run_folder(tmp_path), sampling=QUICK))
    for part in (
        "lemon cake",
        "(1 seed, so no interval)",
        "Its prompt is not in the folder",
        "No audio in the manifest",
    ):
        assert part in text, part


# -- audio -----------------------------------------------------------------------------------------------------------


def test_audio_that_cannot_be_played_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    soundfile.write(tmp_path / "outside.wav", tone(300), 22_050)
    soundfile.write(folder / "changed.wav", tone(300), 22_050)
    soundfile.write(folder / "fast.wav", tone(300), 192_000)
    soundfile.write(folder / "long.wav", tone(300, 61), 22_050)
    soundfile.write(folder / "eight.wav", np.stack([tone(300)] * 8, axis=1), 22_050)
    (folder / "text.wav").write_text("no audio")
    (folder / "linked.wav").symlink_to(tmp_path / "outside.wav")
    wanted = {
        "../outside.wav": "outside the run's folder", "linked.wav": "outside the run's folder",
        "changed.wav": "another than the one that was scored", "missing.wav": "not there", "text.wav": "no audio file",
        "fast.wav": "no rate of 192000 Hz", ".": "cannot be read", "long.wav": "the first 60 s of 61", "eight.wav": "",
    }  # fmt: skip
    sums = {"changed.wav": "0" * 64}
    clips = embed((Audio(name, "p", "raw", "0", sums.get(name, ""), "") for name in wanted), folder)
    for name, says in wanted.items():
        assert says in clips[name].note, name
        assert bool(clips[name].uri) == (name in {"long.wav", "eight.wav"}), name
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(clips["long.wav"].uri.partition(",")[2])))
    assert len(samples) / rate == pytest.approx(60, abs=0.2)
    failed = embed([Audio("", "p", arm, "0", "", f"no {arm}") for arm in ("raw", "rules")], folder)
    assert {key: clip.note for key, clip in failed.items()} == {
        "p-raw-0": "none was made: no raw", "p-rules-0": "none was made: no rules",
    }  # fmt: skip


def test_audio_is_kept_under_its_budget(run: Path) -> None:
    folder = read_run_folder(run)
    every = list(folder.audio.values())
    budget = 60_000
    clips = embed(every, run, budget=budget)
    taken = [c for c in clips.values() if c.uri]
    assert 0 < len(taken) < len(every)
    assert sum(len(c.uri) for c in taken) <= budget
    assert all("left out" in c.note for c in clips.values() if not c.uri)
    page = render(folder, sampling=QUICK, budget=budget)
    assert len(page) < budget + 300_000
    assert "cannot be played here" in page


# -- the folder ------------------------------------------------------------------------------------------------------

SCORES = "prompt_id,arm,text,score\na,raw,own,0.1\na,rules,own,0.2\nb,raw,own,0.1\nb,rules,own,0.3\n"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "neither scores.parquet nor scores.csv"),
        ({"scores.csv": SCORES, "scores.parquet": "x"}, "keep the one that counts"),
        ({"scores.csv": SCORES, "plan.toml": "bound = = 1"}, "plan.toml is not TOML"),
        ({"scores.csv": SCORES, "plan.toml": "bound = '.02'"}, "bound must be a number above 0, not '.02'"),
        ({"scores.csv": SCORES, "plan.toml": "bound = -1"}, "bound must be a number above 0"),
        ({"scores.csv": SCORES, "plan.toml": "strata = 'taste'"}, "strata must be a list"),
        ({"scores.csv": SCORES, "plan.toml": "primary = 'x'"}, "primary must be a table"),
        ({"scores.csv": SCORES, "versions.json": "[]"}, "must be an object"),
        ({"scores.csv": SCORES, "versions.json": "{"}, "not JSON"),
        ({"scores.csv": SCORES, "manifest.jsonl": "\n{}"}, "line 2: prompt_id is missing"),
        ({"scores.csv": SCORES, "manifest.jsonl": '{"prompt_id": "a", "arm": "raw"}'}, "path is missing"),
        ({"scores.csv": SCORES, "prompts.jsonl": '{"id": "a"}\n\nnone'}, "prompts.jsonl, line 3: not JSON"),
        ({"scores.csv": SCORES, "prompts.jsonl": '{"id": "a"}\n{"id": "a"}'}, "line 2: the prompt 'a' again"),
        ({"scores.csv": SCORES, "prompts.jsonl": '{"words": "x"}'}, "line 1: the prompt has no id"),
        ({"scores.csv": SCORES, "prompts.jsonl": '{"id": "a", "prompts": "x"}'}, "prompts must be an object"),
        ({"scores.csv": SCORES, "prompts.csv": "id,text\na,b"}, "no column words"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_used(tmp_path: Path, files: dict[str, str], says: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(RunFolderError, match=says):
        read_run_folder(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_prompts_as_csv_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(SCORES, "utf-8")
    (tmp_path / "prompts.csv").write_text('id,words,prompt_rules,taste\na,"lemon, cake",Slow strings,sweet\n', "utf-8")
    of_csv = read_run_folder(tmp_path)
    (tmp_path / "prompts.csv").unlink()
    line = {"id": "a", "words": "lemon, cake", "prompts": {"rules": "Slow strings"}, "taste": "sweet"}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(line), "utf-8")
    of_json = read_run_folder(tmp_path)
    assert of_csv.prompts == of_json.prompts
    assert of_csv.scores.stratum("taste") == {"a": "sweet"}


def test_the_report_is_written_whole_or_not_at_all(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    path.write_text("before")
    with pytest.raises(RunFolderError, match="no such folder"):
        write_report(run, tmp_path / "none" / "out.html")
    with pytest.raises(RunFolderError, match="a folder"):
        write_report(run, tmp_path)
    assert write_report(run, path, sampling=QUICK) == path
    assert path.read_text("utf-8").startswith("<!doctype html>")
    assert [p.name for p in tmp_path.iterdir()] == ["out.html"]


# -- markup and axes -------------------------------------------------------------------------------------------------


def test_text_is_never_taken_for_markup() -> None:
    assert el("p", "<b>", class_='a"b', hidden=True, title=None) == '<p class="a&quot;b" hidden>&lt;b&gt;</p>'
    assert join("a & b", el("br"), [Markup("<i></i>"), None]) == "a &amp; b<br><i></i>"
    assert el("line", x1="0") == '<line x1="0"></line>'  # in HTML an SVG element does not close itself


def test_typesetting_touches_figures_only() -> None:
    assert typeset("-0.1 (95 % CI -0.2 to +0.3, n = 40), p < .001") == (
        "\u22120.1 (95\u202f%\u00a0CI \u22120.2 to +0.3, n\u00a0=\u00a040), p\u00a0<\u00a0.001"
    )
    assert typeset("630k-audioset, MiniLM-6, a-b") == "630k-audioset, MiniLM-6, a-b"


@pytest.mark.parametrize("values", [[0.0, 0.03], [-0.2, 0.4], [5.0, 5.0], [0.0, 0.0], [-1200.0, 900.0], [1e-9, 3e-9]])
def test_axes_have_round_marks(values: list[float]) -> None:
    axis = Axis.around(values)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(axis.low <= t <= axis.high for t in ticks)
    assert len({axis.written(t) for t in ticks}) == len(ticks)
    assert all(0 < axis.share(v) < 1 for v in values)


# -- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_in_chromium(run: Path, page: str, browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, "utf-8")
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda m: said.append(m.text))
    tab.on("pageerror", lambda e: said.append(str(e)))
    tab.on("request", lambda r: asked.append(r.url))
    tab.goto(path.as_uri())
    tab.wait_for_load_state("load")
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    assert tab.evaluate(f"{wide}.map(e => e.outerHTML.slice(0, 80))") == []
    assert tab.evaluate("window.hacked") is None
    seconds = "Promise.all([...document.querySelectorAll('audio')].map(a => a.duration || new Promise(done => " \
        "a.addEventListener('loadedmetadata', () => done(a.duration)))))"  # fmt: skip
    assert all(0.9 < s < 1.2 for s in tab.evaluate(seconds))
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    context.close()


def test_one_piece_plays_at_a_time(page: str, browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, "utf-8")
    tab = browser.new_page()
    tab.goto(path.as_uri())
    playing = tab.evaluate("""async () => {
        const [a, b] = document.querySelectorAll('audio');
        for (const audio of [a, b]) { audio.muted = true; audio.loop = true; }
        await a.play(); await b.play();
        return [a.paused, b.paused];
    }""")
    assert playing == [True, False]
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_read_it(page: str, browser: Any, tmp_path: Path, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    path = tmp_path / "report.html"
    # axe is a script from elsewhere, which the page's policy keeps out
    path.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page), "utf-8")
    context = browser.new_context(viewport={"width": 360, "height": 800}, color_scheme=scheme)
    tab = context.new_page()
    tab.goto(path.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = Axe().run(tab).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:100]) for v in found] == []
    context.close()


def test_it_prints(page: str, browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, "utf-8")
    tab = browser.new_page(color_scheme="dark")
    tab.goto(path.as_uri())
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.querySelector('audio')).display") == "none"
    assert len(tab.pdf(format="A4")) > 10_000
    tab.close()


def test_the_title_is_text(page: str) -> None:
    assert f"<title>{html.escape('A <b>title</b>')}</title>" in page
