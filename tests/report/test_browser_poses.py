"""The pose player in a real browser: it plays, scrubs, turns, asks for nothing, and says something without WebGL and on paper."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pose_sample import pose_report
from test_browser import CHROMIUM, NO_WEBGL, SOFTWARE_GL, Visit, launch

from triform.report.page import write_report
from triform.report.panels import Report, Table
from triform.tasks.human_pose.metrics import METRICS

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of human pose."""
    path = tmp_path_factory.mktemp("pose") / "report.html"
    write_report(path, pose_report())
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser with WebGL in software."""
    yield from launch(*SOFTWARE_GL)


@pytest.fixture(scope="module")
def visit(browser: Any, page_path: Path) -> Visit:
    """The page, opened, its controls in sight."""
    opened = Visit(browser, page_path)
    opened.page.locator(".poses .stage").first.scroll_into_view_if_needed()
    opened.settle()
    return opened


@pytest.fixture(autouse=True)
def at_the_start(visit: Visit) -> None:
    """Every test begins paused, on the first frame, nothing turned."""
    visit.home()
    scrub(visit, 0)


def scrub(visit: Visit, tick: int) -> None:
    """Move the slider of the first panel."""
    visit.page.locator(".player input").first.fill(str(tick))
    visit.settle()


def until(visit: Visit, condition: str) -> None:
    """Wait for the page. Not by `wait_for_function`, which the page's policy forbids."""
    visit.page.evaluate(
        "new Promise((done, fail) => { const end = Date.now() + 20_000; const look = () => "
        f"({condition}) ? done() : Date.now() > end ? fail(new Error('it never came')) : setTimeout(look, 10); look(); }})"
    )


def digests(visit: Visit) -> list[int]:
    """One number for each 3D view."""
    return [visit.ask(f"pixels({index}).digest") for index in range(4)]


def test_nothing_is_requested_and_nothing_complains(visit: Visit, page_path: Path) -> None:
    assert visit.requests[0] == page_path.as_uri()
    assert all(url.startswith("data:") for url in visit.requests[1:])
    assert visit.complaints == []


def test_all_people_are_drawn_and_nothing_moves_by_itself(visit: Visit) -> None:
    assert visit.ask("webgl") is True
    assert visit.ask("views") == 4
    for index in range(4):
        pixels = visit.ask(f"pixels({index})")
        assert 0.02 < pixels["drawn"] / (pixels["width"] * pixels["height"]) < 0.5
        assert pixels["colours"] > 200
    draws = visit.ask("draws()")
    visit.page.wait_for_timeout(300)
    assert visit.ask("draws()") == draws
    assert visit.ask("player(0)") == {"tick": 0, "last": 80, "playing": False}


def test_looking_changes_nothing(browser: Any, page_path: Path) -> None:
    fresh = Visit(browser, page_path)
    assert digests(fresh) == digests(fresh)


def test_scrubbing_shows_the_frame_everywhere(visit: Visit) -> None:
    before, flat = digests(visit), visit.page.locator(".flat .l").first.get_attribute("d")
    scrub(visit, 60)
    assert visit.ask("player(0).tick") == 60
    assert all(a != b for a, b in zip(before, digests(visit), strict=True))
    assert visit.page.locator(".flat .l").first.get_attribute("d") != flat
    assert visit.page.locator(".player output").first.inner_text() == "61 / 81 \u00b7 1.20 s"
    assert [text.split(",")[0] for text in visit.page.locator(".now").all_inner_texts()[:4]] == [*["frame 61 of 81"] * 3, "frame 20 of 20"]
    assert visit.ask("player(1).tick") == 0


def test_hidden_frames_are_marked(visit: Visit) -> None:
    scrub(visit, 30)
    flat = visit.page.locator("svg.flat").first
    assert "blank" in (flat.get_attribute("class") or "")
    assert (flat.locator(".rings").get_attribute("d") or "").count("M") == 17
    assert flat.locator(".dots").get_attribute("d") == ""
    assert visit.page.locator(".now").first.inner_text().endswith("hidden")


def test_play_advances_and_pause_stops(visit: Visit) -> None:
    button = visit.page.locator(".play").first
    button.click()
    until(visit, "triformTest.player(0).tick > 3")
    assert button.inner_text() == "Pause"
    button.click()
    visit.settle()
    tick = visit.ask("player(0).tick")
    visit.page.wait_for_timeout(200)
    assert visit.ask("player(0)") == {"tick": tick, "last": 80, "playing": False}
    assert visit.page.locator(".player input").first.input_value() == str(tick)


