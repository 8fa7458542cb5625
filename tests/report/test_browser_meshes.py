"""Meshes, distributions and crowded maps in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sample import identity_report
from test_browser import BOUNDS, CHROMIUM, NO_WEBGL, SOFTWARE_GL, Visit, launch

from triform.report.page import write_report

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of mesh identity."""
    path = tmp_path_factory.mktemp("identity") / "report.html"
    write_report(path, identity_report())
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser with WebGL in software."""
    yield from launch(*SOFTWARE_GL)


@pytest.fixture(scope="module")
def opened(browser: Any, page_path: Path) -> Visit:
    """The page, opened."""
    return Visit(browser, page_path)


@pytest.fixture
def visit(opened: Visit) -> Visit:
    """The page, nothing turned."""
    opened.home()
    return opened


def drag(visit: Visit) -> None:
    """A drag to the right and down over the first view."""
    stage = visit.page.locator(".meshes .stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    visit.page.mouse.move(box["x"] + 80, box["y"] + 120)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 180, box["y"] + 150, steps=3)
    visit.page.mouse.up()
    visit.settle()


def test_nothing_is_requested_and_nothing_complains(visit: Visit, page_path: Path) -> None:
    assert visit.requests[0] == page_path.as_uri()
    assert all(url.startswith("data:") for url in visit.requests[1:])
    assert visit.complaints == []


def test_meshes_and_points_are_drawn(visit: Visit) -> None:
    assert visit.ask("webgl") is True
    assert visit.ask("views") == 3
    for index in range(3):
        pixels = visit.ask(f"pixels({index})")
        assert 0.05 < pixels["drawn"] / (pixels["width"] * pixels["height"]) < 0.7
        assert pixels["colours"] > 200


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_poster_shows_what_the_viewer_first_draws(visit: Visit, index: int) -> None:
    poster, view = visit.page.evaluate(BOUNDS, index)
    assert view == pytest.approx(poster, abs=4)


def test_a_poster_has_the_viewers_colours_and_light(visit: Visit) -> None:
    image, canvas = visit.page.evaluate("""() => {
      const middle = (source, width, height) => {
        const canvas = Object.assign(document.createElement("canvas"), { width: 40, height: 35 });
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.imageSmoothingQuality = "high";
        context.drawImage(source, 0, 0, width, height, 0, 0, 40, 35);
        return [[20, 17], [16, 12], [24, 20], [15, 20]].flatMap(([x, y]) => [...context.getImageData(x, y, 1, 1).data]);
      };
      const [image, canvas] = [document.querySelector(".view img"), document.querySelector(".view canvas")];
      return [middle(image, image.naturalWidth, image.naturalHeight), middle(canvas, canvas.width, canvas.height)];
    }""")
    assert canvas == pytest.approx(image, abs=5)


def test_a_drag_turns_all_views_together(visit: Visit) -> None:
    before, camera = [visit.ask(f"pixels({index}).digest") for index in range(3)], visit.ask("camera(0)")
    drag(visit)
    after = [visit.ask(f"pixels({index}).digest") for index in range(3)]
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert visit.ask("camera(0)")["azimuth"] < camera["azimuth"] - 0.3


def test_keys_turn_and_reset(visit: Visit) -> None:
    visit.page.locator(".meshes .stage").focus()
    visit.page.keyboard.press("0")
    first = visit.ask("camera(0)")
    visit.page.keyboard.press("ArrowLeft")
    visit.page.keyboard.press("+")
    moved = visit.ask("camera(0)")
    assert moved["azimuth"] > first["azimuth"]
    assert moved["zoom"] == pytest.approx(1.15)
    visit.page.keyboard.press("0")
    assert visit.ask("camera(0)") == first


def test_a_distribution_reads_out_its_bins(visit: Visit) -> None:
    visit.page.locator("#s0 .chart").focus()
    visit.page.keyboard.press("ArrowRight")
    tip = visit.page.locator("#s0 .tip").inner_text()
    assert "distance 0 to 0.05" in tip
    assert "0 (0 %)" in tip


def test_a_crowded_map_lifts_out_the_group_under_the_pointer(visit: Visit) -> None:
    plot = visit.page.locator("[data-map] .plot")
    plot.scroll_into_view_if_needed()
    place = visit.page.evaluate(
        "(() => { const d = JSON.parse(document.getElementById('triform-data').textContent).maps[0]; return [d.x[237], d.y[237]] })()"
    )
    box = plot.bounding_box()
    plot.hover(position={"x": place[0] / 1000 * box["width"], "y": place[1] / 1000 * box["height"]})
    assert "subject_0023" in plot.locator(".tip").inner_text()
    assert visit.page.locator("[data-map] .plot path.dim").count() == 59
    visit.page.mouse.move(1, 1)
    assert visit.page.locator("[data-map] .plot path.dim").count() == 0


def test_the_legend_opens_and_shows_one_group(visit: Visit) -> None:
    button = visit.page.locator("[data-map] button[data-group='5']")
    assert not button.is_visible()
    visit.page.locator("[data-map] summary").click()
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert visit.page.locator("[data-map] .plot path.dim").count() == 59
    button.click()
    assert visit.page.locator("[data-map] .plot path.dim").count() == 0


@pytest.mark.long
def test_a_phone_needs_no_sideways_scrolling(browser: Any, page_path: Path) -> None:
    phone = Visit(browser, page_path, color_scheme="dark", viewport={"width": 390, "height": 844}, has_touch=True)
    assert phone.page.evaluate("document.documentElement.scrollWidth") == 390
    assert phone.complaints == []


def test_paper_and_browsers_without_webgl_show_the_posters(browser: Any, page_path: Path, visit: Visit) -> None:
    visit.page.emulate_media(media="print")
    assert visit.page.locator(".view img").first.is_visible()
    assert not visit.page.locator(".view canvas").first.is_visible()
    visit.page.emulate_media(media="screen")
    context = browser.new_context(offline=True)
    context.add_init_script(NO_WEBGL)
    page = context.new_page()
    page.goto(page_path.as_uri())
    page.wait_for_selector("body[data-ready=true]", timeout=20_000)
    assert page.evaluate("triformTest.webgl") is False
    assert page.locator(".view img").first.is_visible()
    assert page.locator(".meshes .hint.flat").is_visible()
    context.close()
