"""The simulated account: consistent, pure in time, and listed as each service lists it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from collector.catalogue.operations import CATALOGUE
from collector.simulator.account import CANARY, REPAIR_PERIOD_SECONDS, Account
from collector.simulator.faults import FaultKind, Shape
from collector.simulator.inventory import (
    ClusterListing,
    ClusterNodeListing,
    InstanceListing,
    JobListing,
    ResourceGroupListing,
    ResourceListing,
    ServiceListing,
)
from collector.simulator.paging import TokenMint, iso
from collector.simulator.world import World
from collector.units import DAY_SECONDS
from tests.support.simulated_pages import T, all_by_token, bent, decoded, plain, refusal

WORLD = World(seed=7, node_count=50, nodes_per_cluster=30)
ACCOUNT = Account(WORLD)
"""Shared by tests that put nothing into it."""
MINT = TokenMint(7, 900.0)
NODES = ClusterNodeListing(ACCOUNT, MINT)
CLUSTER = ACCOUNT.cluster_ids[0]


def test_two_accounts_of_one_seed_are_the_same() -> None:
    """Seed and counts fix every id and every record at every time; another seed has other jobs."""
    other = Account(World(seed=7, node_count=50, nodes_per_cluster=30))

    for now in (T, T + 90 * DAY_SECONDS, T - 900 * DAY_SECONDS):
        assert JobListing(ACCOUNT).records(now) == JobListing(other).records(now)
        assert ServiceListing(ACCOUNT).records(now) == ServiceListing(other).records(now)
        assert NODES.records(CLUSTER, now) == ClusterNodeListing(other, MINT).records(CLUSTER, now)
    assert not set(ACCOUNT.job_ids(T)) & set(Account(World(seed=8)).job_ids(T))


def test_the_parts_of_an_account_fit_together() -> None:
    """Clusters hold the world's nodes, jobs and notebooks run in its groups, services on its serving resources."""
    assert [node_id for cluster_id in ACCOUNT.cluster_ids for node_id in ACCOUNT.nodes_of(cluster_id)] == WORLD.node_ids
    assert len(ACCOUNT.cluster_ids) == 2
    assert {record.wire["ClusterId"] for record in WORLD.truth(WORLD.node_ids[40], T, T + 3600)} == {
        ACCOUNT.cluster_ids[1]
    }
    assert {job["ResourceId"] for job in JobListing(ACCOUNT).records(T)} == set(WORLD.group_ids)
    assert ACCOUNT.eas_resource_ids == ["cn-hangzhou/eas-r-sim0001", "cn-hangzhou/eas-r-sim0002"]
    resources = {f"cn-hangzhou/{service['Resource']}" for service in ServiceListing(ACCOUNT).records(T)}
    assert resources == {*ACCOUNT.eas_resource_ids, "cn-hangzhou/EAS_PUBLIC"}


def test_an_account_may_be_empty() -> None:
    """Without nodes, groups, jobs and the rest every listing answers with no records."""
    account = Account(World(seed=1, node_count=0, group_count=0), 1, 0, 0, 0, 0)

    for name, listing in listings(account).items():
        answer = decoded(name, listing.page({}, T))
        assert not next(value for value in msgspec.structs.asdict(answer).values() if isinstance(value, list))


def listings(account: Account) -> dict[str, Any]:
    """Those that need no parameter."""
    return {
        "ListClusters": ClusterListing(account, MINT),
        "ListResourceGroups": ResourceGroupListing(account),
        "ListJobs": JobListing(account),
        "ListInstances": InstanceListing(account),
        "ListResources": ResourceListing(account),
        "ListServices": ServiceListing(account),
    }


RECORDS_KEYS = {
    "ListClusters": "Clusters",
    "ListResourceGroups": "ResourceGroups",
    "ListJobs": "Jobs",
    "ListInstances": "Instances",
    "ListResources": "Resources",
    "ListServices": "Services",
}


@pytest.mark.parametrize("name", RECORDS_KEYS)
def test_every_listing_answers_with_the_truth_in_the_documented_types(name: str) -> None:
    """The answer decodes into the catalogue's types, which know each of its fields, and holds all records."""
    for now in (T, T + 3 * DAY_SECONDS + 0.75):
        listing = listings(ACCOUNT)[name]
        page = listing.page({}, now)
        truth = listing.records(now)
        decoded(name, page)

        shown = plain(page)[RECORDS_KEYS[name]]
        assert shown == (truth[::-1] if name == "ListJobs" else truth)
        assert page.rows == len(truth) > 0


