"""Preferences over the API: set, changed, counted, and looked at by what is sent."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any

import pytest

from api.routes.preference_bodies import EXAMPLE
from domain.preferences import Cap, CategoryChoice, Preferences
from domain.quiet_hours import QuietHours
from infra.postgres.engine.plans import PlanRepository
from tests.api.conftest import TENANT, Api, at_once, codes

PATH = "/v1/users/u-1/preferences"
SHOWN: dict[str, Any] = {
    **EXAMPLE,
    "caps": {"channels": {"email": {"most": 5, "per": "P1D"}}, "categories": {"marketing": {"most": 1, "per": "P7D"}}},
}
NOTHING: dict[str, Any] = {
    "channels": {}, "categories": {}, "preferred": [], "caps": {"channels": {}, "categories": {}}, "quiet_hours": None,
}  # fmt: skip


async def put(api: Api, body: Any, *, user: str = "u-1", **rest: Any) -> dict[str, Any]:
    answer = await api.call("PUT", f"/v1/users/{user}/preferences", json=body, **rest)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def patch(api: Api, body: Any) -> dict[str, Any]:
    answer = await api.call("PATCH", PATH, json=body)
    assert answer.status_code == 200, answer.text
    return chosen(answer.json())


def chosen(shown: dict[str, Any]) -> dict[str, Any]:
    return {name: shown[name] for name in NOTHING}


async def test_a_user_has_chosen_nothing_at_first(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})
    assert (await api.get(PATH)).json() == {**NOTHING, "app": None, "updated_at": None}


async def test_what_is_set_is_read_and_says_through_which_app(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})
    made = await put(api, EXAMPLE)
    assert chosen(made) == SHOWN
    assert made["app"] == "shop"
    assert (await api.get(PATH)).json() == made
    assert chosen(await put(api, {"channels": {"email": False}})) == {**NOTHING, "channels": {"email": False}}
    assert chosen(await put(api, {"categories": {"x": {}, "y": {"enabled": None}}})) == NOTHING


async def test_the_plan_reads_what_the_api_stored(api: Api) -> None:
    """The two meet in one table only."""
    await api.post("/v1/users", {"id": "u-1", "time_zone": "Asia/Shanghai"})
    await put(api, EXAMPLE)
    person = (await PlanRepository(api.pool).persons([(TENANT, "u-1")]))[TENANT, "u-1"]
    assert person.time_zone == "Asia/Shanghai"
    assert person.preferences == Preferences(
        {"email": True, "webhook": False},
        {"marketing": CategoryChoice(False, {"email": True})},
        ("inapp", "email"),
        {"email": Cap(5, timedelta(days=1))},
        {"marketing": Cap(1, timedelta(days=7))},
        QuietHours(time(22), time(8)),
    )


async def test_a_change_touches_only_what_it_names_and_null_takes_back(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})
    await put(api, EXAMPLE)
    assert await patch(api, {}) == SHOWN
    changed = await patch(
        api,
        {
            "channels": {"webhook": None, "inapp": True},
            "categories": {"marketing": {"channels": {"email": None}}, "orders": {"channels": {"email": False}}},
            "caps": {"channels": {"email": {"most": 0, "per": 3600}}},
        },
    )
    assert changed == {
        **SHOWN,
        "channels": {"email": True, "inapp": True},
        "categories": {
            "marketing": {"enabled": False, "channels": {}},
            "orders": {"enabled": None, "channels": {"email": False}},
        },
        "caps": {**SHOWN["caps"], "channels": {"email": {"most": 0, "per": "PT1H"}}},
    }
    gone = {"categories": {"marketing": {"enabled": None}, "orders": None}, "caps": {"categories": None}}
    changed = await patch(api, {**gone, "preferred": None, "quiet_hours": None, "channels": None})
    assert changed == {**NOTHING, "caps": {"channels": {"email": {"most": 0, "per": "PT1H"}}, "categories": {}}}


async def test_two_changes_at_once_are_both_kept(api: Api) -> None:
    """Catches: read, change and write without a lock. One of two opt-outs would be lost."""
    await api.post("/v1/users", {"id": "u-1"})
    names = [f"c-{n}" for n in range(12)]
    bodies = [{"categories": {name: {"enabled": False}}} for name in names]
    answers = await at_once(api.call("PATCH", PATH, json=body) for body in bodies)
    assert {answer.status_code for answer in answers} == {200}
    assert sorted((await api.get(PATH)).json()["categories"]) == sorted(names)


async def test_who_is_gone_or_unknown_has_no_preferences_to_change(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})
    await api.pool.execute("UPDATE person SET state = 'erased'")
    for method in ("PUT", "PATCH"):
        assert (await api.call(method, PATH, json={})).json()["code"] == "conflict"
        assert (await api.call(method, "/v1/users/nobody/preferences", json={})).status_code == 404
    assert await api.count("preference") == 0


HOUR = {"most": 1, "per": 3600}
BAD: list[tuple[dict[str, Any], tuple[str, str]]] = [
    ({"channels": {"fax": True}}, ("/channels/fax", "not_allowed")),
    ({"channels": {"email": 1}}, ("/channels/email", "type")),
    ({"channels": []}, ("/channels", "type")),
    ({"categories": {"": {}}}, ("/categories/", "too_short")),
    ({"categories": {"x" * 129: {}}}, (f"/categories/{'x' * 100}", "too_long")),
    ({"categories": {"a\nb": {}}}, ("/categories/ab", "control_character")),
    ({"categories": {"a/b": {"colour": 1}}}, ("/categories/a~1b/colour", "unknown_field")),
    ({"categories": {"x": {"channels": {"email": "no"}}}}, ("/categories/x/channels/email", "type")),
    ({"categories": {str(n): {} for n in range(101)}}, ("/categories", "too_long")),
    ({"preferred": ["email", "email"]}, ("/preferred", "unique")),
    ({"preferred": ["fax"]}, ("/preferred/0", "not_allowed")),
    ({"caps": {"channels": {"email": {"most": -1, "per": 3600}}}}, ("/caps/channels/email/most", "range")),
    ({"caps": {"channels": {"email": {"most": 1001, "per": 3600}}}}, ("/caps/channels/email/most", "range")),
    ({"caps": {"channels": {"email": {"most": True, "per": 3600}}}}, ("/caps/channels/email/most", "type")),
    ({"caps": {"channels": {"email": {"most": 1}}}}, ("/caps/channels/email/per", "required")),
    *[
        ({"caps": {"categories": {"x": {"most": 1, "per": per}}}}, ("/caps/categories/x/per", code))
        for per, code in {"a day": "format", "P": "format", "PT": "format", "P1M": "format", "PT0S": "range",
                          "P32D": "range", "P999999999999D": "range", 59: "range", -1: "range", 10**30: "range",
                          1.5: "format", True: "format"}.items()
    ],
    ({"caps": {"groups": {}}}, ("/caps/groups", "unknown_field")),
    ({"quiet_hours": {"from": "22:00"}}, ("/quiet_hours/to", "required")),
    ({"quiet_hours": {"from": "24:00", "to": "08:00"}}, ("/quiet_hours/from", "format")),
    ({"quiet_hours": {"from": "22:00:00", "to": "08:00"}}, ("/quiet_hours/from", "format")),
    ({"quiet_hours": {"from": 22, "to": "08:00"}}, ("/quiet_hours/from", "format")),
    ({"quiet_hours": {"from": "08:00", "to": "08:00"}}, ("/quiet_hours/to", "range")),
    ({"time_zone": "UTC"}, ("/time_zone", "unknown_field")),
]  # fmt: skip


@pytest.mark.parametrize(("body", "error"), BAD, ids=lambda value: ascii(value)[:70])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_bad_preferences_are_named_and_not_stored(
    shared_api: Api, method: str, body: dict[str, Any], error: tuple[str, str]
) -> None:
    await shared_api.post("/v1/users", {"id": "u-1"})
    answer = await shared_api.call(method, PATH, json=body)
    assert answer.status_code == 422, answer.text
    assert error in codes(answer)
    assert await shared_api.count("preference") == 0


async def test_changes_do_not_name_more_categories_than_fit(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})
    await put(api, {"categories": {f"a-{n}": {"enabled": False} for n in range(60)}})
    answer = await api.call("PATCH", PATH, json={"categories": {f"b-{n}": {"enabled": False} for n in range(60)}})
    assert (answer.status_code, codes(answer)) == (422, [("/categories", "too_long")])
    assert len((await api.get(PATH)).json()["categories"]) == 60


async def test_what_is_kept_of_a_user_is_erased_with_the_user(api: Api) -> None:
    """What was planned under the user's caps too: it tells when somebody was written to."""
    for user in ("u-1", "u-2"):
        await api.post("/v1/users", {"id": user})
        await put(api, EXAMPLE, user=user)
        await api.pool.execute(
            "INSERT INTO cap_use VALUES ($1, $2, gen_random_uuid(), 1, 'email', 'c', now())", TENANT, user
        )
    assert (await api.post("/v1/users/u-1/erase")).json()["erased"]["preferences"] == 1
    for table in ("preference", "cap_use"):
        assert await api.pool.fetchval(f"SELECT string_agg(person_id, ' ') FROM {table}") == "u-2"


