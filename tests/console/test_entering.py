"""Nobody sees or does anything by the console but who can read its token: over plain HTTP, as an attacker would."""

import http.client
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli import app
from services.console import access as accesses
from services.console.access import SESSION_S, TICKET_S, TOKEN_FILE, Access, secret_of
from services.console.app import ACTIONS
from services.console.guard import HEADERS
from services.daemon.local import BUSINESS, PROVIDER
from services.party.configuration import ConfigError
from tests.console.office import Office
from tests.parties import PATIENCE_S, until

ASKING = ("stream?job=", "contract/x", "peers", "month", "models", "system")


class Caller:
    """A client that sends just what it is told to."""

    def __init__(self, office: Office, role: str) -> None:
        self.port = office.ports[role]
        self.home = f"127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body. A name's underscores are dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in {"host": self.home, "content-length": str(len(body)), **named}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def enter(self, ticket: str) -> dict[str, str]:
        """The headers of a browser that has entered."""
        status, headers, page = self.ask("GET", f"/enter?ticket={ticket}")
        assert status == 200
        key = page.decode().split('name="warren-key" content="')[1].split('"')[0]
        return {"cookie": headers["set-cookie"].split(";")[0], "x_warren_key": key}


@pytest.fixture
def caller(office: Office) -> Caller:
    return Caller(office, BUSINESS)


@pytest.fixture
def entered(office: Office, caller: Caller) -> dict[str, str]:
    return caller.enter(office.access(BUSINESS).ticket())


def code(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


@pytest.mark.parametrize("address", ASKING)
def test_without_a_session_nothing_is_told(caller: Caller, address: str) -> None:
    status, _, body = caller.ask("GET", f"/api/{address}")
    assert (status, code(body)) == (401, "no_session")


@pytest.mark.parametrize("address", ["contract/x", "peers", "month", "models", "system"])
def test_with_a_session_it_is(caller: Caller, entered: dict[str, str], address: str) -> None:
    status, _, _ = caller.ask("GET", f"/api/{address}", **entered)
    assert status == (404 if address == "contract/x" else 200)


@pytest.mark.parametrize("left_out", ["cookie", "x_warren_key"])
def test_cookie_and_key_are_needed_both(caller: Caller, entered: dict[str, str], left_out: str) -> None:
    half = {name: value for name, value in entered.items() if name != left_out}
    assert caller.ask("GET", "/api/peers", **half)[0] == 401


def test_a_session_of_another_daemon_is_none(office: Office, caller: Caller) -> None:
    other = Caller(office, PROVIDER).enter(office.access(PROVIDER).ticket())
    name = caller.enter(office.access(BUSINESS).ticket())["cookie"].split("=")[0]
    assert other["cookie"].split("=")[0] != name
    other["cookie"] = f"{name}={other['cookie'].split('=', 1)[1]}"
    assert caller.ask("GET", "/api/peers", **other)[0] == 401


def test_the_page_of_who_has_not_entered_says_what_to_do(caller: Caller) -> None:
    status, _, body = caller.ask("GET", "/")
    assert status == 401
    assert b"warren console" in body
    assert b"business-a" not in body


def test_a_ticket_is_good_once(office: Office, caller: Caller) -> None:
    ticket = office.access(BUSINESS).ticket()
    assert caller.ask("GET", f"/enter?ticket={ticket}")[0] == 200
    assert caller.ask("GET", f"/enter?ticket={ticket}")[0] == 401


@pytest.mark.parametrize("ticket", ["", "x", "9999999999.00.00", "ü", "a.b.c.d"])
def test_a_ticket_that_nobody_made_is_none(caller: Caller, ticket: str) -> None:
    assert (
        caller.ask("GET", "/enter?ticket=" + ticket.encode().hex() + ticket.encode("ascii", "ignore").decode())[0]
        == 401
    )


def test_tickets_and_sessions_end() -> None:
    now = [1_000.0]
    access = Access(bytes(32), clock=lambda: now[0])
    ticket, late = access.ticket(), access.ticket()
    session = access.enter(ticket)
    assert access.may(session, access.key_of(session))
    now[0] += TICKET_S + 1
    assert not access.enter(late)
    now[0] += SESSION_S
    assert not access.may(session, access.key_of(session))


def test_a_daemon_that_was_started_since_takes_no_ticket_from_before() -> None:
    """It may have been used, and who used it is forgotten."""
    now = [1_000.5]
    before = Access(bytes(32), clock=lambda: now[0])
    ticket, kept = before.ticket(), before.ticket()
    session = before.enter(ticket)
    now[0] += 2.0
    after = Access(bytes(32), clock=lambda: now[0])
    assert not after.enter(ticket)
    assert not after.enter(kept)
    assert after.may(session, after.key_of(session))
    assert after.enter(after.ticket())


def test_a_ticket_is_no_session_and_a_session_no_ticket() -> None:
    access = Access(bytes(32))
    ticket = access.ticket()
    assert not access.session_holds(ticket)
    assert not access.enter(access.enter(ticket))


def test_the_token_is_readable_by_its_owner_only(office: Office, tmp_path: Path) -> None:
    path = office.parties[BUSINESS].data_directory / TOKEN_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret_of(tmp_path)
    (tmp_path / TOKEN_FILE).chmod(0o640)
    with pytest.raises(ConfigError, match="other users may read it"):
        secret_of(tmp_path)


def test_a_damaged_token_is_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).write_text("c2hvcnQ=")
    (tmp_path / TOKEN_FILE).chmod(0o600)
    with pytest.raises(ConfigError, match="this is no console token") as caught:
        secret_of(tmp_path)
    assert "c2hvcnQ" not in str(caught.value)


