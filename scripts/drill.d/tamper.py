"""Tampers with a repository in 47 ways, and runs verify, test, restore and recover on each result.

The first three have the ledger, and no signing key. 'recover' has the signing key, and no ledger. A command has found a
tampering if it exits with another status than 0, or has warned; it has withstood it if it uses the newest backup and the
content is right. Everything else is missed: a wrong content, or an older one without a word.
"""
import glob, hashlib, json, os, random, shutil, subprocess, sys
from common import Cluster, say

reeve, chosen = sys.argv[1], sys.argv[3:]
BACKUPS = 4
cluster = Cluster(reeve)
key, signing = f"{cluster.state}/key", f"{cluster.state}/signing"
quiet = {"check": True, "capture_output": True}
subprocess.run([reeve, "backup", "key", "new", key], **quiet)
subprocess.run([reeve, "backup", "key", "new-signing", signing], **quiet)
recipient = next(line.split()[-1] for line in open(key) if "public key" in line)


def environment(database, place, is_signed):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "REEVE", "DATABASE"))}
    keys = {"REEVE_BACKUP_SIGNING_KEY": signing} if is_signed else {}
    return clean | keys | {
        "DATABASE_URL": cluster.url(database), "REEVE_STATE": cluster.state, "REEVE_BACKUP_IDENTITY": key,
        "REEVE_BACKUP_REPOSITORY": place, "REEVE_BACKUP_RECIPIENTS": recipient, "REEVE_BACKUP_CHECK_ROOM": "no"}


def psql(database, text):
    done = subprocess.run(
        ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", cluster.host, "-U", "postgres", database], input=text,
        capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"psql: {done.stderr}")
    return done.stdout.strip()


def source(database, place, is_signed, other=False):
    """Makes a database and its backups. The number of rows of the table t tells the backups apart."""
    cluster.fresh(database)
    psql(database, "CREATE TABLE t (a int); CREATE TABLE u AS SELECT g, md5(g::text) FROM generate_series(1, 5000) g")
    variables = environment(database, place, is_signed)
    subprocess.run([reeve, "backup", "init"], env=variables, **quiet)
    for number in range(BACKUPS):
        psql(database, f"INSERT INTO t VALUES ({number}); UPDATE u SET md5 = '{'o' if other else ''}{number}' WHERE g = 1")
        subprocess.run([reeve, "backup", "create"], env=variables, **quiet)
    return variables


class Repository:
    """A copy of a repository that is tampered with."""

    def __init__(self, folder, other):
        self.folder, self.other = folder, other
        self.backups = sorted(os.path.dirname(path) for path in glob.glob(f"{folder}/main/*/manifest.json"))
        self.newest, self.third, self.oldest = self.backups[-1], self.backups[-2], self.backups[0]

    def manifest(self, backup):
        lines = open(f"{backup}/manifest.json").read().splitlines()
        return json.loads(lines[0]), lines[2:]

    def write(self, backup, content, signature=(), digest=None):
        body = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        os.makedirs(backup, exist_ok=True)
        with open(f"{backup}/manifest.json", "w") as file:
            file.write("\n".join([body, digest or hashlib.sha256(body.encode()).hexdigest(), *signature]) + "\n")

    def edit(self, change, backup=None, keep=True):
        """Changes a manifest, and computes its hash again. `keep`: the signature stays."""
        backup = backup or self.newest
        content, signature = self.manifest(backup)
        change(content)
        self.write(backup, content, signature if keep else ())

    def part(self, kind, backup=None):
        content, _ = self.manifest(backup or self.newest)
        part = next(part for part in content["parts"] if part["kind"] == kind and (kind != "data" or "u" in str(part["tables"])))
        return f"{self.folder}/{part['object']}"

    def flip(self, path, at=0.5):
        data = bytearray(open(path, "rb").read())
        data[int(len(data) * at)] ^= 1
        open(path, "wb").write(data)

    def substitute(self, kind, old):
        """Puts the part of an older backup into the newest manifest."""
        older = next(part for part in self.manifest(old)[0]["parts"] if part["kind"] == kind)

        def change(content):
            part = next(part for part in content["parts"] if part["kind"] == kind)
            part |= {name: older[name] for name in ["object", "bytes", "sha256"]}
        self.edit(change)

    def made(self, kind, text):
        """Replaces a part by one of our own, which the recipient can open, with its size and hash."""
        packed = subprocess.run(f"zstd -qc | age -r {recipient}", shell=True, input=text, capture_output=True).stdout

        def change(content):
            part = next(part for part in content["parts"] if part["kind"] == kind)
            with open(f"{self.folder}/{part['object']}", "wb") as file:
                file.write(packed)
            part |= {"bytes": len(packed), "sha256": hashlib.sha256(packed).hexdigest()}
        self.edit(change)

    def renamed(self, name, change=lambda content: None, old=None):
        """Copies a backup under another ID."""
        old = old or self.oldest
        folder = f"{self.folder}/main/{name}"
        shutil.copytree(old, folder)
        content, signature = self.manifest(folder)
        content["id"] = name
        change(content)
        self.write(folder, content, signature)


