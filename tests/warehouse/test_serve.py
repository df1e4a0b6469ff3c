"""A warehouse served to others: what is read there is what is read here, and nothing else can be done there."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest

from models.errors import QueryError, UserError, WarehouseError
from models.specs import Price
from tests.warehouse import fake
from tests.workloads.test_keys_and_tls import _certificate
from warehouse import bundles, evidence, pricelist, published, quack, reader, serve, writer

pytest.importorskip("duckdb_extension_quack", reason="the served warehouse is an extra of its own: llm-dyno[team]")
ROOT = Path(__file__).parent.parent.parent
TOKEN, OTHER = "a-token-long-enough", "another-one-long-enough"


class Team(NamedTuple):
    home: Path
    served: Path
    server: serve.Server


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    home = tmp_path_factory.mktemp("team")
    fake.store(home, fake.trial(seed=0))
    bundles.write_failure(home, fake.failure(), "log")
    writer.set_price(home, Price(hardware=fake.MACHINE.name, price_usd_per_hour=0.12, source="a bill", date="2026-11"))
    writer.ingest(home)
    writer.publish(home)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serve.serving(home, quack.Address("127.0.0.1", port, False), {TOKEN: "anna"}) as server:
        server.refresh()
        yield Team(home, Path(f"quack:127.0.0.1:{port}"), server)


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO_TOKEN", TOKEN)


def test_what_is_read_there_is_what_is_read_here(team: Team) -> None:
    (trial,) = bundles.present(team.home)
    for sql, params in (("from measurements", None), ("from failures", None), ("from setups", None),
                        ("from measurements where trial_id = ?", [trial]),
                        ("select ?1 || '?' as a, ?2::double as b, ?1 as c", ["it's", 1.5]),
                        ("from measurements where list_contains(?, trial_id)", [[trial]])):
        assert reader.query(team.served, sql, params).equals(reader.query(team.home, sql, params)), sql
    assert reader.schema(team.served).equals(reader.schema(team.home))
    assert reader.requests(team.served, trial).equals(reader.requests(team.home, trial))
    assert reader.telemetry(team.served, trial).equals(reader.telemetry(team.home, trial))
    assert reader.newest(team.served, 5, ["llama"]).equals(reader.newest(team.home, 5, ["llama"]))
    assert evidence.read(team.served) == evidence.read(team.home)
    assert {p.key: p for p in pricelist.every(team.served)} == {p.key: p for p in pricelist.every(team.home)}
    here, there = reader.bundle_of(team.home, trial[:6]), reader.bundle_of(team.served, trial[:6])
    assert there.measurement == here.measurement and there.requests.equals(here.requests)


@pytest.mark.parametrize("sql", [
    "from measurements limit 1", "show tables", "describe measurements", "summarize trials", "explain from trials",
    "explain analyze select count(*) from requests", "with x as (select 1 as a) from x", "select unnest([1, 2])",
    "from range(3)", "from (values (1), (2)) t(a)", "pivot setups on quantization in ('Q8_0') using count(*)",
])
def test_questions_in_any_form_are_answered(team: Team, sql: str) -> None:
    assert reader.user_sql(team.served, sql).height > 0


@pytest.mark.parametrize("sql", [
    "create table x (a int)", "drop view measurements", "insert into _served values ('x', 1, 2)",
    "from duckdb_functions()", "attach '/tmp/x.duckdb'", "copy trials to '/tmp/stolen.csv'", "checkpoint",
    "set enable_external_access = true", "from read_text('/etc/passwd')", "from '/etc/passwd'", "from glob('/*')",
    "from quack_stop('{uri}')", "call quack_stop('{uri}')", "from quack_query('{uri}', 'select 1')",
    "from query('from quack_stop(''{uri}'')')", "from quack_serve('quack:127.0.0.1:1')", "from duckdb_secrets()",
    "select (select count(*) from read_text('/etc/passwd'))", "with x as (from read_text('/etc/passwd')) from x",
    "explain analyze from read_text('/etc/passwd')", "load httpfs", "pragma database_size",
    "select 1; drop view trials", "execute x", "prepare x as select 1", "use memory", "export database '/tmp/x'",
    "install httpfs", "from sniff_csv('/etc/passwd')", "from duckdb_settings()", "select * from enable_logging()",
])
def test_nothing_but_questions_runs_there(team: Team, sql: str) -> None:
    """Asked without dyno's own check, as any DuckDB can."""
    sql = sql.replace("{uri}", str(team.served))
    with pytest.raises(UserError, match=r"refuses this|does not exist"), quack.connect(team.served) as con:
        con.execute(sql).fetchall()
    assert reader.query(team.served, "select count(*) from trials").item() == 1, "it goes on"
    if not sql.startswith(("prepare", "execute", "use", "select 1")):
        with pytest.raises(QueryError):
            reader.user_sql(team.served, sql)


