"""How a run measures. Stored with it, so that ``--resume`` goes on in the same way."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from devbench.errors import UsageError
from devbench.measure.sampling import Limits
from devbench.model import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """rounds: fresh workers a target. seed: of the inputs and of the order of the cases.

    warmup_s, share_s: bound of the warm-up and time for samples of one visit. precision: relative
    half-width of the interval of a round's median that ends its sampling earlier. step_s: a step that
    is predicted to take longer is skipped. ceiling_s: time of one probe of a device's ceilings.
    case_timeout_s: a worker that is silent for so long inside a case is ended. time_budget_s: wall
    time of the whole run. crossover: sizes are added where one target overtakes another.
    """

    rounds: int = 5
    quick: bool = False
    seed: int = 0
    warmup_s: float = 1.0
    share_s: float = 2.0
    precision: float = 0.005
    step_s: float = 5.0
    ceiling_s: float = 0.2
    case_timeout_s: float = 300.0
    time_budget_s: float | None = None
    crossover: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UsageError(
                f"--rounds must be at least 1, not {self.rounds}: zero rounds measure nothing"
            )
        if self.time_budget_s is not None and not 0 < self.time_budget_s < float("inf"):
            raise UsageError(f"--time-budget takes seconds above zero, not {self.time_budget_s:g}")

    @classmethod
    def for_quick(cls, **changes: int | float | None) -> Settings:
        """One round, shorter visits, and nothing that takes more than a second a step."""
        quick = {
            "rounds": 1,
            "quick": True,
            "warmup_s": 0.5,
            "share_s": 1.0,
            "precision": 0.01,
            "step_s": 1.0,
            "ceiling_s": 0.05,
        }
        return cls(**{**quick, **changes})  # type: ignore[arg-type]

    @classmethod
    def for_thorough(cls, **changes: int | float | None) -> Settings:
        """Three times the rounds, each as by default: the interval of a case comes from its rounds."""
        return cls(**{"rounds": 15, **changes})  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, data: Json) -> Settings:
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})

    def to_json(self) -> Json:
        return asdict(self)

    def limits(self, scale: float = 1.0) -> Limits:
        """The limits of one visit; `scale` < 1 shortens it for the sake of a time budget."""
        return Limits(
            warmup_s=self.warmup_s * scale,
            share_s=self.share_s * scale,
            precision=self.precision,
            step_s=self.step_s,
        )
