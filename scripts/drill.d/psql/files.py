"""Generates migration files of mixed statements. A file depends on the seed and its number only."""
import random

SETUP = """
CREATE SCHEMA other;
GRANT ALL ON SCHEMA app, other TO drill_app, drill_other;
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE items (id int, code text DEFAULT 'x', price numeric CHECK (price < 1000000), at timestamptz);
CREATE TABLE dups (LIKE items INCLUDING ALL);
CREATE TABLE "Mixed" (LIKE items INCLUDING ALL);
CREATE TABLE größen (LIKE items INCLUDING ALL);
CREATE TABLE a_very_long_name_of_a_table_that_is_cut_because_it_has_more_than_63_bytes (LIKE items INCLUDING ALL);
CREATE TABLE other.items (LIKE items INCLUDING ALL);
CREATE TABLE keyed (id int PRIMARY KEY, value text, feeling mood);
CREATE TABLE pairs (a int UNIQUE DEFERRABLE INITIALLY DEFERRED, b int REFERENCES keyed DEFERRABLE INITIALLY IMMEDIATE);
CREATE TABLE log (what text, value text);
CREATE TABLE parent (id int NOT NULL, value text) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF parent FOR VALUES FROM (0) TO (100);
CREATE TABLE p2 PARTITION OF parent FOR VALUES FROM (100) TO (200);
CREATE TABLE "P 3" PARTITION OF parent FOR VALUES FROM (200) TO (300);
GRANT ALL ON ALL TABLES IN SCHEMA app, other TO drill_app, drill_other;
ALTER TABLE dups OWNER TO drill_app;
INSERT INTO items SELECT g, 'c' || g, g * 1.5, '2024-01-01'::timestamptz + g * interval '1 hour' FROM generate_series(1, 60) g;
INSERT INTO dups SELECT g % 10, 'c' || g % 7, g, NULL FROM generate_series(1, 60) g;
INSERT INTO other.items SELECT * FROM items WHERE id < 20;
INSERT INTO "Mixed" SELECT * FROM items WHERE id < 10;
INSERT INTO größen SELECT * FROM items WHERE id < 10;
INSERT INTO keyed SELECT g, 'k' || g FROM generate_series(1, 30) g;
INSERT INTO parent SELECT g, 'p' || g FROM generate_series(0, 299, 7) g;
CREATE UNIQUE INDEX items_id ON items (id);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO app.log VALUES ('trigger', current_setting('search_path') || ' ' || current_user); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON keyed DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION noted();
CREATE PROCEDURE batches(n int) LANGUAGE plpgsql AS $$
    BEGIN FOR i IN 1..n LOOP INSERT INTO app.log VALUES ('batch', i); COMMIT; END LOOP; END $$;
CREATE PROCEDURE plain(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN n := n + 1; INSERT INTO app.log VALUES ('plain', n); END $$;
"""


class Statement:
    """A statement of a file, with its semicolon."""

    def __init__(self, text, kind, alone=False, control=False, encoding="utf-8"):
        self.text, self.kind, self.alone, self.control, self.encoding = text, kind, alone, control, encoding


class File:
    """A migration file.

    directive: whether it has '-- reeve: no-transaction'. whole: whether BEGIN … COMMIT is around it."""

    def __init__(self, statements, directive, whole, comments, crlf):
        self.statements, self.directive, self.whole = statements, directive, whole
        self.comments, self.crlf = comments, crlf

    @property
    def has_alone(self):
        return any(one.alone for one in self.statements)

    @property
    def is_one_transaction(self):
        return not (self.directive or self.whole or self.has_alone)

    @property
    def is_rolled_back(self):
        """Whether a failure of the file leaves nothing behind."""
        return not self.directive and not self.has_alone

    def without(self, indexes):
        kept = [one for index, one in enumerate(self.statements) if index not in indexes or one.control]
        return File(kept, self.directive, self.whole, self.comments, self.crlf)

    def for_reeve(self):
        """Returns the file, and for each statement its first line."""
        source, begins, _ = self.rendered(False)
        return source, begins

    def for_psql(self):
        """Returns the file, the first line of each statement, and the lines of inserted COMMITs."""
        return self.rendered(self.has_alone and not self.directive and not self.whole)

    def rendered(self, grouped):
        chance = random.Random(self.comments)
        out, begins, commits = [], [], set()
        line = 1
        is_open = False

        def write(text, encoding="utf-8"):
            nonlocal line
            out.append((text + "\n").encode(encoding))
            line += text.count("\n") + 1

        if self.directive:
            write("-- reeve: no-transaction")
        for one in self.statements:
            comment = chance.choice(COMMENTS) if chance.random() < 0.15 else None
            if grouped and one.alone and is_open:
                commits.add(line)
                write("COMMIT;")
                is_open = False
            elif grouped and not one.alone and not is_open:
                write("BEGIN;")
                is_open = True
            begins.append(line)
            write(f"{comment}\n{one.text}" if comment else one.text, one.encoding)
        if is_open:
            commits.add(line)
            write("COMMIT;")
        source = b"".join(out)
        return (source.replace(b"\n", b"\r\n") if self.crlf else source), begins, commits


