import Foundation
import Postgres
import Processes
import TestSupport
import Testing

/// Every command, run as a superuser on a database whose owner has put functions and operators wherever a name might be
/// looked for.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct HostileDatabaseTests {
    private static let functions = """
        format unnest quote_ident quote_literal string_agg array_agg concat_ws concat left right substr substring
        split_part strpos lower upper length count sum max min now clock_timestamp to_char current_setting set_config
        has_table_privilege has_schema_privilege pg_has_role pg_relation_size pg_database_size pg_get_userbyid
        pg_get_expr pg_get_constraintdef pg_get_viewdef pg_get_indexdef pg_get_functiondef pg_get_triggerdef
        pg_get_ruledef pg_get_partkeydef format_type regexp_replace jsonb_build_object to_jsonb jsonb_to_recordset md5
        sha256 encode decode hashtextextended hash_record_extended hashint8extended mod hashtext pg_advisory_xact_lock
        pg_try_advisory_lock pg_advisory_unlock date_part extract pg_export_snapshot pg_current_wal_lsn
        obj_description col_description shobj_description array_to_string generate_series nextval setval chr ascii
        convert_to pg_backend_pid pg_encoding_to_char to_regclass parse_ident aclexplode acldefault
        pg_options_to_table current_database pg_is_in_recovery pg_terminate_backend num_nulls pg_describe_object
        trim btrim replace array_length cardinality array_position coalesce_ pg_table_is_visible pg_xact_status
        pg_current_xact_id_if_assigned gen_random_uuid round floor abs greatest_ pg_stat_get_xact_function_calls
        """
    private static let operators = "= <> || ~ !~ < > <= >= ->> -> @> && + - % & ->>>"

    private struct Attacker: Sendable {
        let role = "evil_\(UUID().uuidString.prefix(8).lowercased())"
        let database: TestDatabase

        func run(_ sql: String) async throws {
            var settings = database.plainSettings
            settings.parameters["user"] = role
            try await Connection.opened(settings) { connection in
                try await connection.with { _ = try $0.execute(sql) }
            }
        }

        /// Makes everything that an owner of a database can make for others to stumble over.
        func prepare() async throws {
            try await database.execute(
                "CREATE ROLE \(role) LOGIN", "GRANT CREATE ON SCHEMA public TO \(role)",
                "ALTER DATABASE \(database.name) OWNER TO \(role)")
            try await run(
                """
                ALTER DATABASE \(database.name) SET search_path = public, pg_catalog;
                SET search_path = pg_catalog, pg_temp;
                CREATE TABLE public.calls (who text, what text);
                GRANT ALL ON public.calls TO PUBLIC;
                CREATE FUNCTION public.attack(what text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
                BEGIN
                    BEGIN
                        EXECUTE 'ALTER ROLE \(role) SUPERUSER';
                    EXCEPTION WHEN OTHERS THEN NULL;
                    END;
                    BEGIN
                        INSERT INTO public.calls VALUES (current_user, what);
                    EXCEPTION WHEN OTHERS THEN NULL;
                    END;
                END $$;
                DO $do$
                DECLARE
                    types text[] := ARRAY['text', 'name', 'oid', '"char"', 'text[]', 'name[]', 'bigint', 'integer'];
                    one text; two text; fn text; op text; lists text[] := ARRAY[''];
                BEGIN
                    FOREACH one IN ARRAY types LOOP
                        lists := lists || one || (one || ', ' || one || ', ' || one);
                        FOREACH two IN ARRAY types LOOP lists := lists || (one || ', ' || two); END LOOP;
                    END LOOP;
                    lists := lists || ARRAY['text, name, name', 'text, name, text', 'text, text, name'];
                    FOREACH fn IN ARRAY regexp_split_to_array('\(HostileDatabaseTests.functions.split(whereSeparator: \.isWhitespace).joined(separator: " "))', ' ') LOOP
                        FOREACH one IN ARRAY lists LOOP
                            BEGIN
                                EXECUTE format($f$CREATE FUNCTION public.%I(%s) RETURNS text LANGUAGE plpgsql AS
                                    $b$ BEGIN PERFORM public.attack(%L); RETURN NULL; END $b$ $f$, fn, one, fn);
                            EXCEPTION WHEN OTHERS THEN NULL;
                            END;
                        END LOOP;
                    END LOOP;
                    types := types || ARRAY['regclass', 'varchar', 'xid', 'boolean'];
                    FOREACH one IN ARRAY types LOOP
                        FOREACH two IN ARRAY types LOOP
                            EXECUTE format($f$CREATE FUNCTION public.op(%s, %s) RETURNS boolean LANGUAGE plpgsql AS
                                $b$ BEGIN PERFORM public.attack('operator'); RETURN true; END $b$ $f$, one, two);
                            FOREACH op IN ARRAY regexp_split_to_array('\(HostileDatabaseTests.operators)', ' ') LOOP
                                BEGIN
                                    EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.op)',
                                        op, one, two);
                                EXCEPTION WHEN OTHERS THEN NULL;
                                END;
                            END LOOP;
                        END LOOP;
                    END LOOP;
                END $do$;
                CREATE TABLE public.pg_class AS TABLE pg_catalog.pg_class; CREATE VIEW public.pg_roles AS
                    SELECT public.attack('pg_roles')::text, * FROM pg_catalog.pg_roles;
                """)
        }

        /// Whether the attacker has got anywhere, or his code was run by anybody else.
        func findings() async throws -> [String] {
            try await Connection.opened(database.settings) { [role] connection in
                try await connection.with { connection in
                    let rows = try connection.query(
                        """
                        SELECT 'superuser' FROM pg_catalog.pg_roles WHERE rolname = $1 AND rolsuper
                        UNION ALL SELECT DISTINCT who || ' ran ' || what FROM public.calls WHERE who <> $1
                        """, [role])
                    return try rows.map { try $0.get(0) }
                }
            }
        }
    }

    @Test(.database) func noCommandRunsWhatADatabaseHoldsUnderOtherNames() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([
            "0001_first.up.sql": """
            CREATE TABLE t (id integer PRIMARY KEY, a text NOT NULL CHECK (a <> ''), b integer DEFAULT 1);
            CREATE TABLE u (t integer REFERENCES t, at timestamptz DEFAULT now());
            CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
                $$ BEGIN RETURN new; END $$;
            CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
            CREATE VIEW v AS SELECT id, lower(a) AS a FROM t;
            INSERT INTO t VALUES (1, 'x'), (2, 'y');
            """,
            "0001_first.down.sql": "DROP VIEW v; DROP TABLE u; DROP TABLE t; DROP FUNCTION f();",
            "0002_alone.up.sql": "CREATE INDEX CONCURRENTLY i ON t (a);",
            "0002_alone.down.sql": "DROP INDEX i;",
            "R__again.sql": "CREATE OR REPLACE VIEW w AS SELECT id FROM t;",
            "R__again.down.sql": "DROP VIEW w;",
        ])
        let attacker = Attacker(database: database)
        try await attacker.prepare()
        let folder = "/tmp/reeve-hostile-\(UUID().uuidString.prefix(8))"
        // The scratch cluster's account must be able to enter.
        for path in [folder, "\(folder)/state"] {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            chmod(path, 0o755)
        }
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let environment = [
            "REEVE_SYSTEMS": fixture.folder, "REEVE_BACKUP_REPOSITORY": "\(folder)/repository",
            "REEVE_BACKUP_ENCRYPTION": "none", "REEVE_STATE": "\(folder)/state",
        ]
        try initializeRepository("\(folder)/repository")
        let target = "\(database.name)_restored"
        let commands: [([String], Int32)] = [
            (["migrate", "status"], 3), (["migrate", "plan"], 0), (["migrate", "up"], 0), (["migrate", "verify"], 0),
            (["migrate", "status"], 0), (["schema", "validate"], 0), (["schema", "validate", "--live"], 0),
            (["schema", "show"], 0), (["schema", "snapshot"], 0), (["task", "run", "analyze"], 0),
            (["task", "run", "validate"], 0), (["task", "history"], 0), (["backup", "create"], 0),
            (["backup", "create", "--full"], 0), (["backup", "list"], 0), (["backup", "show"], 0),
            (["backup", "verify"], 0), (["backup", "test"], 0),
            // Functions of a role that nobody has named.
            (["backup", "restore", "latest", "--to", database.settings.database(target).uri], 4),
            (
                [
                    "backup", "restore", "latest", "--to", database.settings.uri, "--table", "app.t", "--into-schema",
                    "copy",
                ], 4
            ),
            (
                [
                    "backup", "restore", "latest", "--to", database.settings.database(target).uri, "--trust",
                    attacker.role,
                ], 0
            ),
            (
                [
                    "backup", "restore", "latest", "--table", "app.t", "--into-schema", "copy", "--to",
                    database.settings.uri, "--trust", attacker.role,
                ], 0
            ),
            (["backup", "prune", "--dry-run"], 0), (["audit", "verify"], 0), (["doctor"], 0),
            (["migrate", "down", "--to", "0", "--confirm=\(database.name)"], 0),
        ]
        try await TestCluster.runSQL("CREATE DATABASE \(target) TEMPLATE template0")
        for (command, status) in commands {
            // The copy of the table needs the system's function.
            if command.starts(with: ["migrate", "down"]) { try await database.execute("DROP SCHEMA copy CASCADE") }
            let outcome = try await ReeveBinary.run(
                command, on: database.settings, environment: environment, limit: .seconds(120))
            #expect(
                outcome.ending == .exited(status),
                "\(command): \(outcome.ending) \(outcome.output.suffix(500)) \(outcome.errorOutput)")
            #expect(try await attacker.findings() == [], "\(command)")
        }
        try await TestCluster.runSQL(
            "DROP DATABASE \(target) WITH (FORCE)", "ALTER DATABASE \(database.name) OWNER TO postgres")
        try await database.execute("DROP OWNED BY \(attacker.role) CASCADE", "DROP ROLE \(attacker.role)")
    }
}
