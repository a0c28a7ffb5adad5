// The parts that stand between a tab and a job: a legacy app under a supervisor, sidestream, and nginx. Each is a child
// process on a free port of 127.0.0.1, and none outlives this process.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DEADLINE_MS = 30_000;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const undo = new Set();
process.on('exit', () => undo.forEach((task) => task()));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1));

/** Starts a child that ends with us at the latest. */
function start(command, args, options) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  const kill = () => child.kill('SIGKILL');
  undo.add(kill);
  child.ended = new Promise((resolve) => {
    child.once('error', resolve);
    child.once('exit', resolve);
  }).finally(() => undo.delete(kill));
  return child;
}

/** Calls `task` with each line of a child's output. */
function onLines(stream, task) {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    lines.forEach(task);
  });
}

/** Asks `probe` until it gives something, under one generous deadline. */
export async function eventually(what, probe) {
  for (const end = Date.now() + DEADLINE_MS; Date.now() < end; await sleep(25)) {
    const found = await probe();
    if (found) return found;
  }
  throw new Error(`waited ${DEADLINE_MS / 1000} s in vain for ${what}`);
}

/** A port that was free a moment ago: for those who can't tell which one they took, or must take it again. */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

const answersOn = (port) =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true) || socket.destroy());
    socket.once('error', () => resolve(false));
  });

// === A legacy app ===

const APPS = {
  sveltekit: {
    title: 'SvelteKit',
    directory: 'tests/apps/sveltekit-legacy',
    args: () => ['build'],
    versions: (pinned) => `SvelteKit ${pinned['@sveltejs/kit']} on adapter-node ${pinned['@sveltejs/adapter-node']}`
  },
  next: {
    title: 'Next.js',
    directory: 'tests/apps/next-legacy',
    args: (port) => ['node_modules/next/dist/bin/next', 'start', '-H', '127.0.0.1', '-p', String(port)],
    versions: (pinned) => `Next.js ${pinned.next}`
  }
};

/** A legacy app, started anew whenever it dies, as its operator's supervisor does. */
export class App {
  static titleOf = (kind) => APPS[kind].title;

  /** The versions that the app's package.json pins. */
  static versionsOf(kind) {
    const { dependencies, devDependencies } = JSON.parse(
      readFileSync(join(ROOT, APPS[kind].directory, 'package.json'), 'utf8')
    );
    return APPS[kind].versions({ ...dependencies, ...devDependencies });
  }

  static async start(kind, env = {}) {
    const app = new App();
    Object.assign(app, { kind, env, port: await freePort(), deaths: 0, errors: 0, output: [], stopping: false });
    app.origin = `http://127.0.0.1:${app.port}`;
    app.template = join(ROOT, APPS[kind].directory, 'progress-template.json');
    app.#run();
    await app.countersOnceUp();
    return app;
  }

  #run() {
    const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production', ...this.env };
    Object.assign(env, { HOST: '127.0.0.1', PORT: String(this.port) });
    const cwd = join(ROOT, APPS[this.kind].directory);
    this.child = start(process.execPath, APPS[this.kind].args(this.port), { cwd, env });
    const note = (line) => {
      this.output.push(line);
      if (line.startsWith('legacy app: uncaught ERR_INVALID_STATE')) this.errors += 1;
    };
    onLines(this.child.stdout, note);
    onLines(this.child.stderr, note);
    this.child.ended.then(() => {
      if (this.stopping) return;
      this.deaths += 1;
      if (this.deaths > 200) throw new Error(`${this.kind} does not stay up:\n${this.output.slice(-20).join('\n')}`);
      this.#run();
    });
  }

  /** What the app counts about itself, since it was last started. */
  async counters() {
    const answer = await fetch(`${this.origin}/debug/counters`, { headers: { connection: 'close' } });
    if (!answer.ok) throw new Error(`/debug/counters: ${answer.status}`);
    return answer.json();
  }

  /** The same, for moments at which it may be between two lives. */
  countersOnceUp() {
    return eventually(`${this.kind} to answer`, () => this.counters().catch(() => null));
  }

  async stop() {
    this.stopping = true;
    this.child.kill('SIGKILL');
    await this.child.ended;
  }
}

// === sidestream ===

