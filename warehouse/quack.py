"""A warehouse served over DuckDB's own protocol, as a reader meets it: SQL is sent as text and answered there.

    DYNO_WAREHOUSE=quack:host:port      TLS, but for this very machine; `?tls=off` (or on) says otherwise
    DYNO_TOKEN, DYNO_TOKEN_FILE         who asks; on the machine that serves, DYNO_HOME/serve.token is read without
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import duckdb

from models import paths
from models.errors import MissingTool, QueryError, UserError, WarehouseError

SCHEME, PORT = "quack:", 9494
TOKEN_FILE = "serve.token"  # noqa: S105  # a file's name
TOKEN_LENGTH_MIN = 16
ANSWER_S, REACHED_S = 5.0, 60.0
"""How long a first answer may take, and how long it counts."""
STAMP_KEPT_S = 1.0
"""A page asks many things of one warehouse: whether it has changed is asked once."""
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(:(?P<port>\d{1,5}))?(\?tls=(?P<tls>on|off))?")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_stamps: dict[str, tuple[float, tuple[int, int]]] = {}


@dataclass(frozen=True)
class Address:
    """Where a warehouse is served."""

    host: str
    port: int = PORT
    tls: bool = True

    @property
    def uri(self) -> str:
        """As DuckDB names it."""
        return f"{SCHEME}{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is this very machine."""
        return self.host in _LOOPBACK


def is_served(where: Path) -> bool:
    """Whether what stands for a home is a served warehouse."""
    return str(where).startswith(SCHEME)


def address(text: str, setting: str = "DYNO_WAREHOUSE") -> Address:
    """Reads `quack:host:port`, the port being 9494 where it is left out. Raises UserError naming the setting."""
    found = _ADDRESS.fullmatch(text.removeprefix(SCHEME).lstrip("/"))
    if found is None or int(found["port"] or PORT) > 65535:
        raise UserError(f"{setting}: {text!r} is no address; such as quack:warehouse.example.org:9494")
    host, tls = found["host"], found["tls"]
    return Address(host, int(found["port"] or PORT), tls == "on" if tls else host not in _LOOPBACK)