COMMENTS = [
    "-- a; b", "/* a; b */", "/* a /* nested; */ ' ; */", "-- it's; \"here", "--", "/* $$ ; */", "-- $a$ ;", ";",
    "/*\n; */", "-- COMMIT;", "/* BEGIN; */ /* x */", "-- \\; ",
]
TABLES = ["items", "dups", "ITEMS", '"Mixed"', "app.items", "other.items", "größen", "Größen", "keyed", '"größen"',
    "a_very_long_name_of_a_table_that_is_cut_because_it_has_more_than_63_bytes", '"app"."dups"', "app . items"]
PLAIN = ["items", "dups", "other.items", '"Mixed"', "größen"]
INDEXES = ["ix_a", "Ix_Mixed", "ix_mixed", '"Ix Mixed"', '"Ix_Mixed"', "idx_größe", "idx_GRÖSSE", '"Äö"',
    "ix_" + "n" * 70,
    '"ix_' + "ü" * 40 + '"', "IX_A", '"a""b"', "a$b", 'U&"d\\0061t"', "ix_b", "ix_c", "stale", '"x.y"', '"it\'s;"',
    "items_id"]
SETTINGS = [
    ("search_path", ["other", "other, app", "'app', 'other'", "''", "pg_temp, app", '"$user", app', "DEFAULT", "app"]),
    ("DateStyle", ["'SQL, DMY'", "'German'", "ISO", "'Postgres, MDY'", "DEFAULT"]),
    ("IntervalStyle", ["'postgres_verbose'", "'sql_standard'", "postgres"]),
    ("TimeZone", ["'Asia/Kolkata'", "'America/New_York'", "-5", "DEFAULT"]),
    ("lock_timeout", ["'2s'", "'3min'", "1234"]),
    ("statement_timeout", ["'30s'", "0"]),
    ("bytea_output", ["'escape'", "hex"]),
    ("extra_float_digits", ["-5", "3"]),
    ("array_nulls", ["off"]),
    ("transform_null_equals", ["on"]),
    ("check_function_bodies", ["off"]),
    ("default_transaction_isolation", ["'serializable'", "'repeatable read'"]),
    ("default_transaction_deferrable", ["on"]),
    ("session_replication_role", ["replica", "origin"]),
    ("row_security", ["off"]),
    ("quote_all_identifiers", ["on"]),
    ("constraint_exclusion", ["on"]),
    ("escape_string_warning", ["off"]),
    ("backslash_quote", ["on"]),
    ("work_mem", ["'1MB'", "64"]),
    ("drill.custom", ["'a;b'", "''", "'it''s'"]),
    ("application_name", ["'drill'", "''"]),
    ("client_min_messages", ["error", "debug1"]),
    ("xmloption", ["document"]),
    ("jit", ["on"]),
    ("enable_seqscan", ["off"]),
    ("exit_on_error", ["off"]),
    ("synchronous_commit", ["off"]),
]
# Their defaults differ between a session of Reeve and one of psql.
UNPROBED = {"application_name", "lock_timeout", "client_min_messages", "synchronous_commit", "jit"}


