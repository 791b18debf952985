"""The plan: what is called, what it costs, what the quotas allow, and what fits a budget."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from collector.catalogue.operation import Price
from collector.catalogue.operations import CATALOGUE
from collector.cli.commands.plan import amount, assumptions
from collector.cli.planned import as_data, cny_text, settings_of, show
from collector.errors import ConfigError, UsageError
from collector.owner.calls import cost_text
from collector.owner.planning import demands_of
from collector.owner.prices import called_by, check_prices, prices_of
from collector.pipeline.fit import fit
from collector.pipeline.plan import Asking, Demand, Ends, Plan, plan
from collector.settings import Settings, load

LOGS = CATALOGUE["ListSyslogs"]
PRICES = {name: row.price for name, row in CATALOGUE.items()}


def logs(nodes: int = 1000, interval: int = 60, **changes: Any) -> Demand:
    fixed = Demand("syslogs", LOGS, Asking.LOOKS, nodes, False, interval, interval, settle=60)
    return replace(fixed, **changes)


def planned(*demands: Demand, quotas: dict[str, int] | None = None) -> Plan:
    return plan(demands, PRICES, quotas or {}, flush_interval_seconds=5)


def test_a_thousand_nodes_at_a_minute_cost_what_the_price_list_says() -> None:
    """43,200,000 calls a month of 30 days, 1,000 of them free: 4,319.90 CNY, to the cent."""
    (line,) = planned(logs()).lines
    assert (line.calls_per_day.most, line.calls_per_month.most) == (1_440_000, 43_200_000)
    assert line.cny_per_month is not None
    assert line.cny_per_month.least == line.cny_per_month.most == Decimal("4319.90")
    assert cny_text(line.cny_per_month.most) == "4,319.90"


def test_quiet_and_busy_nodes_are_two_ends() -> None:
    """Between `interval_max` and `interval` the calls differ by as much as the intervals do."""
    (line,) = planned(logs(interval=30, interval_max=300)).lines
    assert (line.calls_per_day.least, line.calls_per_day.most) == (288_000, 2_880_000)


def test_rechecks_are_a_line_of_their_own() -> None:
    """A third of the delay gathers, or three looks where those are longer, and at most six hours are asked at once."""
    looks, rechecks = planned(logs(1, rechecks=(900, 21_600, 7 * 86_400))).lines
    assert (looks.asking, rechecks.asking) == (Asking.LOOKS, Asking.RECHECKS)
    assert looks.calls_per_day.most == 1440
    assert rechecks.calls_per_day.most == 86_400 // 300 + 86_400 // 7200 + 86_400 // 21_600
    _, rare = planned(logs(1, interval=600, rechecks=(900,))).lines
    assert rare.calls_per_day.most == 86_400 // 1800


def test_the_free_calls_are_given_once() -> None:
    """Looks take them first; what the lines cost together is what the operation costs."""
    looks, rechecks = planned(logs(1, interval=3600, rechecks=(900,))).lines
    assert looks.cny_per_month is not None
    assert rechecks.cny_per_month is not None
    assert looks.calls_per_month.most == 720
    assert looks.cny_per_month.most == 0
    assert rechecks.calls_per_month.most == 240
    assert rechecks.cny_per_month.most == 0
    looks, rechecks = planned(logs(1, interval=1800, rechecks=(900,))).lines
    assert looks.cny_per_month is not None
    assert rechecks.cny_per_month is not None
    assert looks.cny_per_month.most == Decimal("0.0440")
    assert rechecks.cny_per_month.most == Decimal("0.0480")


def test_each_metric_is_a_call() -> None:
    """A look at series asks once for every metric."""
    (line,) = planned(logs(2, interval=300, calls_per_look=4)).lines
    assert line.calls_per_day.most == 2 * 4 * 288


def test_what_has_no_price_is_never_shown_as_free() -> None:
    """It is unpriced in its line, left out of the total, and named beside it."""
    told = planned(logs(), Demand("inventory", CATALOGUE["ListJobs"], Asking.LISTS, 1, False, 600, 600))
    assert told.lines[1].cny_per_month is None
    assert told.cny_per_month.most == Decimal("4319.90")
    assert told.unpriced == ("ListJobs",)
    data = as_data(told, None, None)
    assert data["lines"][1]["cny_per_month"] is None
    assert data["lines"][1]["price_cny"] is None


def test_free_calls_without_a_price_cost_nothing_and_others_are_unpriced() -> None:
    """Where only the free calls are published, a plan within them costs 0, and one beyond them has no price."""
    diagnosis = CATALOGUE["DescribeDiagnosticResult"]
    within = planned(Demand("diagnostics", diagnosis, Asking.LISTS, 1, False, 3600, 3600))
    assert (within.lines[0].cny_per_month, within.unpriced) == (Ends(Decimal(0), Decimal(0)), ())
    beyond = planned(Demand("diagnostics", diagnosis, Asking.LISTS, 1, False, 600, 600))
    assert (beyond.lines[0].cny_per_month, beyond.unpriced) == (None, (diagnosis.name,))
    details = planned(Demand("diagnostics", diagnosis, Asking.DETAILS, 0, False, 600, 600))
    assert details.unpriced == (diagnosis.name,)
    assert as_data(within, None, None)["lines"][0]["free_calls_per_month"] == 1000
    assert cost_text(diagnosis.price, 1000) == "free (1,000 of 1,000 free calls this month)"
    assert cost_text(diagnosis.price, 1001) == "unpriced"


@pytest.mark.parametrize(
    ("nodes", "interval", "quota", "allowed"), [(1000, 30, 100, 30), (2940, 30, 100, 30), (9800, 30, 100, 100)]
)
def test_the_quota_says_how_often_a_stream_can_be_looked_at(
    nodes: int, interval: int, quota: int, allowed: int
) -> None:
    """98 of 100 requests a second are used: 9,800 streams come round every 100 seconds."""
    (use,) = planned(logs(nodes, interval), quotas={"ListSyslogs": quota}).quotas
    assert (use.interval_allowed, use.gives_interval) == (allowed, allowed == interval)
    assert use.freshness_seconds.least == allowed + 60 + 2 * 5


def test_rechecks_take_their_part_of_the_quota() -> None:
    """With rechecks the same quota gives a longer interval, and it does give that one."""
    bare, checked = logs(9800, 30), logs(9800, 30, rechecks=(900,))
    allowed = planned(checked).quotas[0].interval_allowed
    assert allowed > planned(bare).quotas[0].interval_allowed
    assert planned(logs(9800, allowed, rechecks=(900,))).quotas[0].gives_interval
    assert not planned(logs(9800, allowed - 1, rechecks=(900,))).quotas[0].gives_interval


USERS = Demand("user_metrics", CATALOGUE["GetUserViewMetrics"], Asking.SNAPSHOTS, 5, False, 60, 60)


@given(
    cap=st.integers(1, 20_000),
    nodes=st.integers(1, 3000),
    interval=st.integers(1, 3600),
    rechecks=st.sampled_from([(), (900,), (900, 21_600)]),
)
@hypothesis_settings(deadline=None, max_examples=60)
def test_what_is_proposed_fits(cap: int, nodes: int, interval: int, rechecks: tuple[int, ...]) -> None:
    """Priced again, a proposal costs what it said and no more than the budget; no interval got shorter."""
    demands = [logs(nodes, interval, interval_max=max(interval, 300), rechecks=rechecks), USERS]
    proposal = fit(demands, PRICES, Decimal(cap))
    again = planned(*proposal.demands).cny_per_month.most
    assert again == proposal.cny_per_month
    assert proposal.fits == (again <= cap)
    for before, after in zip(demands, proposal.demands, strict=True):
        assert before.interval <= after.interval <= after.interval_max
        assert after.is_window or 86_400 % after.interval == 0


def test_a_budget_is_used_up() -> None:
    """The proposal is the shortest interval that fits: a second less would not."""
    proposal = fit([logs()], PRICES, Decimal(3000))
    interval = proposal.demands[0].interval
    assert proposal.changed == ("syslogs",)
    assert proposal.fits
    assert planned(logs(interval=interval - 1)).cny_per_month.most > 3000
    assert settings_of(proposal) == {"syslogs": {"interval": "87s", "interval_max": "87s", "recheck": []}}


def test_rechecks_are_given_up_last() -> None:
    """They stay while rarer looks are enough, and go when those are not."""
    demand = logs(rechecks=(900, 21_600))
    assert fit([demand], PRICES, Decimal(500)).demands[0].rechecks == (900, 21_600)
    tight = fit([demand], PRICES, Decimal(15))
    assert tight.fits
    assert tight.demands[0].rechecks == ()


def test_where_nothing_fits_the_least_is_told() -> None:
    """Looks every six hours without rechecks: the longest window that is asked at once."""
    proposal = fit([logs(10_000, rechecks=(900,))], PRICES, Decimal(5))
    assert not proposal.fits
    assert proposal.cny_per_month == (10_000 * 4 * 30 - 1000) * Decimal("0.0001")


def test_what_fits_is_left_alone() -> None:
    """A budget that is large enough changes nothing."""
    proposal = fit([logs()], PRICES, Decimal("4319.90"))
    assert proposal.fits
    assert proposal.changed == ()
    assert proposal.demands == (logs(),)


def configured(**sections: Any) -> Settings:
    return Settings(**sections)


def test_every_source_has_its_lines() -> None:
    """Targets of each kind, named or discovered, and the lists that find them."""
    settings = configured(
        targets={
            "clusters": ["c"], "nodes": ["n1", "n2"], "resource_groups": ["g"], "services": ["c/s"],
            "eas_resources": ["c/e"], "discover": ["jobs"],
        },
        tracing={"enabled": True},
    )  # fmt: skip
    found = {demand.operation.name: demand for demand in demands_of(settings)}
    assert set(found) == {row.name for row in called_by(settings)}
    assert (found["ListSyslogs"].streams, found["ListSyslogs"].is_at_least) == (2, True)
    assert (found["GetJobMetrics"].streams, found["GetJobMetrics"].is_at_least) == (0, True)
    assert found["GetJobMetrics"].calls_per_look == 4
    assert found["GetNodeMetrics"].calls_per_look == 2
    assert (found["GetUserViewMetrics"].streams, found["GetUserViewMetrics"].is_at_least) == (1, False)
    assert found["DescribeDiagnosticResult"].asking is Asking.DETAILS
    assert planned(*found.values()).is_at_least


def test_assumed_targets_are_counted() -> None:
    """What discovery would find can be said, and then nothing is open any more."""
    settings = configured(targets={"clusters": ["c"]})
    found = {demand.source: demand for demand in demands_of(settings, {"nodes": 1000})}
    assert (found["syslogs"].streams, found["syslogs"].is_at_least) == (1000, False)
    with pytest.raises(UsageError, match=r"--assume nodes=1: got fewer than the 2"):
        demands_of(configured(targets={"nodes": ["a", "b"]}), {"nodes": 1})


def test_filters_multiply_the_streams() -> None:
    """A snapshot is asked for of each group, workspace and user, and costs a call."""
    usage = {"workspaces": ["w1", "w2"], "user_ids": ["u1", "u2", "u3"]}
    settings = configured(targets={"resource_groups": ["g1", "g2"]}, sources={"user_metrics": usage})
    found = {demand.source: demand for demand in demands_of(settings)}
    assert found["user_metrics"].streams == 12
    assert found["node_metrics"].streams == 2


def test_sources_that_are_off_or_idle_have_no_line() -> None:
    """Without targets, and switched off, nothing is asked."""
    assert demands_of(configured()) == []
    assert demands_of(configured(targets={"nodes": ["n"]}, sources={"syslogs": {"enabled": False}})) == []


def test_prices_of_the_configuration_go_over_the_catalogue() -> None:
    """And a price for an operation that has none makes its lines count."""
    settings = configured(api={"prices": {"ListSyslogs": {"cny": Decimal("0.5"), "free": 2}}})
    assert prices_of(settings)["ListSyslogs"] == Price(Decimal("0.5"), 2)
    assert prices_of(settings)["ListJobs"] is None


def test_a_budget_needs_the_price_of_everything_that_is_called() -> None:
    """Each operation without one is a mistake that names its key, what looks closer at one object too."""
    section = {"targets": {"clusters": ["c"], "nodes": ["n"]}, "sources": {"events": {"enabled": False}}}
    check_prices(configured(**section))
    with pytest.raises(ConfigError) as caught:
        check_prices(configured(**section, budget={"monthly_cny": Decimal(5)}))
    named = [mistake.partition(":")[0] for mistake in caught.value.mistakes]
    assert set(named) == {
        "api.prices.ListDiagnosticResults", "api.prices.DescribeDiagnosticResult", "api.prices.ListClusterNodes",
    }  # fmt: skip
    free = {name.removeprefix("api.prices."): {"cny": 0, "free": 0} for name in named}
    check_prices(configured(**section, budget={"monthly_cny": Decimal(5)}, api={"prices": free}))


def test_the_longest_interval_is_not_under_the_interval(tmp_path: Path) -> None:
    """`interval_max` below `interval` is a mistake with both values."""
    path = tmp_path / "collector.toml"
    path.write_text('[sources.syslogs]\ninterval = "2m"\ninterval_max = "60s"\n')
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.mistakes == [
        'sources.syslogs.interval_max: got "1m"; expected a duration of at least sources.syslogs.interval, which is 2m'
    ]
    path.write_text('[sources.syslogs]\ninterval = "2m"\ninterval_max = "2m"\n')
    load(path, {})


@pytest.mark.parametrize("text", ["-5", "abc", "0", "0.00", "1e3", "", "5 CNY", "1.1234567", "٣", "nan"])
def test_a_budget_that_is_no_amount_is_refused(text: str) -> None:
    """With what was seen and what would be right."""
    with pytest.raises(UsageError, match=r"--budget: got .*; expected CNY a month above 0, such as 5000"):
        amount(text)


@pytest.mark.parametrize("word", ["nodes", "nodes=", "nodes=-1", "nodes=x", "node=1", "=1", "jobs=1.5"])
def test_an_assumption_that_says_nothing_is_refused(word: str) -> None:
    """With the kinds that there are."""
    with pytest.raises(
        UsageError, match=r"--assume: got .*; expected KIND=N with one of cloud_metrics, cloud_series, clusters"
    ):
        assumptions([word])


def test_series_of_cloudmonitor_take_pages_and_share_a_pot() -> None:
    """Five points of 5,000 series are 18 pages of 1,440; what is left of the free calls shows before it is spent."""
    section = {"namespaces": ("acs_pai_*",), "recheck_seconds": ()}
    settings = configured(sources={"cloud_metrics": section}, api={"gateway": "openapi"})
    demands = demands_of(settings, {"cloud_metrics": 10, "cloud_series": 5000})
    told = planned(*demands)
    line = next(line for line in told.lines if line.demand.operation.name == "DescribeMetricList")

    assert line.calls_per_day.most == 10 * 288 * 18
    (pot,) = told.pots
    assert (pot.calls_per_month.most, pot.free_calls_per_month) == (10 * 288 * 18 * 30, 1_000_000)
    assert line.cny_per_month is None
    assert told.unpriced[0] == "DescribeProjectMeta"
    few = planned(*demands_of(settings, {"cloud_metrics": 10, "cloud_series": 100}))
    assert next(line for line in few.lines if line.price).cny_per_month == Ends(Decimal(0), Decimal(0))


def test_metrics_that_patterns_may_find_are_not_counted() -> None:
    """Named ones are; what a pattern finds, only the service knows."""
    for metrics, count, is_at_least in ((("a", "b"), 2, False), (("a", "b*"), 1, True), (("*",), 0, True)):
        section = {"namespaces": ("acs_pai_dlc",), "metrics": metrics}
        demands = demands_of(configured(sources={"cloud_metrics": section}))
        (asked,) = [demand for demand in demands if demand.source == "cloud_metrics"]
        assert (asked.streams, asked.is_at_least) == (count, is_at_least)


def test_what_is_not_counted_of_a_pot_is_said_with_the_way_to_count_it(capsys: pytest.CaptureFixture[str]) -> None:
    """How many metrics a pattern finds, and how many series these have, nobody knows beforehand."""
    settings = configured(sources={"cloud_metrics": {"namespaces": ("acs_pai_*",)}})
    for assumed, pot in (({}, "0+ of 1,000,000"), ({"cloud_metrics": 1, "cloud_series": 1}, "11,879 of 1,000,000")):
        show(planned(*demands_of(settings, assumed)), None, None)
        told = capsys.readouterr().out
        assert f"pot CloudMonitor queries: {pot} free calls a month" in told
        assert ("--assume cloud_metrics=20 --assume cloud_series=1000" in told) is (not assumed)


def test_a_person_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Figures stand under each other; what was not counted is marked, and what to paste is TOML."""
    demands = [logs(), USERS, Demand("events", CATALOGUE["GetJobEvents"], Asking.LOOKS, 2, True, 60, 60)]
    show(planned(*demands), Decimal(1000), fit(demands, PRICES, Decimal(1000)))
    told = capsys.readouterr().out
    assert "43,200,000" in told
    assert "4,319.90" in told
    assert "unpriced" in told
    assert " 2+ " in told
    assert "[sources.syslogs]\ninterval = " in told
    assert "not in the budget, because unpriced: GetJobEvents" in told
