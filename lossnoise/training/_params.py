"""What scikit-learn's searches and pipelines may set, and what they are told where they may not."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator

from lossnoise._validation import invalid_parameter

PARTS = ("correction", "detector")


class Estimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """An estimator whose parts may be given by their names, which have no parameters to set."""

    def set_params(self, **params: Any) -> Estimator:
        """Set parameters, and with ``part__name`` those of a part that was given as an instance.

        Parameters
        ----------
        **params : dict
            Values by name.

        Returns
        -------
        self : the estimator

        Raises
        ------
        InvalidParameterError
            The part is a name.
        """
        for name in params:
            part, _, setting = name.partition("__")
            given = params.get(part, getattr(self, part, None))
            if setting and part in PARTS and isinstance(given, str):
                owner, expected = type(self).__name__, f"an instance for its {setting!r} to be set"
                raise invalid_parameter(owner, part, expected, given)
        super().set_params(**params)
        return self
