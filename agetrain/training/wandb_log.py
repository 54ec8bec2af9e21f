"""The log of a run in Weights & Biases: a run never fails because W&B does."""

import logging
import netrc
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agetrain.errors import MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FINISH_S = 60

MODES = ("auto", "online", "offline", "disabled")

log = logging.getLogger(__name__)


class WandbLog:
    """Sends configuration and metrics to W&B.

    Args:
        mode: ``online``, ``offline``, ``disabled``, or ``auto``: what the variable ``WANDB_MODE`` says; without it
            online where an API key is there (the variable ``WANDB_API_KEY`` or ``~/.netrc``), else offline.
        project: of W&B.
        config: of the run.
        folder: where W&B puts its files.
        run_id: of an interrupted run that goes on, or empty.

    Attributes:
        run_id: of the run, to go on with later; empty where nothing is tracked.

    Raises:
        MissingDependencyError: W&B is not installed and was asked for by mode.
    """

    def __init__(self, mode: str, project: str, config: dict[str, Any], folder: Path, run_id: str = "") -> None:
        self._run: Any = None
        self.run_id = run_id
        chosen: Any = mode
        if mode == "auto":
            chosen = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
        if chosen == "disabled":
            return
        try:
            import wandb
        except ImportError as error:
            if mode == "auto":
                log.warning("W&B is not installed: the run is not logged (pip install 'ageinfer[train]')")
                return
            raise MissingDependencyError("W&B is not installed: pip install 'ageinfer[train]'") from error
        try:
            # Without a limit, a server that is gone by the end would hold the process up for ever.
            settings = wandb.Settings(silent=True, finish_timeout=_FINISH_S)
            self._run = wandb.init(
                project=project, mode=chosen, config=config, dir=folder, settings=settings,
                id=run_id or None, resume="allow" if run_id else None,
            )  # fmt: skip
            self.run_id = str(self._run.id)
        except Exception as error:  # whatever goes wrong with the tracker, training goes on
            log.warning("W&B cannot start (%s): the run is not logged", _first_line(error))
            return
        log.info("W&B: %s, in %s", chosen, self._run.dir)

    def log(self, values: dict[str, float], epoch: int) -> None:
        """Logs the figures of an epoch."""
        self._try(lambda run: run.log(values, step=epoch))

    def finish(
        self, values: dict[str, Any], checkpoint: Path, worst: "npt.NDArray[np.uint8] | None" = None,
        captions: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Logs final figures, the worst errors as pictures and the checkpoint as an artifact, and closes the run.

        Args:
            values: final figures.
            checkpoint: the file.
            worst: uint8 ``[n, side, side, 3]``, RGB.
            captions: of each of them.
        """
        self._try(lambda run: run.summary.update(values))
        if worst is not None and len(worst):
            self._try(lambda run: run.log({"worst errors": self._pictures(worst, captions)}))
        self._try(lambda run: run.log_artifact(self._artifact(checkpoint)))
        self._try(lambda run: run.finish())

    @staticmethod
    def _pictures(faces: "npt.NDArray[np.uint8]", captions: Sequence[str]) -> list[Any]:
        import wandb

        return [wandb.Image(face, caption=caption) for face, caption in zip(faces, captions, strict=True)]

    def _artifact(self, checkpoint: Path) -> Any:
        import wandb

        artifact = wandb.Artifact(f"checkpoint-{self.run_id}", type="model")
        artifact.add_file(str(checkpoint))
        return artifact

    def _try(self, action: Callable[[Any], object]) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:  # see above
            log.warning("W&B failed (%s): nothing more is logged", _first_line(error))
            self._run = None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
