"""A key is sent and never shown; TLS is spoken, and nobody is believed without a certificate."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from models.errors import UserError
from models.records import Endpoint
from models.specs import Load
from tests.workloads.test_driver import run, workload
from tests.workloads.truth import Asked, Step, TruthServer, event, plain, token, whole

KEY = "sk-very-secret-0123456789"


def _echo(asked: Asked) -> Iterable[Step]:
    """Servers that quote the key: as JSON, in a header's error, in mid-stream."""
    quoted = f"bad key {asked.headers.get('authorization')}"
    kind = int(asked.body["max_tokens"]) % 3
    if kind == 0:
        return [plain("401 Unauthorized", f'{{"error": {{"message": "{quoted}"}}}}'.encode())]
    if kind == 1:
        return [plain("200 OK", quoted.encode())]
    return [whole(token("a"), event({"error": quoted}))]


@pytest.mark.parametrize("given", ["argument", "environment"])
@pytest.mark.parametrize("output", [3, 4, 5])
def test_a_key_is_sent_and_never_shown(given: str, output: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if given == "environment":
        monkeypatch.setenv("DYNO_API_KEY", KEY)
    with TruthServer(_echo) as server:
        got = run(server.endpoint(), Load(concurrency=1, requests=2), workload(output=output),
                  **({"api_key": KEY} if given == "argument" else {}))
    assert {a.headers["authorization"] for a in server.asked} == {f"Bearer {KEY}"}
    text = got.requests.write_json() + repr(got)
    assert KEY not in text and "[key]" in text


def test_a_key_that_cannot_be_a_header_is_refused_unseen() -> None:
    with pytest.raises(UserError) as caught:
        run(Endpoint(url="http://127.0.0.1:1", model="m"), Load(concurrency=1, requests=1), api_key=f"{KEY}\r\nX: y")
    assert KEY not in str(caught.value) and "DYNO_API_KEY" in str(caught.value)


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dyno test")])
    now = dt.datetime.now(dt.UTC)
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256()))
    certificate, private = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                          serialization.NoEncryption()))
    return certificate, private


def test_tls_is_spoken_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, private = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    load = Load(concurrency=2, requests=6, warmup_requests=0)
    with TruthServer(tls=context) as server:
        unknown = run(server.endpoint(), load).requests
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        known = run(server.endpoint(), load).requests
    assert set(unknown.filter(pl.col("phase") == "measured")["outcome"]) == {"refused"}
    assert "certificate" in str(unknown["error"][0]).lower()
    assert set(known.filter(pl.col("phase") == "measured")["outcome"]) == {"ok"}