def test_no_object_shows_the_secret() -> None:
    assert repr(Access(b"s" * 32)) == "Access()"
    assert all(value != b"s" * 32 for value in vars(accesses).values())


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "localhost", "", "127.0.0.1:1"])
@pytest.mark.parametrize("path", ["/", "/static/main.js", "/api/peers", "/enter?ticket=x"])
def test_another_name_that_leads_here_is_refused(caller: Caller, entered: dict[str, str], host: str, path: str) -> None:
    status, _, body = caller.ask("GET", path, **{**entered, "host": host})
    assert (status, code(body)) == (421, "wrong_host")


FOREIGN: list[dict[str, str]] = [
    {},
    {"origin": "null"},
    {"origin": "http://evil.example"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "HOME", "sec_fetch_site": "cross-site"},
    {"origin": "HOME", "sec_fetch_site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_what_another_site_posts_is_refused_and_nothing_happens(
    office: Office, caller: Caller, entered: dict[str, str], headers: dict[str, str]
) -> None:
    told = {name: value.replace("HOME", f"http://{caller.home}") for name, value in headers.items()}
    body = json.dumps({"id": "0000-0000", "reason": "x"}).encode()
    status, _, answer = caller.ask("POST", "/api/do/cancel", body, **entered, **told)
    assert (status, code(answer)) == (403, "wrong_origin")
    assert all(one["outcome"] != "cancelled" for one in office.ask(BUSINESS, "jobs"))


def own(caller: Caller, entered: dict[str, str]) -> dict[str, str]:
    """What the console's own page sends."""
    return {**entered, "origin": f"http://{caller.home}", "sec_fetch_site": "same-origin"}


def test_the_own_page_may_post(caller: Caller, entered: dict[str, str]) -> None:
    body = json.dumps({"id": "no-such-job", "reason": ""}).encode()
    status, _, answer = caller.ask("POST", "/api/do/cancel", body, **own(caller, entered))
    assert (status, code(answer)) == (404, "unknown_job")


@pytest.mark.parametrize("verb", ["submit", "purge", "check", "status", "nothing"])
def test_only_what_the_console_has_buttons_for_can_be_done(caller: Caller, entered: dict[str, str], verb: str) -> None:
    assert verb not in ACTIONS
    status, _, answer = caller.ask("POST", f"/api/do/{verb}", b"{}", **own(caller, entered))
    assert (status, code(answer)) == (400, "unknown_action")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"id": 1}', b'{"id": {"a": "b"}}', b"[" * 9_000])
def test_what_is_no_request_is_refused(caller: Caller, entered: dict[str, str], body: bytes) -> None:
    status, _, answer = caller.ask("POST", "/api/do/cancel", body, **own(caller, entered))
    assert (status, code(answer)) == (400, "bad_request")


