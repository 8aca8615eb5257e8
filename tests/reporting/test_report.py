"""The contents of a report, read as HTML."""

import dataclasses
import io

import numpy as np
import pytest
from figures import fit_of_groups, groups
from matplotlib import pyplot
from matplotlib.image import imread
from pages import Page

import bgmm_jd
from bgmm_jd import Status
from bgmm_jd.posterior.mode import Mode
from bgmm_jd.reporting.report import report
from bgmm_jd.storage.without_rows import without_rows

NAMES = ("<script>alert(1)</script>", 'a "b" & c')


def named(posterior):
    return dataclasses.replace(
        posterior, feature_names=NAMES[: posterior.D], component_names=("<b>low", "high")
    )


def page_of(folder, posterior, *arguments, **options):
    path = report(posterior, *arguments, path=folder / "report.html", draws=200, **options)
    return Page(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the report of a fit of two features, whose names would be read as HTML."""
    posterior = named(fit_of_groups(2))
    return page_of(tmp_path_factory.mktemp("whole"), posterior, title="Two <i>groups</i>")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Return the function that reports fits without rows, which is quick."""

    def make(posterior=None, **options):
        posterior = fit_of_groups(1) if posterior is None else posterior
        return page_of(tmp_path_factory.mktemp("bare"), without_rows(posterior), **options)

    return make


def test_page_has_its_sections_in_order(whole):
    assert whole.texts["h1"] == ["Two <i>groups</i>"]
    assert whole.texts["h2"] == [
        "How far to trust it",
        "Components",
        "Rows",
        "Modes",
        "What the fit cost",
        "How to repeat it",
    ]


def test_page_loads_nothing_and_runs_nothing(whole):
    for tag, attributes in whole.elements:
        assert tag not in ("script", "link", "iframe", "object", "i", "b")
        assert not any(name.startswith("on") or name == "href" for name in attributes)
    (policy,) = (meta for meta in whole.all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in policy["content"]
    assert "url(" not in whole.texts["style"][0]
    assert "@import" not in whole.texts["style"][0]


def test_names_are_shown_as_they_are(whole):
    heads = {row[0] for row in whole.rows}
    assert heads >= set(NAMES)
    assert whole.rows[0] == ["", "<b>low", "high"]


def test_pictures_are_whole_and_described(whole):
    images, pictures = whole.all("img"), whole.pictures
    assert len(pictures) == 5  # parameters, components, density, uncertainty, elbo
    for image, png in zip(images, pictures, strict=True):
        height, width = imread(io.BytesIO(png)).shape[:2]
        assert (int(image["width"]), int(image["height"])) == (width, height)
        assert len(image["alt"]) > 20
    assert len({image["alt"] for image in images}) == len(images)


def test_table_has_the_numbers_of_the_summary(whole):
    """To the digits that are shown: half a unit of the last of them."""
    table = fit_of_groups(2).summary(draws=200)
    groups_of_rows = [row for row in whole.rows if len(row) == 3][1:]
    expected = [
        table.loc["weights"]["mean"].to_numpy(),
        np.bincount(bgmm_jd.predict(fit_of_groups(2), groups(60, 2))),
        *(table.loc[(kind, slice(None), d), "mean"] for kind in ("means", "sds") for d in (0, 1)),
    ]
    assert len(groups_of_rows) == len(expected)
    for (_, *cells), numbers in zip(groups_of_rows, expected, strict=True):
        for cell, number in zip(cells, numbers, strict=True):
            shown = cell.split(" to ")[0]
            mean = shown if len(cell) < 4 else shown[: len(shown) - len(interval_start(shown))]
            decimals = len(mean.partition(".")[2])
            assert float(mean) == pytest.approx(number, abs=0.5001 * 10.0**-decimals)


def interval_start(text):
    """Return the second of two numbers that stand together and have as many decimals."""
    decimals = len(text.split(".")[-1])
    first = text.index(".") + decimals + 1
    return text[first:]


def test_verdict_and_its_advice_are_in_words(whole, bare):
    assert "Converged" in whole.texts["p"][1]
    doubtful = dataclasses.replace(
        fit_of_groups(1), status=Status.KHAT_TOO_HIGH, khat=0.91, restarts=()
    )
    found = bare(doubtful)
    (verdict,) = (p for p in found.all("p") if p.get("class") == "verdict attention")
    assert verdict
    assert f"Khat too high{Status.KHAT_TOO_HIGH.value}" in found.texts["p"]
    assert any("k-hat 0.91 (above 0.7, not reliable)" in text for text in found.texts["dd"])


def test_call_of_the_fit_and_versions_are_told(whole):
    posterior = fit_of_groups(2)
    assert whole.texts["pre"] == [f"import bgmm_jd\n\nposterior = {posterior.provenance.call}"]
    assert any(f"bgmm_jd {bgmm_jd.__version__}" in text for text in whole.texts["dd"])


def test_fit_of_unknown_call_says_so(bare):
    found = bare(dataclasses.replace(fit_of_groups(1), provenance=None))
    assert any("call of the fit is not known" in text for text in found.texts["p"])
    assert "pre" not in found.texts


def test_several_modes_have_a_table_and_a_plot(bare):
    modes = (Mode(0.7, -810.25, -815.0, 0.3, 22), Mode(0.3, -811.1, -816.0, 0.4, 1))
    found = bare(dataclasses.replace(fit_of_groups(1), modes=modes))
    assert ["0", "70.0%", "-810.25", "-815.00", "0.30", "22"] in found.rows
    assert ["1", "30.0%", "-811.10", "-816.00", "0.40", "1"] in found.rows
    assert len(found.pictures) == 3  # parameters, modes, elbo


def test_fit_without_any_mode_is_reported(bare):
    found = bare(dataclasses.replace(fit_of_groups(1), modes=()))
    assert any("no mode is known" in text for text in found.texts["p"])


def test_posterior_without_rows_has_no_plots_of_rows(bare):
    found = bare()
    assert any("has not kept its rows" in text for text in found.texts["p"])
    assert len(found.pictures) == 2  # parameters, elbo


def test_comparison_is_told_tabulated_and_plotted(bare):
    posteriors = {(K, "diag"): fit_of_K(K) for K in (1, 2)}
    table = bgmm_jd.compare({f"{K} diag": fit for (K, _), fit in posteriors.items()}, groups(60, 1))
    selection = bgmm_jd.Selection(table=table, posteriors=posteriors, best=posteriors[2, "diag"])
    found = bare(fit_of_groups(1), comparison=selection)
    assert [row[0] for row in found.rows if row[2:3] == ["diag"]] == list(table.index)
    chosen = [attributes for attributes in found.all("tr") if attributes.get("class") == "chosen"]
    assert len(chosen) == 1
    # Both evidences are lower bounds, because the fits are not calibrated.
    assert any("cannot be compared" in text for text in found.texts["p"])
    assert sum(row[3].startswith("at least ") for row in found.rows if row[2:3] == ["diag"]) == 2
    assert len(found.pictures) == 3
    assert len(bare(comparison=table).pictures) == 2  # a table alone has no plot


def fit_of_K(K):
    from figures import FAST

    return fit_of_groups(1) if K == 2 else bgmm_jd.fit(groups(60, 1), K, **FAST)


def test_many_features_are_cut_with_a_note(bare):
    found = bare(fit_of_groups(10))
    assert any("The first 4 of 10 features are shown" in text for text in found.texts["figcaption"])
    assert sum(row[0].startswith("feature ") for row in found.rows) == 20


def test_equal_seeds_give_equal_files_and_an_old_one_is_replaced(tmp_path):
    path, posterior = tmp_path / "report.html", without_rows(fit_of_groups(1))
    path.write_text("old")
    assert report(posterior, path=path) == path
    first = path.read_bytes()
    report(posterior, path=str(path))
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert pyplot.get_fignums() == []  # a notebook would show them again


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": 3}, TypeError, "path must be"),
        ({"prob": 1.0}, ValueError, "prob must be one number between 0 and 1"),
        ({"draws": 0}, ValueError, "draws"),
        ({"seed": -1}, ValueError, "seed"),
        ({"comparison": [1]}, TypeError, "select or bgmm_jd.compare returns; got list without K"),
        ({"X": np.zeros((3, 5))}, ValueError, "2 columns"),
    ],
)
def test_bad_argument_is_refused_before_anything_is_written(tmp_path, options, error, message):
    arguments = {"path": tmp_path / "report.html", **options}
    with pytest.raises(error, match=message):
        report(fit_of_groups(2), **arguments)
    assert list(tmp_path.iterdir()) == []


def test_only_a_posterior_is_reported(tmp_path):
    with pytest.raises(TypeError, match=r"as bgmm_jd\.fit returns it; got dict"):
        report({}, path=tmp_path / "report.html")


def test_folder_must_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="make it first"):
        report(without_rows(fit_of_groups(1)), path=tmp_path / "absent" / "report.html")
