"""The proxies and the two upstreams: configurations, starting, asking whether they answer rightly."""

import os
import tempfile

from machine import Failed, Process, ask, free_port, need, wait_for

SMALL = 100
MEDIUM = 16 * 1024
LARGE = 1024 * 1024
POSTED = "p" * 100

SMALL_BODY = ("small " * 20)[: SMALL - 1] + "."
FILES = {"/medium": b"0123456789abcdef" * (MEDIUM // 16), "/large": b"0123456789abcdef" * (LARGE // 16)}

# One configuration for all nginx has to do here. Its limits on requests per connection are lifted (no other peer has
# any), and it may not spool slow answers to disk: only memory is compared.
NGINX_COMMON = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log error;
worker_processes {workers};
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 75s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
"""

NGINX_PROXY = NGINX_COMMON + """
  upstream app {{
    server 127.0.0.1:{upstream};
    keepalive 1024;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_max_temp_file_size 0;
      {extra}
    }}
    location /ws {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_read_timeout 300s;
    }}
  }}
}}
"""

NGINX_STATIC = NGINX_COMMON + """
  sendfile on;
  open_file_cache max=16 inactive=1h;
  server {{
    listen 127.0.0.1:{port} backlog=4096 reuseport;
    root {folder}/files;
    location = /small {{ default_type text/plain; return 200 "{small}"; }}
  }}
}}
"""

# Its pool of 32 idle connections would be too small for 64 clients.
CADDYFILE = """
{{
  admin off
  auto_https off
  log {{
    output discard
  }}
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{upstream} {{
    transport http {{
      keepalive_idle_conns_per_host 1024
    }}
  }}
}}
"""

HAPROXY = """
global
  nbthread {workers}
  maxconn 4500
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout tunnel 300s
  http-reuse always
listen proxy
  bind 127.0.0.1:{port} backlog 4096
  server app 127.0.0.1:{upstream}
"""

PROXY_NAMES = {
    "sidestream": "sidestream",
    "sidestream-route": "sidestream, one route",
    "nginx": "nginx",
    "nginx-unbuffered": "nginx, `proxy_buffering off`",
    "caddy": "Caddy",
    "haproxy": "HAProxy",
}


class Peers:
    """Starts servers in folders of their own below `folder`, and stops all of them in the end."""

    def __init__(self, folder, sidestream, cores):
        self.folder = folder
        self.sidestream = sidestream
        self.cores = cores
        self.started = []
        os.chmod(folder, 0o755)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.stop()

    def start(self, name, argv, folder, env=None):
        """Starts a server that ends with the others."""
        process = Process(name, argv, folder, env)
        self.started.append(process)
        return process

    def new_folder(self, name):
        """A folder for the files of one server."""
        folder = tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder)
        # nginx's workers run as another user, who has to find the way to the static files.
        os.chmod(folder, 0o755)
        return folder

    def stop(self, process):
        """Stops one before the others."""
        process.stop()
        self.started.remove(process)

    # === upstreams ===

    def static_upstream(self):
        """nginx that answers from its memory and the page cache; returns its port."""
        folder, port = self.new_folder("static"), free_port()
        os.mkdir(os.path.join(folder, "files"), 0o755)
        for path, body in FILES.items():
            with open(os.path.join(folder, "files", path[1:]), "wb") as file:
                file.write(body)
        words = NGINX_STATIC.format(folder=folder, workers=self.cores, port=port, small=SMALL_BODY)
        process = self.start("the static upstream", nginx(folder, words), folder)
        wait_for(process, port, "/small")
        return port

    def node_upstream(self):
        """The Node app; returns its port."""
        folder, port = self.new_folder("node"), free_port()
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "upstream.mjs")
        env = {"PORT": str(port), "SMALL": SMALL_BODY}
        process = self.start("the Node app", [need("node", "nodejs"), script], folder, env)
        wait_for(process, port, "/small")
        return port

    # === proxies ===

    def proxy(self, name, upstream, ready="/small"):
        """Starts the proxy `name` before the port `upstream`; returns it and its port. `ready` answers 200 there."""
        folder, port = self.new_folder(name), free_port()
        argv, env = getattr(self, "_" + name.replace("-", "_"))(folder, port, upstream)
        process = self.start(PROXY_NAMES[name], argv, folder, env)
        wait_for(process, port, ready)
        return process, port

    def _sidestream(self, folder, port, upstream, *flags):
        argv = [self.sidestream, "--listen", f"127.0.0.1:{port}", "--upstream", f"http://127.0.0.1:{upstream}"]
        return [*argv, "--admin-listen", "127.0.0.1:0", *flags], None

    def _sidestream_route(self, folder, port, upstream):
        return self._sidestream(folder, port, upstream, "--route", "path=/api/progress/{id},poll=/api/videos/{id}")

    def _nginx(self, folder, port, upstream, extra=""):
        words = NGINX_PROXY.format(folder=folder, workers=self.cores, port=port, upstream=upstream, extra=extra)
        return nginx(folder, words), None

    def _nginx_unbuffered(self, folder, port, upstream):
        return self._nginx(folder, port, upstream, "proxy_buffering off;")

    def _caddy(self, folder, port, upstream):
        file = written(folder, "Caddyfile", CADDYFILE.format(port=port, upstream=upstream))
        argv = [need("caddy", "caddy"), "run", "--adapter", "caddyfile", "--config", file]
        # It keeps its state where these point to.
        return argv, {"HOME": folder, "XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}

    def _haproxy(self, folder, port, upstream):
        words = HAPROXY.format(workers=self.cores, port=port, upstream=upstream)
        return [need("haproxy", "haproxy"), "-db", "-f", written(folder, "haproxy.cfg", words)], None


def nginx(folder, words):
    return [need("nginx", "nginx-light"), "-p", folder, "-c", written(folder, "nginx.conf", words)]


def written(folder, name, words):
    file = os.path.join(folder, name)
    with open(file, "w") as out:
        out.write(words)
    return file


def check_answer(who, port, method, path, is_echo):
    """Whether one request is answered as it must be; a load before or after it can then be believed."""
    posted = POSTED if method == "POST" else None
    status, body = ask(port, method, path, posted)
    expected = POSTED.encode() if is_echo and posted else FILES.get(path, SMALL_BODY.encode())
    if status != 200 or body != expected:
        raise Failed(f"{who} answered {method} {path} with {status} and {len(body)} bytes: {body[:80]!r}")
