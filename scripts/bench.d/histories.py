"""The migrations of other projects, as their packages ship them."""
import glob, os, re, subprocess, sys, zipfile
from common import say


def litellm(folder):
    return sorted(glob.glob(f"{folder}/litellm_proxy_extras/migrations/*/migration.sql"))


def procrastinate(folder):
    return sorted(glob.glob(f"{folder}/procrastinate/sql/migrations/*.sql"))


def synapse(folder):
    schema = f"{folder}/synapse/storage/schema"
    full = [f"{schema}/{part}/full_schemas/72/full.sql.postgres" for part in ("common", "main", "state")]
    deltas = [
        path for part in ("common", "main", "state") for path in glob.glob(f"{schema}/{part}/delta/*/*")
        if path.endswith((".sql", ".sql.postgres")) and int(path.split("/")[-2]) > 72
    ]
    return full + sorted(deltas, key=lambda path: (int(path.split("/")[-2]), os.path.basename(path)))


# The name of a history, the package that has it, and the function that lists its files.
PACKAGES = [
    ("litellm", "litellm-proxy-extras==0.4.110", litellm),
    ("procrastinate", "procrastinate==3.10.0", procrastinate),
    ("synapse", "matrix-synapse==1.163.2", synapse),
]


def histories(work, cluster):
    """Returns names of histories, each with the texts of its migrations. Migrations that psql cannot apply in one
    transaction are left out, for instance because a migration before them is a program."""
    found = []
    for name, package, files in PACKAGES:
        folder = f"{work}/packages/{name}"
        say(f"downloading {package} for the bench …")
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", folder, package],
            check=True)
        with zipfile.ZipFile(glob.glob(f"{folder}/*.whl")[0]) as wheel:
            wheel.extractall(folder, [entry for entry in wheel.namelist() if ".sql" in entry])
        database = f"bench_{name}_trial"
        cluster.fresh(database)
        kept = []
        paths = files(folder)
        for path in paths:
            text = open(path).read()
            # Commands of psql and transactions of their own are no matter of a migration that runs in one transaction.
            if not re.search(r"^\\|^\s*(BEGIN|COMMIT)\s*;", text, re.M | re.I):
                command = ["psql", "-Xq1", "-v", "ON_ERROR_STOP=1", "-f", path, cluster.url(database)]
                if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                    kept.append(text)
        cluster.sql("postgres", f"DROP DATABASE {database}")
        say(f"{name}: {len(kept)} of {len(paths)} migrations")
        found.append((name, kept))
    return found
