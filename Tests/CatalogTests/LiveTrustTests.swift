import Foundation
import Postgres
import SQL
import Synchronization
import TestSupport
import Testing

@testable import Catalog

/// Whose tables are tried by a role with far-reaching rights.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct LiveTrustTests {
    /// A role that owns the schema `m`.
    private struct Other: Sendable {
        let role = "other_\(UUID().uuidString.prefix(8).lowercased())"
        let marker = "/tmp/reeve-trust-\(UUID().uuidString.prefix(8))"
        let database: TestDatabase

        var settings: ConnectionSettings {
            var settings = database.plainSettings
            settings.parameters["user"] = role
            return settings
        }

        func prepare() async throws {
            try await database.execute("CREATE ROLE \(role) LOGIN", "CREATE SCHEMA m AUTHORIZATION \(role)")
        }

        func execute(_ sql: String) async throws {
            try await Connection.opened(settings) { connection in
                try await connection.with { _ = try $0.execute(sql) }
            }
        }

        func remove() async throws {
            try? FileManager.default.removeItem(atPath: marker)
            try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
        }
    }

    private func tried(
        _ database: TestDatabase, _ schemas: Set<ExactText>, trusting: [String] = []
    ) async throws -> LiveReport {
        try await database.with { try LiveTrial(CatalogReader(.schemas(schemas)), trusting: trusting).run(on: $0) }
    }

    // MARK: Attacks

    /// What a role makes beforehand, and while the trial is at its table `m.a`.
    struct Attack: CustomTestStringConvertible {
        let testDescription: String
        /// MARKER is a file that only a superuser can write, LARGE a large object to write there.
        let tables: String
        var change = ""
    }

    private static let attacks = [
        Attack(
            testDescription: "the default of an argument",
            tables: """
                CREATE FUNCTION m.f(a integer, b integer DEFAULT pg_catalog.lo_export(LARGE, 'MARKER')) RETURNS boolean
                    LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
                CREATE TABLE m.b (a integer CHECK (m.f(a)))
                """),
        Attack(
            testDescription: "a table under the name of a partition",
            tables: """
                CREATE SCHEMA n;
                CREATE TABLE m.b (a integer) PARTITION BY LIST (a); CREATE TABLE n.x PARTITION OF m.b DEFAULT;
                CREATE FUNCTION m.sets() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM pg_catalog.set_config('search_path', 'n', true); RETURN new; END $$;
                CREATE FUNCTION m.keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
                CREATE TRIGGER a BEFORE INSERT ON m.b FOR EACH ROW EXECUTE FUNCTION m.sets();
                CREATE TRIGGER u BEFORE UPDATE ON m.b FOR EACH ROW EXECUTE FUNCTION m.keeps();
                CREATE TABLE m.x (a integer); INSERT INTO m.x SELECT pg_catalog.generate_series(1, 200);
                ALTER TABLE m.x ADD CHECK (pg_catalog.lo_export(LARGE, 'MARKER') > 0) NOT VALID
                """),
        Attack(
            testDescription: "an operator's negator",
            tables: """
                CREATE OPERATOR m.<<< (FUNCTION = pg_catalog.int4lt, LEFTARG = integer, RIGHTARG = integer);
                CREATE TABLE m.b (a integer CHECK (NOT (a OPERATOR(m.<<<) -5)))
                """,
            change: """
                CREATE FUNCTION m.g(integer, integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
                    COPY (SELECT 1) TO PROGRAM 'touch MARKER'; RETURN true;
                    EXCEPTION WHEN insufficient_privilege THEN RETURN true; END $$;
                CREATE OPERATOR m.>>> (
                    FUNCTION = m.g, LEFTARG = integer, RIGHTARG = integer, NEGATOR = OPERATOR(m.<<<))
                """),
        Attack(
            testDescription: "a domain that is named by its number",
            tables: """
                CREATE DOMAIN m.d AS text; CREATE TYPE m.e AS (x m.d);
                DO $do$ BEGIN EXECUTE pg_catalog.format($$CREATE TABLE m.b (a text CHECK (
                    record_in(textout('(' || coalesce(a, '') || ')'), %s, -1)::text IS NOT NULL))$$,
                    'm.e'::pg_catalog.regtype::pg_catalog.oid); END $do$
                """,
            change: "ALTER DOMAIN m.d ADD CHECK (pg_catalog.lo_export(LARGE, 'MARKER') > 0) NOT VALID"),
    ]

    @Test(.database, arguments: attacks) func `what others wrote does not run as a superuser`(
        _ attack: Attack
    ) async throws {
        let database = try TestDatabase.current
        let other = Other(database: database)
        try await other.prepare()
        try await database.execute("GRANT CREATE ON DATABASE \(database.name) TO \(other.role)")
        try await other.execute("SELECT pg_catalog.lo_create(4242)")
        let sql = { (text: String) in
            text.replacing("LARGE", with: "4242").replacing("MARKER", with: other.marker)
        }
        try await other.execute(
            """
            CREATE TABLE m.go (now boolean);
            CREATE FUNCTION m.waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                WHILE NOT EXISTS (SELECT FROM m.go) LOOP PERFORM pg_sleep(0.05); END LOOP; RETURN new; END $$;
            CREATE TABLE m.a (id integer PRIMARY KEY);
            CREATE TRIGGER w BEFORE INSERT ON m.a FOR EACH ROW EXECUTE FUNCTION m.waits();
            \(sql(attack.tables))
            """)
        let done = Atomic(false)
        let trial = Task {
            defer { done.store(true, ordering: .relaxed) }
            return try await self.tried(database, ["m"])
        }
        try await Connection.opened(database.plainSettings) { connection in
            try await waitUntil("the trial comes to the first table, or ends") {
                let sleeping = try await connection.value(
                    """
                    SELECT count(*) FROM pg_catalog.pg_stat_activity
                    WHERE datname = current_database() AND wait_event = 'PgSleep'
                    """, as: Int.self)
                return sleeping > 0 || done.load(ordering: .relaxed)
            }
        }
        if !attack.change.isEmpty { try await other.execute("SET lock_timeout = '500ms'; \(sql(attack.change))") }
        try await other.execute("INSERT INTO m.go VALUES (true)")
        let report = try await trial.value
        #expect(!FileManager.default.fileExists(atPath: other.marker))
        #expect(report.failures == [])
        #expect(report.held == [])
        #expect(report.untried.allSatisfy { $0.reason.hasPrefix("it belongs to the role '\(other.role)'") })
        try await other.remove()
    }

    @Test(.database) func `no function of others is given what only a superuser may read`() async throws {
        let database = try TestDatabase.current
        let other = Other(database: database)
        try await other.prepare()
        try await other.execute(
            """
            CREATE SEQUENCE m.told;
            CREATE FUNCTION m.leak(a text) RETURNS boolean LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_catalog.setval('m.told', pg_catalog.length(a)); RETURN true; END $$;
            CREATE TABLE m.b (a integer CHECK (m.leak(pg_catalog.current_setting('data_directory'))))
            """)
        _ = try await tried(database, ["m"])
        let wasTold: Bool = try await database.value("SELECT is_called FROM m.told")
        #expect(!wasTold)
        try await other.remove()
    }

    @Test(.database) func `a function that fits better is not called for a superuser's table`() async throws {
        let database = try TestDatabase.current
        let other = Other(database: database)
        try await other.prepare()
        try await database.execute(
            "CREATE SCHEMA open", "GRANT USAGE, CREATE ON SCHEMA open TO \(other.role)",
            "CREATE TABLE open.b (a integer[] CHECK (array_length(a, 1) > 0))")
        try await other.execute(
            """
            CREATE SEQUENCE m.told;
            CREATE FUNCTION open.array_length(a integer[], b integer) RETURNS integer LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_catalog.nextval('m.told'); RETURN 1; END $$
            """)
        let report = try await tried(database, ["open"])
        let wasTold: Bool = try await database.value("SELECT is_called FROM m.told")
        #expect(!wasTold)
        #expect(report.untried.map(\.reason).allSatisfy { $0.hasPrefix("it uses the schema open of the role") })
        try await other.remove()
    }

    // MARK: Reasons

    /// Superusers' tables, each with what it says where the role is not trusted.
    private static let tables: [(name: String, sql: String, reason: String)] = [
        (
            "triggered",
            "CREATE TABLE ours.triggered (id integer PRIMARY KEY); "
                + "CREATE TRIGGER t BEFORE INSERT ON ours.triggered FOR EACH ROW EXECUTE FUNCTION m.fires()",
            "it uses the function m.fires() of"
        ),
        (
            // By somebody who has TRIGGER on it, perhaps: nobody is recorded as the maker.
            "argued",
            "CREATE TABLE ours.argued (id integer PRIMARY KEY, a text); GRANT TRIGGER ON ours.argued TO ROLE; "
                + "CREATE TRIGGER t BEFORE UPDATE ON ours.argued FOR EACH ROW EXECUTE FUNCTION "
                + "pg_catalog.tsvector_update_trigger('a', 'pg_catalog.english', 'a')",
            "it uses the trigger t on table ours.argued of"
        ),
        (
            "called", "CREATE TABLE ours.called (id integer PRIMARY KEY CHECK (m.same(id) = id))",
            "it uses the function m.same(integer) of"
        ),
        (
            "given", "CREATE TABLE ours.given (id integer PRIMARY KEY, a integer DEFAULT m.same(1))",
            "it uses the function m.same(integer) of"
        ),
        (
            "indexed",
            "CREATE TABLE ours.indexed (id integer PRIMARY KEY); CREATE INDEX ON ours.indexed (id) WHERE m.same(5) = 5",
            "it uses the function m.same(integer) of"
        ),
        (
            "counted",
            "CREATE TABLE ours.counted (id integer PRIMARY KEY, a integer); "
                + "CREATE STATISTICS ours.counts ON a, m.same(id) FROM ours.counted",
            "it uses the function m.same(integer) of"
        ),
        (
            "split",
            "CREATE TABLE ours.split (id integer) PARTITION BY LIST (m.same(id)); "
                + "CREATE TABLE ours.part PARTITION OF ours.split (PRIMARY KEY (id)) DEFAULT",
            "it uses the function m.same(integer) of"
        ),
        (
            "part", "", "it uses the function m.same(integer) of"
        ),
        (
            "operated", "CREATE TABLE ours.operated (id integer PRIMARY KEY CHECK (id OPERATOR(m.<<<) 5))",
            "it uses the operator m.<<<(integer,integer) of"
        ),
        (
            "negated",
            """
            CREATE SCHEMA two;
            CREATE OPERATOR two.<<< (FUNCTION = int4lt, LEFTARG = integer, RIGHTARG = integer, NEGATOR = OPERATOR(two.>>>));
            CREATE OPERATOR two.>>> (FUNCTION = int4ge, LEFTARG = integer, RIGHTARG = integer, NEGATOR = OPERATOR(two.<<<));
            ALTER OPERATOR two.>>> (integer, integer) OWNER TO ROLE;
            REVOKE CREATE ON SCHEMA two FROM ROLE;
            CREATE SCHEMA three; ALTER OPERATOR two.>>> (integer, integer) SET SCHEMA three;
            ALTER OPERATOR three.>>> (integer, integer) SET SCHEMA m;
            CREATE TABLE ours.negated (id integer PRIMARY KEY CHECK (id OPERATOR(two.<<<) 5))
            """,
            "it uses the operator m.>>>(integer,integer) of"
        ),
        (
            "domained", "CREATE TABLE ours.domained (id integer PRIMARY KEY, a m.word)", "it uses the type m.word of"
        ),
        (
            "nested",
            "CREATE TYPE ours.pair AS (a m.word); CREATE TABLE ours.nested (id integer PRIMARY KEY, a ours.pair[])",
            "it uses the type m.word of"
        ),
        (
            "checked",
            "CREATE DOMAIN ours.checked_word AS integer CHECK (m.same(value) > 0); "
                + "CREATE TABLE ours.checked (id integer PRIMARY KEY, a ours.checked_word)",
            "it uses the function m.same(integer) of"
        ),
        (
            "supported",
            """
            CREATE OPERATOR CLASS ours.supported FOR TYPE integer USING btree AS OPERATOR 1 <, OPERATOR 2 <=,
                OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 m.compare(integer, integer);
            CREATE TABLE ours.supported (id integer PRIMARY KEY); CREATE INDEX ON ours.supported (id ours.supported)
            """,
            "it uses the function m.compare(integer,integer) of"
        ),
        (
            "ordered",
            """
            CREATE OPERATOR CLASS ours.ordered FOR TYPE integer USING btree AS OPERATOR 1 m.<<<, OPERATOR 2 <=,
                OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(integer, integer);
            CREATE TABLE ours.ordered (id integer PRIMARY KEY); CREATE INDEX ON ours.ordered (id ours.ordered)
            """,
            "it uses the operator m.<<<(integer,integer) of"
        ),
        (
            "row_typed", "CREATE TABLE ours.row_typed (id integer PRIMARY KEY, a m.theirs)",
            "it uses the table m.theirs of"
        ),
        (
            "converted",
            """
            CREATE TYPE ours.kind AS ENUM ('a');
            CREATE FUNCTION ours.told(ours.kind) RETURNS integer LANGUAGE sql AS 'SELECT 1';
            CREATE CAST (ours.kind AS integer) WITH FUNCTION ours.told(ours.kind);
            CREATE TABLE ours.converted (id integer PRIMARY KEY, a ours.kind);
            GRANT CREATE ON SCHEMA m TO postgres; ALTER FUNCTION ours.told(ours.kind) SET SCHEMA m;
            ALTER FUNCTION m.told(ours.kind) OWNER TO ROLE
            """,
            "it uses the function m.told(ours.kind) of"
        ),
        (
            "drawn", "CREATE TABLE ours.drawn (id bigint PRIMARY KEY DEFAULT nextval('m.numbers'))",
            "it uses the sequence m.numbers of"
        ),
        (
            "pointing", "CREATE TABLE ours.pointing (id integer PRIMARY KEY REFERENCES m.theirs)",
            "it is connected with the table m.theirs, which belongs to"
        ),
        (
            "pointed",
            "CREATE TABLE ours.pointed (id integer PRIMARY KEY); "
                + "CREATE TABLE m.pointer (id integer PRIMARY KEY REFERENCES ours.pointed); ALTER TABLE m.pointer OWNER TO ROLE",
            "it is connected with the table m.pointer, which belongs to"
        ),
        (
            "keyed",
            "CREATE TABLE ours.keyed (id integer PRIMARY KEY) PARTITION BY LIST (id); "
                + "CREATE TABLE ours.keyed_part PARTITION OF ours.keyed DEFAULT; "
                + "ALTER TABLE ours.keyed_part ADD FOREIGN KEY (id) REFERENCES m.theirs",
            "it is connected with the table m.theirs, which belongs to"
        ),
        (
            "keyed_part", "", "it is connected with the table m.theirs, which belongs to"
        ),
        (
            "parent",
            "CREATE TABLE ours.parent (id integer PRIMARY KEY); "
                + "CREATE TABLE m.child (PRIMARY KEY (id)) INHERITS (ours.parent); ALTER TABLE m.child OWNER TO ROLE",
            "it is connected with the table m.child, which belongs to"
        ),
        (
            "ruled",
            "CREATE TABLE ours.ruled (id integer PRIMARY KEY); "
                + "CREATE RULE also AS ON INSERT TO ours.ruled DO ALSO INSERT INTO m.theirs VALUES (new.id)",
            "it uses the table m.theirs of"
        ),
    ]

    @Test(.database) func `each table that is left out says whose it is, and trust makes it tried`() async throws {
        let database = try TestDatabase.current
        let other = Other(database: database)
        try await other.prepare()
        try await other.execute(
            """
            CREATE TABLE m.theirs (id integer PRIMARY KEY);
            CREATE FUNCTION m.fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
            CREATE FUNCTION m.same(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
            CREATE FUNCTION m.compare(integer, integer) RETURNS integer IMMUTABLE LANGUAGE sql AS
                'SELECT pg_catalog.btint4cmp($1, $2)';
            CREATE OPERATOR m.<<< (FUNCTION = pg_catalog.int4lt, LEFTARG = integer, RIGHTARG = integer);
            CREATE DOMAIN m.word AS text; CREATE SEQUENCE m.numbers;
            """)
        try await database.execute(
            "CREATE SCHEMA ours", "CREATE TABLE ours.plain (id integer PRIMARY KEY)",
            "CREATE TABLE ours.beside (id integer PRIMARY KEY REFERENCES ours.plain)")
        for table in Self.tables where !table.sql.isEmpty {
            try await database.execute(table.sql.replacing("ROLE", with: other.role))
        }
        let report = try await tried(database, ["ours", "m"])
        let held = { (report: LiveReport) in Set(report.held.map(\.description)) }
        #expect(held(report) == ["ours.plain.plain_pkey", "ours.beside.beside_pkey", "ours.beside.beside_id_fkey"])
        #expect(report.failures == [])
        let reasons = Dictionary(grouping: report.untried, by: { $0.object.parent ?? "" })
        let end =
            " the role '\(other.role)', which is not trusted; connect as that role, or trust it with "
            + "--trust \(other.role) or the setting trusted_roles"
        for (name, _, reason) in Self.tables + [("theirs", "", "it belongs to")] {
            let found = Set((reasons[name] ?? []).map(\.reason))
            // A partitioned table without a key has nothing to try.
            if name != "split" { #expect(found == [reason + end], "\(name): \(found)") }
        }
        let trusting = try await tried(database, ["ours", "m"], trusting: [other.role])
        #expect(trusting.untried.allSatisfy { !$0.reason.contains("trusted") })
        #expect(
            held(trusting).isSuperset(of: [
                "m.theirs.theirs_pkey", "ours.triggered.t", "ours.called.called_pkey", "ours.pointing.pointing_pkey",
                "ours.pointed.pointed_pkey", "ours.parent.parent_pkey", "ours.plain.plain_pkey",
            ]), "\(trusting.untried)")
        try await other.remove()
        try await database.execute("DROP SCHEMA ours, two, three CASCADE")
    }

    @Test(.database) func `the arguments of a trigger that anybody may have made are not trusted`() async throws {
        let database = try TestDatabase.current
        let other = Other(database: database)
        try await other.prepare()
        try await database.execute(
            """
            CREATE SCHEMA ours; CREATE TABLE ours.argued (id integer PRIMARY KEY, a text);
            GRANT TRIGGER ON ours.argued TO PUBLIC;
            CREATE TRIGGER t BEFORE UPDATE ON ours.argued FOR EACH ROW EXECUTE FUNCTION
                pg_catalog.tsvector_update_trigger('a', 'pg_catalog.english', 'a')
            """)
        let report = try await tried(database, ["ours"])
        let reasons = report.untried.map(\.reason)
        // Of any role that is there; those of other tests are.
        #expect(report.held == [] && !reasons.isEmpty, "\(reasons)")
        #expect(reasons.allSatisfy { $0.hasPrefix("it uses the trigger t on table ours.argued of the") }, "\(reasons)")
        try await other.remove()
    }

    /// Whoever reads all tables has more rights than who wrote them; who has no such rights lends his to nobody.
    /// Policies are not asked where a role reads past them.
    @Test(
        .database,
        arguments: [
            ("BYPASSRLS", ["r.guarded.guarded_pkey"]), ("CREATEROLE", []), ("IN ROLE pg_read_all_data", []),
            ("", ["r.guarded.guarded_pkey", "m.theirs.theirs_pkey"]),
        ])
    func `a role with rights of its own tries what it wrote itself`(rights: String, more: [String]) async throws {
        let database = try TestDatabase.current
        let other = Other(database: database)
        try await other.prepare()
        let reader = "reader_\(UUID().uuidString.prefix(8).lowercased())"
        try await other.execute(
            """
            CREATE TABLE m.theirs (id integer PRIMARY KEY);
            CREATE FUNCTION m.same(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'
            """)
        try await database.execute(
            "CREATE ROLE \(reader) LOGIN \(rights)", "CREATE SCHEMA r AUTHORIZATION \(reader)",
            "GRANT USAGE ON SCHEMA m TO \(reader)", "GRANT ALL ON m.theirs TO \(reader)",
            """
            SET ROLE \(reader); CREATE TABLE r.own (id integer PRIMARY KEY);
            CREATE TABLE r.guarded (id integer PRIMARY KEY); ALTER TABLE r.guarded ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON r.guarded USING (m.same(id) = id)
            """)
        var settings = database.settings
        settings.parameters["user"] = reader
        let report = try await Connection.opened(settings) { connection in
            try await connection.with { try LiveTrial(CatalogReader(.schemas(["m", "r"]))).run(on: $0) }
        }
        let held = Set(report.held.map(\.description))
        #expect(held == Set(["r.own.own_pkey"] + more), "\(report.untried)")
        try await other.remove()
        try await database.execute("DROP OWNED BY \(reader) CASCADE", "DROP ROLE \(reader)")
    }

    // MARK: Rows

    @Test(.database) func `the row that is updated is the one that was inserted, whatever path a trigger sets`()
        async throws
    {
        let database = try TestDatabase.current
        try await database.execute(
            """
            CREATE SCHEMA m; CREATE SCHEMA n;
            CREATE TABLE m.t (a integer) PARTITION BY LIST (a); CREATE TABLE n.x PARTITION OF m.t DEFAULT;
            CREATE TABLE m.x (a integer);
            CREATE FUNCTION m.sets() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_catalog.set_config('search_path', 'n', true); RETURN new; END $$;
            CREATE FUNCTION m.keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
            CREATE FUNCTION m.removes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN old; END $$;
            CREATE FUNCTION m.looks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
            CREATE TRIGGER i BEFORE INSERT ON m.t FOR EACH ROW EXECUTE FUNCTION m.sets();
            CREATE TRIGGER u BEFORE UPDATE ON m.t FOR EACH ROW EXECUTE FUNCTION m.keeps();
            CREATE TRIGGER d BEFORE DELETE ON m.t FOR EACH ROW EXECUTE FUNCTION m.removes();
            CREATE TRIGGER s AFTER UPDATE ON m.t FOR EACH STATEMENT EXECUTE FUNCTION m.looks();
            """)
        let report = try await tried(database, ["m"])
        #expect(report.failures == [])
        #expect(Set(report.held.map(\.description)) == ["m.t.i", "m.t.u", "m.t.d", "m.t.s"], "\(report.untried)")
    }
}
