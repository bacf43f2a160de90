import Foundation
import Postgres
import SQL
import Storage
import TestSupport
import Testing

@testable import Backups

/// Restored databases are changed by chance, each in one way: the comparison must find every change, and nothing
/// without one. `REEVE_PROOF_ROUNDS` says how many; the seed of a round is its number.
@Suite(.heavy, .timeLimit(.minutes(60)))
struct ProofMutationTests {
    private static let rounds = ProcessInfo.processInfo.environment["REEVE_PROOF_ROUNDS"].flatMap { Int($0) } ?? 28

    private static let schema = """
        CREATE TABLE public.wide (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n numeric, f float8, t text, j jsonb,
            x json, b bytea, at timestamptz, day date, on_off boolean, u uuid, a integer[], ip inet, span interval);
        INSERT INTO public.wide (n, f, t, j, x, b, at, day, on_off, u, a, ip, span) SELECT i / 3.0, i / 3.0, 'text ' || i,
            jsonb_build_object('i', i), json_build_object('i', i), decode(md5(i::text), 'hex'),
            '2026-01-01'::timestamptz + i * interval '1 hour', '2026-01-01'::date + i, i % 2 = 0, md5(i::text)::uuid,
            ARRAY[i, i + 1], '10.0.0.0'::inet + i, i * interval '1 minute' FROM generate_series(1, 500) i;
        CREATE TABLE public.other (id integer PRIMARY KEY, note varchar(40) DEFAULT 'none' CHECK (note <> ''));
        INSERT INTO public.other SELECT i FROM generate_series(1, 50) i;
        CREATE INDEX other_note ON public.other (note);
        CREATE SEQUENCE public.numbers; SELECT nextval('public.numbers');
        CREATE VIEW public.seen AS SELECT id FROM public.wide;
        CREATE FUNCTION public.twice(i integer) RETURNS integer LANGUAGE sql AS 'SELECT i * 2';
        ALTER TABLE public.other ENABLE ROW LEVEL SECURITY;
        CREATE POLICY mine ON public.other USING (id > 0);
        SELECT lo_from_bytea(1001, '\\x0102030405'), lo_from_bytea(1002, '\\xff');
        """

