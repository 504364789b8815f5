"""The whole pipeline on one machine, in one folder.

LAYOUT of the folder
    pipeline.json      what was chosen when it was made: runners, clock, ports
    endpoints.json     what outside programs need (api.md); rewritten whenever a pid changes
    etc/ log/ run/     configuration, log and pid file of every process
    rN.sock            ingest sockets
    spool/rN, kafka/, redis/, stripe.journal, cgroup/
    clock/             by how much a program's wall clock is wrong, where clocks can be made wrong (tests/skew)

HAPPY PATH  create(): choose ports. start(): Kafka, Redis and the double side by side, then the topics, then our programs, each until its
            /readyz says 200, then the operator's key. stop(): everything, in the opposite order. With `proxied`, our programs reach Kafka, Redis
            and the double through a proxy, each by a link of its own.
FAILURES    Whatever does not come up is a HarnessError that carries the end of its log.
"""
import contextlib
import dataclasses
import fcntl
import json
import os
import struct
import subprocess
import urllib.error
import urllib.request

from . import config, tools
from .kafka import Kafka
from .process import HarnessError, Process, free_ports, wait_for
from .proxy import Proxy
from .redis import Redis

SOCKET_PATH_MAX = 107
REGIONS = ("eu", "us")
TWINS = ("aggregator-2", "exporter-2")  # where there are any; two exporters of one ledger take it from each other without end
OPERATOR_TEAM = "operators"
PROGRAM_FILES = {"collector": "sandglass-collector", "aggregator": "sandglass-aggregator", "exporter": "sandglass-exporter",
                 "api": "sandglass-api"}


def write_json(path, value):
    """Write a JSON file, atomically."""
    new = "%s.%d.new" % (path, os.getpid())
    with open(new, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
    os.replace(new, path)


def http_get(url, timeout_s=5, key=None):
    """(status, body) of a GET; status 0 when nobody answers."""
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + key} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def metric(ops_url, name):
    """A metric, with its labels if it has any, of the program whose operations listener that is; None when it does not answer or has none of that
    name."""
    lines = http_get(ops_url + "/metrics")[1].decode().splitlines()
    return next((int(line.split()[-1]) for line in lines if line.startswith(name + " ")), None)


def _put_proxy_between(made):
    """Send clients to ports of the proxy's; {link: [port, where it leads]}."""
    links = {}
    for kind, settings in (("kafka", made["kafka"]), ("redis", made["redis"])):
        ports = settings["ports"]
        settings["client_ports"] = free_ports(1 if settings.get("kind") == "pair" else len(ports))
        for number, port in enumerate(settings["client_ports"], 1):
            links[kind if len(settings["client_ports"]) == 1 else "%s-%d" % (kind, number)] = [port, ports[number - 1]]
    if made["redis"]["kind"] == "pair":
        (made["redis"]["replication_port"],) = free_ports(1)
        links["replication"] = [made["redis"]["replication_port"], made["redis"]["ports"][0]]
    (made["stripe_client_port"],) = free_ports(1)
    links["stripe"] = [made["stripe_client_port"], made["stripe_ports"][0]]
    return links