/** The program in front of an app. */
export class Sidestream {
  /** `admin` is where the admin side listens; a free port, if it is not said. */
  static async start(app, args, admin = '127.0.0.1:0') {
    const binary = process.env.SIDESTREAM_BIN || join(ROOT, 'target/debug/sidestream');
    if (!existsSync(binary)) throw new Error(`${binary} is missing: cargo build makes it`);
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SIDESTREAM_')));
    const fixed = ['--listen', '127.0.0.1:0', '--admin-listen', admin, '--upstream', app.origin];
    const side = new Sidestream();
    side.output = [];
    side.child = start(binary, [...fixed, '--log-format', 'json', ...args], { env });
    const found = {};
    onLines(side.child.stdout, (line) => side.output.push(line));
    onLines(side.child.stderr, (line) => {
      side.output.push(line);
      const { message, side: which, addr } = line.startsWith('{') ? JSON.parse(line) : {};
      if (message === 'listening') found[which] = `http://${addr}`;
    });
    let over = false;
    side.child.ended.then(() => (over = true));
    await eventually('sidestream to listen', () => {
      if (over) throw new Error(`sidestream does not start:\n${side.output.join('\n')}`);
      return found.public && found.admin;
    });
    side.origin = found.public;
    side.admin = found.admin;
    return side;
  }

  /** The sum over the series of one metric whose labels contain `label`. */
  async metric(name, label = '') {
    const text = await (await fetch(`${this.admin}/metrics`)).text();
    const series = text.split('\n').filter((line) => new RegExp(`^sidestream_${name}[{ ]`).test(line));
    if (!series.length) throw new Error(`there is no metric sidestream_${name}`);
    return series.filter((line) => line.includes(label)).reduce((sum, line) => sum + Number(line.split(' ').pop()), 0);
  }

  async stop() {
    this.child.kill('SIGTERM');
    await this.child.ended;
    const panic = this.output.find((line) => line.includes('panicked at'));
    if (panic) throw new Error(`sidestream panicked: ${panic}`);
  }
}

// === nginx ===

/** An nginx with Debian's defaults and nothing but `proxy_pass` and its read timeout set. */
export class Nginx {
  static async start(origin, readTimeout) {
    const nginx = new Nginx();
    const port = await freePort();
    const directory = mkdtempSync(join(tmpdir(), 'sidestream-nginx-'));
    const remove = () => rmSync(directory, { recursive: true, force: true });
    undo.add(remove);
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
    writeFileSync(
      join(directory, 'nginx.conf'),
      // One process, so that ending it leaves no worker behind; for the proxying it makes no difference.
      `daemon off; master_process off; pid ${directory}/pid; error_log stderr crit;
      events { worker_connections 512; }
      http {
        access_log off;
        ${temporary.map((name) => `${name}_temp_path ${directory}/${name};`).join(' ')}
        server {
          listen 127.0.0.1:${port};
          location / {
            proxy_pass ${origin};
            proxy_set_header Host $http_host;
            proxy_read_timeout ${readTimeout};
          }
        }
      }`
    );
    nginx.child = start(nginxPath(), ['-p', directory, '-c', 'nginx.conf', '-e', 'stderr']);
    const output = [];
    onLines(nginx.child.stderr, (line) => output.push(line));
    nginx.child.ended.then(remove).then(() => undo.delete(remove));
    let over = false;
    nginx.child.ended.then(() => (over = true));
    await eventually('nginx to listen', () => {
      if (over) throw new Error(`nginx does not start:\n${output.join('\n')}`);
      return answersOn(port);
    });
    nginx.origin = `http://127.0.0.1:${port}`;
    return nginx;
  }

  static version() {
    return /nginx\/([\d.]+)/.exec(spawnSync(nginxPath(), ['-v'], { encoding: 'utf8' }).stderr)[1];
  }

  async stop() {
    this.child.kill('SIGTERM');
    await this.child.ended;
  }
}

function nginxPath() {
  // Debian keeps it where only root's PATH leads.
  const found = [...(process.env.PATH || '').split(':'), '/usr/sbin'].map((it) => join(it, 'nginx')).find(existsSync);
  if (!found) throw new Error('nginx is missing: apt-get install nginx-light');
  return found;
}