class Generator:
    def __init__(self, chance, number):
        self.chance, self.number, self.names = chance, number, 0

    def name(self, prefix):
        self.names += 1
        return f"{prefix}_{self.number}_{self.names}"

    def pick(self, *values):
        return self.chance.choice(values)

    def probe(self, expression, what="probe"):
        return Statement(f"INSERT INTO app.log VALUES ('{what}', ({expression})::text);", "probe")

    # Settings and roles

    def setting(self):
        name, values = self.chance.choice(SETTINGS)
        value = self.chance.choice(values)
        form = self.pick("SET {n} = {v}", "SET {n} TO {v}", "SET SESSION {n} = {v}", "set {n} to {v}",
            "SET LOCAL {n} = {v}",
            "SELECT set_config('{n}', {q}, false)", "SELECT pg_catalog.set_config('{n}', {q}, true)",
            "DO $do$ BEGIN PERFORM set_config('{n}', {q}, false); END $do$", "SELECT Set_Config ('{n}', {q}, false)",
            "WITH x AS (SELECT set_config('{n}', {q}, false)) SELECT FROM x")
        quoted = value if value.startswith("'") and value.count("'") == 2 else "'" + value.replace("'", "''") + "'"
        if value in ("DEFAULT", "'it''s'") or name == "search_path" and "{q}" in form:
            form = "SET {n} TO {v}"
        if name == "TimeZone" and "{q}" in form:
            quoted = "'Asia/Kolkata'"
        found = [Statement(form.format(n=name, v=value, q=quoted) + ";", f"set {name}")]
        if name not in UNPROBED and (form.startswith(("SET", "set")) or "false" in form):
            found.append(self.probe(f"SELECT current_setting('{name}')", name))
        if self.chance.random() < 0.4:
            found.append(Statement(self.pick("CREATE TABLE {t} AS SELECT 1 AS one;",
                "CREATE VIEW {t} AS SELECT id FROM items;",
                "INSERT INTO items (id, code, at) VALUES ({r}, '2024-05-06'::date::text, '2024-05-06 07:08:09');",
                "INSERT INTO app.log VALUES ('float', 0.1::float8 / 3), ('time', '2024-05-06 07:08'::timestamptz::text);",
                "CREATE FUNCTION {t}(a int) RETURNS int LANGUAGE sql AS 'SELECT a + 1';",
            ).format(t=self.name("made"), r=self.chance.randrange(1000, 9999)), "object"))
        if self.chance.random() < 0.3:
            found.append(Statement(self.pick("RESET {n};", "RESET ALL;", "SET {n} TO DEFAULT;").format(n=name),
                "reset"))
            if name not in UNPROBED and name != "drill.custom":
                found.append(self.probe(f"SELECT current_setting('{name}')", name))
        return found

    def strings(self):
        """Backslashes in strings, with standard_conforming_strings off."""
        off = self.pick("SET standard_conforming_strings = off;", "SET standard_conforming_strings TO 'off';",
            "SET SESSION standard_conforming_strings = false;", "SET LOCAL standard_conforming_strings = off;",
        
            "set Standard_Conforming_Strings=Off;")
        back = self.pick("SET standard_conforming_strings = on;", "RESET standard_conforming_strings;",
            "SET standard_conforming_strings TO DEFAULT;")
        return [Statement(off, "strings off"),
            Statement("INSERT INTO log VALUES ('s', 'it\\'s; a \\\\ b'), (E'\\x41', 'y');" if "'off'" not in off else
                "INSERT INTO log VALUES ('s', 'a\\nb;\\'');", "strings"),
            *([Statement("COPY log FROM STDIN;\na\\tb\tc;\\\\d'\n\\.",
                "strings copy")] if self.chance.random() < 0.4 else []),
            *([Statement(back, "strings on"), Statement("INSERT INTO log VALUES ('t', 'a\\');", "strings")]
              if self.chance.random() < 0.7 else [])]

    def encoding(self):
        begin = self.pick("SET client_encoding = 'LATIN1';", "SET NAMES 'LATIN1';", "SET client_encoding TO LATIN1;",
            "set client_encoding to 'latin1';", "SET SESSION client_encoding = LATIN1;")
        end = self.pick("SET client_encoding = 'UTF8';", "SET NAMES 'UTF8';", "SET client_encoding TO 'utf-8';")
        return [Statement(begin, "encoding"),
            Statement("INSERT INTO log VALUES ('latin', 'größer; é');", "encoding", encoding="latin-1"),
            *([Statement("COPY log FROM STDIN;\nä\tü\n\\.", "encoding copy", encoding="latin-1")]
              if self.chance.random() < 0.4 else []),
            *([Statement("CREATE TABLE IF NOT EXISTS größe (ß int);", "encoding", encoding="latin-1")]
              if self.chance.random() < 0.4 else []),
            Statement(end, "encoding"), Statement("INSERT INTO log VALUES ('utf', 'größer €');", "encoding")]

    def role(self):
        begin = self.pick("SET ROLE drill_app;", "SET ROLE 'drill_other';", "SET LOCAL ROLE drill_app;",
            "set role drill_app;",
            "SET SESSION AUTHORIZATION drill_app;", "SET SESSION AUTHORIZATION 'drill_other';",
            "SET SESSION ROLE drill_other;",
            "SELECT set_config('role', 'drill_app', false);", "SET LOCAL SESSION AUTHORIZATION drill_app;",
            "DO $$ BEGIN SET ROLE drill_app; END $$;")
        body = [self.probe("SELECT current_user || ' ' || session_user", "who"),
            Statement(self.pick("CREATE TABLE {t} (a int);", "CREATE VIEW {t} AS SELECT 1 AS a;",
                "CREATE FUNCTION {t}() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT current_user::text; $$;",
                "INSERT INTO items (id) VALUES ({r});", "CREATE SEQUENCE {t};",
                "CREATE TEMP TABLE {t} AS SELECT 1;").format(t=self.name("of_role"), r=self.chance.randrange(1000,
                9999)), "as role")]
        if self.chance.random() < 0.3:
            body.insert(self.chance.randrange(3), self.lone_index(self.pick("dups", "dups", "items")))
        end = self.pick([], [Statement("RESET ROLE;", "role")], [Statement("SET ROLE NONE;", "role")],
            [Statement("RESET SESSION AUTHORIZATION;", "role")], [Statement("SET SESSION AUTHORIZATION DEFAULT;",
                "role")],
            [Statement("SET SESSION AUTHORIZATION postgres;", "role")])
        return [Statement(begin, "role"), *body, *end, self.probe("SELECT current_user || ' ' || session_user", "who")]

    # What a session holds

    def temporary(self):
        table = self.pick("scratch", "items", '"Scratch"', "log")
        end = self.pick("", " ON COMMIT DROP", " ON COMMIT DELETE ROWS", " ON COMMIT PRESERVE ROWS")
        create = self.pick("CREATE TEMP TABLE {t} (a int, b text){e};",
            "CREATE TEMPORARY TABLE {t} (a int, b text){e};",
            "CREATE LOCAL TEMP TABLE {t} (a int, b text){e};",
            "CREATE TEMP TABLE IF NOT EXISTS {t} (a int, b text){e};",
            "CREATE TABLE pg_temp.{t} (a int, b text);", "SELECT 1 AS a, 'x'::text AS b INTO TEMP {t};")
        found = [Statement(create.format(t=table, e=end), "temporary"),
            Statement(f"INSERT INTO pg_temp.{table} SELECT g, 't' || g FROM generate_series(1, 4) g;", "temporary")]
        if self.chance.random() < 0.3:
            found.append(Statement(f"COPY pg_temp.{table} (a, b) FROM STDIN;\n7\tseven;\n\\N\t\\\\.\n\\.",
                "temporary copy"))
        found.append(Statement(f"INSERT INTO app.log SELECT 'temp', b FROM pg_temp.{table} ORDER BY a;", "temporary"))
        if self.chance.random() < 0.2:
            found.append(Statement("CREATE TEMP VIEW seen AS SELECT * FROM items; INSERT INTO log SELECT 'seen', id FROM seen LIMIT 1;",
                "temporary"))
        if self.chance.random() < 0.15:
            found.append(Statement(f"CREATE INDEX CONCURRENTLY ON pg_temp.{table} (a);", "index on temporary",
                alone=True))
        if self.chance.random() < 0.3:
            found.append(Statement(f"DROP TABLE {'pg_temp.' * self.pick(0, 1)}{table};" if table.lower().strip('"') == "scratch"
                else f"DROP TABLE pg_temp.{table};", "temporary"))
        return found

    def cursor(self):
        hold = self.pick("", "", " WITH HOLD")
        name = self.pick("c", '"C"', "cursor_ä")
        return [Statement(f"DECLARE {name} {self.pick('', 'SCROLL ', 'NO SCROLL ')}CURSOR{hold} FOR SELECT id FROM items ORDER BY id;",
                "cursor hold" if hold else "cursor"),
            Statement(f"FETCH {self.pick('2', 'NEXT', 'ALL', 'FORWARD 3')} FROM {name};", "cursor"),
            Statement(f"MOVE 1 IN {name};", "cursor"),
            self.probe("SELECT string_agg(name, ',' ORDER BY name) FROM pg_cursors WHERE name <> ''", "cursors"),
            *([Statement(f"CLOSE {self.pick(name, 'ALL')};", "cursor")] if self.chance.random() < 0.5 else [])]

    def prepared(self):
        name = self.pick("p", '"P"', "plan")
        return [Statement(f"PREPARE {name} (int, text) AS INSERT INTO log VALUES ($1::text, $2 || ';');", "prepare"),
            Statement(f"EXECUTE {name} ({self.chance.randrange(99)}, 'e;');", "execute"),
            self.probe("SELECT string_agg(name, ',' ORDER BY name) FROM pg_prepared_statements WHERE from_sql",
                "prepared"),
            *([Statement(self.pick(f"DEALLOCATE {name};", "DEALLOCATE ALL;", f"DEALLOCATE PREPARE {name};"),
                "deallocate")]
              if self.chance.random() < 0.5 else [])]

    def locks(self):
        return [Statement(self.pick("SELECT pg_advisory_lock(7);", "SELECT pg_advisory_xact_lock(8);",
            "SELECT pg_advisory_unlock_all();",
            "LISTEN drill;", "UNLISTEN *;", "NOTIFY drill, 'x;';", "LOCK TABLE items IN SHARE MODE;",
            "LOAD 'auto_explain';",
            "DISCARD TEMP;", "DISCARD PLANS;", "DISCARD SEQUENCES;", "SELECT pg_try_advisory_lock(9);"), "session")]

    def discard(self):
        return [Statement("DISCARD ALL;", "discard all", alone=True),
            self.probe("SELECT current_user || current_setting('search_path')", "discarded")]

    # Statements that cannot run in a transaction

    def lone_index(self, table=None):
        table = table or self.chance.choice(TABLES)
        name = self.pick("", "", *INDEXES)
        exists = self.pick("", "", "IF NOT EXISTS ") if name else ""
        columns = self.pick("id", "code", "lower(code)", "(id + 1)", "id, code DESC NULLS LAST",
            "code text_pattern_ops", "price, at",
            '"code" COLLATE "C"', "(id || ';')") if table != "keyed" else self.pick("value", "id, value")
        tail = self.pick("", "", "", " WHERE id > 3", " WITH (fillfactor = 70)", " INCLUDE (id)",
            " WHERE code <> 'a;''b' AND id IS NOT NULL",
            " TABLESPACE pg_default") if table != "keyed" else ""
        using = self.pick("", "", "", " USING btree", " USING hash") if columns in ("id", "code",
            "lower(code)") and "INCLUDE" not in tail else ""
        unique = self.pick("", "", "", "UNIQUE ") if "hash" not in using else ""
        word = self.pick("CREATE {u}INDEX CONCURRENTLY {e}{n} ON {t}{m} ({c}){w};",
            "create {u}index concurrently {e}{n} on {t}{m} ({c}){w};",
            "CREATE {u}INDEX /* ; */ CONCURRENTLY {e}{n} ON {t}{m}({c}){w};",
            "CREATE {u}INDEX CONCURRENTLY {e}{n}\n  ON ONLY {t}{m} ({c})\n{w};")
        return Statement(word.format(u=unique, e=exists, n=name, t=table, m=using, c=columns, w=tail),
            "create index concurrently", alone=True)

    def index(self):
        found = [self.lone_index()]
        if self.chance.random() < 0.5:
            name = self.chance.choice(INDEXES)
            found.append(Statement(f"DROP INDEX CONCURRENTLY {self.pick('', 'IF EXISTS ', 'IF EXISTS ', 'IF EXISTS ')}"
                f"{self.pick('', '', 'app.', 'other.')}{name}{self.pick('', ' RESTRICT')};", "drop index concurrently",
                alone=True))
        if self.chance.random() < 0.2:
            found.append(Statement(self.pick("CREATE INDEX {n} ON items (price);",
                "CREATE INDEX IF NOT EXISTS {n} ON dups (price);",
                "DROP INDEX IF EXISTS {n};").format(n=self.chance.choice(INDEXES)), "index"))
        return found

    def other_alone(self):
        text = self.pick("VACUUM items;", "VACUUM (ANALYZE) dups;", "VACUUM FULL \"Mixed\";", "vacuum größen;",
            "VACUUM VERBOSE keyed;",
            "VACUUM;", "REINDEX INDEX CONCURRENTLY items_id;", "REINDEX TABLE CONCURRENTLY items;",
            "REINDEX (CONCURRENTLY) TABLE dups;",
            "REINDEX TABLE CONCURRENTLY keyed;", "REINDEX INDEX CONCURRENTLY stale;", "REINDEX SCHEMA other;",
            "REINDEX SCHEMA CONCURRENTLY other;",
            "REINDEX (VERBOSE, CONCURRENTLY ON) INDEX app.keyed_pkey;", "CLUSTER;", "CLUSTER VERBOSE;",
            "DROP INDEX CONCURRENTLY IF EXISTS stale;", "DROP INDEX CONCURRENTLY stale;", "REINDEX TABLE parent;")
        in_transaction = text == "REINDEX TABLE parent;"
        return [Statement(text, " ".join(text.rstrip(";").split()[:2]).lower(), alone=not in_transaction)]

    def in_transaction(self):
        """Statements that look like those that cannot run in a transaction."""
        return [Statement(self.pick("REINDEX TABLE items;", "REINDEX INDEX items_id;",
            "REINDEX (CONCURRENTLY OFF) TABLE dups;", "ANALYZE items;",
            "ALTER INDEX IF EXISTS ix_a RENAME TO ix_renamed;",
            "REINDEX (CONCURRENTLY false, VERBOSE) INDEX app.items_id;",
            "CLUSTER keyed USING keyed_pkey;", "DROP INDEX IF EXISTS concurrently;",
            "CREATE INDEX IF NOT EXISTS \"CONCURRENTLY\" ON items (id);",
            "ALTER TABLE parent DETACH PARTITION p1; ALTER TABLE parent ATTACH PARTITION p1 FOR VALUES FROM (0) TO (100);",
            "COMMENT ON TABLE items IS 'CREATE INDEX CONCURRENTLY; COMMIT;';",
            "CREATE TABLE IF NOT EXISTS vacuum (commit int, \"end\" int);",
            "EXPLAIN ANALYZE INSERT INTO log VALUES ('explained', 'VACUUM;');",
            "SELECT 'COMMIT; ROLLBACK', $$BEGIN;$$ AS \"begin;\";"), "looks alone")]

    def detach(self):
        part, low = self.pick(("p1", 0), ("P1", 0), ("p2", 100), ('"P 3"', 200), ("app.p2", 100), ("missing", 0))
        detach = self.pick("ALTER TABLE parent DETACH PARTITION {p} CONCURRENTLY;",
            "alter table only app.parent detach partition {p} concurrently;",
            "ALTER TABLE IF EXISTS PARENT DETACH PARTITION {p} CONCURRENTLY;",
            "ALTER TABLE parent DETACH PARTITION {p} CONCURRENTLY;")
        found = [Statement(detach.format(p=part), "detach concurrently", alone=True)]
        if self.chance.random() < 0.7:
            found.append(Statement(f"ALTER TABLE parent ATTACH PARTITION {part} FOR VALUES FROM ({low}) TO ({low + 100});",
                "attach"))
        return found

    # Data and definitions

    def copy(self):
        r = self.chance.randrange(1000, 9999)
        return [Statement(self.pick(
            f"COPY items (id, code) FROM STDIN;\n{r}\ta;b\n{r + 1}\t\\N\n{r + 2}\tü\\t\\\\\\.x\n\\.",
            "COPY log FROM stdin;\n\\.",
            f"copy items (id, code) from stdin with (format csv);\n{r},\"a\nb;\"\n{r},'\n\\.",
            f"COPY app.items (id, code) FROM STDIN WITH CSV HEADER DELIMITER ';' QUOTE '''';\nid;code\n{r};'x;''y'\n\\.",
            f"COPY items (id) FROM STDIN;\n{r}\nbad\n\\.",
            "COPY items (id, price) FROM STDIN (DELIMITER '|', NULL 'none');\n1|none\n2|3.5\n\\.",
            "COPY items TO STDOUT;", "COPY (SELECT id FROM items WHERE code <> ';') TO STDOUT WITH (FORMAT csv);",
            "COPY \"Mixed\" (\"id\") FROM STDIN\n;\n77\n78\n\\.", "COPY log FROM STDIN;\nCOMMIT;\t-- x\n;\t/*\n\\.",
            "/* ; */ COPY log FROM STDIN;\n1\t2\n\\.", "COPY log (what) FROM STDIN;\n\n \n\\.",
            f"COPY items (id, code) FROM STDIN WHERE id > 5;\n1\ta\n{r}\tb\n\\.",
            "CREATE TABLE IF NOT EXISTS copied (a bytea); COPY copied TO STDOUT (FORMAT binary);"), "copy")]

    def block(self):
        return [Statement(self.pick("DO $$ BEGIN INSERT INTO log VALUES ('do', 'a;b'); RAISE NOTICE 'hello; %', 1; END $$;",
            "DO LANGUAGE plpgsql $x$ DECLARE i int; BEGIN FOR i IN SELECT id FROM items LIMIT 3 LOOP INSERT INTO app.log VALUES ($$do$$, i); END LOOP; END; $x$;",
            "DO 'BEGIN INSERT INTO log VALUES (''q'', ''a;''); END';",
            "DO $$ BEGIN BEGIN INSERT INTO keyed VALUES (1); EXCEPTION WHEN unique_violation THEN INSERT INTO app.log VALUES ('caught', SQLSTATE); END; END $$;",
            "DO $$ BEGIN EXECUTE 'CREATE TABLE IF NOT EXISTS executed (a int)'; EXECUTE format('COMMENT ON TABLE executed IS %L', 'a;'); END $$;",
            "DO $$ BEGIN INSERT INTO app.log VALUES ('committed', '1'); COMMIT; INSERT INTO app.log VALUES ('rolled', '1'); ROLLBACK; END $$;",
            "DO $ö$ BEGIN INSERT INTO log VALUES ('ö', $a$;$a$); END $ö$;",
            "DO $$ BEGIN /* no commit here */ PERFORM 1; END $$;",
            "DO $$ BEGIN EXECUTE format('ALTER ROLE drill_app IN DATABASE %I SET work_mem = ''2MB''', current_database()); END $$;",
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''3MB''', current_database()); END $$;"),
            "do")]

    def call(self):
        return [Statement(self.pick("CALL batches(3);", "CALL app.batches(2);", "CALL plain(4);",
            "call plain(n => 5);", "CALL missing();",
            "CALL plain(7);", "CALL plain((SELECT 3));"), "call")]

    def function(self):
        name = self.name("f")
        return [Statement(self.pick(
            "CREATE FUNCTION {n}() RETURNS text LANGUAGE sql AS $f$ SELECT $$a;b$$ || ';' $f$;",
            "CREATE FUNCTION {n}(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT a; SELECT CASE WHEN a > 1 THEN 2 ELSE 3 END; END;",
            "CREATE FUNCTION {n}(a int) RETURNS int LANGUAGE sql RETURN a + 1;",
            "CREATE OR REPLACE PROCEDURE {n}() LANGUAGE sql BEGIN ATOMIC INSERT INTO log VALUES ('atomic', ';'); DELETE FROM log WHERE what = 'none'; END;",
            "CREATE OR REPLACE FUNCTION {n}() RETURNS int LANGUAGE plpgsql AS $body$ BEGIN IF true THEN RETURN 1; END IF; RETURN 2; END; $body$;",
            "CREATE FUNCTION {n}() RETURNS text LANGUAGE sql SET search_path = other AS 'SELECT '';''::text;';",
            "CREATE PROCEDURE {n}() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;",
            "CREATE FUNCTION {n}() RETURNS int LANGUAGE sql BEGIN ATOMIC END;",
            "CREATE FUNCTION {n}(begin int, \"end\" int DEFAULT 3) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT \"begin\" FROM (SELECT CASE 1 WHEN 1 THEN 2 END) x; END;",
            "CREATE FUNCTION {n}() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END' ;"
        ).replace("{n}", name), "function")]

    def definition(self):
        t, r = self.name("d"), self.chance.randrange(1000, 9999)
        return [Statement(text, "definition") for text in self.pick(
            [f"CREATE TABLE {t} (id serial PRIMARY KEY, v text DEFAULT 'a;b', CHECK (v <> ';'));",
            f"INSERT INTO {t} (v) VALUES ('x'), ('y') RETURNING id;"],
            [f"CREATE TABLE {t} (id bigint GENERATED ALWAYS AS IDENTITY, v int GENERATED ALWAYS AS (1 + 1) STORED);",
            f"INSERT INTO {t} DEFAULT VALUES;"],
            [f"CREATE VIEW {t} AS SELECT id, code FROM items WHERE code LIKE 'c%;';",
            f"COMMENT ON VIEW {t} IS 'it''s; \\ here';"],
            [f"CREATE MATERIALIZED VIEW {t} AS SELECT count(*) AS n FROM items;", f"REFRESH MATERIALIZED VIEW {t};"],
            [f"CREATE TYPE {t} AS ENUM ('a', 'b;');", f"ALTER TYPE {t} ADD VALUE 'c' BEFORE 'a';",
            f"CREATE TABLE {t}_t (x {t} DEFAULT 'c');"],
            [f"ALTER TYPE mood ADD VALUE IF NOT EXISTS '{t}';"], [f"ALTER TYPE mood ADD VALUE '{t}';",
            f"UPDATE keyed SET feeling = '{t}' WHERE id = 1;"],
            [f"CREATE DOMAIN {t} AS int CHECK (VALUE > 0);", f"CREATE TABLE {t}_t (a {t});"],
            [f"CREATE SEQUENCE {t};", f"SELECT nextval('{t}'), setval('{t}', 40);"],
            [f"ALTER TABLE items ADD COLUMN {t} int DEFAULT 3;"],
            [f"CREATE TABLE {t} (a int);",
            f"CREATE RULE r AS ON INSERT TO {t} DO ALSO (INSERT INTO log VALUES ('rule', ';'); DELETE FROM log WHERE what = ';');",
            f"INSERT INTO {t} VALUES (1);"],
            [f"CREATE TABLE {t} (a int);", f"ALTER TABLE {t} ENABLE ROW LEVEL SECURITY;",
            f"CREATE POLICY p ON {t} USING (a > 1);", f"GRANT SELECT ON {t} TO drill_app;"],
            [f"CREATE TABLE {t} (LIKE items);", f"DROP TABLE {t};"],
            [f"UPDATE items SET code = 'u;{r}' WHERE id % 9 = 2;"], ["DELETE FROM dups WHERE id = 3;"],
            [f"INSERT INTO items (id, code) VALUES ({r}, E'\\'; \\\\') ON CONFLICT DO NOTHING;"], ["SHOW search_path;",
            "VALUES (1), (2);", "TABLE items;"], ["SELECT;"],
            ["SELECT 1 AS \"a;b\"; SELECT 2;"], [f"CREATE TABLE {t} AS TABLE items WITH NO DATA;"],
            ["TRUNCATE \"Mixed\";"], ["ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO drill_other;"],
            [f"CREATE STATISTICS {t} ON id, code FROM items;"],
            [f"CREATE SCHEMA s{t} CREATE TABLE x (a int) CREATE VIEW y AS SELECT a FROM x;"],
            [f"CREATE TABLE {t} PARTITION OF parent FOR VALUES FROM ({r * 1000}) TO ({r * 1000 + 5});"],
            [f"SELECT lo_from_bytea(70000 + {r}, 'x;');"])]

    def deferred(self):
        a = self.chance.randrange(1, 40)
        return self.pick(
            [Statement(f"INSERT INTO pairs (a) VALUES ({a}), ({a});", "deferred"),
                Statement(f"DELETE FROM pairs WHERE ctid = (SELECT max(ctid) FROM pairs WHERE a = {a});", "deferred")],
            [Statement(f"INSERT INTO pairs (a) VALUES ({a});", "deferred")],
            [Statement("SET CONSTRAINTS ALL DEFERRED;", "constraints"),
                Statement(f"INSERT INTO pairs VALUES ({a + 100}, {a});", "deferred")],
            [Statement("SET CONSTRAINTS ALL IMMEDIATE;", "constraints"),
                Statement(f"INSERT INTO pairs (a) VALUES ({a});", "deferred")],
            [Statement(f"INSERT INTO keyed VALUES ({self.chance.randrange(1000, 99999)}, 'later');", "deferred")],
            [Statement(f"INSERT INTO keyed VALUES ({self.chance.randrange(1000, 99999)}, 'later');", "deferred"),
                Statement("SET CONSTRAINTS later IMMEDIATE;", "constraints")])

    def savepoint(self):
        name = self.pick("s", '"S"', "release")
        return [Statement(f"SAVEPOINT {name};", "savepoint"), *self.chance.choice([self.setting, self.definition,
            self.deferred])(),
            Statement(self.pick(f"ROLLBACK TO SAVEPOINT {name};", f"ROLLBACK TO {name};", f"RELEASE {name};",
                f"RELEASE SAVEPOINT {name};", f"ROLLBACK WORK TO {name};",
                f"ROLLBACK TRANSACTION TO SAVEPOINT {name};"), "savepoint"),
            self.probe("SELECT current_setting('search_path') || current_setting('DateStyle')", "after savepoint")]

    def strings_in_savepoint(self):
        return [Statement("SAVEPOINT s;", "strings savepoint"), Statement("SET standard_conforming_strings = off;",
            "strings off"),
            Statement("ROLLBACK TO s;", "strings savepoint"), Statement("INSERT INTO log VALUES ('back', 'a\\');",
                "strings after rollback"),
            Statement("SELECT ';';", "strings after rollback")]

    def dynamic_strings(self):
        """Turns standard_conforming_strings off where a lexer cannot see it."""
        return [Statement(self.pick("SELECT set_config('standard_conforming_strings', 'off', false);",
            "DO $$ BEGIN SET standard_conforming_strings = off; END $$;",
            "SET \"standard_conforming_strings\" = 'off';"), "strings off unseen"),
            Statement("INSERT INTO log VALUES ('s', 'it\\'s'); -- '", "strings unseen")]

    def literals(self):
        """Values whose meaning depends on the defaults of the session."""
        return [Statement(self.pick("INSERT INTO log VALUES ('date', '03/04/2024'::date::text);",
            "INSERT INTO log VALUES ('interval', '1 day 2 hours'::interval::text);",
            "INSERT INTO log VALUES ('zone', current_setting('TimeZone'));",
            "INSERT INTO log VALUES ('style', current_setting('DateStyle'));",
            "INSERT INTO log VALUES ('bytes', '\\x41'::bytea::text);",
            "INSERT INTO log VALUES ('float', (0.1::float8 + 0.2)::text);",
            "INSERT INTO log SELECT 'settings', string_agg(name || '=' || setting, ',' ORDER BY name) FROM pg_settings WHERE name IN ('array_nulls', 'bytea_output', "
            "'xmloption', 'check_function_bodies', 'standard_conforming_strings', 'escape_string_warning', 'default_transaction_isolation', 'constraint_exclusion', 'search_path', 'client_encoding');"),
            "default settings")]

    def transaction_mode(self):
        return [Statement(self.pick("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;", "SET TRANSACTION READ ONLY;",
            "SET LOCAL transaction_read_only = on;",
            "SET default_transaction_read_only = on;", "SET TRANSACTION READ WRITE;",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE;"), "transaction mode")]

    def error(self):
        return [Statement(self.pick("SELECT 1 / 0;", "SELECT * FROM missing_table;", "SELEC 1;",
            "INSERT INTO keyed VALUES (1);", "SELECT 'x'::int;",
            "DO $$ BEGIN RAISE EXCEPTION 'custom; error' USING ERRCODE = 'DR111'; END $$;",
            "INSERT INTO items (id, price) VALUES (1, 9999999);",
            "SELECT missing();", "SELECT $1;", "CREATE TABLE items (a int);", "DROP TABLE missing;",
            "INSERT INTO pairs VALUES (999, 99999);",
            "SET nonsense = 1;", "SET ROLE missing;", "ALTER TABLE items ALTER COLUMN code TYPE int USING code::int;",
            "SELECT 'ä', größe FROM items;",
            "INSERT INTO pairs (a) VALUES (500), (500);", "CREATE EXTENSION missing;", "EXECUTE missing;",
            "FETCH 1 FROM missing;", "ROLLBACK TO missing;",
            "COPY missing FROM STDIN;\n1\n\\.", "COPY items (id) FROM STDIN;\n1\t2\n\\.", "SELECT '\n\n' || nothing;",
            "SELECT 1 +;", "SET DateStyle = 'bad';",
            "INSERT INTO app.log SELECT 1, 2, 3;",
            "CREATE FUNCTION bad() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN; $$;",
            "DO $$\nBEGIN\n  PERFORM 1/0;\nEND $$;", "SELECT 1; SELECT 2/0;"), "error")]


WEIGHTS = [("setting", 12), ("strings", 3), ("encoding", 3), ("role", 5), ("temporary", 5), ("cursor", 3), ("prepared",
    4), ("locks", 2), ("discard", 0.6),
    ("index", 7), ("other_alone", 3), ("in_transaction", 3), ("detach", 2), ("copy", 6), ("block", 4), ("call", 2),
    ("function", 6), ("definition", 14),
    ("deferred", 4), ("savepoint", 3), ("strings_in_savepoint", 0.1), ("dynamic_strings", 0.1), ("literals", 0.6),
    ("transaction_mode", 0.5), ("error", 1.2)]


def generate(seed, number):
    """Returns the file with a number. It depends on nothing else than the seed."""
    chance = random.Random(f"{seed}/{number}")
    generator = Generator(chance, number)
    directive = chance.random() < 0.2
    whole = not directive and chance.random() < 0.08
    fewer = not directive and chance.random() < 0.55  # no statements that cannot run in a transaction
    pieces = []
    for name in chance.choices([name for name, _ in WEIGHTS], [weight for _, weight in WEIGHTS], k=chance.randrange(1,
        7)):
        if directive and name in ("cursor", "savepoint", "strings_in_savepoint") and chance.random() < 0.85:
            continue
        piece = getattr(generator, name)()
        strange = [one for one in piece if one.kind.startswith("strings")]
        if strange and (directive and "SET LOCAL" in strange[0].text or any(one.kind.startswith("strings") for one in pieces)):
            continue
        if fewer or whole:
            piece = [one for one in piece if not one.alone]
        if pieces and chance.random() < 0.25:
            at = chance.randrange(len(pieces))
            pieces[at:at] = piece
        else:
            pieces += piece
    # Strings whose backslashes escape stay next to the statement that makes them do so.
    strings = [one for one in pieces if one.kind.startswith("strings")]
    others = [one for one in pieces if not one.kind.startswith("strings")]
    pieces = strings + others if chance.random() < 0.5 else others + strings
    pieces = pieces or generator.definition()
    # Text in another encoding stays between the statements that declare it.
    if any(one.encoding != "utf-8" for one in pieces):
        pieces = [one for one in pieces if one.kind.startswith("encoding")]
        pieces = generator.definition() + pieces
        first = next(i for i, one in enumerate(pieces) if one.kind == "encoding")
        last = max(i for i, one in enumerate(pieces) if one.kind == "encoding")
        if chance.random() < 0.3 and not (whole or fewer):
            pieces.insert(chance.choice([first, last + 1]), generator.lone_index())
    if whole or directive and chance.random() < 0.25 and not any(one.alone for one in pieces):
        begin = chance.choice(["BEGIN;", "begin;", "START TRANSACTION;", "BEGIN WORK;", "BEGIN TRANSACTION;"])
        end = chance.choice(["COMMIT;", "END;", "commit work;", "END TRANSACTION;"])
        pieces = [one for one in pieces if not directive or one.kind not in ("call", "do")] or generator.definition()
        pieces = [Statement(begin, "begin", control=True), *pieces, Statement(end, "commit", control=True)]
    return File(pieces, directive, whole, f"{seed}/{number}/comments", chance.random() < 0.04)
