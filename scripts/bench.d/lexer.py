"""Measures how fast scripts are split: the time of a whole process minus the time for an empty script."""
import os, random, sys, tempfile
from common import figure, median, timed

reeve, rounds = sys.argv[1], int(sys.argv[2])
SIZE = 64 * 1024 * 1024
random.seed(7)
parts = [
    "CREATE TABLE t (id bigint PRIMARY KEY, name text NOT NULL DEFAULT 'it''s', at timestamptz); -- a comment\n",
    "INSERT INTO orders (id, total, note) VALUES (17, 42.50, E'line\\nbreak'), (18, 1e3, $q$any; thing$q$);\n",
    "CREATE FUNCTION f(a int) RETURNS int LANGUAGE plpgsql AS $$\nBEGIN\n    RETURN a + 1; -- ;\nEND $$;\n",
    "/* a /* nested */ comment; */ SELECT a.b, c::numeric(10, 2) FROM x a JOIN y ON (a.id = y.id AND y.z <> ';');\n",
    "CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;\n",
]


def script(path, text_of):
    with open(path, "w") as file:
        size = 0
        while size < SIZE:
            size += file.write(text_of())
    return os.path.getsize(path)


with tempfile.TemporaryDirectory(prefix="reeve-bench-lexer.") as folder:
    empty, many, one, big = (f"{folder}/{name}.sql" for name in ("empty", "many", "one", "literal"))
    open(empty, "w").write("SELECT 1;\n")
    script(many, lambda: random.choice(parts))
    with open(one, "w") as file:
        file.write("INSERT INTO t VALUES\n")
        while file.tell() < SIZE:
            file.write("(17, 'a value with some text', 42.5, NULL, now()),\n")
        file.write("(0, '', 0, NULL, now());\n")
    with open(big, "w") as file:
        file.write("SELECT '" + "x" * SIZE + "';\n")
    for name, path in (("many_statements", many), ("one_statement_of_64_mb", one), ("one_literal_of_64_mb", big)):
        rates = []
        for _ in range(rounds):
            base = timed([reeve, "sql", "split", empty, "--count"])
            whole = timed([reeve, "sql", "split", path, "--count"])
            rates.append(os.path.getsize(path) / 1e6 / max(whole - base, 1e-3))
        figure(f"lexer_{name}_mb_per_second", f"{median(rates):.0f}", ">=50")
