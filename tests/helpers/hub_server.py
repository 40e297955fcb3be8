"""A Hub on loopback: what `huggingface_hub` asks the real one, over real HTTP, with failures on demand.

Only the protocol is imitated, as the client's source and the Hub's documentation have it: repositories with commits and
branches, large files behind a redirect to another host (here another port), access tokens, uploads.
"""

import base64
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKENS = {"hf_owner": "owner", "hf_reader": "reader"}
LARGE = ".safetensors"


@dataclass
class Repository:
    """Commits by their hash, each a dict of path -> content; branches by their name."""

    private: bool = False
    readers: set | None = None  # gated: who was let in; None: everybody
    commits: dict = field(default_factory=dict)
    branches: dict = field(default_factory=dict)

    def commit(self, files, branch="main"):
        """Files (path -> bytes; None deletes) on top of a branch; its new commit."""
        parent = self.branches.get(branch)
        merged = self.commits.get(parent, {}) | files
        merged = {path: content for path, content in merged.items() if content is not None}
        named = json.dumps([parent, *sorted((path, hashlib.sha1(each).hexdigest()) for path, each in merged.items())])
        commit = hashlib.sha1(named.encode()).hexdigest()
        self.commits[commit], self.branches[branch] = merged, commit
        return commit


@dataclass
class Request:
    method: str
    path: str
    range: str | None
    token: str | None
    status: int = 0
    sent: int = 0  # bytes of the body


@dataclass
class Failure:
    """What happens to requests whose "METHOD /path" the pattern finds, so many times."""

    pattern: str
    status: int | None = None
    headers: dict = field(default_factory=dict)
    cut_after: int | None = None  # bytes of the body, after which the connection breaks
    silent_s: float | None = None  # what a firewall that swallows packets does, for so long; then the connection breaks
    times: int = 1


class Refusal(Exception):
    def __init__(self, status, code, message, **more):
        super().__init__(message)
        self.status, self.code, self.message, self.more = status, code, message, more


