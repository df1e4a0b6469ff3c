"""Versions of engines: distributions on a package index, tags of container images."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import httpx
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from flows.releases import Known, label, web
from models.errors import EndpointError
from models.releases.policy import FollowImage, FollowPyPI
from models.releases.release import Release

_PYPI = "https://pypi.org/simple"
_SIMPLE = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
_DOCKER_HUB = "registry-1.docker.io"
_PAGES_MAX = 50


def on_pypi(entry: FollowPyPI, known: Known) -> Iterator[Release]:
    """Yields the newest versions that are not known and not yanked (of which prereleases count, too).

    Raises EndpointError when the index does not answer, or knows no such distribution.
    """
    index = (os.environ.get("PIP_INDEX_URL") or _PYPI).rstrip("/")
    answer = web.get(f"{index}/{canonicalize_name(entry.pypi)}/", {"Accept": _SIMPLE})
    dates: dict[Version, str | None] = {}
    for name, date in _files(answer):
        if (version := _version_of(name)) is not None:
            dates.setdefault(version, date)
    for version in sorted(dates, reverse=True)[:entry.newest]:
        if not known.version(entry.engine, str(version)):
            yield Release(kind="engine", name=entry.engine, version=str(version), source=label(entry),
                          released_at=dates[version], url=f"https://pypi.org/project/{entry.pypi}/{version}/")


def _files(answer: httpx.Response) -> Iterator[tuple[str, str | None]]:
    """Names of files that are not yanked, and when they were uploaded, of either form of the simple API."""
    if "json" in answer.headers.get("content-type", ""):
        for file in answer.json().get("files", ()):
            if not file.get("yanked"):
                yield str(file["filename"]), file.get("upload-time")
        return
    for attributes, name in re.findall(r"<a\s([^>]*)>([^<]+)</a>", answer.text, re.IGNORECASE):
        if "data-yanked" not in attributes.lower():
            yield unescape(name).strip(), None


def _version_of(file: str) -> Version | None:
    try:
        return parse_wheel_filename(file)[1] if file.endswith(".whl") else parse_sdist_filename(file)[1]
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None


def of_image(entry: FollowImage, known: Known) -> Iterator[Release]:
    """Yields the newest tags that match and are not known; newest by the version in them. A login that Docker keeps in
    its config.json is used. Raises EndpointError when the registry does not answer or refuses."""
    registry, repository = _parts(entry.image)
    found = [tag for tag in _tags(registry, repository) if fnmatchcase(tag, entry.tags)]
    for tag in sorted(found, key=_order, reverse=True)[:entry.newest]:
        version = tag.removeprefix("v") if re.match(r"v\d", tag) else tag
        if not known.version(entry.engine, version):
            yield Release(kind="engine", name=entry.engine, version=version, source=label(entry), runtime="docker",
                          image=f"{entry.image}:{tag}")


def _parts(image: str) -> tuple[str, str]:
    """`vllm/vllm-openai` → Docker's own registry and the repository; a host has a dot or a port, or is localhost."""
    host, _, rest = image.partition("/")
    if not rest or not ("." in host or ":" in host or host == "localhost"):
        host, rest = "docker.io", image
    if host in ("docker.io", "index.docker.io"):
        return _DOCKER_HUB, rest if "/" in rest else f"library/{rest}"
    return host, rest


def _order(tag: str) -> tuple[int, Version, tuple[tuple[bool, int, str], ...]]:
    """Versions in their order; then by the numbers in a tag."""
    parts = tuple((p.isdigit(), int(p) if p.isdigit() else 0, p) for p in re.findall(r"\d+|\D+", tag))
    try:
        return 1, Version(tag), parts
    except InvalidVersion:
        return 0, Version("0"), parts


def _tags(registry: str, repository: str) -> list[str]:
    """Every tag, page by page (OCI distribution specification, "Listing Tags")."""
    local = registry.partition(":")[0] in ("localhost", "127.0.0.1")
    url = f"http{'' if local else 's'}://{registry}/v2/{repository}/tags/list?n=1000"
    headers, found = dict[str, str](), list[str]()
    for _ in range(_PAGES_MAX):
        answer = web.get(url, headers, expect=(200, 401))
        if answer.status_code == 401 and not headers:
            headers = _authorised(answer, registry, repository)
            answer = web.get(url, headers)
        elif answer.status_code == 401:
            raise EndpointError(f"{registry} refuses to list the tags of {repository}: docker login {registry}")
        try:
            found += answer.json().get("tags") or []
        except ValueError:
            raise EndpointError(f"{registry}: its list of tags is no JSON") from None
        if not (more := answer.links.get("next")):
            break
        url = urljoin(url, more["url"])
    return found


def _authorised(answer: httpx.Response, registry: str, repository: str) -> dict[str, str]:
    """What a registry asks for before it tells tags, also of public images: a token from the place that it names."""
    challenge = answer.headers.get("www-authenticate", "")
    scheme, _, rest = challenge.partition(" ")
    said = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    login = _login(registry)
    if scheme.lower() == "basic" and login:
        return login
    if scheme.lower() != "bearer" or urlsplit(said.get("realm", "")).scheme not in ("http", "https"):
        raise EndpointError(f"{registry} refuses to list the tags of {repository}: docker login {registry}")
    asked = {"service": said.get("service", ""), "scope": said.get("scope") or f"repository:{repository}:pull"}
    told: dict[str, Any] = web.get(f"{said['realm']}?{urlencode(asked)}", login).json()
    return {"Authorization": f"Bearer {told.get('token') or told.get('access_token')}"}


def _login(registry: str) -> dict[str, str]:
    """A login kept in Docker's config.json (one in a keychain is not read); empty where there is none."""
    file = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        auths: dict[str, Any] = json.loads(file.read_text()).get("auths") or {}
    except (OSError, ValueError):
        return {}
    names: Sequence[str] = (registry, f"https://{registry}", "https://index.docker.io/v1/")
    kept = next((auths[n].get("auth") for n in names[:3 if registry == _DOCKER_HUB else 2] if n in auths), None)
    if not kept or b":" not in base64.b64decode(kept):
        return {}
    return {"Authorization": f"Basic {kept}"}