@pytest.mark.parametrize("name", ["ListResourceGroups", "ListJobs", "ListInstances", "ListResources", "ListServices"])
def test_numbered_pages_hold_every_record_once(name: str) -> None:
    """Pages of two, read to the end, are the whole listing; each tells the total, and one past the end is empty."""
    listing, key = listings(ACCOUNT)[name], RECORDS_KEYS[name]
    whole = plain(listing.page({}, T))

    pages = [plain(listing.page({"PageNumber": number, "PageSize": 2}, T)) for number in range(1, 6)]

    assert [record for page in pages for record in page[key]] == whole[key]
    assert {page["TotalCount"] for page in pages} == {len(whole[key])}
    assert pages[-1][key] == []


def test_nodes_come_in_pages_that_hang_together_by_token() -> None:
    """Pages of any size hold each node of the cluster once; twenty are a page unless told otherwise."""
    truth = NODES.records(CLUSTER, T)
    assert len(truth) == 30

    for size in (1, 7, 30, 100):
        assert all_by_token(NODES, "Nodes", {"ClusterId": CLUSTER, "MaxResults": size}, lambda: T) == truth
    first = NODES.page({"ClusterId": CLUSTER}, T)
    assert first.rows == 20
    assert decoded("ListClusterNodes", first).next_token


def test_pages_of_a_listing_show_the_time_of_its_first() -> None:
    """A node that leaves while its cluster is listed is on its page all the same."""
    account = Account(WORLD)
    account.leave(WORLD.node_ids[29], T + 60, T + 120)
    clock = iter(range(T, T + 1000, 30))

    found = all_by_token(
        ClusterNodeListing(account, MINT), "Nodes", {"ClusterId": CLUSTER, "MaxResults": 10}, lambda: next(clock)
    )

    assert [node["NodeId"] for node in found] == account.nodes_of(CLUSTER)


def test_a_token_is_refused_when_forged_expired_or_of_another_request() -> None:
    """Tokens live as long as the mint says, for the cluster and filters that they were given for."""
    page = plain(NODES.page({"ClusterId": CLUSTER, "MaxResults": 5}, T))
    token = page["NextToken"]
    good = {"ClusterId": CLUSTER, "MaxResults": 5, "NextToken": token}
    bad_request = (400, "InvalidParameter")

    assert NODES.page(good, T + 900).rows == 5
    assert refusal(NODES, good, T + 901) == bad_request
    assert refusal(NODES, good | {"NextToken": token[:-4] + "AAAA"}) == bad_request
    assert refusal(NODES, good | {"ClusterId": ACCOUNT.cluster_ids[1]}) == bad_request
    assert refusal(NODES, good | {"OperatingStates": ["Using"]}) == bad_request
    assert refusal(ClusterListing(ACCOUNT, MINT), {"NextToken": token}) == bad_request
    assert refusal(NODES, {"ClusterId": "i0"}) == (404, "InvalidClusterId.NotFound")


def test_a_faulty_token_listing_repeats_or_shuffles() -> None:
    """With a repeated token the client is sent the one it sent; a listing that begins shuffled stays so, and whole."""
    page = plain(NODES.page({"ClusterId": CLUSTER, "MaxResults": 8}, T, bent(FaultKind.DISORDER)))
    shuffled = page["Nodes"]
    asked = {"ClusterId": CLUSTER, "MaxResults": 8, "NextToken": page["NextToken"]}

    again = plain(NODES.page(asked, T, bent(FaultKind.REPEATED_TOKEN)))
    rest = all_by_token(NODES, "Nodes", asked, lambda: T)

    assert again["NextToken"] == asked["NextToken"]
    assert again["Nodes"] == rest[:8]
    whole = shuffled + rest
    assert [node["NodeId"] for node in whole] != ACCOUNT.nodes_of(CLUSTER)
    assert sorted(whole, key=lambda node: node["NodeId"]) == NODES.records(CLUSTER, T)


def test_a_few_nodes_change_their_state_and_come_back() -> None:
    """Within a repair period some nodes leave `Using` for a while; the others never do."""
    moments = range(T, T + REPAIR_PERIOD_SECONDS, 60)
    seen = {node_id: {ACCOUNT.node_state(node_id, second) for second in moments} for node_id in WORLD.node_ids}

    changing = [node_id for node_id, states in seen.items() if len(states) > 1]
    assert 5 <= len(changing) <= 15
    assert all("Using" in states for states in seen.values())
    assert all(any(node_id in changing for node_id in ACCOUNT.nodes_of(one)) for one in ACCOUNT.cluster_ids)
    shown = {node["NodeId"]: node["OperatingState"] for node in NODES.records(CLUSTER, T)}
    assert shown == {node_id: ACCOUNT.node_state(node_id, T) for node_id in ACCOUNT.nodes_of(CLUSTER)}


