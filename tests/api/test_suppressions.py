"""Addresses that are not written to: suppressed, found, lifted; and what the engine makes of them."""

from __future__ import annotations

import json

from tests.api.conftest import Api, codes
from tests.api.delivering import deliver

FANG = {"channel": "email", "address": "fang@example.com"}
USER = {"id": "u-1", "identities": [FANG, {"channel": "sms", "address": "+8613800000000"}]}
PATH = "/v1/users/u-1/suppressions"


async def test_a_suppressed_address_gets_nothing_until_it_is_lifted(api: Api) -> None:
    await api.post("/v1/users", USER)
    made = await api.post(PATH, {**FANG, "reason": "complaint"})
    assert made.status_code == 201
    assert await deliver(api, to={"user": "u-1"}) == ("suppressed", "address_suppressed")
    assert await deliver(api, to={"email": "fang@example.com"}) == ("suppressed", "address_suppressed")
    assert await deliver(api, to={"email": "other@example.com"}) == ("sent", None)
    gone = f"{PATH}/{made.json()['id']}"
    assert [(await api.call("DELETE", gone)).status_code for _ in range(2)] == [204, 404]
    assert await deliver(api, to={"user": "u-1"}) == ("sent", None)


async def test_suppressing_again_changes_nothing_and_says_so(api: Api) -> None:
    await api.post("/v1/users", USER)
    first = await api.post(PATH, {**FANG, "reason": "complaint"})
    again = await api.post(PATH, {**FANG, "reason": "requested"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert (await api.get(PATH)).json()["items"] == [first.json()]
    assert first.headers["location"] == f"{PATH}/{first.json()['id']}"


async def test_a_repetition_with_its_key_gets_the_first_answer(api: Api) -> None:
    """Also when it was lifted meanwhile: a repetition is no new wish."""
    await api.post("/v1/users", USER)
    first = await api.post(PATH, FANG, once="k")
    await api.call("DELETE", f"{PATH}/{first.json()['id']}")
    again = await api.post(PATH, FANG, once="k")
    assert (again.status_code, again.headers["idempotent-replay"], again.json()) == (200, "true", first.json())
    assert (await api.get(PATH)).json()["items"] == []


async def test_a_user_shows_what_others_have_suppressed_and_only_its_own(api: Api) -> None:
    """An answer of a provider, or an operator's entry, counts for whoever has the address."""
    await api.post("/v1/users", USER)
    await api.post("/v1/users", {"id": "u-2", "identities": [FANG]})
    await api.post("/v1/suppressions", {"channel": "sms", "address": "+8613800000000", "reason": "hard_bounce"})
    await api.post("/v1/suppressions", {"channel": "email", "address": "nobody@example.com"})
    await api.pool.execute("INSERT INTO suppression VALUES ('acme', 'email', 'fang@example.com', 'recipient_refused')")
    await api.pool.execute("INSERT INTO suppression VALUES ('globex', 'email', 'fang@example.com', 'complaint')")
    shown = (await api.get(PATH)).json()["items"]
    assert [(s["channel"], s["reason"]) for s in shown] == [("email", "recipient_refused"), ("sms", "hard_bounce")]
    assert [s["channel"] for s in (await api.get("/v1/users/u-2/suppressions")).json()["items"]] == ["email"]


async def test_one_users_entry_is_not_lifted_under_another(api: Api) -> None:
    await api.post("/v1/users", USER)
    await api.post("/v1/users", {"id": "u-2"})
    made = (await api.post(PATH, FANG)).json()
    assert (await api.call("DELETE", f"/v1/users/u-2/suppressions/{made['id']}")).status_code == 404
    assert (await api.call("DELETE", f"/v1/suppressions/{made['id']}", key="other")).status_code == 404
    assert await api.count("suppression") == 1
    assert (await api.call("DELETE", f"/v1/suppressions/{made['id']}")).status_code == 204


async def test_an_operator_finds_why_nobody_at_an_address_gets_mail(api: Api) -> None:
    for n in range(5):
        reason = "complaint" if n % 2 else "requested"
        await api.post("/v1/suppressions", {"channel": "email", "address": f"a{n}@example.com", "reason": reason})
    pages = [page async for page in api.pages("/v1/suppressions", limit=2)]
    assert [s["address"][1] for page in pages for s in page] == list("43210")
    found = await api.get("/v1/suppressions", params={"channel": "email", "address": "a3@example.com"})
    assert [s["reason"] for s in found.json()["items"]] == ["complaint"]
    complaints = await api.get("/v1/suppressions", params={"reason": "complaint"})
    assert [s["address"][1] for s in complaints.json()["items"]] == ["3", "1"]
    assert (await api.get("/v1/suppressions", key="other")).json()["items"] == []


async def test_what_is_refused(api: Api) -> None:
    await api.post("/v1/users", USER)
    for path, body, where in (
        (PATH, {"channel": "email", "address": "other@example.com"}, ("/address", "not_allowed")),
        (PATH, {"channel": "sms", "address": "fang@example.com"}, ("/address", "format")),
        (PATH, {"channel": "inapp", "address": "u-1"}, ("/channel", "not_allowed")),
        (PATH, {**FANG, "reason": "bored"}, ("/reason", "not_allowed")),
        ("/v1/suppressions", {"channel": "email"}, ("/address", "required")),
        ("/v1/suppressions", {"channel": "email", "address": "fang"}, ("/address", "format")),
        ("/v1/suppressions", {"channel": "wecom", "address": "erased abc"}, ("/address", "format")),
    ):
        answer = await api.post(path, body)
        assert (answer.status_code, codes(answer)) == (422, [where]), json.dumps(body)
    alone = await api.get("/v1/suppressions", params={"address": "fang@example.com"})
    assert (alone.status_code, codes(alone)) == (422, [("channel", "required")])
    assert (await api.post("/v1/users/nobody/suppressions", FANG)).status_code == 404
    assert await api.count("suppression") == 0