def test_it_begins_again_after_the_end_unless_less_motion_is_wanted(visit: Visit) -> None:
    visit.page.locator(".player select").first.select_option("2")
    scrub(visit, 78)
    visit.page.locator(".play").first.click()
    until(visit, "triformTest.player(0).tick < 60")
    scrub(visit, 78)
    visit.page.emulate_media(reduced_motion="reduce")
    visit.page.locator(".play").first.click()
    until(visit, "!triformTest.player(0).playing")
    assert visit.ask("player(0).tick") == 80
    visit.page.emulate_media(reduced_motion="no-preference")
    visit.page.locator(".player select").first.select_option("1")


def test_keys_step_play_and_turn(visit: Visit) -> None:
    visit.page.locator(".poses .stage").first.focus()
    for key in (".", ".", ".", ","):
        visit.page.keyboard.press(key)
    assert visit.ask("player(0).tick") == 2
    visit.page.keyboard.press(" ")
    assert visit.ask("player(0).playing") is True
    visit.page.keyboard.press(" ")
    assert visit.ask("player(0).playing") is False
    camera = visit.ask("camera(0)")
    visit.page.keyboard.press("ArrowLeft")
    assert visit.ask("camera(0)")["azimuth"] > camera["azimuth"]
    visit.page.keyboard.press("0")
    assert visit.ask("camera(0)") == camera


def test_a_drag_turns_all_people(visit: Visit) -> None:
    before, box = digests(visit), visit.page.locator(".poses canvas").first.bounding_box()
    visit.page.mouse.move(box["x"] + 60, box["y"] + 120)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 160, box["y"] + 150, steps=3)
    visit.page.mouse.up()
    visit.settle()
    assert all(a != b for a, b in zip(before, digests(visit), strict=True))
    visit.page.keyboard.press("0")
    visit.settle()
    assert digests(visit) == before


def test_a_click_on_the_timeline_seeks(visit: Visit) -> None:
    line = visit.page.locator(".timeline svg").first
    box = line.bounding_box()
    line.click(position={"x": box["width"] * 0.5, "y": 10})
    assert visit.ask("player(0).tick") == 40


def test_it_stops_where_nobody_sees_it(visit: Visit) -> None:
    visit.page.locator(".play").first.click()
    visit.page.evaluate("document.querySelector('footer').scrollIntoView({ behavior: 'instant' })")
    until(visit, "!triformTest.player(0).playing")
    visit.page.locator(".poses .stage").first.scroll_into_view_if_needed()


def test_colours_follow_the_scheme(visit: Visit) -> None:
    before = digests(visit)
    visit.page.emulate_media(color_scheme="dark")
    visit.settle()
    assert all(a != b for a, b in zip(before, digests(visit), strict=True))
    visit.page.emulate_media(color_scheme="light")
    visit.settle()
    assert digests(visit) == before


def test_paper_shows_strips_and_no_controls(visit: Visit) -> None:
    visit.page.emulate_media(media="print")
    assert visit.page.locator(".strip").first.is_visible()
    for hidden in (".player", ".poses canvas", "svg.flat"):
        assert not visit.page.locator(hidden).first.is_visible()
    visit.page.emulate_media(media="screen")


def test_without_webgl_strips_stay_and_2d_plays(browser: Any, page_path: Path) -> None:
    context = browser.new_context(offline=True)
    context.add_init_script(NO_WEBGL)
    page = context.new_page()
    page.goto(page_path.as_uri())
    page.wait_for_selector("body[data-ready=true]", timeout=20_000)
    assert page.evaluate("triformTest.webgl") is False
    assert page.locator(".strip").first.is_visible()
    assert not page.locator(".poses canvas").first.is_visible()
    before = page.locator(".flat .l").first.get_attribute("d")
    page.locator(".player input").first.fill("10")
    assert page.locator(".flat .l").first.get_attribute("d") != before
    context.close()


def test_a_phone_needs_no_sideways_scrolling(browser: Any, page_path: Path) -> None:
    phone = Visit(browser, page_path, color_scheme="dark", viewport={"width": 390, "height": 844}, has_touch=True)
    assert phone.page.evaluate("document.documentElement.scrollWidth") == 390
    assert phone.complaints == []


WIDE = ("split", "lifted by", "tracks", *METRICS)
OVERHANG = "document.querySelector('table').getBoundingClientRect().right - document.querySelector('.panel').getBoundingClientRect().right"


def test_a_table_of_every_metric_fits_on_paper(browser: Any, tmp_path: Path) -> None:
    """Paper can't be scrolled: what does not fit is lost."""
    table = Table("Errors", WIDE, (("test", "this model, flip averaged", 28, *[1234.5678] * len(METRICS)),))
    write_report(tmp_path / "report.html", Report("wide", "", (), (table,), ""))
    page = Visit(browser, tmp_path / "report.html").page
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 718, "height": 1016})  # A4 without its margins
    assert page.evaluate(OVERHANG) <= 0
