"""A server on 127.0.0.1 that lets a W&B run begin and takes what it sends; prints its address."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = {
    "id": "1", "name": "run1", "displayName": "run1", "description": None, "config": "{}", "sweepName": None,
    "project": {"id": "2", "name": "agetrain", "entity": {"id": "3", "name": "somebody"}}, "historyLineCount": 0,
}  # fmt: skip
VIEWER = {
    "id": "3", "entity": "somebody", "username": "somebody", "flags": "{}", "teams": {"edges": []},
    "apiKeys": {"edges": []},
}  # fmt: skip
SERVER_INFO = {"cliVersionInfo": {"max_cli_version": "99"}, "features": [], "latestLocalVersionInfo": None}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("utf-8", "replace")
        data = {"viewer": VIEWER, "serverInfo": SERVER_INFO}
        if "upsertBucket" in asked:
            data = {"upsertBucket": {"bucket": BUCKET, "inserted": True}}
        answer = json.dumps({} if "file_stream" in self.path else {"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self):
        self.do_POST()

    def do_PUT(self):
        self.do_POST()

    def do_PATCH(self):
        self.do_POST()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
