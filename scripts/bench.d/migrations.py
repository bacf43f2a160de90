"""Measures 1,000 migrations, each in one transaction in all three programs, interleaved; and a run with nothing to do."""
import os, shutil, subprocess, sys, tempfile
from common import Cluster, figure, median, say, timed

reeve, rounds = sys.argv[1], int(sys.argv[2])
COUNT = 1000
work = tempfile.mkdtemp(prefix="reeve-bench-migrations.")


def statements(number):
    """Returns a migration as in long-lived projects: each tenth creates a table and an index, the others change a table."""
    table = (number - 1) // 10
    if number % 10 == 1:
        return (
            f"CREATE TABLE t{table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, at timestamptz DEFAULT now());",
            f"CREATE INDEX t{table}_name ON t{table} (name);",
        )
    return (
        f"ALTER TABLE t{table} ADD COLUMN c{number} integer DEFAULT 0;",
        f"COMMENT ON COLUMN t{table}.c{number} IS 'column {number}';",
    )


def install():
    if not shutil.which("sqitch"):
        say("installing sqitch for the bench …")
        subprocess.run(["apt-get", "install", "-y", "-qq", "sqitch", "libdbd-pg-perl"], check=True, stdout=subprocess.DEVNULL)
    say("installing alembic for the bench …")
    subprocess.run([sys.executable, "-m", "venv", f"{work}/venv"], check=True)
    subprocess.run([f"{work}/venv/bin/pip", "install", "-q", "alembic", "psycopg2-binary"], check=True)


def prepare():
    os.makedirs(f"{work}/reeve")
    open(f"{work}/reeve/system.yaml", "w").write("name: bench\nschema: public\n")
    os.makedirs(f"{work}/alembic/versions")
    open(f"{work}/alembic.ini", "w").write(f"[alembic]\nscript_location = {work}/alembic\n")
    open(f"{work}/alembic/script.py.mako", "w").write("")
    open(f"{work}/alembic/env.py", "w").write(
        "import os\nfrom alembic import context\nfrom sqlalchemy import create_engine\n"
        "engine = create_engine(os.environ['BENCH_URL'])\nwith engine.connect() as connection:\n"
        "    context.configure(connection=connection, transaction_per_migration=True)\n"
        "    with context.begin_transaction():\n        context.run_migrations()\n")
    os.makedirs(f"{work}/sqitch/deploy")
    open(f"{work}/sqitch/sqitch.conf", "w").write("[core]\n\tengine = pg\n[user]\n\tname = bench\n\temail = bench@example.com\n")
    plan = ["%syntax-version=1.0.0", "%project=bench", ""]
    for number in range(1, COUNT + 1):
        lines = statements(number)
        open(f"{work}/reeve/{number:04}_t{number}.up.sql", "w").write("\n".join(lines) + "\n")
        down = f"{number - 1:04}" if number > 1 else None
        body = "".join(f"    op.execute({line!r})\n" for line in lines)
        open(f"{work}/alembic/versions/{number:04}.py", "w").write(
            f"from alembic import op\nrevision = '{number:04}'\ndown_revision = {down!r}\n\n\ndef upgrade():\n{body}\n\ndef downgrade():\n    pass\n")
        open(f"{work}/sqitch/deploy/t{number}.sql", "w").write("BEGIN;\n" + "\n".join(lines) + "\nCOMMIT;\n")
        plan.append(f"t{number} 2026-01-01T00:00:00Z bench <bench@example.com> # table {number}")
    with open(f"{work}/all.sql", "w") as file:
        for number in range(1, COUNT + 1):
            file.write("BEGIN;\n" + "\n".join(statements(number)) + "\nCOMMIT;\n")
    open(f"{work}/sqitch/sqitch.plan", "w").write("\n".join(plan) + "\n")


def run(tool):
    database = f"bench_{tool}"
    if tool == "psql":
        return timed(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", f"{work}/all.sql", cluster.url(database)])
    if tool == "reeve":
        environment = os.environ | {"DATABASE_URL": cluster.url(database), "REEVE_SYSTEMS": f"{work}/reeve"}
        return timed([reeve, "migrate", "up", "--json"], env=environment, cwd=work)
    if tool == "alembic":
        url = f"postgresql+psycopg2://postgres@/{database}?host={cluster.host}"
        return timed([f"{work}/venv/bin/alembic", "-c", f"{work}/alembic.ini", "upgrade", "head"], env=os.environ | {"BENCH_URL": url})
    environment = os.environ | {"PGHOST": cluster.host, "PGUSER": "postgres"}
    return timed(["sqitch", "deploy", f"db:pg:{database}"], cwd=f"{work}/sqitch", env=environment)


install()
prepare()
cluster = Cluster(reeve)
tools = ["reeve", "alembic", "sqitch"]
full = {tool: [] for tool in tools + ["psql"]}
nothing = {tool: [] for tool in tools}
for number in range(rounds):
    # psql records nothing, so its time is the time that the server needs for the same transactions.
    for tool in tools + ["psql"]:
        cluster.fresh(f"bench_{tool}")
        full[tool].append(run(tool))
        say(f"round {number + 1}: {tool} {full[tool][-1]:.2f} s")
    for _ in range(5):
        for tool in tools:
            nothing[tool].append(run(tool))

for tool in tools + ["psql"]:
    figure(f"migrations_1000_{tool}_seconds", f"{median(full[tool]):.2f}", "-")
figure("migrations_1000_sqitch_over_reeve", f"{median(full['sqitch']) / median(full['reeve']):.1f}", ">=10")
figure("migrations_1000_alembic_over_reeve", f"{median(full['alembic']) / median(full['reeve']):.2f}", ">=2")
for tool in tools:
    figure(f"migrations_nothing_{tool}_ms", f"{median(nothing[tool]) * 1000:.0f}", "<50" if tool == "reeve" else "-")
shutil.rmtree(work, ignore_errors=True)
