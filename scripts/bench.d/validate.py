"""Measures the comparison of a schema with its migrations, and 'pg_dump -s' of the same schema: whole processes.

Each table has ten columns, a key, a foreign key, a check, two indexes, a trigger, a policy and comments.
"""
import os, shutil, subprocess, sys, tempfile
from common import Cluster, figure, median, say, timed

reeve, rounds = sys.argv[1], int(sys.argv[2])


def table(number):
    before = f"REFERENCES t{number - 1}" if number > 1 else ""
    return f"""
CREATE TABLE t{number} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint {before},
    name varchar(80) NOT NULL DEFAULT 'nobody',
    state text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'running', 'done')),
    price numeric(10, 2),
    data jsonb NOT NULL DEFAULT '{{}}',
    tags text[],
    is_open boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz
);
COMMENT ON TABLE t{number} IS 'table {number}';
COMMENT ON COLUMN t{number}.state IS 'where it stands';
CREATE INDEX t{number}_by_state ON t{number} (state, created_at DESC) WHERE is_open;
CREATE UNIQUE INDEX t{number}_by_name ON t{number} (lower(name), parent);
CREATE TRIGGER touched BEFORE UPDATE ON t{number} FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE t{number} ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON t{number} FOR SELECT USING (name = current_user);
"""


FUNCTION = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;
"""

def cold(command, environment):
    """The times without the cache, so that the migrations are replayed."""
    times = []
    for _ in range(rounds):
        shutil.rmtree(f"{cluster.state}/schemas", ignore_errors=True)
        times.append(timed(command, env=environment))
    return times


cluster = Cluster(reeve)
for count in (10, 100, 1000):
    with tempfile.TemporaryDirectory(prefix="reeve-bench-validate.") as folder:
        with open(f"{folder}/system.yaml", "w") as file:
            file.write("name: app\n")
        with open(f"{folder}/0001_tables.up.sql", "w") as file:
            file.write(FUNCTION + "".join(table(number) for number in range(1, count + 1)))
        database = f"validate_{count}"
        cluster.fresh(database)
        environment = dict(
            os.environ, DATABASE_URL=cluster.url(database), REEVE_SYSTEMS=folder, REEVE_STATE=cluster.state)
        dump = ["pg_dump", "-s", "-h", cluster.host, "-U", "postgres", "-n", "app", database]
        validate = [reeve, "schema", "validate"]
        say(f"{count} tables")
        timed([reeve, "migrate", "up"], env=environment)
        figure(f"cold_{count}_s", f"{median(cold(validate, environment)):.2f}", "-")
        ours, theirs = [], []
        for _ in range(rounds * 3):
            ours.append(timed(validate, env=environment))
            theirs.append(timed(dump))
        figure(f"validate_{count}_s", f"{median(ours):.3f}", "<1" if count == 1000 else "-")
        figure(f"pg_dump_{count}_s", f"{median(theirs):.3f}", "-")
        figure(f"validate_{count}_to_pg_dump", f"{median(ours) / median(theirs):.2f}", "-")
        cluster.sql("postgres", f"DROP DATABASE {database} WITH (FORCE)")

# One migration a table: a single transaction would need more locks than the server has.
for count in (1000, 5000):
    with tempfile.TemporaryDirectory(prefix="reeve-bench-validate.") as folder:
        with open(f"{folder}/system.yaml", "w") as file:
            file.write("name: app\n")
        files = [FUNCTION] + [table(number) for number in range(1, count + 1)]
        for number, text in enumerate(files, start=1):
            with open(f"{folder}/{number:04}_part.up.sql", "w") as file:
                file.write(text)
        database = f"validate_files_{count}"
        cluster.fresh(database)
        environment = dict(
            os.environ, DATABASE_URL=cluster.url(database), REEVE_SYSTEMS=folder, REEVE_STATE=cluster.state)
        validate = [reeve, "schema", "validate"]
        say(f"{count} tables in {count} migrations")
        figure(f"cold_up_{count}_files_s", f"{timed([reeve, 'migrate', 'up'], env=environment):.2f}", "-")
        figure(f"cold_{count}_files_s", f"{median(cold(validate, environment)):.2f}", "<3" if count == 5000 else "-")
        # What the server alone takes for the same statements, in one session.
        script = f"{folder}/all.sql"
        with open(script, "w") as file:
            file.write("CREATE SCHEMA app; SET search_path = app; SET synchronous_commit = off;\n")
            for text in files:
                file.write(f"BEGIN;\n{text}COMMIT;\n")
        cluster.fresh("validate_psql")
        psql = ["psql", "-Xqo", "/dev/null", "-h", cluster.host, "-U", "postgres", "-d", "validate_psql", "-f", script]
        figure(f"cold_psql_{count}_files_s", f"{timed(psql):.2f}", "-")
        for name in (database, "validate_psql"):
            cluster.sql("postgres", f"DROP DATABASE {name} WITH (FORCE)")
