"""A service that sends no heartbeats: `checked_service.py FOLDER PORT`.

GET is answered with the status in the file `status` after the seconds in the file `delay`; `flapping` as status is 200 and
503 in turn. Without the header field `X-Check: secret` it is 401.
"""

import http.server
import itertools
import pathlib
import sys
import time

folder = pathlib.Path(sys.argv[1])
flapping = itertools.cycle([200, 503])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(float((folder / "delay").read_text() or 0))
        status = (folder / "status").read_text().strip()
        if self.headers["X-Check"] != "secret":
            status = 401
        self.send_response(next(flapping) if status == "flapping" else int(status))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
