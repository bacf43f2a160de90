"""Shared code of the benches: a cluster, the timing of whole processes, and the output."""
import atexit, os, shutil, signal, statistics, subprocess, sys, tempfile, time


def figure(name, value, target):
    print(f"{name} {value} {target}", flush=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


def timed(command, **options):
    """Returns how many seconds a whole process took. It must succeed."""
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        sys.exit(f"{command} failed:\n{done.stdout.decode()[-3000:]}")
    return seconds


def median(values):
    return statistics.median(values)


class Cluster:
    """A PostgreSQL with its default settings, including fsync. It ends with the bench."""

    def __init__(self, reeve):
        self.state = tempfile.mkdtemp(prefix="reeve-bench.", dir="/tmp")
        os.chmod(self.state, 0o755)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "POSTGRES", "DATABASE", "REEVE"))}
        environment |= {
            "REEVE_STATE": self.state, "REEVE_HTTP_LISTEN": "off", "REEVE_TASKS_MIGRATE_ENABLED": "no",
            "REEVE_TASKS_ANALYZE_ENABLED": "no", "REEVE_TASKS_VALIDATE_ENABLED": "no",
        }
        self.service = subprocess.Popen([reeve, "serve"], env=environment, stderr=subprocess.DEVNULL)
        atexit.register(self.stop)
        self.host = f"{self.state}/cluster/run"
        for _ in range(300):
            if self.sql("postgres", "SELECT 1", check=False) == 0:
                return
            if self.service.poll() is not None:
                break
            time.sleep(0.1)
        sys.exit("the cluster did not start: see what 'reeve serve' says")

    def sql(self, database, statement, check=True):
        command = ["psql", "-XqAt", "-h", self.host, "-U", "postgres", "-d", database, "-c", statement]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if check and done.returncode != 0:
            sys.exit(f"psql failed: {statement}")
        return done.returncode

    def fresh(self, database):
        self.sql("postgres", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        self.sql("postgres", f"CREATE DATABASE {database}")
        self.sql("postgres", "CHECKPOINT")

    def url(self, database):
        return f"postgresql://?host={self.host}&user=postgres&dbname={database}"

    def stop(self):
        self.service.send_signal(signal.SIGTERM)
        self.service.wait()
        for _ in range(200):
            if not os.path.exists(f"{self.state}/cluster/data/postmaster.pid"):
                break
            time.sleep(0.1)
        shutil.rmtree(self.state, ignore_errors=True)
