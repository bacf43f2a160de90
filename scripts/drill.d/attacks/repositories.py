"""Attacks by someone who can write to a repository of backups."""
import datetime, glob, hashlib, json, os, subprocess
from world import attack, reeve


def manifest(world):
    """Returns the path and the contents of the only backup's manifest."""
    path = glob.glob(f"{world.state}/backups/main/*/manifest.json")[0]
    return path, json.loads(open(path).readline())


def write(path, content):
    body = json.dumps(content, separators=(",", ":"))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(f"{body}\n{hashlib.sha256(body.encode()).hexdigest()}\n")


@attack("LargeTextTests")
def part_that_unpacks_to_gigabytes(world):
    world.reeve("backup", "create")
    path, content = manifest(world)
    bomb = subprocess.run(
        f"head -c 2G /dev/zero | zstd -qc | age -r {world.recipient}", shell=True, capture_output=True, check=True).stdout
    part = next(part for part in content["parts"] if part["kind"] == "roles")
    with open(f"{world.state}/backups/{part['object']}", "wb") as file:
        file.write(bomb)
    part |= {"bytes": len(bomb), "sha256": hashlib.sha256(bomb).hexdigest()}
    write(path, content)
    child = subprocess.Popen(
        [reeve, "backup", "test"], env=world.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    kilobytes = os.wait4(child.pid, 0)[2].ru_maxrss
    return kilobytes > 1 << 20


def pushes_out(world, time):
    """Returns whether prune removes the real backup because of four forged backups with forged proofs."""
    world.reeve("backup", "create")
    path, content = manifest(world)
    for number in range(4):
        content["id"] = f"29990101T00000{number}Z-invented"
        content["startedAt"] = content["finishedAt"] = time(number)
        beside = f"{world.state}/backups/main/{content['id']}"
        write(f"{beside}/manifest.json", content)
        with open(f"{beside}/proof.json", "w") as file:
            json.dump({
                "backup": content["id"], "isProved": True, "tables": 1, "differences": [], "restoreSeconds": 1,
                "testSeconds": 1, "testedAt": content["startedAt"], "server": 150000, "checks": []}, file)
    world.reeve("backup", "prune", "--confirm", "main")
    return not os.path.exists(path)


@attack("BackupFaultTests")
def invented_backups_of_the_future(world):
    return pushes_out(world, lambda number: f"2099-01-01T00:00:0{number}Z")


@attack("BackupFaultTests")
def invented_backups_of_today(world):
    return pushes_out(world, lambda _: datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