def test_a_node_that_left_is_not_listed_until_it_is_back() -> None:
    """An absence takes the node out of its cluster, and its cluster's count, between two moments."""
    account = Account(WORLD)
    gone = WORLD.node_ids[3]
    account.leave(gone, T + 100, T + 200)
    nodes, clusters = ClusterNodeListing(account, MINT), ClusterListing(account, MINT)

    listed = {now: [node["NodeId"] for node in nodes.records(CLUSTER, now)] for now in (T + 99, T + 100, T + 200)}
    counts = {now: clusters.records(now)[0]["NodeCount"] for now in listed}

    assert [gone in ids for ids in listed.values()] == [True, False, True]
    assert counts == {T + 99: 30, T + 100: 29, T + 200: 30}
    with pytest.raises(KeyError):
        account.leave("e01-cn-none", T, T + 1)


def test_a_job_is_queued_runs_and_ends() -> None:
    """Its status, times and pods follow the clock; its id and its past never change."""
    job = next(job for job in ACCOUNT.jobs(T + 3 * DAY_SECONDS) if job.created > T)
    seen = {
        now: next(one for one in JobListing(ACCOUNT).records(now) if one["JobId"] == job.job_id)
        for now in (job.created, job.created + 6, job.started, job.finished - 1, job.finished)
    }

    assert [record["Status"] for record in seen.values()] == ["Creating", "Queuing", "Running", "Running", job.outcome]
    assert {record["GmtCreateTime"] for record in seen.values()} == {iso(job.created)}
    assert "GmtRunningTime" not in seen[job.created + 6]
    assert "GmtFinishTime" not in seen[job.finished - 1]
    assert seen[job.finished]["GmtFinishTime"] == iso(job.finished)
    assert seen[job.finished]["Duration"] == job.finished - job.started
    assert [pod["PodId"] for pod in seen[job.started]["Pods"]] == list(job.pod_ids)
    assert job.pod_ids[0] == f"{job.job_id}-worker-0"
    assert job.job_id not in ACCOUNT.job_ids(job.created - 1)
    assert ACCOUNT.job(job.job_id) == job


def test_there_are_always_as_many_jobs_as_were_asked_for() -> None:
    """Seven days hold one job of each slot at any time; some run, some have ended, and each week brings new ones."""
    for now in range(T, T + 14 * DAY_SECONDS, 7001):
        assert len(ACCOUNT.jobs(now)) == 6
    created = ACCOUNT.jobs(T)[0].created
    for moment in (created - 1, created, created + 0.5):
        assert plain(JobListing(ACCOUNT).page({}, moment))["TotalCount"] == len(ACCOUNT.jobs(moment)) == 6
    statuses = Counter(job.status(T) for job in ACCOUNT.jobs(T))
    assert statuses["Running"] > 0
    assert statuses.total() > statuses["Running"]
    assert not set(ACCOUNT.job_ids(T)) & set(ACCOUNT.job_ids(T + 7 * DAY_SECONDS))
    lively = Account(WORLD, job_period_seconds=3600)
    assert len(lively.jobs_between(T, T + 3600)) == 6
    assert len(lively.jobs(T)) == 6 * 7 * 24


@pytest.mark.parametrize("wrong", ["", "dlc", "dlc0000000000000", "dlczz000000000000", "e01-cn-sim0001"])
def test_an_id_that_is_none_has_no_job(wrong: str) -> None:
    """Only ids that the schedule made are jobs, not others of their form."""
    with pytest.raises(KeyError):
        ACCOUNT.job(wrong)


def test_jobs_are_found_by_time_and_filter() -> None:
    """A range reaches jobs of any age by their creation; id, status and workspace narrow the list."""
    listing = JobListing(ACCOUNT)
    old = ACCOUNT.jobs(T - 30 * DAY_SECONDS)
    start, end = iso(old[0].created), iso(old[-1].created)

    found = plain(listing.page({"StartTime": start, "EndTime": end, "Order": "asc"}, T))["Jobs"]

    assert [job["JobId"] for job in found] == [job.job_id for job in old]
    one = plain(listing.page({"JobId": ACCOUNT.job_ids(T)[2]}, T))
    assert [job["JobId"] for job in one["Jobs"]] == [ACCOUNT.job_ids(T)[2]]
    running = plain(listing.page({"Status": "running"}, T))["Jobs"]
    assert {job["JobId"] for job in running} == {job.job_id for job in ACCOUNT.jobs(T) if job.status(T) == "Running"}
    assert plain(listing.page({"WorkspaceId": "1"}, T))["Jobs"] == []
    assert refusal(listing, {"StartTime": end, "EndTime": start}) == (400, "InvalidParameter")
    assert refusal(listing, {"SortBy": "Nonsense"}) == (400, "InvalidParameter")


