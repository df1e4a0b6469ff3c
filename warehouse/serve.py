"""The published warehouse, served to many over DuckDB's own protocol: read-only, to whoever has a token.

A database in memory has a view for each table and view of the snapshot, which is attached read-only; when a newer one
is published, it is attached beside it and the views move over at once, while whoever reads the old one finishes. What a
client sends runs only if it is one question (SELECT in any form, EXPLAIN), on the warehouse and not on files, the
network or the server itself. There is no table that could be written to, by whatever way the protocol has: what the
server itself knows are views and macros as well, and of tokens it keeps the hashes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from models.errors import UserError
from warehouse import _disk, _schema, quack
from warehouse.published import snapshot
from warehouse.quack import Address, literal

FUNCTIONS = ("unnest", "range", "generate_series", "json_each", "json_tree", "duckdb_columns", "duckdb_constraints",
             "duckdb_schemas", "duckdb_tables", "duckdb_types", "duckdb_views", "pragma_table_info", "pragma_version",
             "pragma_database_list", "test_all_types")
"""Functions that may stand where a table does: the others read files, reach out, or stop the server."""
KEPT = 2
"""Snapshots that stay open: who asked before the last change may still be reading the one before."""
_RULES = f"""
    create view _served as select null::varchar as alias, 0::bigint as mtime_ns, 0::bigint as inode where false;
    create macro _is_question(sid, query) as (
        select not coalesce(cast(tree ->> '$.error' as boolean), true)
               and len(list_filter(json_extract_string(tree, '$..function.function_name'),
                                   lambda name: name not in {FUNCTIONS!r})) = 0
        from (select json_serialize_sql(regexp_replace(query, '^\\s*explain(\\s+analyze)?\\s', '', 'i')) as tree));
"""  # noqa: S608  # the names above


class Server:
    """What `serving` yields."""

    def __init__(self, home: Path, con: duckdb.DuckDBPyConnection, at: Address) -> None:
        self.address = at
        self._home, self._con = home, con
        self._stamp: tuple[int, int] | None = None
        self._attached: list[str] = []
        """The snapshots that are open, the one that is served last."""

    def refresh(self) -> bool:
        """Serves the newest snapshot; returns whether it is a new one. Raises WarehouseError for one of another
        dyno."""
        path = snapshot(self._home)
        try:
            stat = path.stat()
        except FileNotFoundError:
            return False
        stamp = stat.st_mtime_ns, stat.st_ino
        if stamp == self._stamp:
            return False
        alias = f"snapshot_{stamp[0]}_{stamp[1]}"
        self._attach(path, alias)
        self._move(alias, stamp)
        self._stamp = stamp
        self._attached.append(alias)
        while len(self._attached) > KEPT:
            self._con.execute(f"detach {self._attached.pop(0)}")
        return True

    def _attach(self, path: Path, alias: str) -> None:
        """Under a name of its own, as DuckDB opens a path once; the name goes, the open file stays."""
        link = path.with_name(f"{_disk.NEW}{alias}.duckdb")
        link.unlink(missing_ok=True)
        try:
            os.link(path, link)
        except OSError:  # a file system without links
            _disk.copy(path, link)
        try:
            self._con.execute(f"attach {literal(str(link))} as {alias} (read_only)")
            with self._con.cursor() as con:
                con.execute(f"use {alias}")
                _schema.check(con)
        finally:
            link.unlink()

    def _move(self, alias: str, stamp: tuple[int, int]) -> None:
        """All views at once."""
        names = [row[0] for row in self._con.execute(
            "select view_name from duckdb_views() where database_name = ?1 and not internal union all "
            "select table_name from duckdb_tables() where database_name = ?1", [alias]).fetchall()]
        self._con.begin()
        try:
            for name in names:
                self._con.execute(f'create or replace view main."{name}" as from {alias}.main."{name}"')
            self._con.execute(f"create or replace view _served as select {literal(alias)} as alias, "
                              f"{stamp[0]}::bigint as mtime_ns, {stamp[1]}::bigint as inode")
            self._con.commit()
        except BaseException:
            self._con.rollback()
            raise

    def admit(self, tokens: dict[str, str]) -> None:
        """Makes these the tokens that are known, from the next connection on: name by token."""
        known = [hashlib.sha256(token.encode()).hexdigest() for token in tokens]
        self._con.execute("create or replace macro _is_known(sid, client_token, server_token) as "
                          f"list_contains({literal(known)}, sha256(client_token))")


@contextmanager
def serving(home: Path, at: Address, tokens: dict[str, str]) -> Iterator[Server]:
    """Serves what is published under a home for as long as the `with` lasts; refresh() must be called now and then.

    Raises UserError when the port is taken, and MissingTool when the protocol is not installed.
    """
    published = snapshot(home).parent
    published.mkdir(parents=True, exist_ok=True)
    with (tempfile.TemporaryDirectory(prefix="dyno-serve-") as spilled,
          duckdb.connect(":memory:", config={"temp_directory": spilled}) as con):
        quack.load(con, "httpfs", "quack")
        con.execute(_RULES)
        server = Server(home, con, at)
        server.admit(tokens)
        for setting in ("quack_authentication_function = '_is_known'", "quack_authorization_function = '_is_question'",
                        "autoinstall_known_extensions = false", "autoload_known_extensions = false",
                        f"allowed_directories = [{literal(f'{published}/')}]"):
            con.execute(f"set global {setting}")
        _listen(con, at)
        for setting in ("enable_external_access = false", "lock_configuration = true"):
            con.execute(f"set global {setting}")
        try:
            yield server
        finally:
            con.execute("call quack_stop(?)", [at.uri])  # a connection that still listens cannot be closed


def _listen(con: duckdb.DuckDBPyConnection, at: Address) -> None:
    try:
        con.execute("call quack_serve(?, token => ?, allow_other_hostname => ?)",
                    [at.uri, secrets.token_hex(32), not at.is_loopback])
    except duckdb.Error as error:
        raise UserError(f"--listen: {at.host}:{at.port} cannot be listened on ({str(error).splitlines()[0]})") from None


def tokens_of(text: str, source: str) -> dict[str, str]:
    """Reads tokens, one a line, `name token` or the token alone; returns name by token. Raises UserError."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) > 2 or len(words[-1]) < quack.TOKEN_LENGTH_MIN:
            raise UserError(f"{source}: line {number}: a name and a token of at least {quack.TOKEN_LENGTH_MIN} "
                            "characters, such as `python -c 'import secrets; print(secrets.token_urlsafe())'` makes")
        found[words[-1]] = words[0] if len(words) == 2 else f"line {number}"
    if not found:
        raise UserError(f"{source}: holds no token")
    return found


def own_token(home: Path) -> Path:
    """The file of the token that whoever has this home asks with; made, readable by its owner alone, where it is not
    there yet."""
    file = home / quack.TOKEN_FILE
    home.mkdir(parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as fresh:
            fresh.write(secrets.token_urlsafe(32) + "\n")
    except FileExistsError:
        pass
    return file