def test_a_request_without_end_is_cut(caller: Caller, entered: dict[str, str]) -> None:
    body = b'{"id": "' + b"x" * 20_000 + b'"}'
    assert caller.ask("POST", "/api/do/cancel", body, **own(caller, entered))[0] == 413


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/api/peers", "/nothing", "/static/../app.py"])
def test_every_answer_says_what_the_browser_may_do_with_it(caller: Caller, path: str) -> None:
    _, headers, _ = caller.ask("GET", path)
    assert {name: headers.get(name) for name in HEADERS} == HEADERS


def test_no_file_beside_the_page_s_own_is_given(caller: Caller) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/..%2fapp.py"):
        assert caller.ask("GET", path)[0] == 404


def test_the_cookie_is_for_this_site_and_no_script(office: Office, caller: Caller) -> None:
    _, headers, _ = caller.ask("GET", f"/enter?ticket={office.access(BUSINESS).ticket()}")
    cookie = headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def warren(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output.strip()


def test_the_command_prints_a_link_that_enters(office: Office, caller: Caller) -> None:
    link = warren("console", "--party", str(office.path(BUSINESS)))
    assert link.startswith(f"http://{caller.home}/enter?ticket=")
    assert caller.ask("GET", link.removeprefix(f"http://{caller.home}"))[0] == 200


def test_a_monitor_reads_metrics_with_its_own_token_and_nothing_else(office: Office, caller: Caller) -> None:
    token = warren("console", "--metrics-token", "--party", str(office.path(BUSINESS)))
    status, _, body = caller.ask("GET", "/metrics", authorization=f"Bearer {token}")
    assert status == 200
    assert b"warren_build_info" in body
    assert caller.ask("GET", "/metrics")[0] == 401
    assert caller.ask("GET", "/metrics", authorization=f"Bearer {token[:-1]}")[0] == 401
    assert caller.ask("GET", "/api/peers", authorization=f"Bearer {token}")[0] == 401


def test_who_asks_for_a_month_that_is_none_is_told(caller: Caller, entered: dict[str, str]) -> None:
    for month in ("2026", "2026-13", "0000-01", "9999-12", "x", "2026-1"):
        status, _, body = caller.ask("GET", f"/api/month?month={month}", **entered)
        assert (status, code(body)) == (400, "bad_request")


def test_there_is_an_end_to_the_pages_that_watch(
    office: Office, caller: Caller, entered: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.console.app.STREAMS_MAX", 0)
    status, _, body = caller.ask("GET", "/api/stream?job=", **entered)
    assert (status, code(body)) == (503, "busy")


def first_event(caller: Caller, entered: dict[str, str], job: str, name: str) -> Any:
    """The first event of a name in a stream."""
    connection = http.client.HTTPConnection("127.0.0.1", caller.port, timeout=PATIENCE_S)
    headers = {"cookie": entered["cookie"], "x-warren-key": entered["x_warren_key"]}
    try:
        connection.request("GET", f"/api/stream?job={job}", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200
        while (line := answer.readline().decode()) != f"event: {name}\n":
            assert line, "the stream ended"
        return json.loads(answer.readline().decode().removeprefix("data: "))
    finally:
        connection.close()


def test_a_stream_of_a_job_that_is_not_there_says_so(caller: Caller, entered: dict[str, str]) -> None:
    assert first_event(caller, entered, "none", "job")["error"]["code"] == "unknown_job"


def test_neither_the_token_nor_a_coefficient_is_in_what_is_told_of_a_job(
    office: Office, caller: Caller, entered: dict[str, str]
) -> None:
    job = office.submit()
    assert office.over(job, BUSINESS)["outcome"] == "done"
    directory = office.parties[BUSINESS].data_directory
    parameters = directory / "results" / job / "parameters.json"
    until(parameters.exists, "the results are written")
    told = json.dumps(first_event(caller, entered, job, "job"))
    assert (directory / TOKEN_FILE).read_text().strip() not in told
    found = json.loads(parameters.read_text())["coefficients"]
    assert len(found) == 13
    assert [name for name, value in found.items() if name in told or str(value) in told] == []
