"""The form of a problem for which its programs are compiled, and the way there and back.

A small problem is padded with rows of weight zero and with inactive components, so that problems
of several sizes share one program; compiling takes ten seconds, and such a fit a fraction of one.
Parameters, points and draws of the problem itself are never padded: only what goes into a program
is, and only what comes out of it is cropped.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from bgmm_jd.data.rows import Rows, as_row_tensors, padded_rows
from bgmm_jd.data.standardize import Data
from bgmm_jd.data.units import Standardization
from bgmm_jd.distributions.active_components import ActiveSticks
from bgmm_jd.settings import PaddingSettings
from bgmm_jd.variational.coordinates import coordinate_shape
from bgmm_jd.variational.padded_model import PaddedModel, padded_model
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Model, Site


@dataclass(frozen=True, kw_only=True, eq=False)
class CompiledForm:
    """What programs are compiled for, and called with.

    Attributes
    ----------
    model : Model
    values : the argument of `model.standardized`.
    data : Data
        Of the problem, without padding.
    padded_size : int, optional
        The number of rows with those that pad them; None without padding.
    """

    model: Model
    values: Any
    data: Data
    padded_size: int | None

    @functools.cached_property
    def rows(self) -> Rows:
        """Return the rows as tensors, or raise ValueError if they are not in memory.

        Made when they are first needed: draws need none.
        """
        rows = self.data.rows
        return as_row_tensors(
            rows if self.padded_size is None else padded_rows(rows, self.padded_size)
        )

    def pad_parameters(self, params: VariationalParameters) -> VariationalParameters:
        """Return parameters of the problem as a program takes them."""
        return params

    def crop_parameters(self, params: VariationalParameters) -> VariationalParameters:
        """Return a program's parameters as the problem has them."""
        return params

    def crop_draws(self, theta: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return a program's draws [S, ...] as the problem has them."""
        return dict(theta)

    def pad_points(self, points: np.ndarray) -> np.ndarray:
        """Return points [S, P] as a program takes them."""
        return points

    def pad_directions(self, directions: np.ndarray) -> np.ndarray:
        """Return differences of points [S, P] as a program takes them."""
        return directions

    def pad_matrix(self, matrix: np.ndarray) -> np.ndarray:
        """Return a linear map of points [P, P] as a program takes it."""
        return matrix

    def crop(self, vectors: np.ndarray) -> np.ndarray:
        """Return a program's points, or gradients, [S, P] as the problem has them."""
        return vectors

    @property
    def size(self) -> tuple[int, int]:
        """Return the numbers of rows and of components."""
        return self.padded_size or self.data.shape[0], self.model.K


@dataclass(frozen=True, kw_only=True, eq=False)
class PaddedForm(CompiledForm):
    """A form with inactive components.

    Attributes
    ----------
    sites : of the problem, which has K components.
    places [P] : of its coordinates among those of the form.
    dimension : number of coordinates of the form.
    closed : the place of the coordinate of the first break that is not the problem's; None if there
        is none.
    """

    sites: tuple[Site, ...]
    places: np.ndarray
    dimension: int
    closed: int | None

    def pad_parameters(self, params: VariationalParameters) -> VariationalParameters:
        """Give inactive components the parameters of the first one, whatever they are."""
        return {site.name: self._padded(site, params[site.name]) for site in self.sites}

    def _padded(self, site: Site, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        if not site.has_component_axis:
            return parameters
        if site.fixed is not None:  # the weight of a single component
            return {"concentration": np.ones(self.model.K, self.data.dtype)}
        return {name: self._with_more(np.asarray(v)) for name, v in parameters.items()}

    def _with_more(self, v: np.ndarray) -> np.ndarray:
        return np.concatenate([v, np.repeat(v[:1], self.model.K - len(v), axis=0)])

    def crop_parameters(self, params: VariationalParameters) -> VariationalParameters:
        """Keep the parameters of the problem's components."""
        return {
            site.name: {}
            if site.fixed is not None
            else {name: self._cropped(site, v) for name, v in params[site.name].items()}
            for site in self.sites
        }

    def _cropped(self, site: Site, v: Any) -> Any:
        return v[: site.shape[0]] if site.has_component_axis else v

    def crop_draws(self, theta: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Keep the draws of the problem's components."""
        return {
            site.name: theta[site.name][:, : site.shape[0]]
            if site.has_component_axis
            else theta[site.name]
            for site in self.sites
        }

    def pad_points(self, points: np.ndarray) -> np.ndarray:
        """Put inactive components at the origin, and give the last active one all that is left."""
        padded = self.pad_directions(points)
        if self.closed is not None:
            padded[:, self.closed] = ActiveSticks.CLOSED
        return padded

    def pad_directions(self, directions: np.ndarray) -> np.ndarray:
        """Leave inactive components where they are."""
        padded = np.zeros((len(directions), self.dimension), directions.dtype)
        padded[:, self.places] = directions
        return padded

    def pad_matrix(self, matrix: np.ndarray) -> np.ndarray:
        """Map the directions of inactive components to zero."""
        return self.pad_directions(self.pad_directions(matrix).T).T

    def crop(self, vectors: np.ndarray) -> np.ndarray:
        """Keep the coordinates of the problem."""
        return vectors[:, self.places]


def compiled_form(
    model: Model, standardization: Standardization, data: Data, settings: PaddingSettings
) -> CompiledForm:
    """Return the form for which the programs of a problem are compiled."""
    N, D = data.shape
    size = _next_size(N, settings.fewest_rows)
    padded = _padded(model, standardization, size, D, settings)
    if padded is not None:
        return _padded_form(model, padded, standardization, data, size)
    is_small = size * model.K * D <= settings.numbers
    return CompiledForm(
        model=model, values=standardization, data=data, padded_size=size if is_small else None
    )


def _padded(
    model: Model, standardization: Standardization, rows: int, D: int, settings: PaddingSettings
) -> PaddedModel | None:
    """Return the model with inactive components; None if it is too large, or not to be had."""
    K = next((K for K in settings.components if K >= model.K), model.K)
    if K == 1:
        return None  # the only weight is fixed
    parameters = K * D * (D if model.covariance == "full" else 1)
    if rows * K * D > settings.numbers or parameters > settings.parameters:
        return None
    return padded_model(model, standardization, K)


def _padded_form(
    model: Model,
    padded: PaddedModel,
    standardization: Standardization,
    data: Data,
    size: int,
) -> PaddedForm:
    places, first = [], 0
    closed = None
    for site, whole in zip(model.sites, padded.sites, strict=True):
        shape = coordinate_shape(whole)
        numbers = first + np.arange(int(np.prod(shape))).reshape(shape)
        if site.name == "weights":
            closed = None if model.K == padded.K else first + model.K - 1
            numbers = numbers[: model.K - 1]
        elif site.has_component_axis:
            numbers = numbers[: model.K]
        places.append(numbers.ravel())
        first += int(np.prod(shape))
    return PaddedForm(
        model=padded,
        values=padded.values(model, standardization),
        data=data,
        padded_size=size,
        sites=model.sites,
        places=np.concatenate(places),
        dimension=first,
        closed=closed,
    )


def _next_size(N: int, fewest: int) -> int:
    """Return the smallest of 1, 1.25, 1.5, 2, 2.5, 3, 4, ... times `fewest` that is at least N.

    N itself if `fewest` is zero.
    """
    if fewest < 1:
        return N
    size = fewest
    while 3 * size < 2 * N:  # 1.5 times is not enough
        size *= 2
    return next(one for one in (size, size * 5 // 4, size * 3 // 2) if one >= N)
