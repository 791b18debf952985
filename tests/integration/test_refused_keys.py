"""A refused key is asked about once more before anything is stopped, on both gateways."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from collector.api.credentials import AccessKey, StaticCredentials
from collector.api.reactions import StaleSignatureError
from collector.catalogue.products.eflo_controller import CreateDiagnosticTaskAnswer
from collector.errors import CredentialsError, ForbiddenError
from tests.integration.test_client import CREATE_DIAGNOSTIC_TASK, PAGE, calling, error_reply, scripted, serve

REFUSALS = (
    (401, ""), (401, "InvalidApiKey"), (404, "InvalidAccessKeyId.NotFound"), (403, "InvalidAccessKeyId.Inactive"),
    (400, "SignatureDoesNotMatch"), (400, "MalformedSecurityToken"),
)  # fmt: skip
GATEWAYS = {"bearer": None, "openapi": StaticCredentials(AccessKey("LTAI5tCanary", "secret-canary-77"))}


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize(("http_status", "code"), REFUSALS)
async def test_a_single_refusal_among_good_answers_stops_nothing(gateway: str, http_status: int, code: str) -> None:
    """The call is made once more, with a signature of its own, and its answer is returned; both are metered."""
    async with (
        serve(scripted(PAGE, error_reply(http_status, code), PAGE)) as service,
        calling(service.base_url, credentials=GATEWAYS[gateway]) as api,
    ):
        for _ in range(3):
            reply = await api.syslogs()
            await api.meter.settle(reply.attempt)

        assert [status for status, _ in api.codes] == [200, http_status, 200, 200]
        assert not api.client.gate.account_stopped
        if gateway == "openapi":
            nonces = {request.headers["x-acs-signature-nonce"] for request in service.requests}
            assert len(nonces) == len(service.requests)


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_a_key_that_is_refused_twice_stops_the_account(gateway: str) -> None:
    """Calls that were under way and those that wait learn it from the second refusal; none is sent after it."""
    async with (
        serve(scripted(PAGE, error_reply(401, "InvalidApiKey"))) as service,
        calling(service.base_url, credentials=GATEWAYS[gateway]) as api,
    ):
        await api.syslogs()
        results = await asyncio.gather(*(api.syslogs(f"n{i}") for i in range(12)), return_exceptions=True)
        sent = len(service.requests)
        with pytest.raises(CredentialsError):
            await api.syslogs()

        assert [type(result) for result in results] == [CredentialsError] * 12
        assert api.client.gate.account_stopped
        # Those that had left already, and the one that decided for all.
        assert sent <= 1 + 12 + 1
        assert len(service.requests) == sent


async def test_what_must_not_be_done_twice_is_repeated_after_a_refused_key() -> None:
    """A call that was refused for its key has not taken effect."""
    async with (
        serve(scripted(error_reply(401), {"RequestId": "R", "DiagnosticId": "d1"})) as service,
        calling(service.base_url) as api,
    ):
        reply = await api.client.request(CREATE_DIAGNOSTIC_TASK, "i1", {"ClusterId": "i1"})

        assert isinstance(reply.answer, CreateDiagnosticTaskAnswer)
        assert reply.answer.diagnostic_id == "d1"
        assert len(service.requests) == 2


async def test_an_account_on_trial_is_refused_by_one_call() -> None:
    """What was stopped is tried again with a single call."""
    async with serve(scripted(error_reply(401))) as service, calling(service.base_url) as api:
        with pytest.raises(CredentialsError):
            await api.syslogs()
        before = len(service.requests)
        api.client.gate.reopen()
        with pytest.raises(CredentialsError):
            await api.syslogs()

        assert (before, len(service.requests)) == (2, 3)


async def test_a_missing_right_names_its_policy() -> None:
    """The advice has the ready-made policy and the exact action of the operation."""
    async with serve(scripted(error_reply(403, "Forbidden.RAM"))) as service, calling(service.base_url) as api:
        with pytest.raises(ForbiddenError) as raised:
            await api.syslogs()

        assert "AliyunPAIFullAccess" in raised.value.hint
        assert "eflo:ListSyslogs" in raised.value.hint


async def test_refusals_with_answers_between_stop_nothing() -> None:
    """A gateway of which one server in three refuses a good key costs calls, and at worst a call that fails for now."""
    count = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        return error_reply(401) if count % 3 == 2 else web.json_response(PAGE)

    async with serve(handler) as service, calling(service.base_url) as api:
        results = [
            await asyncio.gather(*(api.syslogs(f"n{i}") for i in range(5)), return_exceptions=True) for _ in range(9)
        ]

        assert not api.client.gate.account_stopped
        failures = [result for batch in results for result in batch if isinstance(result, BaseException)]
        assert all(type(failure) is StaleSignatureError for failure in failures)
