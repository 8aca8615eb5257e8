"""The layout of a report in a browser, at the widths of a phone and of a desk."""

import dataclasses
import html
import json
import re
import shutil
import subprocess

import pytest
from figures import fit_of_groups

from bgmm_jd.reporting.report import report

BROWSER = next(filter(None, map(shutil.which, ["chromium", "google-chrome"])), "")
pytestmark = pytest.mark.skipif(not BROWSER, reason="needs Chromium: apt-get install chromium")

# Left in the page for its own inspection: what is wider than the window, and pictures not drawn.
MEASURE = """<script>
document.body.dataset.found = JSON.stringify({
  window: window.innerWidth,
  page: document.documentElement.scrollWidth,
  wide: [...document.querySelectorAll("h1, h2, p, dl, pre, figure, .scroll")]
    .filter(e => e.getBoundingClientRect().right > window.innerWidth).map(e => e.outerHTML),
  pictures: [...document.images].map(image => image.complete && image.naturalWidth),
  widths: [...document.images].map(image => Number(image.getAttribute("width"))),
});
</script></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Write the report of a fit with long names that no blank divides."""
    folder = tmp_path_factory.mktemp("layout")
    names = ("x" * 70, "the second feature, in millimetres per second")
    posterior = dataclasses.replace(
        fit_of_groups(2), feature_names=names, component_names=("n" * 50, "high")
    )
    path = report(posterior, path=folder / "report.html", draws=200, title="T" * 80)
    text = re.sub(r"<meta http-equiv=[^>]*>", "", path.read_text("utf-8"))
    path.write_text(text.replace("</body>", MEASURE), "utf-8")
    return path


def measured(page, width):
    """Return what the page says of itself in a window of that width."""
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={page.parent / 'profile'}",
            f"--window-size={width},900",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (found,) = re.findall(r'data-found="([^"]*)"', done.stdout)
    return json.loads(html.unescape(found))


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window_and_no_picture_is_missing(page, width):
    found = measured(page, width)
    assert found["window"] == width
    assert found["page"] <= width
    assert found["wide"] == []
    assert len(found["pictures"]) == 5
    assert found["pictures"] == found["widths"]
