"""The image map, the hosts files of pods, and addresses."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadline import wait_until
from diffusion_local.node.addresses import Addresses, NoAddressLeft
from diffusion_local.node.machine_files import Hosts, Image, Images, WatchedFile, own_lines, with_short_names
from tiny_api import eventually


def test_a_file_is_read_when_it_changes(tmp_path: Path) -> None:
    file = WatchedFile(tmp_path / "file")
    assert not file.read()
    file.path.write_text("one")
    assert file.read()
    assert not file.read()
    replaced = tmp_path / "new"
    replaced.write_text("two")
    replaced.rename(file.path)
    assert file.read()
    assert file.text == "two"
    file.path.unlink()
    assert not file.read()
    assert file.text == "two"


def test_images_are_known_by_name_and_may_be_added(tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    path.write_text(json.dumps({"busybox:1.37": {"cmd": ["sh"]}}))
    images = Images(path)
    assert images.find("busybox:1.37") == Image(cmd=["sh"])
    assert images.find("docker.io/library/busybox:1.37") == Image(cmd=["sh"])
    assert images.find("busybox:1.36") is None
    path.write_text("{half")
    assert images.find("busybox:1.37") == Image(cmd=["sh"])
    path.write_text(json.dumps({"mine/app:1": {"entrypoint": ["app", "--serve"]}}))
    assert images.find("docker.io/mine/app:1") == Image(["app", "--serve"])
    assert images.find("busybox:1.37") is None


def test_own_lines_name_the_pod() -> None:
    text = own_lines("10.0.0.5", "first", "peers", "ns", [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}])
    assert "127.0.0.1\tlocalhost\n" in text
    assert "10.0.0.5\tfirst.peers.ns.svc.cluster.local first\n" in text
    assert "1.2.3.4\ta b\n" in text
    assert "10.0.0.5\talone\n" in own_lines("10.0.0.5", "alone", "", "ns", [])


def test_names_of_the_own_namespace_are_short() -> None:
    text = "10.0.0.1 a.x.ns.svc.cluster.local a.x.ns.svc a.x.ns\n10.0.0.2 b.other.svc.cluster.local b.other.svc\n"
    lines = with_short_names(text, "ns").splitlines()
    assert lines[0].split()[-1] == "a.x"
    assert lines[1] == "10.0.0.2 b.other.svc.cluster.local b.other.svc"


def test_hosts_files_are_kept_fresh_in_place(tmp_path: Path) -> None:
    source, target = tmp_path / "hosts", tmp_path / "pod-hosts"
    source.write_text("10.0.0.1 a.ns.svc\n")
    hosts = Hosts(source)
    hosts.add(target, "10.0.0.5 me\n", "ns")
    assert target.read_text() == "10.0.0.5 me\n10.0.0.1 a.ns.svc a\n"
    inode = target.stat().st_ino

    async def follow() -> None:
        task = asyncio.create_task(hosts.keep_fresh())
        source.write_text("10.0.0.2 b\n")
        await asyncio.to_thread(
            wait_until, lambda: target.read_text() == "10.0.0.5 me\n10.0.0.2 b\n", 10, "it is fresh"
        )
        task.cancel()

    asyncio.run(follow())
    assert target.stat().st_ino == inode
    hosts.remove(target)
    assert hosts.own == {}


def test_a_hosts_file_that_cannot_be_written_is_tried_again_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, full, other = tmp_path / "hosts", tmp_path / "full", tmp_path / "other"
    source.write_text("10.0.0.1 a\n")
    hosts, write, room = Hosts(source), Hosts.write, asyncio.Event()
    for path in (full, other):
        hosts.add(path, "", "ns")

    def sometimes(self: Hosts, path: Path) -> None:
        if path == full and not room.is_set():
            raise OSError(28, "No space left on device")
        write(self, path)

    monkeypatch.setattr(Hosts, "write", sometimes)

    async def follow() -> None:
        task = asyncio.create_task(hosts.keep_fresh())
        source.write_text("10.0.0.2 b\n")
        await eventually(lambda: other.read_text() == "10.0.0.2 b\n", "the other is fresh")
        assert full.read_text() == "10.0.0.1 a\n"
        room.set()
        await eventually(lambda: full.read_text() == "10.0.0.2 b\n", "it is fresh too")
        assert not task.done()
        task.cancel()

    asyncio.run(follow())


@given(st.lists(st.booleans(), max_size=60))
def test_addresses_are_never_given_twice(takes: list[bool]) -> None:
    addresses = Addresses("10.244.3.0/28")
    held: list[str] = []
    for take in takes:
        if take and len(held) < 13:
            address = addresses.take()
            assert address not in held
            assert address not in ("10.244.3.0", "10.244.3.1", "10.244.3.15")
            held.append(address)
        elif held:
            addresses.give_back(held.pop(0))


def test_an_address_that_was_just_given_back_is_not_reused_at_once() -> None:
    addresses = Addresses("10.244.3.0/24")
    first = addresses.take()
    assert first == "10.244.3.2"
    addresses.give_back(first)
    assert addresses.take() == "10.244.3.3"


def test_a_full_range_says_so() -> None:
    addresses = Addresses("10.244.3.0/29")
    taken = {addresses.take() for _ in range(5)}
    assert len(taken) == 5
    with pytest.raises(NoAddressLeft, match=r"10\.244\.3\.0/29"):
        addresses.take()