def test_rows_cannot_be_appended_there(team: Team) -> None:
    """The protocol has a message of its own for that, which no statement goes with."""
    with quack._client().cursor() as con:
        con.execute(f"attach '{team.served}' as w (token '{TOKEN}')")
        assert con.execute("select count(*) from w.trials").fetchone() == (1,), "any DuckDB can read so"
        for sql in ("insert into w.trials select * from w.trials", "insert into w._served values ('x', 1, 2)",
                    "create table w.x as select 1 as a"):
            with pytest.raises(duckdb.Error):
                con.execute(sql)
        con.execute("detach w")
    assert reader.query(team.served, "select count(*) from trials").item() == 1


def test_who_asks_must_be_known(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO_TOKEN", OTHER)
    with pytest.raises(UserError, match="does not know this token"):
        reader.query(team.served, "select 1")
    team.server.admit({OTHER: "ben"})
    assert reader.query(team.served, "select 1").item() == 1
    monkeypatch.setenv("DYNO_TOKEN", TOKEN)
    with pytest.raises(UserError, match="DYNO_TOKEN") as caught:
        reader.query(team.served, "select 1")
    assert TOKEN not in str(caught.value)
    team.server.admit({TOKEN: "anna"})
    monkeypatch.delenv("DYNO_TOKEN")
    with pytest.raises(UserError, match="DYNO_TOKEN_FILE"):
        reader.query(team.served, "select 1")


def test_a_newer_snapshot_is_served_while_others_read(team: Team) -> None:
    ended, seen, errors = threading.Event(), set[int](), list[str]()

    def read() -> None:
        while not ended.is_set():
            try:
                trials, shown = reader.query(team.served, "select (select count(*) from trials), "
                                             "(select count(*) from measurements)").row(0)
                seen.add(trials)
                if trials != shown:
                    errors.append(f"{trials} trials, {shown} shown")
            except Exception as error:
                errors.append(str(error))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    before = published.stamp(team.served)
    for seed in range(1, 5):
        fake.store(team.home, fake.trial(requests=4, seed=seed))
        writer.ingest(team.home)
        writer.publish(team.home)
        assert team.server.refresh() and not team.server.refresh()
        assert reader.query(team.served, "select count(*) from trials").item() == seed + 1
    ended.set()
    for thread in threads:
        thread.join()
    assert errors == [] and len(seen) > 2
    time.sleep(quack.STAMP_KEPT_S)
    assert published.stamp(team.served) not in (None, before)


def test_what_does_not_answer_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        port = deaf.getsockname()[1]
    with pytest.raises(WarehouseError, match=f"127.0.0.1:{port}"):
        reader.query(Path(f"quack:127.0.0.1:{port}"), "select 1")
    with pytest.raises(WarehouseError, match="no-such-host"):
        reader.query(Path("quack:no-such-host.invalid:9494"), "select 1")


ASKED_OVER_TLS = """
import sys
from pathlib import Path
from models.errors import DynoError
from warehouse import reader
try:
    print(reader.query(Path(sys.argv[1]), "select count(*) from trials").item())
except DynoError as error:
    print(error)
"""


def test_another_machine_is_spoken_to_in_tls_and_believed_by_its_certificate(team: Team, tmp_path: Path) -> None:
    """In a process of its own: certificates are read once."""
    certificate, private = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        proxy = threading.Thread(target=_proxy, args=(listener, context, team.server.address.port))
        proxy.start()
        argv = [sys.executable, "-c", ASKED_OVER_TLS, f"quack:127.0.0.1:{listener.getsockname()[1]}?tls=on"]
        asked = [subprocess.run(argv, cwd=ROOT, env={**os.environ, **more}, capture_output=True, text=True).stdout
                 for more in ({}, {"SSL_CERT_FILE": str(certificate)})]
        listener.shutdown(socket.SHUT_RDWR)
        proxy.join()
    assert "certificate" in asked[0] and asked[1].strip().isdigit(), asked


def _proxy(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Takes TLS off connections, as the proxy before a served warehouse does."""
    with suppress(OSError):
        while True:
            plain, _ = listener.accept()
            threading.Thread(target=_carry, args=(plain, context, port)).start()


def _carry(plain: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as spoken, \
            socket.create_connection(("127.0.0.1", port)) as behind:
        back = threading.Thread(target=_pump, args=(behind, spoken))
        back.start()
        _pump(spoken, behind)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("wrong", ["quack:", "quack:a b:1", "quack:host:99999", "quack:host/x", "quack:h:1?tls=maybe"])
def test_a_wrong_address_names_the_setting(wrong: str) -> None:
    with pytest.raises(UserError, match="DYNO_WAREHOUSE"):
        reader.query(Path(wrong), "select 1")


@pytest.mark.parametrize("wrong", ["", "# nobody", "anna short", "anna a-token-long-enough more"])
def test_a_wrong_list_of_tokens_names_the_file_and_line(wrong: str) -> None:
    with pytest.raises(UserError, match=r"tokens\.txt: (line 1|holds)"):
        serve.tokens_of(wrong, "tokens.txt")


def test_values_become_sql() -> None:
    assert quack.bound("select ?, '?', ?1, ?2", ["a'b", None]) == "select 'a''b', '?', 'a''b', null"
    assert quack.literal([1, 2.5, True, float("nan")]) == "[1, 2.5, true, 'nan'::double]"
