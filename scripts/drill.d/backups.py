"""Interrupts backups at random moments, and checks the result: earlier backups must still be good, a listed backup must be
complete, the exit status must be right, and the next backup must succeed and remove the remains."""
import json, os, random, shutil, signal, subprocess, sys, time
from common import Cluster, say

reeve, count = sys.argv[1], int(sys.argv[2])
cluster = Cluster(reeve)
cluster.fresh("drill")
filled = """
    CREATE TABLE big (id int, noise text); CREATE TABLE small (id int PRIMARY KEY);
    INSERT INTO big SELECT g, md5(random()::text) || md5(random()::text) || md5(random()::text) || md5(random()::text)
            || md5(random()::text) || md5(random()::text) || md5(random()::text) || md5(random()::text)
        FROM generate_series(1, 330000) g;
    INSERT INTO small SELECT generate_series(1, 1000); SELECT lo_from_bytea(0, 'x');"""
subprocess.run(
    ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", cluster.host, "-U", "postgres", "drill"], input=filled, text=True,
    check=True, stdout=subprocess.DEVNULL)
key = f"{cluster.state}/key"
subprocess.run([reeve, "backup", "key", "new", key], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
recipient = next(line.split()[-1] for line in open(key) if "public key" in line)
place = f"{cluster.state}/backups"
os.makedirs(place)
base = dict(
    os.environ, DATABASE_URL=cluster.url("drill"), REEVE_STATE=cluster.state, REEVE_BACKUP_IDENTITY=key,
    REEVE_BACKUP_REPOSITORY=place, REEVE_BACKUP_RECIPIENTS=recipient, REEVE_BACKUP_CHECK_ROOM="no")
subprocess.run([reeve, "backup", "init"], env=base, check=True, stdout=subprocess.DEVNULL)
create = [reeve, "backup", "create", "--full", "--json", "--lock-wait", "30s"]


def run(command, **options):
    return subprocess.run(command, env=base, capture_output=True, text=True, timeout=120, **options)


def ids():
    return [one["id"] for one in json.loads(run([reeve, "backup", "list", "--json"]).stdout)["backups"]]


def dumps():
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline") as file:
                    line = file.read()
                if "pg_dump" in line.split("\0")[0] and cluster.host in line.replace("%2F", "/"):
                    found.append(int(name))
            except OSError:
                pass
    return found


def postmaster():
    with open(f"{cluster.state}/cluster/data/postmaster.pid") as file:
        return int(file.readline())


def wait_for_server():
    for _ in range(600):
        if cluster.sql("drill", "SELECT 1", check=False) == 0:
            return
        time.sleep(0.1)
    sys.exit("the server did not come back")


began = time.perf_counter()
first = run(create)
seconds = time.perf_counter() - began
if first.returncode != 0:
    sys.exit(first.stdout + first.stderr)
good = ids()
bytes_of_one = sum(os.path.getsize(os.path.join(folder, f)) for folder, _, files in os.walk(place) for f in files)
say(f"a backup takes {seconds:.1f} s and {bytes_of_one / 1e6:.0f} MB")
wrong = []


def check(case, status):
    """Checks the conditions that must hold after each case."""
    there = ids()
    if not set(good) <= set(there):
        wrong.append(f"{case}: a good backup is gone")
    if status == 0 and len(there) == len(good):
        wrong.append(f"{case}: exit 0, and no backup")
    if status not in (0, None) and status > 0 and len(there) > len(good):
        wrong.append(f"{case}: exit {status}, and a backup is listed")
    whole = run([reeve, "backup", "verify", "--all", "--json"])
    if json.loads(whole.stdout).get("problems"):
        wrong.append(f"{case}: {whole.stdout[:500]}")
    after = run(create)
    if after.returncode != 0:
        wrong.append(f"{case}: the next one failed: {after.stdout[:500]}")
    left = json.loads(run([reeve, "backup", "verify", "--all", "--json"]).stdout)
    if left["problems"] or left["orphans"]:
        wrong.append(f"{case}: the next one left {left['orphans'][:3]} {left['problems'][:3]}")
    for root, _, files in os.walk(place):
        wrong.extend(f"{case}: {name} stayed" for name in files if name.endswith(".unfinished"))
    if dumps():
        wrong.append(f"{case}: pg_dump still runs")
    for one in set(ids()) - set(good):
        shutil.rmtree(f"{place}/main/{one}")
    return "a whole backup" if status == 0 else "killed" if status is None or status < 0 else f"exit {status}"


def broken(case, harm, waits=True):
    child = subprocess.Popen(create, env=base, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    if waits:
        time.sleep(random.uniform(0, seconds))
    harm(child)
    try:
        child.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        wrong.append(f"{case}: it hangs")
        child.kill()
        child.communicate()
    wait_for_server()
    return check(case, child.returncode)


def kill_dump(child):
    """Kills a random dump as soon as one runs, because dumps are short."""
    running = []
    while not running and child.poll() is None:
        running = dumps()
    for pid in random.sample(running, min(1, len(running))):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def stop_server(_):
    os.kill(postmaster(), signal.SIGQUIT)


def cut(_):
    cluster.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'drill'", check=False)


def on_small_disk(megabytes, read_only=False):
    """Uses a repository on its own small file system, which also contains the good backup."""
    disk = f"{cluster.state}/disk"
    os.makedirs(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", disk], check=True)
    try:
        shutil.copytree(place, f"{disk}/backups")
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        environment = base | {"REEVE_BACKUP_REPOSITORY": f"{disk}/backups"}
        done = subprocess.run(create, env=environment, capture_output=True, text=True, timeout=120)
        listed = subprocess.run([reeve, "backup", "list", "--json"], env=environment, capture_output=True, text=True)
        there = [one["id"] for one in json.loads(listed.stdout)["backups"]]
        verified = subprocess.run(
            [reeve, "backup", "verify", "--all", "--json"], env=environment, capture_output=True, text=True)
        if not set(good) <= set(there) or json.loads(verified.stdout).get("problems"):
            wrong.append(f"disk of {megabytes} MB: what was good is not")
        if (done.returncode == 0) != (len(there) > len(good)):
            wrong.append(f"disk of {megabytes} MB: exit {done.returncode}, {len(there)} backups")
        return "a whole backup" if done.returncode == 0 else f"exit {done.returncode}"
    finally:
        subprocess.run(["umount", disk], check=True)
        os.rmdir(disk)


one = bytes_of_one / 1e6
cases = {
    "reeve_killed": lambda: broken("reeve killed", lambda child: os.kill(child.pid, signal.SIGKILL)),
    "reeve_and_its_programs_killed": lambda: broken("all killed", lambda child: os.killpg(child.pid, signal.SIGKILL)),
    "reeve_asked_to_stop": lambda: broken("reeve stopped", lambda child: os.kill(child.pid, signal.SIGTERM)),
    "pg_dump_killed": lambda: broken("pg_dump killed", kill_dump, waits=False),
    "server_stopped": lambda: broken("server stopped", stop_server),
    "connections_cut": lambda: broken("connections cut", cut),
    "disk_full": lambda: on_small_disk(int(one + 2 + random.uniform(0, one * 1.1))),
    "disk_read_only": lambda: on_small_disk(int(one * 3), read_only=True),
}
for name, case in cases.items():
    if len(sys.argv) > 3 and name not in sys.argv[3:]:
        continue
    ends = {}
    for _ in range(count):
        end = case()
        ends[end] = ends.get(end, 0) + 1
    print(f"{name} " + ", ".join(f"{end}: {number}" for end, number in sorted(ends.items())), flush=True)
print(f"broken_promises {len(wrong)}")
for line in wrong:
    print(f"  {line}")
sys.exit(1 if wrong else 0)