def cut(path, share=0.5):
    with open(path, "r+b") as file:
        file.truncate(int(os.path.getsize(path) * share))


def sets(name, value):
    return lambda content: content.__setitem__(name, value)


def of_tables(change):
    def apply(content):
        for table in content["tables"]:
            if table["name"] == "t":
                change(table)
    return apply


def without(kind):
    return lambda content: content.__setitem__("parts", [p for p in content["parts"] if p["kind"] != kind])


def put(path, text):
    with open(path, "w") as file:
        file.write(text)


def dated(content, day):
    content["startedAt"] = content["finishedAt"] = f"{day}T00:00:00.000000Z"


def links(repository):
    shutil.move(repository.third, f"{repository.folder}/../moved")
    os.symlink(f"{repository.folder}/../moved", repository.third)


def owner(repository):
    shutil.copy(f"{repository.other}/main/owner.json", f"{repository.folder}/main/owner.json")


def proof(repository, backup, is_proved):
    content = {
        "backup": os.path.basename(backup), "isProved": is_proved, "tables": 2, "differences": [], "restoreSeconds": 1,
        "testSeconds": 1, "testedAt": "2026-01-01T00:00:00.000000Z", "server": 150000, "checks": []}
    put(f"{backup}/proof.json", json.dumps(content))


TAMPERINGS = {
    # Parts
    "part_flipped": lambda r: r.flip(r.part("data")),
    "part_flipped_at_its_head": lambda r: r.flip(r.part("data"), 0),
    "part_cut": lambda r: cut(r.part("data")),
    "part_emptied": lambda r: cut(r.part("data"), 0),
    "part_removed": lambda r: os.unlink(r.part("data")),
    "part_longer": lambda r: open(r.part("data"), "ab").write(b"x"),
    "part_of_an_older_backup": lambda r: shutil.copy(r.part("data", r.oldest), r.part("data")),
    "schema_flipped": lambda r: r.flip(r.part("before")),
    "constraints_removed": lambda r: os.unlink(r.part("after")),
    "roles_flipped": lambda r: r.flip(r.part("roles")),
    "catalog_flipped": lambda r: r.flip(r.part("catalog")),
    "sequences_removed": lambda r: os.unlink(r.part("sequences")),
    "parts_exchanged": lambda r: (
        os.rename(r.part("before"), f"{r.folder}/x"), os.rename(r.part("after"), r.part("before")),
        os.rename(f"{r.folder}/x", r.part("after"))),
    "part_is_a_folder": lambda r: (os.unlink(r.part("roles")), os.mkdir(r.part("roles"))),
    # Manifests
    "manifest_flipped": lambda r: r.flip(f"{r.newest}/manifest.json"),
    "manifest_cut": lambda r: cut(f"{r.newest}/manifest.json"),
    "manifest_emptied": lambda r: cut(f"{r.newest}/manifest.json", 0),
    "manifest_removed": lambda r: os.unlink(f"{r.newest}/manifest.json"),
    "manifest_of_an_older_backup": lambda r: shutil.copy(f"{r.third}/manifest.json", f"{r.newest}/manifest.json"),
    "manifest_without_signature_edited": lambda r: r.edit(of_tables(sets("rows", 3)), keep=False),
    "rows_edited": lambda r: r.edit(of_tables(sets("rows", 3))),
    "digest_edited": lambda r: r.edit(of_tables(sets("digest", "0" * 64))),
    "table_left_out": lambda r: r.edit(lambda c: c.__setitem__("tables", [t for t in c["tables"] if t["name"] != "t"])),
    "part_left_out": lambda r: r.edit(without("after")),
    "roles_left_out": lambda r: r.edit(without("roles")),
    "recipients_edited": lambda r: r.edit(sets("recipients", [])),
    "settings_added": lambda r: r.edit(sets("settings", ["ALTER DATABASE %database% SET work_mem = '1MB'"])),
    "access_widened": lambda r: r.edit(lambda c: c["access"].__setitem__("grants", [])),
    "predecessor_edited": lambda r: r.edit(lambda c: c["previous"].__setitem__("content", "0" * 64)),
    "origin_edited": lambda r: r.edit(lambda c: c["origin"].__setitem__("database", 4711)),
    "old_data_in_the_newest": lambda r: r.substitute("data", r.oldest),
    "sequences_made": lambda r: r.made("sequences", b"SELECT 1;\n"),
    "roles_made": lambda r: r.made("roles", b"CREATE ROLE intruder SUPERUSER LOGIN;\n"),
    # Backups
    "newest_removed": lambda r: shutil.rmtree(r.newest),
    "newest_two_removed": lambda r: (shutil.rmtree(r.newest), shutil.rmtree(r.third)),
    "middle_removed": lambda r: shutil.rmtree(r.third),
    "all_removed": lambda r: [shutil.rmtree(one) for one in r.backups],
    "all_but_the_oldest_removed": lambda r: [shutil.rmtree(one) for one in r.backups[1:]],
    "oldest_under_a_new_id": lambda r: r.renamed("20261231T000000Z-00000001"),
    "oldest_of_the_future": lambda r: r.renamed("20991231T000000Z-00000001", lambda c: dated(c, "2099-12-31")),
    "backups_of_another_database": lambda r: (
        shutil.rmtree(f"{r.folder}/main"), shutil.copytree(f"{r.other}/main", f"{r.folder}/main")),
    "owner_of_another_database": owner,
    "one_backup_of_another_database": lambda r: [
        shutil.copytree(path, f"{r.folder}/main/{os.path.basename(path)}")
        for path in [sorted(os.path.dirname(m) for m in glob.glob(f"{r.other}/main/*/manifest.json"))[-1]]],
    # The whole repository
    "mark_removed": lambda r: os.unlink(f"{r.folder}/repository.json"),
    "another_repository": lambda r: (shutil.rmtree(r.folder), shutil.copytree(r.other, r.folder)),
    "repository_gone": lambda r: shutil.rmtree(r.folder),
    # Proofs
    "proof_forged_for_a_damaged_backup": lambda r: (r.flip(r.part("data")), proof(r, r.newest, True)),
}
WARNINGS = ["not known whether", "missing", "does not record", "not the one", "another database", "not signed", "error:"]


