"""A server on this machine that speaks as much of the Hub's protocol as `huggingface_hub` needs to make, fill and read a repository."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import yaml


class Hub(ThreadingHTTPServer):
    """Repositories as `(type, name) -> path -> content`. Large files go the way of LFS, as on the Hub."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[tuple[str, str], dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}  # LFS, by SHA-256
        self.private: set[str] = set()
        self.commits = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, content: object = None, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def missing(self) -> None:
        self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")

    def do_PUT(self) -> None:
        oid, content = self.path.rpartition("/")[2], self.body()
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.objects[oid] = content
        self.answer(200, {})

    def do_POST(self) -> None:
        content, path = self.body(), unquote(urlsplit(self.path).path)
        if path == "/api/validate-yaml":
            meta = yaml.safe_load(json.loads(content)["content"].split("---\n")[1])
            self.answer(200, {"errors": [] if isinstance(meta, dict) else [{"message": "no metadata"}], "warnings": []})
        elif self.headers.get("Authorization") != "Bearer hf_stub":
            self.answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            asked = json.loads(content)
            name, repo_type = f"{asked.get('organization') or 'me'}/{asked['name']}", asked.get("type", "model")
            new = (repo_type, name) not in self.server.repos
            self.server.repos.setdefault((repo_type, name), {})
            if new and (asked.get("private") or asked.get("visibility") == "private"):
                self.server.private.add(name)
            prefix = "datasets/" if repo_type == "dataset" else ""
            self.answer(200 if new else 409, {"url": f"{self.server.address}/{prefix}{name}", "name": name})
        elif path.endswith("/info/lfs/objects/batch"):
            upload = [{"oid": o["oid"], "size": o["size"]} for o in json.loads(content)["objects"]]
            actions = [o | {"actions": {"upload": {"href": f"{self.server.address}/lfs/{o['oid']}"}}} for o in upload]
            self.answer(200, {"transfer": "basic", "objects": actions})
        else:
            kind, name, action = self.place(path)
            (self.preupload if action == "preupload" else self.commit)(self.server.repos[kind, name], content)

    def place(self, path: str) -> tuple[str, str, str]:
        """`/api/datasets/me/x/commit/main` -> dataset, me/x, commit."""
        _, _, kinds, user, name, *rest = [*path.split("/"), "", "", ""]
        return kinds.removesuffix("s"), f"{user}/{name}", rest[0]

    def preupload(self, _: dict[str, bytes], content: bytes) -> None:
        files = json.loads(content)["files"]
        large = [file["path"].endswith((".gz", ".safetensors")) for file in files]
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if big else "regular", "shouldIgnore": False}
            for f, big in zip(files, large, strict=True)
        ]
        self.answer(200, {"files": modes})

    def commit(self, repo: dict[str, bytes], content: bytes) -> None:
        for line in content.splitlines():
            found = json.loads(line)
            value = found["value"]
            if found["key"] == "file":
                repo[value["path"]] = base64.b64decode(value["content"])
            elif found["key"] == "lfsFile":
                repo[value["path"]] = self.server.objects[value["oid"]]
            elif found["key"] == "deletedFile":
                del repo[value["path"]]
        self.server.commits += 1
        self.answer(200, {"success": True, "commitOid": "c" * 40, "commitUrl": f"{self.server.address}/me/x/commit/{'c' * 40}"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/"):
            kind, name, action = self.place(path)
            repo = self.server.repos.get((kind, name))
            if repo is None:
                self.missing()
            elif action == "tree":
                self.answer(200, [{"type": "file", "path": p, "size": len(c), "oid": "0" * 40} for p, c in sorted(repo.items())])
            else:
                siblings = [{"rfilename": p} for p in sorted(repo)]
                self.answer(200, {"id": name, "sha": "c" * 40, "siblings": siblings, "tags": [], "private": False, "downloads": 0})
            return
        kind = "dataset" if path.startswith("/datasets/") else "model"
        user, name, _, _, file = path.removeprefix("/datasets").removeprefix("/").split("/", 4)
        content = self.server.repos.get((kind, f"{user}/{name}"), {}).get(file)
        if content is None:
            self.missing()
        else:
            self.answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit="c" * 40)


@contextmanager
def served() -> Iterator[Hub]:
    """A server that `huggingface_hub` uses meanwhile, without Xet, whose storage is another service."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"HF_ENDPOINT": server.address, "HF_TOKEN": "hf_stub"}.items():
                patch.setenv(name, value)
            patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
            yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