def load(con: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Loads extensions of DuckDB (quack; httpfs, which a client speaks HTTP with) from the packages that carry them:
    nothing is downloaded. Raises MissingTool."""
    version = f"v{duckdb.__version__}"
    for name in names:
        try:
            file = resources.files(f"duckdb_extension_{name}") / "extensions" / version / f"{name}.duckdb_extension"
        except ImportError:
            raise MissingTool("DuckDB's protocol is not installed here: pip install 'llm-dyno[team]'") from None
        try:
            con.execute(f"load {literal(str(file))}")
        except duckdb.Error as error:
            raise MissingTool(f"DuckDB's protocol cannot be loaded: duckdb-extension-{name} must be of duckdb's "
                              f"version, {version} ({str(error).splitlines()[0]})") from None


class Served:
    """Answers as a DuckDB connection does; what it is asked runs where the warehouse is."""

    def __init__(self, con: duckdb.DuckDBPyConnection, at: Address, token: str) -> None:
        self._con, self._at, self._token = con, at, token

    def execute(self, sql: str | duckdb.Statement, params: Sequence[object] | None = None) -> duckdb.DuckDBPyConnection:
        """Asks, with the parameters written into the text: the protocol of this DuckDB has none. Raises UserError for
        a token that is not known, QueryError for what is refused, WarehouseError where nothing answers."""
        text = sql if isinstance(sql, str) else sql.query
        try:
            return self._con.execute("from quack_query(?, ?, token => ?, disable_ssl => ?)",
                                     [self._at.uri, bound(text, params or ()), self._token, not self._at.tls])
        except duckdb.Error as error:
            if told := _told(self._at, error):
                raise told from None
            raise

    def extract_statements(self, sql: str) -> list[duckdb.Statement]:
        """Reads SQL without asking it."""
        return self._con.extract_statements(sql)


@contextmanager
def connect(where: Path) -> Iterator[Served]:
    """Yields what asks a served warehouse. Raises UserError for a wrong address or no token, and WarehouseError when it
    does not answer."""
    at = address(str(where))
    asks = token()
    _reach(at, int(time.monotonic() / REACHED_S))
    con = _client().cursor()
    try:
        yield Served(con, at, asks)
    except duckdb.Error as error:
        raise WarehouseError(f"{at.uri}: {str(error).splitlines()[0]}") from None
    finally:
        con.close()


@functools.cache
def _client() -> duckdb.DuckDBPyConnection:
    """One for the process: to load its extensions takes half a second."""
    import ssl  # here and below: most warehouses are files

    con = duckdb.connect(":memory:")
    load(con, "httpfs", "quack")
    con.execute("set global enable_server_cert_verification = true")
    if known := ssl.get_default_verify_paths().cafile:  # SSL_CERT_FILE, as everywhere in dyno, or the system's
        con.execute(f"set global ca_cert_file = {literal(known)}")
    return con


@functools.lru_cache(maxsize=16)
def _reach(at: Address, _period: int) -> None:
    """Finds out, every so often, whether somebody listens there and speaks TLS as expected: DuckDB itself waits for
    ever for one that does not. Raises WarehouseError."""
    import ssl

    try:
        with socket.create_connection((at.host.strip("[]"), at.port), timeout=ANSWER_S) as connection:
            if at.tls:
                with ssl.create_default_context().wrap_socket(connection, server_hostname=at.host):
                    pass
    except OSError as error:
        raise _silent(at, str(error)) from None


def stamp(where: Path) -> tuple[int, int] | None:
    """Identifies the snapshot that is served, at most STAMP_KEPT_S old; None where nothing is published yet."""
    asked, known = _stamps.get(str(where), (-math.inf, (0, 0)))
    if time.monotonic() - asked >= STAMP_KEPT_S:
        with connect(where) as con:
            row = con.execute("select mtime_ns, inode from _served").fetchone()
        known = (int(row[0]), int(row[1])) if row else (0, 0)
        _stamps[str(where)] = time.monotonic(), known
    return known if known != (0, 0) else None


def token() -> str:
    """Who asks. Raises UserError where nothing says so, or the file that would cannot be read."""
    if given := os.environ.get("DYNO_TOKEN", "").strip():
        return given
    named = os.environ.get("DYNO_TOKEN_FILE")
    file = Path(named).expanduser() if named else paths.home() / TOKEN_FILE
    try:
        return file.read_text().strip()
    except OSError as error:
        raise UserError("a served warehouse asks who you are: put the token that you were given into DYNO_TOKEN, or its"
                        f" file's path into DYNO_TOKEN_FILE ({file}: {error.strerror})") from None


def bound(sql: str, params: Sequence[object]) -> str:
    """SQL with its parameters, `?` or `?1`, as literals. Raises ValueError when they do not match."""
    if not params:
        return sql
    marks = [start for start, kind in duckdb.tokenize(sql) if kind == duckdb.token_type.operator and sql[start] == "?"]
    out, last, following = [], 0, iter(range(len(params)))
    for start in marks:
        number = re.match(r"\d+", sql[start + 1:])
        place = int(number[0]) - 1 if number else next(following, len(params))
        if not 0 <= place < len(params):
            raise ValueError(f"{len(params)} parameters are too few for {sql!r}")
        out += [sql[last:start], literal(params[place])]
        last = start + 1 + (len(number[0]) if number else 0)
    return "".join([*out, sql[last:]])


def literal(value: object) -> str:
    """A value in SQL's words. Raises TypeError for one that has none here."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f"'{value}'::double"
    if isinstance(value, str):
        return f"'{value.replace(chr(39), chr(39) * 2)}'"
    if isinstance(value, dt.datetime):
        return f"timestamp '{value.isoformat(sep=' ')}'"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(literal, value))}]"
    raise TypeError(f"{type(value).__name__} cannot be written as SQL")


def _told(at: Address, error: duckdb.Error) -> UserError | None:
    """What went wrong on the way there, as a person can mend it; None for what the question itself is to blame for."""
    message = str(error)
    if "Authentication failed" in message:
        return UserError(f"{at.uri} does not know this token: see DYNO_TOKEN or DYNO_TOKEN_FILE")
    if "Authorization failed" in message:
        return QueryError(f"{at.uri} refuses this: it answers one question (SELECT) at a time, on the warehouse alone")
    if isinstance(error, duckdb.IOException | duckdb.HTTPException):
        return _silent(at, message.splitlines()[0])
    return None


def _silent(at: Address, reason: str) -> WarehouseError:
    return WarehouseError(f"{at.uri} does not answer ({reason}): does `dyno serve` run there, "
                          f"{'behind TLS' if at.tls else 'without TLS'}?")
