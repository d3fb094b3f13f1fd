"""A web server whose answers take long to work out, once."""

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

cache = {}


def work_out(path):
    if path in cache:
        return cache[path], "hit"
    time.sleep(0.0002)  # a slow database
    cache[path] = sum(map(ord, path))
    return cache[path], "miss"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        answer, how = work_out(self.path)
        with open("/run/faas/instance.json") as f:
            me = json.load(f)["id"]
        body = f"{answer} ({how}) from {me}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 8000), Handler)
for n in range(5000):
    work_out(f"/{n}")
open("/tmp/ready", "w").close()
server.serve_forever()
