"""Clouds' prices, fetched by gpuhunt from a catalogue served here."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows import market
from models.errors import EndpointError
from models.specs import Price
from tests.warehouse import fake
from warehouse import pricelist, reader, writer

pytest.importorskip("gpuhunt")
HEADER = "instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot,disk_size,gpu_vendor"
AWS = """p5.48xlarge,us-east-1,55.04,192,2048,8,H100,80,False,,nvidia
p5.48xlarge,us-west-2,56.00,192,2048,8,H100,80,False,,nvidia
p5.48xlarge,us-east-1,24.00,192,2048,8,H100,80,True,,nvidia
p4d.24xlarge,us-east-1,21.96,96,1152,8,A100,40,False,,nvidia
p4de.24xlarge,us-east-1,27.45,96,1152,8,A100,80,False,,nvidia
m7i.large,us-east-1,0.1008,2,8,0,,,False,,"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server of catalogues as gpuhunt publishes them; aws alone is there."""
    folder = tmp_path / "catalogue" / "aws"
    (folder / "v7").mkdir(parents=True)
    (folder / "version").write_text("v7\n")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("aws.csv", f"{HEADER}\n{AWS}\n")
    (folder / "v7" / "catalog.zip").write_bytes(content.getvalue())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder.parent)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("GPUHUNT_CATALOG_URL", f"http://127.0.0.1:{server.server_port}")
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_cheapest_of_each_kind_is_stored_and_published_beside_what_was_there(catalogue: Path,
                                                                                 tmp_path: Path) -> None:
    home = tmp_path / "home"
    writer.set_prices(home, [fake_price()], given=False, keep_existing=True)
    got = market.refresh(home, "2026-11-20")
    assert (got.stored, got.providers) == (4, ("aws",)) and "404" in got.missing["gcp"]
    rows = reader.query(home, "from prices where source = 'gpuhunt: aws' order by hardware, tier").to_dicts()
    assert [(r["hardware"], r["tier"], r["price_usd_per_hour"], r["region"], r["instance"]) for r in rows] == [
        ("A100 40GB", "on-demand", 2.745, "us-east-1", "p4d.24xlarge"),
        ("A100 80GB", "on-demand", 3.43125, "us-east-1", "p4de.24xlarge"),
        ("H100", "on-demand", 6.88, "us-east-1", "p5.48xlarge"), ("H100", "spot", 3.0, "us-east-1", "p5.48xlarge")]
    assert all(r["date"] == "2026-11-20" and not r["given"] for r in rows)
    origins = {p.price.tier: p.origin for p in pricelist.every(home) if p.price.date in ("2026-11-20", "2026-08")}
    assert origins == {"on-demand": "fetched", "spot": "fetched", "neocloud": "bundled"}
    assert market.refresh(home, "2026-11-21", "H100").stored == 2
    assert len(pricelist.paths(home)) == 7, "those of the day before stay"


def fake_price() -> Price:
    return Price(hardware="H100", price_usd_per_hour=1.6, tier="neocloud", date="2026-08", source="tests")


def test_spot_never_becomes_the_price_of_a_measurement_unasked(catalogue: Path, tmp_path: Path) -> None:
    home, node = tmp_path / "home", fake.MACHINE.model_copy(update={
        "name": "node", "kind": "cuda", "accelerator": "NVIDIA H100 80GB HBM3", "accelerators": 2})
    fake.store(home, fake.trial(fake.setup(hardware=node)))
    writer.ingest(home)
    market.refresh(home, "2026-11-20")
    row = reader.query(home, "from measurements").row(0, named=True)
    assert (row["price_usd_per_hour"], row["price_tier"]) == (13.76, "on-demand")


def test_without_a_network_nothing_is_lost_and_the_reason_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                      capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GPUHUNT_CATALOG_URL", "http://127.0.0.1:9")
    writer.set_price(tmp_path, fake_price())
    with pytest.raises(EndpointError, match=r"cannot be fetched .*refused.* nothing was changed"):
        market.refresh(tmp_path, "2026-11-20")
    assert len(pricelist.paths(tmp_path)) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_hardware_that_no_cloud_has_changes_nothing(catalogue: Path, tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="no catalogue offers MI300X: nothing was changed"):
        market.refresh(tmp_path / "home", "2026-11-20", "MI300X")
    assert not (tmp_path / "home").exists()