def test_filters_and_order_of_the_other_listings() -> None:
    """Ids, names, states and tags narrow a list; `Order` and the field to sort by arrange it."""
    groups = ResourceGroupListing(ACCOUNT)
    ids = WORLD.group_ids
    assert [g["ResourceGroupID"] for g in plain(groups.page({"Order": "desc"}, T))["ResourceGroups"]] == ids[::-1]
    assert plain(groups.page({"ResourceGroupIDs": f"{ids[1]},rgnone"}, T))["TotalCount"] == 1
    by_size = plain(groups.page({"SortBy": "NodeCount"}, T))["ResourceGroups"]
    assert [g["NodeCount"] for g in by_size] == sorted(group.node_count for group in WORLD.groups)

    using = plain(NODES.page({"ClusterId": CLUSTER, "OperatingStates": ["Operating", "ClusterNodeStopped"]}, T))
    assert {node["OperatingState"] for node in using["Nodes"]} <= {"Operating", "ClusterNodeStopped"}
    tagged = plain(NODES.page({"ClusterId": CLUSTER, "Tags": [{"Key": "team", "Value": "speech"}]}, T))["Nodes"]
    assert 0 < len(tagged) < 30
    assert all(node["Tags"] for node in tagged)

    services = ServiceListing(ACCOUNT)
    name = ACCOUNT.service_ids[1].partition("/")[2]
    assert [s["ServiceName"] for s in plain(services.page({"ServiceName": name}, T))["Services"]] == [name]
    assert plain(services.page({"Label": {"team": "serving"}}, T))["TotalCount"] == 3
    assert plain(services.page({"Label": {"team": "other"}}, T))["TotalCount"] == 0
    assert plain(InstanceListing(ACCOUNT).page({"InstanceId": "dsw-none"}, T))["TotalCount"] == 0
    assert plain(ResourceListing(ACCOUNT).page({"ResourceId": "eas-r-sim0002"}, T))["TotalCount"] == 1


def test_a_notebook_stands_still_at_night() -> None:
    """One of two notebooks runs all day, the other by day only, and the listing tells it."""
    always, by_day = ACCOUNT.instance_ids
    midnight = T // DAY_SECONDS * DAY_SECONDS

    def statuses(now: float) -> dict[str, str]:
        return {one["InstanceId"]: one["Status"] for one in InstanceListing(ACCOUNT).records(now)}

    assert statuses(midnight) == {always: "Running", by_day: "Stopped"}
    assert statuses(midnight + 6 * 3600) == {always: "Running", by_day: "Running"}


def test_secrets_stand_only_in_the_fields_that_the_catalogue_calls_secret() -> None:
    """Jobs, notebooks and services show secrets, every one with the canary, and none outside of those fields."""
    for name, listing in listings(ACCOUNT).items():
        text = listing.page({}, T).fields.decode()
        secret_fields = CATALOGUE[name].secret_fields
        assert (CANARY in text) == bool(secret_fields)
        for record in plain(listing.page({}, T))[RECORDS_KEYS[name]]:
            with_secrets = {field for field, value in record.items() if CANARY in str(value)}
            assert with_secrets <= secret_fields
            if secret_fields:
                assert with_secrets


def test_totals_bend_as_faults_say() -> None:
    """A total may be off by one or come as text; the records stay."""
    listing = JobListing(ACCOUNT)

    changing = [plain(listing.page({}, T, bent(FaultKind.CHANGING_TOTAL), ordinal))["TotalCount"] for ordinal in (1, 2)]
    assert changing == [7, 5]
    cut = plain(listing.page({"PageSize": 5}, T, bent(FaultKind.CHANGING_TOTAL), 2))["TotalCount"]
    assert cut == 7, "5 would be the total of a list that ends with this page"
    assert plain(listing.page({}, T, bent(FaultKind.TOTAL_TEXT), 1))["TotalCount"] == "6"


def test_objects_drift_into_other_shapes() -> None:
    """Each shape of an inventory's object is what the drift's table says, and its id is never lost."""
    listing = ServiceListing(ACCOUNT)
    truth = listing.records(T)

    def drifted(shape: Shape) -> list[Any]:
        found: list[Any] = plain(listing.page({}, T, bent(FaultKind.TYPE_DRIFT, shapes=(shape,))))["Services"]
        return found

    assert drifted(Shape.NOT_AN_OBJECT) == [service["ServiceName"] for service in truth]
    assert [service["Cpu"] for service in drifted(Shape.STRINGS)] == [str(service["Cpu"]) for service in truth]
    assert all({"Rack", "Labels"} <= service.keys() for service in drifted(Shape.UNKNOWN_FIELDS))
    missing, null = drifted(Shape.MISSING_FIELDS)[0], drifted(Shape.NULL_FIELDS)[0]
    assert missing.keys() < truth[0].keys()
    assert {name for name, value in null.items() if value is None} == truth[0].keys() - missing.keys()
    assert "ServiceName" in missing
    assert drifted(Shape.TIME_GARBAGE) == truth
