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

# The report in a frame, because Chromium's own window is never narrower than 500 pixels; and what
# is wider than the frame, and the pictures that were decoded.
FRAME = """<!DOCTYPE html><body>
<iframe id="frame" style="border: 0; width: {width}px; height: 900px" srcdoc="{page}"></iframe>
<script>
window.onload = () => {{
  const inside = frame.contentWindow, report = inside.document;
  document.body.dataset.found = JSON.stringify({{
    window: inside.innerWidth,
    page: report.documentElement.scrollWidth,
    wide: [...report.querySelectorAll("h1, h2, p, dl, pre, figure, .scroll")]
      .filter(e => e.getBoundingClientRect().right > inside.innerWidth).map(e => e.tagName),
    pictures: [...report.images].map(image => image.complete && image.naturalWidth),
    widths: [...report.images].map(image => Number(image.getAttribute("width"))),
  }});
}};
</script></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Write the report of a fit with long names that no blank divides."""
    folder = tmp_path_factory.mktemp("layout")
    names = ("x" * 70, "the second feature, in millimetres per second")
    posterior = dataclasses.replace(
        fit_of_groups(2), feature_names=names, component_names=("n" * 50, "high")
    )
    return report(posterior, path=folder / "report.html", draws=200, title="T" * 80)


def measured(page, width):
    """Return what is found of the page in a frame of that width."""
    framed = page.with_name(f"{width}.html")
    text = html.escape(page.read_text("utf-8"))
    framed.write_text(FRAME.format(width=width, page=text), "utf-8")
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={page.parent / 'profile'}",
            "--window-size=1400,1000",
            "--dump-dom",
            framed.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (found,) = re.findall(r'data-found="([^"]*)"', done.stdout)
    return json.loads(html.unescape(found))


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_page_and_no_picture_is_missing(page, width):
    found = measured(page, width)
    assert found["window"] == width
    assert found["page"] <= width
    assert found["wide"] == []
    assert len(found["pictures"]) == 5
    assert found["pictures"] == found["widths"]
