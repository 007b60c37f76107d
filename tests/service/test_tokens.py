"""Whose a search is: named tokens, their rotation without a restart, and what one name sees of another."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from kiago_ray.errors import InputError
from kiago_ray.service.tokens import Tokens

from .conftest import Listen, MakeService, Service

SECRETS = {
    name: f"{name}-secret-of-the-test-{at}" for at, name in enumerate(("alice", "bob", "admin", "group-2"))
}
SHARED = "shared-by-everybody-0123456789"
SMALL = {"base": "LaNiAsO", "candidates": 8, "steps": [1, 1]}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text("# who may ask\n\n" + "".join(f"{name} {token}\n" for name, token in SECRETS.items()))
    return path


@pytest.fixture
def service(make_service: MakeService, file: Path) -> Service:
    return make_service(tokens=str(file), token=SHARED, limits={"searches_per_client": 2})


def ask(service: Service, token: str, method: str, path: str, **options: Any) -> Any:
    return service.client.request(method, path, headers=bearer(SECRETS.get(token, token)), **options)


def submit(service: Service, token: str) -> Any:
    return ask(service, token, "POST", "/v1/searches", json=SMALL)


def seen(service: Service, token: str) -> set[str]:
    """The ids that a token's list has."""
    found = ask(service, token, "GET", "/v1/searches").json()
    assert found["total"] == len(found["searches"])
    return {job["id"] for job in found["searches"]}


def test_a_search_is_its_names_alone(service: Service) -> None:
    ids = {name: submit(service, name).json()["id"] for name in ("alice", "bob", SHARED)}
    assert {name: seen(service, name) for name in ids} == {
        "alice": {ids["alice"]},
        "bob": {ids["bob"]},
        SHARED: set(ids.values()),
    }
    assert seen(service, "admin") == set(ids.values())
    for path in ("", "/events", "/candidates", "/plots/tc.png"):
        for foreign in (ids["bob"], ids[SHARED], ids["bob"].replace("bob", "nobody")):
            answer = ask(service, "alice", "GET", f"/v1/searches/{foreign}{path}")
            assert (answer.status_code, "no such search" in answer.text) == (404, True)
    assert ask(service, "alice", "DELETE", f"/v1/searches/{ids['bob']}").status_code == 404
    for name, mine in ids.items():
        job = ask(service, name, "GET", f"/v1/searches/{mine}").json()
        assert (job["state"], job["owner"]) == ("queued", name.replace(SHARED, ""))
        assert ask(service, name, "GET", f"/v1/searches/{mine}/candidates").status_code == 409
        assert ask(service, "admin", "GET", f"/v1/searches/{mine}/candidates").status_code == 409


def test_an_admin_cancels_any_search(service: Service) -> None:
    for admin in ("admin", SHARED):
        place = submit(service, "alice").headers["Location"]
        assert ask(service, admin, "DELETE", place).json()["state"] == "cancelled"


def test_quotas_are_a_names_and_not_an_addresss(service: Service) -> None:
    """All ask from one address."""
    statuses = [
        submit(service, name).status_code for name in ("alice", "alice", "alice", "bob", "bob", "bob")
    ]
    assert statuses == [202, 202, 429, 202, 202, 429]
    assert submit(service, "group-2").status_code == 202


def test_nobody_pushes_out_anothers_search(make_service: MakeService, file: Path) -> None:
    service = make_service(tokens=str(file), limits={"searches_kept": 2})
    mine = submit(service, "alice").json()["id"]
    assert service.run_searches() == 1
    for _ in range(3):
        answer = submit(service, "bob")
        assert answer.status_code == 202
        assert ask(service, "bob", "DELETE", answer.headers["Location"]).json()["state"] == "cancelled"
    assert len(seen(service, "bob")) == 2
    assert seen(service, "alice") == {mine}
    assert ask(service, "alice", "GET", f"/v1/searches/{mine}/candidates").status_code == 200


def test_limits_at_one_time_are_a_names(make_service: MakeService, listen: Listen, file: Path) -> None:
    service = make_service(tokens=str(file), limits={"streams_per_client": 1, "stream_s": 30})
    places = {name: submit(service, name).headers["Location"] for name in ("alice", "bob")}
    url = listen(service.app)

    def watch(name: str) -> Any:
        return httpx.stream("GET", f"{url}{places[name]}/events", headers=bearer(SECRETS[name]), timeout=30)

    with watch("alice") as first, watch("alice") as second, watch("bob") as third:
        assert [each.status_code for each in (first, second, third)] == [200, 429, 200]


def test_tokens_are_changed_without_a_restart(
    service: Service, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kiago_ray.service")
    job_id = submit(service, "alice").json()["id"]
    old, new = SECRETS["alice"], "the-new-secret-of-alice-9"
    lines = file.read_text().replace(old, new)
    for text, opened in ((f"{lines}alice {old}\n", {old: 200, new: 200}), (lines, {old: 401, new: 200})):
        file.write_text(text)
        statuses = {each: ask(service, each, "GET", f"/v1/searches/{job_id}").status_code for each in opened}
        assert statuses == opened
    for mistake in ("alice\n", "", "alice short\n", None):
        file.unlink() if mistake is None else file.write_text(mistake)
        assert ask(service, new, "GET", "/v1/searches").status_code == 200
        assert "the tokens stay as they were" in caplog.messages[-2]
    told = "\n".join(caplog.messages)
    assert not [each for each in (*SECRETS.values(), new, SHARED) if each in told]
    assert '"client": "alice"' in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "can't be read (No such file"),
        ("alice\n", "line 1 of"),
        ("# none\n", "has no token"),
        ("Alice a-long-secret-of-the-test\n", "line 1 of"),
        ("a-name-of-more-than-24-letters a-long-secret-of-the-test\n", "line 1 of"),
        ("alice short-secret\n", "fewer than 16 characters"),
        ("alice a-long-secret-of-the-test\nbob a-long-secret-of-the-test\n", "line 2 of"),
        ("alice a-lóng-secret-of-the-test\n", "line 1 of"),
        (b"alice \xff\xff", "no text in UTF-8"),
    ],
)
def test_a_file_of_tokens_that_cannot_be_used_is_refused_without_them(
    text: str | bytes | None, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "tokens"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"^tokens: ") as error:
        Tokens.of({}, str(path), required=True)
    assert told in str(error.value)
    assert "secret-of" not in str(error.value)


def test_what_is_held_of_a_token_is_no_token(file: Path) -> None:
    held = Tokens.of({}, str(file), required=True)
    assert held.owner(f"Bearer {SECRETS['bob']}") == "bob"
    assert not [each for each in SECRETS.values() if each in repr(vars(held))]