class Pipeline:
    """A pipeline in a folder; `bound` ones die with the process that started them."""

    def __init__(self, folder, bound):
        self.folder, self.bound = os.path.abspath(folder), bound
        with open(self.path("pipeline.json"), encoding="utf-8") as file:
            self.made = json.load(file)
        world = {"run_dir": self.path("run"), "log_dir": self.path("log"), "bound": bound}
        self.kafka = Kafka(self.path("kafka"), tools.KAFKA_JARS, self.made["kafka"], **world)
        self.redis = Redis(self.path("redis"), self.made["redis"], **world)
        self.spares = []  # of Redis: not the one that serves
        self.stripe = Process("stripe", **world)
        self.programs = {name: Process(name, **world) for name in self.made["ops_ports"]}
        self.proxy = Proxy(Process("proxy", **world), self.made["proxy_port"], self.made["links"])

    @classmethod
    def create(cls, folder, *, bound, runners=1, clock="system", kafka_nodes=1, redis="single", appendfsync="everysec", redis_users=False, faults=None,
               spool_bytes_max="2G", exporter_poll="500ms", twins=False, proxied=False, skewed=False, extra=None):
        """Choose everything and write it down; nothing runs yet. `twins`: a second aggregator and a second exporter; `skewed`: clocks that can
        be made wrong; `extra`: {program: [[key, value]]} for the configuration files.
        """
        folder = os.path.abspath(folder)
        names = ["collector-r%d" % (i + 1) for i in range(runners)]
        names += ["aggregator", "aggregator-2", "exporter", "exporter-2", "api"] if twins else ["aggregator", "exporter", "api"]
        ports = free_ports(len(names) + 4)
        if len(os.path.join(folder, "r%d.sock" % runners)) > SOCKET_PATH_MAX:
            raise HarnessError("the folder's path is too long for Unix sockets (at most %d bytes)" % (SOCKET_PATH_MAX - len("/r00.sock")))
        for sub in ("etc", "log", "run", "spool", "kafka", "redis", "cgroup", "clock"):
            os.makedirs(os.path.join(folder, sub), exist_ok=True)
        made = {"kafka": Kafka.new_settings(kafka_nodes), "redis": Redis.new_settings(redis, appendfsync, redis_users),
                "stripe_ports": ports[-3:-1], "stripe_client_port": ports[-3]}
        links = _put_proxy_between(made) if proxied else {}
        write_json(os.path.join(folder, "pipeline.json"), {
            "runners": [{"name": "r%d" % (i + 1), "region": REGIONS[i % len(REGIONS)]} for i in range(runners)],
            "clock": clock, **made, "links": links, "proxy_port": ports[-4], "skewed": skewed, "extra": extra or {},
            "ops_ports": dict(zip(names, ports)), "api_port": ports[-1], "stripe_faults": faults,
            "spool_bytes_max": spool_bytes_max, "exporter_poll": exporter_poll, "topics": dict(config.TOPICS)})
        return cls(folder, bound)

    def path(self, *parts):
        """A path in the folder."""
        return os.path.join(self.folder, *parts)

    # Addresses.

    @property
    def api_url(self):
        """The API."""
        return "http://127.0.0.1:%d" % self.made["api_port"]

    @property
    def stripe_url(self):
        """The double's API."""
        return "http://127.0.0.1:%d" % self.made["stripe_client_port"]

    @property
    def stripe_admin_url(self):
        """The double's control port."""
        return "http://127.0.0.1:%d" % self.made["stripe_ports"][1]

    def ops_url(self, name):
        """A program's operations listener."""
        return "http://127.0.0.1:%d" % self.made["ops_ports"][name]

    def socket(self, runner):
        """A runner's ingest socket."""
        return self.path(runner + ".sock")

    # Configuration.

    def shared(self):
        """What the configuration files have in common."""
        return config.Shared(kafka_brokers=self.kafka.brokers, redis=self.redis.address, redis_cluster=self.redis.cluster,
                             price_book=tools.PRICE_BOOK, topics=self.made["topics"], redis_password_files=self._password_files())

    def _password_files(self):
        password, path = self.made["redis"]["password"], self.path("etc", "redis.password")
        if password is None:
            return {}
        config.write_secret(path, password)
        return dict.fromkeys(("aggregator", "exporter", "api", "sandglass"), path)

    def write_configs(self):
        """A configuration file per program."""
        shared = self.shared()
        key_file = self.path("etc", "stripe.key")
        config.write_secret(key_file, config.STRIPE_KEY)
        ops = {name: "127.0.0.1:%d" % port for name, port in self.made["ops_ports"].items()}
        files = {
            "api": config.api(shared, listen="127.0.0.1:%d" % self.made["api_port"], ops_listen=ops["api"]),
            "cli": config.cli(shared, cluster="local", programs=[(name, self.ops_url(name)) for name in self.programs]),
        }
        for name in self.programs:
            kind, _, number = name.partition("-")
            instance = "%s-%s" % (kind, number or "1")
            if kind == "aggregator":
                files[name] = config.aggregator(shared, instance=instance, ops_listen=ops[name])
            elif kind == "exporter":
                files[name] = config.exporter(shared, instance=instance, cluster="local", stripe_url=self.stripe_url, stripe_key_file=key_file,
                                              ops_listen=ops[name], poll_interval=self.made["exporter_poll"])
        for runner in self.made["runners"]:
            name = "collector-" + runner["name"]
            files[name] = config.collector(
                shared, runner=runner["name"], region=runner["region"], clock=self.made["clock"], ingest_socket=self.socket(runner["name"]),
                spool_dir=self.path("spool", runner["name"]), spool_bytes_max=self.made["spool_bytes_max"], cgroup_root=self.path("cgroup"),
                ops_listen=ops[name])
            os.makedirs(self.path("spool", runner["name"]), exist_ok=True)
        for name, lines in files.items():
            config.write(self.path("etc", name + ".conf"), config.changed(lines, self.made["extra"].get(name.partition("-")[0], [])))

    # Processes.

    def processes(self):
        """Every process by its name, in the order of starting."""
        proxy = {"proxy": self.proxy.process} if self.proxy.links else {}
        return {**self.kafka.nodes, **self.redis.nodes, "stripe": self.stripe, **proxy, **self.programs}

    def spawn(self, name, env=None):
        """Start one process, not waiting until it is ready; an error when it runs already. `env`: for one of our programs."""
        with open(self.path("run", "lock"), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if name in self.kafka.nodes:
                self.kafka.start_node(name)
            elif name in self.redis.nodes:
                self.redis.start_node(name)
            elif name == "stripe":
                self._spawn_stripe()
            elif name == "proxy":
                self.proxy.spawn(tools.PYTHON)
            else:
                file = tools.program(PROGRAM_FILES[name.partition("-")[0]])
                self.programs[name].spawn([file, "--config", self.path("etc", name + ".conf")], env=env or self._skewed(name))

    def _skewed(self, name):
        """The environment of a program whose clock can be made wrong; None: ours."""
        if not self.made["skewed"]:
            return None
        if not os.path.exists(self.path("clock", name)):
            self.skew(name, 0)
        return {**os.environ, "LD_PRELOAD": tools.program("libsandglass-skew.so"), "SANDGLASS_SKEW": self.path("clock", name)}

    def skew(self, name, seconds):
        """Step a program's wall clock so that it is wrong by this much. The file is never truncated: the program has it mapped."""
        with open(os.open(self.path("clock", name), os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds * 10 ** 9))

    def _spawn_stripe(self):
        listen, admin = ("127.0.0.1:%d" % port for port in self.made["stripe_ports"])
        argv = [tools.PYTHON, tools.STRIPE_DOUBLE, "--listen", listen, "--admin-listen", admin, "--state", self.path("stripe.journal"),
                "--no-age-limit", "--clock", "offset", "--key", config.STRIPE_KEY]
        for meter, mode in config.METERS:
            argv += ["--meter", "%s:%s" % (meter, mode)]
        if self.made["stripe_faults"]:
            argv += ["--faults", self.made["stripe_faults"]]
        self.stripe.spawn(argv)

    def ready(self, name):
        """Whether a process is ready now."""
        if name == "stripe":
            return http_get(self.stripe_admin_url + "/billed", 2)[0] == 200
        return http_get(self.ops_url(name) + "/readyz", 2)[0] == 200

    def wait_ready(self, name, timeout_s=60):
        """Wait until a process is ready; its log's end is in the error when it is not."""
        try:
            if name in self.kafka.nodes:
                self.kafka.wait_ready(timeout_s)
            elif name in self.redis.nodes:
                self.redis.wait_ready(timeout_s)
            elif name == "proxy":
                self.proxy.wait_ready(timeout_s)
            else:
                wait_for("%s to be ready" % name, lambda: self.ready(name), timeout_s, alive=self.processes()[name].alive)
        except HarnessError as error:
            raise HarnessError("%s\n%s" % (error, self.processes()[name].log_tail())) from None

    def restart(self, name, timeout_s=60):
        """kill -9, start again, wait until it is ready."""
        self.processes()[name].kill()
        self.spawn(name)
        self.wait_ready(name, timeout_s)

    def start(self, report=lambda text: None):
        """Start everything that does not run, but for the twins, and wait until all of it is ready."""
        self.write_configs()
        report("Kafka, Redis, the double of Stripe")
        others = [name for name in self.processes() if name not in self.programs]
        for name in others:
            if not self.processes()[name].alive():
                self.spawn(name)
        for name in reversed(others):
            self.wait_ready(name)
        self._create_topics()
        report("our programs")
        first = [name for name in self.programs if name not in TWINS]
        for name in first:
            if not self.programs[name].alive():
                self.spawn(name)
        for name in first:
            self.wait_ready(name)
        self.operator_key()
        self.write_endpoints()

    def spare_redis(self, name):
        """Another Redis beside the one that serves, empty, started; and the path of the configuration of an aggregator for it."""
        settings = {**Redis.new_settings(appendfsync=self.made["redis"]["appendfsync"]), "password": self.made["redis"]["password"]}
        spare = Redis(self.path(name), settings, run_dir=self.path("run"), log_dir=self.path("log"), bound=self.bound, name=name)
        self.spares.append(spare)
        spare.start()
        spare.wait_ready()
        file = self.path("etc", name + ".conf")
        ops = "127.0.0.1:%d" % self.made["ops_ports"]["aggregator"]
        config.write(file, config.aggregator(dataclasses.replace(self.shared(), redis=spare.address), instance="aggregator-1", ops_listen=ops))
        return spare, file

    def switch_redis(self, spare):
        """Switch over: every program goes on with that Redis."""
        self.spares.remove(spare)
        self.spares.append(self.redis)
        self.redis, self.made["redis"] = spare, spare.settings
        self.write_configs()
        for name in ("aggregator", "api", "exporter"):
            self.restart(name)

    def _create_topics(self):
        self.cli_text("topics", "create", "--partitions", str(config.PARTITIONS), "--replication", str(len(self.kafka.nodes)))

    def stop(self):
        """End everything; our own programs are asked first. True when all of those ended by themselves."""
        for process in self.programs.values():
            process.signal(15)
        clean = all([process.stop() for process in self.programs.values()])
        self.stripe.stop()
        self.redis.stop()
        self.kafka.stop()
        self.proxy.process.stop()
        return clean

    def kill(self):
        """kill -9 of everything."""
        for process in reversed(self.processes().values()):
            process.kill()
        for spare in self.spares:
            spare.kill()

    # The command line.

    def cli_argv(self):
        """How the command line is called."""
        return [tools.program("sandglass"), "--config", self.path("etc", "cli.conf")]

    def cli(self, *arguments, timeout_s=60):
        """Run the command line: the finished process."""
        return subprocess.run([*self.cli_argv(), *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)

    def cli_text(self, *arguments):
        """Its output; an exit code other than 0 is an error."""
        done = self.cli(*arguments)
        if done.returncode:
            raise HarnessError("sandglass %s: exit code %d\n%s" % (" ".join(arguments[:2]), done.returncode, done.stderr[-2000:]))
        return done.stdout

    def cli_lines(self, *arguments):
        """Its output as JSON, an object a line."""
        return [json.loads(line) for line in self.cli_text(*arguments).splitlines()]

    def new_key(self, team, role="customer"):
        """Create an API key."""
        return self.cli_text("key", "create", team, "--role", role).strip()

    def set_account(self, team, customer):
        """Tie a team to a Stripe customer."""
        self.cli_text("account", "set", team, "--stripe-customer", customer)

    def operator_key(self):
        """The operator's key, created once."""
        path = self.path("etc", "operator.key")
        with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as file:
            return file.read().strip()
        key = self.new_key(OPERATOR_TEAM, "operator")
        config.write_secret(path, key)
        return key

    def reconcile(self):
        """What `sandglass reconcile --json` says."""
        done = self.cli("reconcile", "--json")
        if done.returncode > 1:
            raise HarnessError("sandglass reconcile: exit code %d\n%s" % (done.returncode, done.stderr[-2000:]))
        return json.loads(done.stdout)

    # What outside programs see.

    def endpoints(self):
        """endpoints.json as api.md has it; `components` is what is not ours."""
        def pids(processes):
            return [{"name": name, "pid": process.pid} for name, process in processes.items() if process.alive()]

        return {
            "runners": [{**runner, "socket": self.socket(runner["name"])} for runner in self.made["runners"]],
            "kafka": self.kafka.brokers, "topics": self.made["topics"], "redis": self.redis.address, "api": self.api_url,
            "ops": {name: self.ops_url(name) for name in self.programs}, "operator_key": self.operator_key(), "cli": self.cli_argv(),
            "stripe": self.stripe_url, "stripe_billed": self.stripe_admin_url + "/billed", "programs": pids(self.programs),
            "components": pids({**self.kafka.nodes, **self.redis.nodes, "stripe": self.stripe}),
        }

    def write_endpoints(self):
        """(Re)write endpoints.json."""
        write_json(self.path("endpoints.json"), self.endpoints())

    def billed(self):
        """{(customer, meter, hour): value} of the double."""
        status, body = http_get(self.stripe_admin_url + "/billed", 30)
        if status != 200:
            raise HarnessError("the double does not answer")
        return {(row["customer"], row["event_name"], row["hour"]): int(row["value"]) for row in json.loads(body)}