def outcome(done, restored=None, expected=None):
    said = done.stdout + done.stderr
    if done.returncode != 0:
        return f"found ({done.returncode})"
    if restored is not None:
        rows = psql(restored, "SELECT count(*) FROM t")
        value = psql(restored, "SELECT md5 FROM u WHERE g = 1")
        if (rows, value) == (str(BACKUPS), str(BACKUPS - 1)):
            return "right"
        return "warned" if any(word in said for word in WARNINGS) else f"MISSED ({rows} rows)"
    return "right" if expected and expected in said else "MISSED"


plain = source("plain", f"{cluster.state}/plain", False)
subprocess.run([reeve, "backup", "init"], env=environment("plain", f"{cluster.state}/unused", False), capture_output=True)
signed = source("signed", f"{cluster.state}/signed", True)
source("stranger", f"{cluster.state}/stranger", False, other=True)
source("stranger2", f"{cluster.state}/stranger2", True, other=True)
ledger = subprocess.run(
    ["pg_dump", "-h", cluster.host, "-U", "postgres", "-n", "reeve", "plain"], check=True, capture_output=True, text=True).stdout


def run(name, tamper, command):
    """Tampers with a new copy, and runs one command on it."""
    is_signed = command == "recover"
    name = "signed" if is_signed else "plain"
    aside = f"{cluster.state}/aside"
    os.rename(f"{cluster.state}/{name}", aside)
    try:
        shutil.copytree(aside, f"{cluster.state}/{name}", symlinks=True)
        tamper(Repository(f"{cluster.state}/{name}", f"{cluster.state}/{'stranger2' if is_signed else 'stranger'}"))
        newest = os.path.basename(sorted(glob.glob(f"{aside}/main/2*"))[-1])
        variables = signed if is_signed else plain
        if command == "recover":
            variables = environment("back", f"{cluster.state}/signed", True)
            cluster.sql("postgres", "DROP DATABASE IF EXISTS back WITH (FORCE)")
            words = ["recover", "--no-input"]
        elif command == "restore":
            cluster.fresh("back")
            words = ["backup", "restore", "latest", "--to", cluster.url("back")]
        else:
            psql("plain", "SET client_min_messages = error; DROP SCHEMA reeve CASCADE;\n" + ledger)
            words = ["backup", "verify"] if command == "verify" else ["backup", "test", "latest"]
        done = subprocess.run([reeve, *words], env=variables, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if os.environ.get("DRILL_SAYS"):
            say(f"{command}: {done.stdout}{done.stderr}")
        return outcome(done, "back" if command in ("restore", "recover") else None, newest)
    finally:
        shutil.rmtree(f"{cluster.state}/{name}", ignore_errors=True)
        os.rename(aside, f"{cluster.state}/{name}")


COMMANDS = ["verify", "test", "restore", "recover"]
missed = 0
for name in chosen or TAMPERINGS:
    results = [run(name, TAMPERINGS[name], command) for command in COMMANDS]
    missed += sum(result.startswith("MISSED") for result in results)
    print(name, ", ".join(f"{command} {result}" for command, result in zip(COMMANDS, results)), flush=True)
psql("postgres", "SELECT 1")
print(f"tamperings {len(chosen or TAMPERINGS)}")
print(f"missed {missed}")
