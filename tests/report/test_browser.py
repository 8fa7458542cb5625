"""The page in a real browser, offline: nothing is requested, both views are drawn, one camera turns both, and it works without WebGL."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_page import evil_report

from triform.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NO_WEBGL = """
const get = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind.startsWith("webgl") ? null : get.call(this, kind, ...rest);
};
"""
BOUNDS = """(index) => {
  const bounds = (source, width, height) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 280 });
    const context = canvas.getContext("2d");
    context.drawImage(source, 0, 0, width, height, 0, 0, 320, 280);
    const { data } = context.getImageData(0, 0, 320, 280);
    const [xs, ys] = [[], []];
    for (let i = 0; i < 320 * 280; i += 1) if (data[4 * i + 3] > 100) { xs.push(i % 320); ys.push(Math.floor(i / 320)); }
    return [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  };
  const [image, canvas] = [document.querySelectorAll(".view img")[index], document.querySelectorAll(".view canvas")[index]];
  return [bounds(image, image.naturalWidth, image.naturalHeight), bounds(canvas, canvas.width, canvas.height)];
}"""
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]


class Visit:
    """An open page, what it said, and what it asked the network for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_context(offline=True, **{"viewport": {"width": 1280, "height": 900}, **options}).new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("body[data-ready=true]", timeout=20_000)

    def ask(self, question: str) -> Any:
        """A value from the page's test hook."""
        return self.page.evaluate(f"window.triformTest.{question}")

    def settle(self) -> None:
        """Wait for two frames."""
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def home(self) -> None:
        """Every camera as the page opens with it: tests share a page, in any order."""
        self.page.evaluate("document.querySelectorAll('.reset').forEach(button => button.click())")
        self.settle()


def launch(*flags: str) -> Iterator[Any]:
    """A browser with the flags given."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking", *flags])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser with WebGL in software."""
    yield from launch(*SOFTWARE_GL)


@pytest.fixture(scope="module")
def opened(browser: Any, sample_page: Path) -> Visit:
    """The sample report, opened."""
    return Visit(browser, sample_page)


@pytest.fixture
def visit(opened: Visit) -> Visit:
    """The sample report, nothing turned."""
    opened.home()
    return opened


def test_nothing_is_requested_and_nothing_complains(visit: Visit, sample_page: Path) -> None:
    assert visit.requests[0] == sample_page.as_uri()
    assert all(url.startswith("data:") for url in visit.requests[1:])
    assert visit.complaints == []


def test_all_views_are_drawn(visit: Visit) -> None:
    assert visit.ask("webgl") is True
    assert visit.ask("views") == 6
    for index in range(6):
        pixels = visit.ask(f"pixels({index})")
        assert 0.02 < pixels["drawn"] / (pixels["width"] * pixels["height"]) < 0.6
        assert pixels["colours"] > 200


@pytest.mark.parametrize("index", [0, 3])
def test_a_poster_shows_what_the_viewer_first_draws(visit: Visit, index: int) -> None:
    poster, view = visit.page.evaluate(BOUNDS, index)
    assert view == pytest.approx(poster, abs=4)


def test_a_drag_turns_both_views_of_a_pair_only(visit: Visit) -> None:
    stage = visit.page.locator(".stage").first
    stage.scroll_into_view_if_needed()
    visit.settle()
    before, camera, other = [visit.ask(f"pixels({index}).digest") for index in range(4)], visit.ask("camera(0)"), visit.ask("camera(1)")
    box = stage.bounding_box()
    visit.page.mouse.move(box["x"] + 100, box["y"] + 200)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 220, box["y"] + 230, steps=3)
    visit.page.mouse.up()
    visit.settle()
    after = [visit.ask(f"pixels({index}).digest") for index in range(4)]
    assert visit.ask("camera(0)")["azimuth"] < camera["azimuth"] - 0.5
    assert visit.ask("camera(1)") == other
    assert [a != b for a, b in zip(before, after, strict=True)] == [True, True, False, False]


def test_keys_turn_zoom_and_reset(visit: Visit) -> None:
    visit.page.locator(".stage").nth(1).focus()
    first = visit.ask("camera(1)")
    for key in ("ArrowLeft", "ArrowUp", "+", "+"):
        visit.page.keyboard.press(key)
    moved = visit.ask("camera(1)")
    assert moved["zoom"] == pytest.approx(1.15**2)
    assert moved["azimuth"] > first["azimuth"]
    assert moved["elevation"] > first["elevation"]
    visit.page.keyboard.press("0")
    assert visit.ask("camera(1)") == first