    /// What may be changed, by kind. `?` is a number by chance.
    private static let changes: [(kind: String, statements: [String])] = [
        (
            "row",
            [
                "UPDATE public.wide SET n = n + 0.000001 WHERE id = 1 + ? % 500",
                // The same number with another scale.
                "UPDATE public.wide SET n = (n::text || '0')::numeric WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET f = f + 1e-13 * (1 + abs(f)) WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET t = t || ' ' WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET t = NULL WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET j = j || '{\"i\": null}' WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET x = (' ' || x::text)::json WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET b = set_bit(b, ? % 128, 1 - get_bit(b, ? % 128)) WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET at = at + interval '1 microsecond' WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET day = day - 1 WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET on_off = NOT on_off WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET u = gen_random_uuid() WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET a = a || 0 WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET ip = set_masklen(ip, 24) WHERE id = 1 + ? % 500",
                "UPDATE public.wide SET span = justify_hours(span) + interval '24 hours' WHERE id = 1 + ? % 500",
                // Two rows exchange a value: every sum by column stays.
                """
                UPDATE public.wide w SET t = o.t FROM public.wide o
                WHERE w.id IN (1 + ? % 250, 300) AND o.id = CASE WHEN w.id = 300 THEN 1 + ? % 250 ELSE 300 END
                """,
                "DELETE FROM public.wide WHERE id = 1 + ? % 500", "DELETE FROM public.other WHERE id = 1 + ? % 50",
                "INSERT INTO public.other VALUES (100 + ?)", "INSERT INTO public.wide (t) VALUES ('more')",
                "TRUNCATE public.other",
            ]
        ),
        (
            "acl",
            [
                "GRANT SELECT ON public.wide TO PUBLIC", "GRANT UPDATE (t) ON public.wide TO PUBLIC",
                "REVOKE EXECUTE ON FUNCTION public.twice(integer) FROM PUBLIC",
                "GRANT USAGE ON SEQUENCE public.numbers TO PUBLIC",
                "GRANT CREATE ON SCHEMA public TO PUBLIC",
                "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC",
            ]
        ),
        (
            "policy",
            [
                "DROP POLICY mine ON public.other", "ALTER POLICY mine ON public.other USING (id > ?)",
                "ALTER TABLE public.other DISABLE ROW LEVEL SECURITY",
                "ALTER TABLE public.wide ENABLE ROW LEVEL SECURITY",
                "ALTER TABLE public.other FORCE ROW LEVEL SECURITY",
                "CREATE POLICY more ON public.wide FOR DELETE USING (false)",
            ]
        ),
        (
            "schema",
            [
                "DROP INDEX public.other_note", "ALTER TABLE public.other ALTER COLUMN note SET DEFAULT 'x?'",
                "ALTER TABLE public.other DROP CONSTRAINT other_note_check",
                "ALTER TABLE public.wide ADD COLUMN more integer",
                "CREATE OR REPLACE VIEW public.seen AS SELECT id FROM public.wide WHERE id > ?",
                "CREATE OR REPLACE FUNCTION public.twice(i integer) RETURNS integer LANGUAGE sql AS 'SELECT i * ?'",
                "ALTER TABLE public.other ALTER COLUMN note SET NOT NULL", "COMMENT ON TABLE public.wide IS 'n?'",
                "ALTER FUNCTION public.twice(integer) SECURITY DEFINER",
            ]
        ),
        (
            "sequence",
            [
                "SELECT setval('public.numbers', 10 + ?)", "SELECT nextval('public.numbers')",
                "SELECT setval('public.numbers', 1, false)",
                "SELECT nextval(pg_get_serial_sequence('public.wide', 'id'))",
                "ALTER SEQUENCE public.numbers INCREMENT 2", "DROP SEQUENCE public.numbers",
            ]
        ),
        (
            "large object",
            [
                "SELECT lo_put(1001, ? % 5, '\\xee')", "SELECT lo_unlink(1002)",
                "SELECT lo_from_bytea(2000 + ?, '\\x01')",
                "SELECT lo_put(1002, 1, '\\x00')",
            ]
        ),
    ]