class HubServer:
    """`url` is the endpoint; `repositories`, `failures` and `requests` are for the tests to fill and to read."""

    def __init__(self):
        self.repositories, self.objects, self.requests, self.failures = {}, {}, [], []
        self.lock = threading.Lock()
        self.servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Handler) for _ in range(2)]
        self.url, self.content_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self.servers)
        for server in self.servers:
            server.hub, server.daemon_threads = self, True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def publish(self, name, files, branch="main", **options):
        """A repository with these files (path -> bytes); its commit."""
        repository = self.repositories.setdefault(name, Repository(**options))
        self.objects |= {_sha256(content): content for content in files.values() if content is not None}
        return repository.commit(files, branch)

    def files(self, name, branch="main"):
        repository = self.repositories[name]
        return repository.commits[repository.branches[branch]]

    def fail(self, pattern, **how):
        self.failures.append(Failure(pattern, **how))

    def bodies(self):
        """Requests that fetched the content of a file."""
        return [
            each for each in self.requests if each.method == "GET" and re.match("/(content|api/resolve)", each.path)
        ]

    def forget(self):
        self.requests.clear()
        self.failures.clear()


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def _git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    routes = []

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        self.hub = self.server.hub

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except ConnectionError:  # a client that was refused may leave at once
            self.close_connection = True

    def _serve(self):
        url = urlsplit(self.path)
        self.query, path = parse_qs(url.query), unquote(url.path)
        self.body = self._read_body()
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.request_seen = Request(self.command, path, self.headers.get("Range"), token)
        with self.hub.lock:
            self.hub.requests.append(self.request_seen)
            self.failure = self._next_failure(f"{self.command} {path}")
        try:
            if self.failure and self.failure.silent_s is not None:
                time.sleep(self.failure.silent_s)
                self.close_connection = True
                return None
            if self.failure and self.failure.status:
                return self._send(self.failure.status, b"", self.failure.headers)
            if token and token not in TOKENS:
                raise Refusal(401, None, "Invalid credentials in Authorization header")
            self.user = TOKENS.get(token)
            for method, pattern, answer in self.routes:
                match = re.fullmatch(pattern, path)
                if match and self.command in method:
                    return answer(self, *match.groups())
            raise Refusal(404, None, f"no such page: {path}")
        except Refusal as refusal:
            named = {"X-Error-Code": refusal.code} if refusal.code else {}
            headers = {"X-Error-Message": refusal.message} | named
            self._send(refusal.status, json.dumps({"error": refusal.message} | refusal.more).encode(), headers)

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def _read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _next_failure(self, asked):
        for failure in self.hub.failures:
            if failure.times > 0 and re.search(failure.pattern, asked):
                failure.times -= 1
                return failure
        return None

    def _send(self, status, body=b"", headers=None):
        self.request_seen.status = status
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "X-Request-Id": "loopback"} | (headers or {})
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.failure and self.failure.cut_after is not None:
            body, self.close_connection = body[: self.failure.cut_after], True
        self.request_seen.sent = len(body)
        self.wfile.write(body)

    def _send_json(self, content):
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _find(self, name, writes=False):
        repository = self.hub.repositories.get(name)
        is_hidden = repository is None or (repository.private and name.split("/")[0] != self.user)
        if is_hidden and self.user is None:
            raise Refusal(401, None, "Invalid username or password.")
        if is_hidden:
            raise Refusal(404, "RepoNotFound", "Repository not found")
        if writes and name.split("/")[0] != self.user:
            raise Refusal(403, None, "You don't have the required permissions to perform this action")
        return repository

    def _find_commit(self, name, revision):
        repository = self._find(name)
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def info(self, name, revision=None):
        repository, commit = self._find_commit(name, revision or "main")
        siblings = [{"rfilename": path} for path in sorted(repository.commits[commit])]
        gated = "manual" if repository.readers is not None else False
        known = dict(id=name, modelId=name, sha=commit, private=repository.private, gated=gated, disabled=False)
        self._send_json(known | dict(siblings=siblings, tags=[], downloads=0, likes=0))

    def tree(self, name, revision):
        repository, commit = self._find_commit(name, revision)
        entries = []
        for path, content in sorted(repository.commits[commit].items()):
            entry = dict(type="file", path=path, size=len(content), oid=_git_hash(content))
            if path.endswith(LARGE):
                entry["lfs"] = dict(oid=_sha256(content), size=len(content), pointerSize=132)
            entries.append(entry)
        self._send_json(entries)

    def resolve(self, name, revision, path):
        repository, commit = self._find_commit(name, revision)
        if repository.readers is not None and self.user not in repository.readers:
            raise Refusal(403 if self.user else 401, "GatedRepo", f"Access to model {name} is restricted.")
        content = repository.commits[commit].get(path)
        if content is None:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        if path.endswith(LARGE):
            etag, place = _sha256(content), f"{self.hub.content_url}/content/{_sha256(content)}"
        else:
            etag, place = _git_hash(content), f"/api/resolve-cache/models/{name}/{commit}/{path}"
        linked = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{etag}"'} if path.endswith(LARGE) else {}
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Location": place} | linked
        self._send(302 if linked else 307, b"", headers)

    def small_file(self, name, revision, path):
        repository, commit = self._find_commit(name, revision)
        content = repository.commits[commit][path]
        self._send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{_git_hash(content)}"'})

    def large_file(self, sha256):
        content, asked = self.hub.objects[sha256], self.headers.get("Range")
        headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
        if not asked:
            return self._send(200, content, headers)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        place = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return self._send(206, content[start:], headers | place)

    def whoami(self):
        if self.user is None:
            raise Refusal(401, None, "Invalid username or password.")
        self._send_json(dict(name=self.user, type="user", orgs=[], auth={"type": "access_token"}))

    def create(self):
        asked = json.loads(self.body)
        if self.user is None:
            raise Refusal(401, None, "Invalid username or password.")
        name = f"{asked.get('organization') or self.user}/{asked['name']}"
        if not name.startswith(f"{self.user}/"):
            raise Refusal(403, None, "You don't have the rights to create a model under this namespace")
        if name in self.hub.repositories:
            raise Refusal(409, None, "You already created this model repo", url=f"{self.hub.url}/{name}")
        # Older clients say private=True, newer ones visibility="private".
        is_private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.publish(name, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=bool(is_private))
        self._send_json(dict(url=f"{self.hub.url}/{name}", name=name, id=name))

    def create_branch(self, name, branch):
        repository = self._find(name, writes=True)
        if branch in repository.branches:
            raise Refusal(409, None, "Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        self._send_json({})

    def validate(self):
        text = json.loads(self.body)["content"]
        has_metadata = re.match(r"---\n.+?\n---\n", text, flags=re.DOTALL)
        self._send_json(dict(errors=[], warnings=[] if has_metadata else [{"message": "empty or missing metadata"}]))

    def preupload(self, name, branch):
        repository = self._find(name, writes=True)
        there = repository.commits[repository.branches[branch]]
        answers = []
        for each in json.loads(self.body)["files"]:
            is_large, known = each["path"].endswith(LARGE), there.get(each["path"])
            digest = None if known is None else _sha256(known) if is_large else _git_hash(known)
            mode = "lfs" if is_large else "regular"
            answers.append(dict(path=each["path"], uploadMode=mode, shouldIgnore=False, oid=digest))
        self._send_json({"files": answers})

    def batch(self, name):
        self._find(name, writes=True)
        answers = []
        for each in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.hub.content_url}/upload/{each['oid']}"}
            verify = {"href": f"{self.hub.url}/api/verify"}
            is_known = each["oid"] in self.hub.objects
            answers.append(each if is_known else each | {"actions": {"upload": upload, "verify": verify}})
        self._send_json(dict(transfer="basic", objects=answers))

    def upload(self, sha256):
        if _sha256(self.body) != sha256:
            raise Refusal(400, None, "the content does not have that hash")
        self.hub.objects[sha256] = self.body
        self._send(200)

    def verify(self):
        asked = json.loads(self.body)
        if len(self.hub.objects.get(asked["oid"], b"")) != asked["size"]:
            raise Refusal(400, None, "no such object of that size")
        self._send_json({})

    def commit(self, name, branch):
        repository, changed = self._find(name, writes=True), {}
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                changed[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                changed[value["path"]] = self.hub.objects[value["oid"]]
            elif item["key"] == "deletedFile":
                changed[value["path"]] = None
            elif item["key"] == "header":
                repository.last_message = value["summary"]
        commit = repository.commit(changed, branch)
        url = f"{self.hub.url}/{name}/commit/{commit}"
        self._send_json(dict(success=True, commitUrl=url, commitOid=commit, pullRequestUrl=None, hookOutput=""))


NAME = "([^/]+/[^/]+)"
_Handler.routes = [
    ("GET", f"/api/models/{NAME}", _Handler.info),
    ("GET", f"/api/models/{NAME}/revision/(.+)", _Handler.info),
    ("GET", f"/api/models/{NAME}/tree/([^/]+)/?", _Handler.tree),
    ("GET HEAD", f"/{NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("GET HEAD", f"/api/resolve-cache/models/{NAME}/([^/]+)/(.+)", _Handler.small_file),
    ("GET HEAD", "/content/([0-9a-f]{64})", _Handler.large_file),
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", f"/api/models/{NAME}/branch/(.+)", _Handler.create_branch),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", f"/api/models/{NAME}/preupload/(.+)", _Handler.preupload),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/upload/([0-9a-f]{64})", _Handler.upload),
    ("POST", "/api/verify", _Handler.verify),
    ("POST", f"/api/models/{NAME}/commit/(.+)", _Handler.commit),
]
