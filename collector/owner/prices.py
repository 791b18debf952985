"""What calls cost under a configuration, and whether that is known wherever a budget needs it."""

from __future__ import annotations

from collector.catalogue.operation import Operation, Price, known_cny
from collector.catalogue.operations import CATALOGUE
from collector.errors import ConfigError
from collector.owner.streams import operations_of
from collector.settings import Settings
from collector.sources.registry import SPECS


def prices_of(settings: Settings) -> dict[str, Price | None]:
    """Price of each operation: the catalogue's, or the configuration's over it; None where neither has one."""
    overrides = settings.api.prices
    return {
        name: Price(overrides[name].cny, overrides[name].free_calls_per_month, row.price.pot if row.price else "")
        if name in overrides
        else row.price
        for name, row in CATALOGUE.items()
    }


def check_prices(settings: Settings) -> None:
    """Raises ConfigError where there is a budget and an operation of the configuration has no price."""
    if not settings.budget.monthly_cny:
        return
    prices = prices_of(settings)
    unpriced = [row.name for row in called_by(settings) if known_cny(prices[row.name]) is None]
    if unpriced:
        raise ConfigError(
            [
                f"api.prices.{name}: missing; expected what a call costs, such as {{ cny = 0.0001, free = 1000 }}, "
                "because budget.monthly_cny is set and the service publishes no price"
                for name in unpriced
            ],
            hint="your bill tells it; { cny = 0, free = 0 } says that it costs nothing",
        )


def called_by(settings: Settings) -> list[Operation]:
    """Every operation that the configuration calls by itself, each once, with those that look closer at one object."""
    operations = operations_of(settings)
    for row in list(operations):
        for spec in SPECS:
            source = spec.make(getattr(settings.sources, spec.name))
            detail = getattr(source, "detail_operation", None)
            if detail is not None and source.operation.name == row.name:
                operations.append(detail)
    return list({row.name: row for row in operations}.values())