def test_nothing_is_drawn_unless_asked_for(visit: Visit) -> None:
    visit.settle()
    draws = visit.ask("draws()")
    visit.page.wait_for_timeout(400)
    assert visit.ask("draws()") == draws


def test_colour_by_height(visit: Visit) -> None:
    before = visit.ask("pixels(4).digest")
    visit.page.click("[data-colour=height]")
    visit.settle()
    assert visit.ask("pixels(4).digest") != before
    assert visit.page.locator("[data-scale=height]").is_visible()
    assert not visit.page.locator("[data-scale=error]").is_visible()
    visit.page.click("[data-colour=error]")


def test_a_chart_reads_out_its_values(visit: Visit) -> None:
    visit.page.locator("#s1 .plot").hover(position={"x": 1, "y": 60})
    tip = visit.page.locator("#s1 .tip")
    assert tip.is_visible()
    assert "step 200" in tip.inner_text()
    assert "1.9" in tip.inner_text()
    visit.page.locator("#s0 .chart").focus()
    visit.page.keyboard.press("ArrowLeft")
    assert "step 6,000" in visit.page.locator("#s0 .tip").inner_text()


def test_a_table_sorts_by_number_with_missing_values_last(visit: Visit) -> None:
    column = visit.page.locator("#s3 tbody tr td:nth-child(5)")
    head = visit.page.locator("#s3 thead button").nth(4)
    head.click()
    assert column.all_inner_texts() == ["0", "0", "1,204,332", "\u2013"]
    head.click()
    assert column.all_inner_texts() == ["1,204,332", "0", "0", "\u2013"]


def test_a_map_names_the_nearest_point_and_shows_one_group(visit: Visit) -> None:
    plot = visit.page.locator("[data-map] .plot")
    plot.scroll_into_view_if_needed()
    place = visit.page.evaluate(
        "(() => { const d = JSON.parse(document.getElementById('triform-data').textContent).maps[0]; return [d.x[7], d.y[7]] })()"
    )
    box = plot.bounding_box()
    plot.hover(position={"x": place[0] / 1000 * box["width"], "y": place[1] / 1000 * box["height"]})
    assert "plant_0007" in plot.locator(".tip").inner_text()
    visit.page.click("[data-map] button[data-group='2']")
    assert visit.page.locator("[data-map] path.dim").count() == 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, sample_page: Path, scheme: str) -> None:
    phone = Visit(browser, sample_page, color_scheme=scheme, viewport={"width": 390, "height": 844}, has_touch=True)
    assert phone.page.evaluate("document.documentElement.scrollWidth") == 390
    assert phone.complaints == []
    ground = phone.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in ground[4:-1].split(",")) > 400) == (scheme == "light")


def test_markup_in_names_does_nothing(browser: Any, tmp_path: Path) -> None:
    write_report(tmp_path / "evil.html", evil_report())
    evil = Visit(browser, tmp_path / "evil.html")
    assert evil.complaints == []
    assert evil.page.locator("h1").inner_text().startswith("</script><script>alert(1)")
    evil.page.locator(".chart .plot").first.hover(position={"x": 5, "y": 20})
    assert evil.page.locator("img").count() == 4


def test_a_page_without_clouds_is_ready(browser: Any, tmp_path: Path) -> None:
    from sample import sample_report

    write_report(tmp_path / "none.html", sample_report(panels=()))
    assert Visit(browser, tmp_path / "none.html").complaints == []


def test_paper_shows_posters_and_no_navigation(browser: Any, sample_page: Path) -> None:
    paper = Visit(browser, sample_page)
    paper.page.emulate_media(media="print")
    assert paper.page.locator(".view img").first.is_visible()
    assert not paper.page.locator("nav").is_visible()


def test_without_webgl_the_posters_stay(sample_page: Path, browser: Any) -> None:
    context = browser.new_context(offline=True)
    context.add_init_script(NO_WEBGL)
    page = context.new_page()
    page.goto(sample_page.as_uri())
    page.wait_for_selector("body[data-ready=true]", timeout=20_000)
    assert page.evaluate("triformTest.webgl") is False
    assert page.locator(".view img").first.is_visible()
    assert page.locator(".view img").first.evaluate("image => image.naturalWidth") == 640
    assert page.locator(".hint.flat").is_visible()
    context.close()
