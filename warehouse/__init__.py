"""The warehouse: bundles on disk are the truth, DuckDB is their projection; one writer, many readers of a snapshot.

    bundles.py   everything of one trial (or failed launch) in one folder, written atomically: the source of truth, with
    pricelist.py prices, as files beside them
    writer.py    ingest, rebuild, publish: opens, commits and closes, one process at a time
    reader.py    queries on the published snapshot, a person's raw SQL included
    migrations/  the schema, as ordered named steps
    views/       what people read, first of all `measurements`; made anew whenever they change

Where things lie under DYNO_HOME: `bundles/`, `failures/`, `prices/`, `warehouse.duckdb`, `published/dyno.duckdb`.
"""