async def test_figures(api: Api) -> None:
    """By channel, by category, by both and by app; another tenant's users are not among them."""
    for user in ("u-1", "u-2", "u-3", "u-4"):
        await api.post("/v1/users", {"id": user})
    await api.post("/v1/users", {"id": "u-1"}, key="other")
    await put(api, EXAMPLE)
    await put(api, {"channels": {"email": False}, "caps": {"channels": {"email": {"most": 1, "per": "PT12H"}}}}, user="u-2")
    await put(api, {"categories": {"marketing": {"enabled": False}}, "preferred": ["email"]}, user="u-3")
    await put(api, {}, user="u-4")
    await put(api, {"channels": {"email": False}}, key="other")
    none = {"opted_in": 0, "opted_out": 0, "capped": 0, "per_day": None}
    assert (await api.get("/v1/preferences/stats")).json() == {
        "users": 3,
        "quiet_hours": 1,
        "preferred": 2,
        "channels": [
            {"channel": "email", "opted_in": 1, "opted_out": 1, "capped": 2, "per_day": 3.5},
            {**none, "channel": "webhook", "opted_out": 1},
        ],
        "categories": [{**none, "category": "marketing", "opted_out": 2, "capped": 1, "per_day": 0.143}],
        "pairs": [{**none, "category": "marketing", "channel": "email", "opted_in": 1}],
        "apps": [{"app": "shop", "opted_in": 1, "opted_out": 3, "capped": 2, "per_day": 2.381}],
    }


async def test_figures_of_nobody(api: Api) -> None:
    stats = (await api.get("/v1/preferences/stats")).json()
    assert (stats["users"], stats["channels"], stats["apps"]) == (0, [], [])


async def test_figures_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Categories are named freely, so that there may be very many: the most used ones are told."""
    monkeypatch.setattr("infra.postgres.users.preferences.MOST_FIGURES", 2)
    for user, names in (("u-1", "abc"), ("u-2", "bc")):
        await api.post("/v1/users", {"id": user})
        await put(api, {"categories": {name: {"enabled": False} for name in names}}, user=user)
    shown = (await api.get("/v1/preferences/stats")).json()
    assert [figure["category"] for figure in shown["categories"]] == ["b", "c"]
    assert len(shown["apps"]) == 1
