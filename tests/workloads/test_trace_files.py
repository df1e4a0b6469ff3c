"""Trace files: read as they are published, refused with the line and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import UserError
from tests.workloads.conftest import AZURE, CONVERSATION, line, written
from workloads import traces


def test_azure_s_csv_is_read_to_its_seventh_digit(tmp_path: Path) -> None:
    trace, rows = traces.read(written(tmp_path, AZURE))
    assert (trace.format, trace.requests, trace.request_rate) == ("azure", 4, 1.5)
    assert rows["at_ns"].to_list() == [0, 52_000_000, 98_189_000, 2_000_000_000]
    assert rows["input_tokens"].to_list() == [4808, 3180, 110, 7433]
    assert rows["output_tokens"].to_list() == [10, 8, 27, 14] and rows["hash_ids"].null_count() == 4
    dos = AZURE.replace("\n", "\r\n").replace("Tokens\r", "Tokens,Model\r").replace(",8\r", ",8,x\r")
    assert traces.read(written(tmp_path, "\ufeff" + dos))[1].equals(rows)
    zoned = AZURE.replace("9600,", "9600+00:00,").replace(" 18", "T18").replace("1490,", "1490Z,") + "\n\n"
    assert traces.read(written(tmp_path, zoned))[1].equals(rows)


def test_mooncake_s_lines_are_read_with_and_without_hashes(conversation: Path) -> None:
    trace, rows = traces.read(conversation)
    assert (trace.format, trace.requests, trace.block_tokens) == ("mooncake", 5, 512)
    assert trace.request_rate == pytest.approx(4 / 9)
    assert rows["at_ns"].to_list() == [0, 0, 3_000_000_000, 3_000_000_000, 9_000_000_000]
    assert rows["hash_ids"].to_list() == [row[3] for row in CONVERSATION]


@pytest.mark.parametrize(("size", "known"), [(512, 512), (16, 16), (64, 64), (100, 512)])
def test_the_size_of_a_block_is_told_from_how_many_a_prompt_has(tmp_path: Path, size: int, known: int) -> None:
    text = "".join(line(i, new, 5, list(range(-(-new // size)))) for i, new in enumerate(range(900, 2900, 37)))
    assert traces.read(written(tmp_path, text + line(99, 70, 1) + line(100, 700, 1, [8])))[0].block_tokens == known


def test_the_contents_make_the_identity(conversation: Path, tmp_path: Path) -> None:
    other = written(tmp_path, conversation.read_text(), "other")
    assert traces.read(conversation)[0].sha256 == traces.read(other)[0].sha256
    changed = written(tmp_path, conversation.read_text().replace("1300", "1301"), "other")
    assert traces.read(conversation)[0].sha256 != traces.read(changed)[0].sha256


def test_a_trace_is_found_again_from_another_folder(conversation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(conversation.parent)
    monkeypatch.setenv("HOME", str(conversation.parent))
    found = [traces.read(name)[0] for name in ("talk.jsonl", "~/talk.jsonl", conversation)]
    monkeypatch.chdir("/")
    assert all(traces.rows(trace).height == 5 for trace in found)


GOOD = line(0, 10, 2) + line(5, 10, 2)


@pytest.mark.parametrize(("text", "says"), [
    ("", "the file is empty"), (" \n\n", "the file is empty"),
    ("hello\n", "line 1: 'hello' begins no trace: a trace is JSON lines"),
    ("[1, 2]\n", "line 1: '[1, 2]' begins no trace"),
    (GOOD + "{'a'}\n", "line 3: error parsing line"), (GOOD + "\n\n{\n" + GOOD, "line 5: error parsing line"),
    (GOOD + "[1]\n", "line 3: NDJSON line expected to contain JSON object"),
    (line("soon", 1, 1), "line 1: cannot parse 'soon'"), (GOOD + line(9, 1.5, 1), "line 3: cannot parse '1.5'"),
    (GOOD + line(9, 1, 1, ["a"]), "line 3: cannot parse"), (GOOD + line(9, 1, 1, 7), "line 3: unexpected value"),
    (GOOD + line(9, 1, 1, [2**63]), "line 3: "), (GOOD + line(9, 1, 1, [1, None]), "line 3: hash_ids: a block without"),
    (GOOD + '{"timestamp": 9, "input_length": 3}\n', "line 3: output_length: missing"),
    ('{"time": 9}\n' + GOOD, "line 1: timestamp: missing"),
    (GOOD + line(9, 0, 1), "line 3: input_length: at least one token is needed: take such requests out"),
    (GOOD + "\n" + line(9, 1, -4), "line 4: output_length: at least one token"),
    (GOOD + line(9, 10**9, 1), "line 3: input_length: more than 10000000 tokens"),
    (GOOD + line(4, 1, 1), "line 3: timestamp: earlier than the line before: sort the file by time"),
    (line(-1, 1, 1) + GOOD, "line 1: timestamp: before the trace began"),
    (GOOD + line(1e15, 1, 1), "line 3: timestamp: years after the first: times are in milliseconds"),
    (line(7, 1, 1), "all requests come at one instant"), (line(7, 1, 1) * 2, "all requests come at one instant"),
    ("TIMESTAMP,ContextTokens\n1,2\n", "line 1: no column GeneratedTokens: such a trace is CSV with"),
    ("when,ContextTokens,GeneratedTokens\n1,2,3\n", "line 1: no column TIMESTAMP"),
    ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "line 1: no request follows the header"),
    (AZURE.replace("04.0319600", "half"), "line 3: TIMESTAMP: no time such as 2023-11-16"),
    (AZURE.replace("2023-11-16 18:17:03.9799600", "1"), "line 2: TIMESTAMP: no time such as"),
    (AZURE.replace("3180", "x"), "line 3: ContextTokens: 'x' is not a whole number"),
    (AZURE.replace(",27", ",2.5"), "line 4: GeneratedTokens: '2.5' is not a whole number"),
    (AZURE.replace(",27", ","), "line 4: GeneratedTokens: missing"),
    (AZURE.replace(",27", ",27,1"), "line 4: 4 cells for 3 columns"),
    (AZURE.replace(",27", ",0"), "line 4: GeneratedTokens: at least one token"),
    (AZURE.replace("04.0781490", "03.0781490"), "line 4: TIMESTAMP: earlier than the line before"),
    (AZURE.replace("2023-11-16 18:17:05", "2043-11-16 18:17:05"), "line 5: TIMESTAMP: years after the first"),
])
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        traces.read(path)
    assert str(caught.value).startswith(f"{path}: {says}") and "\n" not in str(caught.value)


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "trace.gz"
    packed.write_bytes(b"\x1f\x8b\x08\x00\xff")
    with pytest.raises(UserError, match="not a text file: unpack it"):
        traces.read(packed)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        traces.read(tmp_path / "missing")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        traces.read(tmp_path)
