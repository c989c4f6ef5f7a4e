"""The page in a real Chromium: drawn, quiet, closed to the network, readable in both schemes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from devbench_reports.html import to_html
from tests.reports import factory

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if program is None:
        assert os.environ.get("CI") != "true", "CI needs Chromium: apt-get install chromium"
        pytest.skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


class Visit:
    """A page that was opened, with everything it said and asked for."""

    def __init__(self, browser: Browser, path: Path, **context: Any) -> None:
        self.page: Page = browser.new_page(**context)
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", self._dismiss)
        self.url = path.as_uri()
        self.page.goto(self.url)

    def _dismiss(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def draw_all(self) -> None:
        """Charts are drawn as they come near the window: open every panel and pass by each."""
        self.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        for place in self.page.locator(".chart").all():
            place.scroll_into_view_if_needed()
            place.locator("svg.main-svg").first.wait_for()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [*factory.sweep(), *factory.troubled()]
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(to_html(factory.run(rows), rows), encoding="utf-8")
    return path


def test_every_chart_is_drawn_with_its_lines_and_without_a_word_or_a_request(
    browser: Browser, report: Path
) -> None:
    visit = Visit(browser, report)
    visit.draw_all()
    page = visit.page
    assert page.locator(".chart").count() == 18
    assert (
        page.locator(".chart .scatterlayer .trace").count()
        == 8 + 9 + 4 + 4 + 3 * (4 + 4 + 2 + 2) - 1 + 0
    )
    assert page.locator(".chart .barlayer .trace").count() == 8
    assert visit.messages == []
    assert visit.requests == [visit.url]
    page.close()


def test_hostile_names_stay_visible_text_and_run_nothing(browser: Browser, tmp_path: Path) -> None:
    rows = [
        factory.result(name, {"n": n, "phase": hostile}, benchmark=hostile, suite=hostile)
        for hostile in factory.HOSTILE
        for name in ("torch:cpu", "torch:cuda:0")
        for n in (1, 2, 4)
    ]
    path = tmp_path / "report.html"
    run = factory.run(rows, host=factory.HOSTILE[0], label=factory.HOSTILE[1])
    path.write_text(to_html(run, rows), encoding="utf-8")
    visit = Visit(browser, path, viewport={"width": 400, "height": 800})
    visit.draw_all()
    assert visit.page.get_by_role("heading", level=1).inner_text() == factory.HOSTILE[1]
    assert factory.HOSTILE[0] in visit.page.locator("header").inner_text()
    for number, hostile in enumerate(factory.HOSTILE, 1):
        shown = visit.page.locator(f"#benchmark-{number}").text_content() or ""
        assert shown == hostile
    assert visit.dialogs == []
    assert visit.messages == []
    assert visit.requests == [visit.url]
    assert visit.page.locator("body script").count() == 3
    assert_no_sideways_scrolling(visit.page)
    visit.page.close()


def test_dark_and_light_follow_the_reader_in_the_page_and_in_the_charts(
    browser: Browser, report: Path
) -> None:
    page = Visit(browser, report, color_scheme="light").page
    page.locator(".chart").first.scroll_into_view_if_needed()
    page.locator(".chart svg.main-svg").first.wait_for()
    colours = """() => {
        const style = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
        return [style("body", "backgroundColor"), style(".chart .ytick text", "fill"),
                style(".chart .scatterlayer .trace path.js-line", "stroke")];
    }"""
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"before => ({colours})()[2] !== before", arg=light[2])
    dark = page.evaluate(colours)
    assert all(first != second for first, second in zip(light, dark, strict=True))

    def brightness(colour: str) -> int:
        return sum(int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])

    assert brightness(light[0]) > 600 > 200 > brightness(dark[0])
    assert brightness(light[1]) < 200 < 600 < brightness(dark[1])
    page.close()


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_never_scrolls_sideways(browser: Browser, report: Path, width: int) -> None:
    visit = Visit(browser, report, viewport={"width": width, "height": 900})
    visit.draw_all()
    assert_no_sideways_scrolling(visit.page)
    captions = visit.page.locator("caption span").all()
    assert captions
    for caption in captions:
        box = caption.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width, "a caption is read without scrolling its table"
    ends = visit.page.locator(".charts-4").first.evaluate(
        "row => [...row.querySelectorAll('.chart')].map(c => c.getBoundingClientRect().bottom)"
    )
    assert len(ends) == 4
    if width == 1400:
        assert max(ends) - min(ends) < 1, "charts beside each other stand on one line"
    visit.page.close()


def assert_no_sideways_scrolling(page: Page) -> None:
    assert page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )


def test_the_table_sorts_by_figure_not_by_text_and_by_keyboard(
    browser: Browser, report: Path
) -> None:
    page = Visit(browser, report).page
    heads = page.locator("#results thead th")
    titles = [text.split()[0] for text in heads.all_inner_texts()]
    place = titles.index("median")

    def column() -> list[str]:
        return page.locator(f"#results tbody td:nth-child({place + 1})").all_inner_texts()

    button = heads.nth(place).get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    assert heads.nth(place).get_attribute("aria-sort") == "ascending"
    rising = column()
    assert rising[:2] == ["5.00 µs", "21.0 µs"]
    assert rising[-6:] == ["1.41 s", *["–"] * 5]
    button.click()
    assert heads.nth(place).get_attribute("aria-sort") == "descending"
    assert column()[0] == "1.41 s"
    assert column()[-5:] == ["–"] * 5
    page.close()


def test_texts_among_figures_and_switches_sort_too(browser: Browser, tmp_path: Path) -> None:
    rows = [
        factory.result(params={"fused": fused}, metrics={"scaling": scaling})
        for fused, scaling in ((True, "weak"), (False, "path only"), (True, "strong"))
    ]
    path = tmp_path / "report.html"
    path.write_text(to_html(factory.run(rows), rows), encoding="utf-8")
    page = Visit(browser, path).page
    heads = page.locator("#results thead th")
    titles = heads.all_inner_texts()
    for title, sorted_ in (
        ("scaling", ["path only", "strong", "weak"]),
        ("fused", ["no", "yes", "yes"]),
    ):
        (place,) = [at for at, text in enumerate(titles) if text.split()[0] == title]
        heads.nth(place).get_by_role("button").click()
        cells = page.locator(f"#results tbody td:nth-child({place + 1})")
        assert cells.all_inner_texts() == sorted_
    page.close()


def test_the_filter_keeps_the_rows_with_all_its_words(browser: Browser, report: Path) -> None:
    page = Visit(browser, report).page
    page.get_by_label("Show rows with").fill("MLP train_step gpu:0")
    rows = page.locator("#results tbody tr:visible")
    assert rows.count() == 3
    assert all("tensorflow:GPU:0" in text for text in rows.all_inner_texts())
    assert page.locator("#shown").inner_text() == "3 of 87"
    page.close()