    @Test(.database) func everyChangeIsDetected() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let suffix = UUID().uuidString.prefix(8).lowercased()
        let role = "m_\(suffix)"
        try await database.execute(Self.schema)
        try await TestCluster.runSQL("CREATE ROLE \(role) LOGIN CONNECTION LIMIT 5")
        try await database.execute("GRANT SELECT ON public.other TO \(role)")
        let manifest = try await vault.maker(database.settings).make().manifest
        let base = "r_\(suffix)"
        try await TestCluster.runSQL("CREATE DATABASE \(base)")
        var tally: [String: (made: Int, found: Int)] = [:]
        do {
            let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
            try await restorer.restore(into: database.settings.database(base))
            func differences(_ name: String) async throws -> [RestoreDifference] {
                // Roles are the test cluster's, and other tests' too.
                try await Comparison(
                    manifest: manifest, restorer: restorer, target: database.settings.database(name)
                ).differences().filter { $0.kind != "role" || $0.object == role }
            }
            let clean = try await differences(base)
            #expect(clean == [])
            for round in 0..<Self.rounds {
                var generator = SeededGenerator(UInt64(round + 1))
                let kinds = Self.changes.map(\.kind) + ["role", "file bit"]
                let kind = kinds[round % kinds.count]
                let (what, found): (String, Bool)
                switch kind {
                case "file bit": (what, found) = try await flip(manifest, vault, &generator)
                case "role": (what, found) = try await change(role, &generator) { try await differences(base) }
                default:
                    let statements = Self.changes[round % kinds.count].statements
                    let number = Int.random(in: 3...100_000, using: &generator)
                    what = statements.randomElement(using: &generator)?.replacing("?", with: "\(number)") ?? ""
                    let copy = "\(base)_\(round)"
                    try await TestCluster.runSQL("CREATE DATABASE \(copy) TEMPLATE \(base)")
                    try await Connection.opened(database.settings.database(copy)) { connection in
                        try await connection.with { [what] in _ = try $0.execute(what) }
                    }
                    found = try await !differences(copy).isEmpty
                    try await TestCluster.runSQL("DROP DATABASE \(copy) WITH (FORCE)")
                }
                tally[kind, default: (0, 0)].made += 1
                tally[kind, default: (0, 0)].found += found ? 1 : 0
                #expect(found, "round \(round), \(kind): \(what)")
            }
            let after = try await differences(base)
            #expect(after == [])
        } catch {
            try? await clear(base, role, database)
            throw error
        }
        try await clear(base, role, database)
        for (kind, count) in tally.sorted(by: { $0.key < $1.key }) {
            print("proof mutations: \(kind): \(count.found) of \(count.made) detected")
        }
    }

    /// Every class of properties comes back, and the proof notices when it is changed.
    /// A manifest that leaves a table out says nothing of its rows.
    @Test(.database) func `rows that the manifest leaves out are a difference`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await database.execute("CREATE TABLE public.a AS SELECT 1 AS n", "CREATE TABLE public.b AS SELECT 2 AS n")
        let manifest = try await vault.maker(database.settings).make().manifest
        var object = try #require(JSONSerialization.jsonObject(with: JSONEncoder().encode(manifest)) as? [String: Any])
        object["tables"] = (object["tables"] as? [[String: Any]])?.filter { $0["name"] as? String != "b" }
        let edited = try JSONDecoder().decode(Manifest.self, from: JSONSerialization.data(withJSONObject: object))
        #expect(edited.tables.map(\.name) == ["a"])
        let proof = try await vault.prove(edited)
        #expect(!proof.isProved && proof.differences.contains { $0.object.contains("b") }, "\(proof.differences)")
    }

    @Test(.database) func everyClassOfPropertiesIsComparedOrNamed() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let suffix = UUID().uuidString.prefix(8).lowercased()
        let (role, other, base) = ("ma_\(suffix)", "mb_\(suffix)", "mr_\(suffix)")
        func filled(_ sql: String, _ name: String) -> String {
            sql.replacing("%role%", with: role).replacing("%other%", with: other).replacing("%database%", with: name)
        }
        try await TestCluster.runSQL("CREATE ROLE \(role)", "CREATE ROLE \(other)", "CREATE DATABASE \(base)")
        var survivors: [String] = []
        var result: Result<Void, any Error> = .success(())
        do {
            for entry in MutationTable.all {
                do { try await run(filled(entry.setup, database.name), in: database.settings) } catch {
                    Issue.record("the setup of '\(entry.name)' fails: \(error)")
                }
            }
            let manifest = try await vault.maker(database.settings).make().manifest
            var settings = vault.restoring
            settings.restoresAccess = true
            settings.trust = .everybody
            let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: settings)
            let target = database.settings.database(base)
            try await restorer.restore(into: target)
            func differences(_ name: String) async throws -> [RestoreDifference] {
                // Roles are the test cluster's, and other tests' too.
                try await Comparison(
                    manifest: manifest, restorer: restorer, target: database.settings.database(name)
                ).differences().filter { $0.kind != "role" || $0.object.hasPrefix(role) || $0.object.hasPrefix(other) }
            }
            let clean = try await differences(base)
            #expect(clean == [])
            for entry in MutationTable.all {
                guard let undo = entry.undo else { continue }
                try await run(filled(entry.change, base), in: target)
                if try await differences(base) == clean { survivors.append(entry.name) }
                try await run(filled(undo, base), in: target)
            }
            let after = try await differences(base)
            #expect(after == clean)
            // A copy lacks the properties of the database itself, and its subscriptions.
            try await TestCluster.runSQL("CREATE DATABASE \(base)_0 TEMPLATE \(base)")
            let usual = try await differences("\(base)_0")
            for (number, entry) in MutationTable.all.enumerated() where entry.undo == nil {
                let copy = "\(base)_\(number + 1)"
                try await TestCluster.runSQL("CREATE DATABASE \(copy) TEMPLATE \(base)")
                do {
                    try await run(filled(entry.change, copy), in: database.settings.database(copy))
                    if try await differences(copy).allSatisfy(usual.contains) { survivors.append(entry.name) }
                } catch {
                    Issue.record("the change of '\(entry.name)' fails: \(error)")
                }
                try await TestCluster.runSQL("DROP DATABASE \(copy) WITH (FORCE)")
            }
        } catch {
            result = .failure(error)
        }
        await remove([database.name, base, "\(base)_0"], [role, other])
        print(
            "proof mutations: \(MutationTable.all.count - survivors.count) of \(MutationTable.all.count) classes detected"
        )
        #expect(survivors == [])
        try result.get()
    }

    private func run(_ sql: String, in target: ConnectionSettings) async throws {
        try await Connection.opened(target) { connection in
            try await connection.with { connection in
                try connection.execute("SET search_path = public, pg_catalog")
                for statement in try SQLLexer.split(Array(sql.utf8)) {
                    try connection.execute(String(decoding: Array(sql.utf8)[statement.range], as: UTF8.self))
                }
            }
        }
    }

    /// Drops databases with their subscriptions, and roles. The first database is kept without its subscriptions.
    private func remove(_ names: [String], _ roles: [String]) async {
        guard let cluster = try? await TestCluster.shared else { return }
        for name in names {
            try? await Connection.opened(cluster.settings(database: name)) { connection in
                try await connection.with { connection in
                    try ScratchDatabase.dropSubscriptions(on: connection)
                    for role in roles {
                        try connection.execute("REASSIGN OWNED BY \(role) TO CURRENT_USER; DROP OWNED BY \(role)")
                    }
                }
            }
            try? await TestCluster.runSQL("ALTER DATABASE \(name) IS_TEMPLATE false")
        }
        for name in names.dropFirst() { try? await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)") }
        for role in roles { try? await TestCluster.runSQL("DROP ROLE \(role)") }
    }

    private func clear(_ base: String, _ role: String, _ database: TestDatabase) async throws {
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(base) WITH (FORCE)")
        try await database.execute("DROP OWNED BY \(role)")
        try await TestCluster.runSQL("DROP ROLE \(role)")
    }

    /// Flips one bit of one stored file.
    private func flip(
        _ manifest: Manifest, _ vault: Vault, _ generator: inout SeededGenerator
    ) async throws -> (String, Bool) {
        let objects = try await vault.repository.store.list("").map(\.name).filter { !$0.contains("/proof.") }.sorted()
        let object = objects.randomElement(using: &generator) ?? ""
        let url = URL(fileURLWithPath: "\(vault.store.place)/\(object)")
        let original = try Data(contentsOf: url)
        var damaged = original
        // The last byte of a manifest is a line's end.
        let place = Int.random(in: 0..<(original.count - 1), using: &generator)
        let bit = Int.random(in: 0..<8, using: &generator)
        damaged[place] ^= 1 << UInt8(bit)
        try damaged.write(to: url)
        let found = try await vault.repository.verify([manifest], of: "main")
        try original.write(to: url)
        return ("bit \(bit) of byte \(place) of \(object)", !found.problems.isEmpty)
    }

    /// Changes a role, which is the whole server's, and takes the change back.
    private func change(
        _ role: String, _ generator: inout SeededGenerator, _ differences: () async throws -> [RestoreDifference]
    ) async throws -> (String, Bool) {
        let changes = [
            ("CREATEDB", "NOCREATEDB"), ("NOLOGIN", "LOGIN"), ("CREATEROLE", "NOCREATEROLE"),
            ("BYPASSRLS", "NOBYPASSRLS"),
            ("CONNECTION LIMIT 6", "CONNECTION LIMIT 5"), ("NOINHERIT", "INHERIT"),
        ]
        let (done, undone) = changes.randomElement(using: &generator) ?? changes[0]
        try await TestCluster.runSQL("ALTER ROLE \(role) \(done)")
        let found = try await !differences().isEmpty
        try await TestCluster.runSQL("ALTER ROLE \(role) \(undone)")
        return ("\(role) \(done)", found)
    }
}
