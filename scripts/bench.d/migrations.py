"""Measures 1,000 migrations, each in one transaction in all three programs, interleaved; a run with nothing to do; and
the histories of other projects, applied by Reeve, by alembic and by one psql session."""
import os, shutil, subprocess, sys, tempfile
from common import Cluster, figure, median, say, timed
from histories import histories

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


def alembic(folder, migrations):
    """Writes a project of alembic with migrations that are lists of statements."""
    os.makedirs(f"{folder}/versions")
    open(f"{folder}/alembic.ini", "w").write(f"[alembic]\nscript_location = {folder}\n")
    open(f"{folder}/script.py.mako", "w").write("")
    open(f"{folder}/env.py", "w").write(
        "import os\nfrom alembic import context\nfrom sqlalchemy import create_engine\n"
        "engine = create_engine(os.environ['BENCH_URL'])\nwith engine.connect() as connection:\n"
        "    context.configure(connection=connection, transaction_per_migration=True)\n"
        "    with context.begin_transaction():\n        context.run_migrations()\n")
    for number, lines in enumerate(migrations, 1):
        down = f"{number - 1:04}" if number > 1 else None
        # The driver's own call, because SQLAlchemy takes a colon in a text for a parameter.
        body = "".join(f"    op.get_bind().exec_driver_sql({line.replace('%', '%%')!r})\n" for line in lines)
        open(f"{folder}/versions/{number:04}.py", "w").write(
            f"from alembic import op\nrevision = '{number:04}'\ndown_revision = {down!r}\n\n\n"
            f"def upgrade():\n{body or '    pass'}\n\ndef downgrade():\n    pass\n")


def prepare_history(name, migrations):
    os.makedirs(f"{work}/{name}/reeve")
    open(f"{work}/{name}/reeve/system.yaml", "w").write(f"name: {name}\nschema: public\n")
    with open(f"{work}/{name}/all.sql", "w") as script:
        for number, text in enumerate(migrations, 1):
            path = f"{work}/{name}/reeve/{number:04}_m{number}.up.sql"
            open(path, "w").write(text)
            script.write(f"BEGIN;\n\\i {path}\nCOMMIT;\n")
    alembic(f"{work}/{name}/alembic", [[text] for text in migrations])


def prepare():
    os.makedirs(f"{work}/reeve")
    open(f"{work}/reeve/system.yaml", "w").write("name: bench\nschema: public\n")
    alembic(f"{work}/alembic", [statements(number) for number in range(1, COUNT + 1)])
    os.makedirs(f"{work}/sqitch/deploy")
    open(f"{work}/sqitch/sqitch.conf", "w").write("[core]\n\tengine = pg\n[user]\n\tname = bench\n\temail = bench@example.com\n")
    plan = ["%syntax-version=1.0.0", "%project=bench", ""]
    for number in range(1, COUNT + 1):
        lines = statements(number)
        open(f"{work}/reeve/{number:04}_t{number}.up.sql", "w").write("\n".join(lines) + "\n")
        open(f"{work}/sqitch/deploy/t{number}.sql", "w").write("BEGIN;\n" + "\n".join(lines) + "\nCOMMIT;\n")
        plan.append(f"t{number} 2026-01-01T00:00:00Z bench <bench@example.com> # table {number}")
    with open(f"{work}/all.sql", "w") as file:
        for number in range(1, COUNT + 1):
            file.write("BEGIN;\n" + "\n".join(statements(number)) + "\nCOMMIT;\n")
    open(f"{work}/sqitch/sqitch.plan", "w").write("\n".join(plan) + "\n")


def run(tool, name="bench", folder=work):
    database = f"{name}_{tool}"
    if tool == "psql":
        return timed(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", f"{folder}/all.sql", cluster.url(database)])
    if tool == "reeve":
        environment = os.environ | {"DATABASE_URL": cluster.url(database), "REEVE_SYSTEMS": f"{folder}/reeve"}
        return timed([reeve, "migrate", "up", "--json"], env=environment, cwd=work)
    if tool == "alembic":
        url = f"postgresql+psycopg2://postgres@/{database}?host={cluster.host}"
        return timed([f"{work}/venv/bin/alembic", "-c", f"{folder}/alembic/alembic.ini", "upgrade", "head"], env=os.environ | {"BENCH_URL": url})
    environment = os.environ | {"PGHOST": cluster.host, "PGUSER": "postgres"}
    return timed(["sqitch", "deploy", f"db:pg:{database}"], cwd=f"{folder}/sqitch", env=environment)


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

for name, migrations in histories(work, cluster):
    prepare_history(name, migrations)
    taken = {tool: [] for tool in ["reeve", "psql", "alembic"]}
    for number in range(rounds):
        for tool in taken:
            cluster.fresh(f"{name}_{tool}")
            taken[tool].append(run(tool, name, f"{work}/{name}"))
            say(f"round {number + 1}: {name} with {tool}: {taken[tool][-1]:.2f} s")
    figure(f"migrations_{name}_count", len(migrations), "-")
    for tool in taken:
        figure(f"migrations_{name}_{tool}_seconds", f"{median(taken[tool]):.2f}", "-")
    figure(f"migrations_{name}_reeve_over_psql", f"{median(taken['reeve']) / median(taken['psql']):.2f}", "<=1.2")
    figure(f"migrations_{name}_alembic_over_reeve", f"{median(taken['alembic']) / median(taken['reeve']):.2f}", ">=2")
shutil.rmtree(work, ignore_errors=True)
